//! Follows the output of `gst-launch-1.0 -m ... vaeanomaly post-messages=all ...`: shows progress, then a summary.
//!
//! ```text
//! LC_ALL=C gst-launch-1.0 -m ... | demo_summary --source file:///street.mp4 --kept kept.mkv --out target/demo ...
//! ```

mod animation;
mod ground_truth;
mod images;
mod media;
mod messages;
mod progress;
mod report;
mod summary;

use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;

use messages::{Frame, Line};
use progress::Progress;
use summary::Summary;

const HELP: &str = "\
Shows the progress of a demo run and summarises it. Reads the output of gst-launch-1.0 -m from standard input.

Usage: demo_summary --source URI --kept FILE --full FILE --encoder FRAGMENT --out FOLDER [OPTIONS]

Options:
  --source URI        The video that was analysed (for a live source: its full recording)
  --kept FILE         The video that the pipeline kept
  --full FILE         Full recording with the same encoder settings; encoded from the source if missing
  --encoder FRAGMENT  Encoder and muxer of the run, as a launch fragment
  --out FOLDER        Folder for the images
  --overlay FILE      The video that the pipeline kept, with the overlay
  --events FILE       Ground truth: the events.csv of street_scene
  --live              The source is live: its length is not known in advance
  -h, --help          Print this help
";

#[derive(Default)]
struct Args {
    source: String,
    kept: PathBuf,
    full: PathBuf,
    encoder: String,
    out: PathBuf,
    overlay: Option<PathBuf>,
    events: Option<PathBuf>,
    live: bool,
}

impl Args {
    /// Parses the command line; `None` if it asks for help.
    fn parse() -> Result<Option<Self>> {
        let mut args = Self::default();
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("source") => args.source = parser.value()?.string()?,
                Long("kept") => args.kept = parser.value()?.into(),
                Long("full") => args.full = parser.value()?.into(),
                Long("encoder") => args.encoder = parser.value()?.string()?,
                Long("out") => args.out = parser.value()?.into(),
                Long("overlay") => args.overlay = Some(parser.value()?.into()),
                Long("events") => args.events = Some(parser.value()?.into()),
                Long("live") => args.live = true,
                Short('h') | Long("help") => return Ok(None),
                _ => return Err(arg.unexpected().into()),
            }
        }
        let required = [
            ("--source", args.source.is_empty()),
            ("--kept", args.kept.as_os_str().is_empty()),
            ("--full", args.full.as_os_str().is_empty()),
            ("--encoder", args.encoder.is_empty()),
            ("--out", args.out.as_os_str().is_empty()),
        ];
        if let Some((name, _)) = required.iter().find(|(_, missing)| *missing) {
            bail!("{name} is missing; see --help");
        }
        Ok(Some(args))
    }
}

/// The element's messages of the whole run.
#[derive(Default)]
struct Observed {
    frames: Vec<Frame>,
    /// Events: id, begin, end.
    spans: Vec<(u64, f64, f64)>,
    ended: bool,
    errors: Vec<String>,
}

fn main() -> Result<()> {
    let Some(args) = Args::parse()? else {
        print!("{HELP}");
        return Ok(());
    };
    gst::init()?;
    let (length, rate) = if args.live {
        (None, None)
    } else {
        media::probe(&args.source)
    };
    let observed = follow(Progress::new(length))?;
    if !observed.ended || observed.frames.is_empty() {
        bail!("the pipeline did not finish:\n{}", observed.errors.join("\n"));
    }
    let planted = match &args.events {
        Some(path) => ground_truth::read(path, rate.context("the frame rate of the scene is unknown")?)?,
        None => Vec::new(),
    };
    let summary = Summary::new(observed.frames, &observed.spans, planted);
    finish(&args, &summary)
}

/// Reads the launcher's output up to its end.
fn follow(mut progress: Progress) -> Result<Observed> {
    let mut observed = Observed::default();
    for line in std::io::stdin().lock().lines() {
        match messages::parse(&line.context("cannot read the launcher's output")?) {
            Line::Frame(frame) => {
                progress.frame(&frame);
                observed.frames.push(frame);
            }
            Line::Begin { id, time } => {
                progress.note(&format!("{}  anomaly {id} begins", summary::clock(time)));
                observed.spans.push((id, time, f64::INFINITY));
            }
            Line::End { id, time } => {
                if let Some(span) = observed.spans.iter_mut().find(|span| span.0 == id) {
                    span.2 = time.max(span.1);
                }
            }
            Line::Notice(text) => progress.note(&format!("{}  {text}", summary::clock(progress.time()))),
            Line::EndOfStream => observed.ended = true,
            Line::Error(text) => observed.errors.push(text),
            Line::Other => {}
        }
    }
    progress.done();
    let last = observed.frames.last().map_or(0.0, |frame| frame.time);
    for span in &mut observed.spans {
        span.2 = span.2.min(last);
    }
    Ok(observed)
}

/// Writes the files and prints the summary.
fn finish(args: &Args, summary: &Summary) -> Result<()> {
    if !args.full.exists() {
        println!("Encoding the full video with the same settings, for comparison ...");
        media::encode(&args.source, &args.encoder, &args.full).context("the full recording")?;
    }
    let kept_frames = media::for_each_frame(&uri(&args.kept)?, |_, _| Ok(())).context("the kept video")?;
    let chart = args.out.join("score.png");
    images::write_chart(summary, &chart)?;
    let sheet = args.out.join("anomalies.png");
    let drawn = args.overlay.as_deref().map(uri).transpose()?;
    let source = drawn.as_deref().unwrap_or(&args.source);
    let tiles = images::tiles(summary, source).context("images of the anomalies")?;
    images::write_sheet(summary, &tiles, &sheet)?;
    let animation = args.out.join("anomalies.webp");
    if drawn.is_some() {
        animation::write(summary, source, &animation).context("the animation")?;
    }
    let size = |path: &Path| {
        std::fs::metadata(path)
            .map(|m| m.len())
            .with_context(|| path.display().to_string())
    };
    let sizes = report::Sizes {
        kept_frames,
        kept: size(&args.kept)?,
        full: size(&args.full)?,
    };
    print!("{}", report::text(summary, &sizes));
    println!("\nFiles\n  {:<42} the kept video", args.kept.display());
    println!(
        "  {:<42} the full video, same encoder settings",
        args.full.display()
    );
    if let Some(overlay) = &args.overlay {
        println!(
            "  {:<42} the kept video with boxes and heat map",
            overlay.display()
        );
    }
    println!("  {:<42} score over time", chart.display());
    if !tiles.is_empty() {
        println!("  {:<42} the anomalies found", sheet.display());
    }
    if drawn.is_some() && !tiles.is_empty() {
        println!("  {:<42} the same as an animation", animation.display());
    }
    Ok(())
}

/// A local path as a URI.
fn uri(path: &Path) -> Result<String> {
    let path = path
        .canonicalize()
        .with_context(|| format!("{} does not exist", path.display()))?;
    Ok(gst::glib::filename_to_uri(&path, None)?.to_string())
}
