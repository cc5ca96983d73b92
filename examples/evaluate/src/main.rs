//! Evaluates `vaeanomaly` on labelled video, prequentially: one pass, every frame is scored before it is learnt.
//!
//! ```sh
//! cargo run --release -p evaluate -- --clips 'clips/*.mp4' --labels labels.csv --report report.html
//! cargo run --release -p evaluate -- cameras DATA
//! ```

mod acceptance;
mod args;
mod autoencoder;
mod baseline;
mod boxes;
mod cameras;
mod clips;
mod core_pass;
mod encode;
mod evaluation;
mod figures;
mod json;
mod labels;
mod mask;
mod motioncells;
mod perturb;
mod progress;
mod report;
mod stream;
mod table;
mod thresholds;

use anyhow::{Context, Result};
use clap::Parser;

use crate::args::{Args, Command};
use crate::evaluation::Task;

fn main() -> Result<()> {
    let args = Args::parse();
    gst::init().context("cannot initialise GStreamer")?;
    gstvaeanomaly::plugin_register_static().context("cannot register the element")?;
    if let Some(Command::Cameras(args)) = &args.command {
        print!("{}", cameras::run(args)?);
        return Ok(());
    }
    let task = Task::new(args)?;
    // Reports invalid settings before the first frame is decoded.
    stream::make_element(&task.settings(0))?;

    let evaluation = task.evaluate()?;
    print!("{}", table::text(&evaluation));
    if let Some(path) = &task.args.json {
        let text = serde_json::to_string_pretty(&json::document(&task, &evaluation))?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &task.args.report {
        let html = report::html(&task, &evaluation)?;
        std::fs::write(path, html).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
