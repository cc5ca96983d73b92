//! Watches many cameras from one configuration file: events, recordings, a page, MQTT, Kafka.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use lexopt::prelude::*;
use watch::config::Config;
use watch::output::{Every, Format};
use watch::program::{Lines, Program};

const HELP: &str = "\
Watches many cameras from one configuration file.

Usage: watch [OPTIONS] [CONFIG]

Arguments:
  CONFIG               Configuration file; without one, two cameras at rendered streets

Options:
      --folder FOLDER  Storage folder, instead of the configuration's
      --every N        Print a line for every frame, second, or N-th frame of a camera [default: second]
      --json           Print JSON objects, one a line (schema.json)
      --format NAME    text, json, or dlstreamer: frames as gvametaconvert of Intel DL Streamer writes them
      --check          Only check the configuration
  -h, --help           Print this help
";

struct Args {
    config: Option<PathBuf>,
    folder: Option<PathBuf>,
    every: Every,
    format: Format,
    check: bool,
}

impl Args {
    /// Parses the command line; `None` if it asks for help.
    fn parse(mut parser: lexopt::Parser) -> Result<Option<Self>, lexopt::Error> {
        let mut args = Self {
            config: None,
            folder: None,
            every: Every::Second,
            format: Format::Text,
            check: false,
        };
        while let Some(arg) = parser.next()? {
            match arg {
                Long("folder") => args.folder = Some(parser.value()?.into()),
                Long("every") => args.every = parser.value()?.parse()?,
                Long("json") => args.format = Format::Json,
                Long("format") => args.format = parser.value()?.parse_with(parse_format)?,
                Long("check") => args.check = true,
                Short('h') | Long("help") => return Ok(None),
                Value(file) if args.config.is_none() => args.config = Some(file.into()),
                _ => return Err(arg.unexpected()),
            }
        }
        Ok(Some(args))
    }
}

fn parse_format(text: &str) -> Result<Format, String> {
    match text {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        "dlstreamer" => Ok(Format::DlStreamer),
        _ => Err(format!("must be text, json or dlstreamer, got {text}")),
    }
}

fn run() -> Result<()> {
    let Some(args) = Args::parse(lexopt::Parser::from_env())? else {
        print!("{HELP}");
        return Ok(());
    };
    gst::init()?;
    gstvaeanomaly::plugin_register_static()?;
    let mut config = match &args.config {
        Some(file) => Config::read(file)?,
        None => Config::street(),
    };
    if let Some(folder) = args.folder {
        config.storage.folder = folder;
    }
    if args.check {
        println!("{} cameras", config.cameras.len());
        return Ok(());
    }
    let lines = Lines {
        every: args.every,
        format: args.format,
    };
    let program = Program::start(config, Some(lines))?;
    if let Some(address) = program.page() {
        eprintln!("page: http://{address}/");
    }
    let ended = program.runtime().block_on(wait(&program));
    // Whoever asks a second time does not want to wait for a camera that hangs.
    program.runtime().spawn(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(130);
        }
    });
    program.stop();
    ended
}

/// Waits for Ctrl-C, for SIGTERM, or until every file has ended.
async fn wait(program: &Program) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be handled")?;
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    while !program.is_finished() {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = tick.tick() => {}
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("watch: {error:#}");
            ExitCode::FAILURE
        }
    }
}
