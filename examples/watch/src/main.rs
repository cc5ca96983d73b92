//! Watches many cameras from one configuration file: events, recordings, a page, MQTT.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use lexopt::prelude::*;
use watch::config::Config;
use watch::output::{Every, Format, Output};
use watch::state::{Connection, Watch};
use watch::{archive, camera, publish};

const HELP: &str = "\
Watches many cameras from one configuration file.

Usage: watch [OPTIONS] [CONFIG]

Arguments:
  CONFIG               Configuration file; without one, two cameras at rendered streets

Options:
      --every N        Print a line for every frame, second, or N-th frame of a camera [default: second]
      --json           Print JSON objects, one a line (schema.json)
      --format NAME    text, json, or dlstreamer: frames as gvametaconvert of Intel DL Streamer writes them
      --check          Only check the configuration
  -h, --help           Print this help
";

struct Args {
    config: Option<PathBuf>,
    every: Every,
    format: Format,
    check: bool,
}

impl Args {
    /// Parses the command line; `None` if it asks for help.
    fn parse(mut parser: lexopt::Parser) -> Result<Option<Self>, lexopt::Error> {
        let mut args = Self {
            config: None,
            every: Every::Second,
            format: Format::Text,
            check: false,
        };
        while let Some(arg) = parser.next()? {
            match arg {
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
    let config = match &args.config {
        Some(file) => Config::read(file)?,
        None => Config::street(),
    };
    if args.check {
        println!("{} cameras", config.cameras.len());
        return Ok(());
    }
    let watch = Watch::new(config.cameras, config.storage)?;
    let stop = Arc::new(AtomicBool::new(false));
    let output = Output::start(&watch, args.every, args.format, None, &stop)?;
    let archive = archive::spawn(&watch, &stop)?;
    let cameras = watch.cameras.iter().map(|camera| {
        let (watch, camera, stop) = (Arc::clone(&watch), Arc::clone(camera), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name(format!("camera {}", camera.id()));
        thread.spawn(move || camera::run(&watch, &camera, &stop))
    });
    let cameras: Vec<_> = cameras.collect::<Result<_, _>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let (publishing, stopping) = tokio::sync::watch::channel(false);
    let mqtt = config
        .mqtt
        .map(|mqtt| runtime.spawn(publish::mqtt::run(Arc::clone(&watch), mqtt, stopping)));
    let ended = runtime.block_on(wait(&watch));
    stop.store(true, Ordering::Relaxed);
    for thread in cameras {
        // A panic was printed by the thread.
        let _ = thread.join();
    }
    publishing.send_replace(true);
    if let Some(mqtt) = mqtt {
        // A panic was printed.
        let _ = runtime.block_on(mqtt);
    }
    for thread in [archive, output] {
        let _ = thread.join();
    }
    ended
}

/// Waits for Ctrl-C, for SIGTERM, or until every file has ended.
async fn wait(watch: &Watch) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be handled")?;
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(200));
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = tick.tick() => {
                let finished = |camera: &Arc<watch::state::Camera>| camera.status().connection == Connection::Finished;
                if watch.cameras.iter().all(finished) {
                    return Ok(());
                }
            }
        }
    }
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
