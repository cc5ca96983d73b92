//! Watches many cameras from one configuration file: events, recordings, a page, MQTT.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use lexopt::prelude::*;
use watch::config::Config;
use watch::state::Watch;

const HELP: &str = "\
Watches many cameras from one configuration file.

Usage: watch [OPTIONS] [CONFIG]

Arguments:
  CONFIG         Configuration file; without one, two cameras at rendered streets

Options:
      --check    Only check the configuration
  -h, --help     Print this help
";

#[derive(Default)]
struct Args {
    config: Option<PathBuf>,
    check: bool,
}

impl Args {
    /// Parses the command line; `None` if it asks for help.
    fn parse(mut parser: lexopt::Parser) -> Result<Option<Self>, lexopt::Error> {
        let mut args = Self::default();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("check") => args.check = true,
                Short('h') | Long("help") => return Ok(None),
                Value(file) if args.config.is_none() => args.config = Some(file.into()),
                _ => return Err(arg.unexpected()),
            }
        }
        Ok(Some(args))
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
    if !args.check {
        Watch::new(config.cameras, config.storage)?;
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
