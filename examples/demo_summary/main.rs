//! Reads what `gst-launch-1.0 -m ... vaeanomaly post-messages=all ...` prints, shows progress, and sums the run up.
//!
//! ```text
//! LC_ALL=C gst-launch-1.0 -m ... | demo_summary --source file:///street.mp4 --kept kept.mkv --out target/demo
//! ```

#[path = "../common/mod.rs"]
mod common;
mod media;
mod messages;
mod pictures;
mod progress;
mod report;
mod summary;
mod truth;

use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;

use messages::{Frame, Line};
use progress::Progress;
use summary::{Found, Summary};

/// Show the progress of a demo run and sum it up.
#[derive(Parser, Debug)]
#[command(version, about)]
struct Args {
    /// What was watched, as a URI that can be read again (for a live source: its full recording)
    #[arg(long)]
    source: String,
    /// The kept video
    #[arg(long)]
    kept: PathBuf,
    /// Full recording with the same encoder settings; encoded from the source when it is not there
    #[arg(long)]
    full: PathBuf,
    /// The encoder and muxer of the run, as a launch fragment
    #[arg(long)]
    encoder: String,
    /// Ground truth: events.csv of the scene
    #[arg(long)]
    events: Option<PathBuf>,
    /// Folder for the pictures
    #[arg(long)]
    out: PathBuf,
    /// The source is live: its length is not known beforehand
    #[arg(long)]
    live: bool,
}

/// What the element said during the run.
#[derive(Default)]
struct Heard {
    frames: Vec<Frame>,
    /// Events: id, begin, end.
    spans: Vec<(u64, f64, f64)>,
    ended: bool,
    errors: Vec<String>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    gst::init()?;
    // Ctrl-C is for the pipeline, which ends its files in good order; the summary still has to be told.
    ctrlc::set_handler(|| ()).context("cannot handle Ctrl-C")?;
    let (length, rate) = if args.live {
        (None, None)
    } else {
        media::probe(&args.source)
    };
    let heard = listen(Progress::new(length))?;
    if !heard.ended || heard.frames.is_empty() {
        bail!(
            "the pipeline did not run to its end:\n{}",
            heard.errors.join("\n")
        );
    }
    let planted = match &args.events {
        Some(path) => truth::read(path, rate.context("the scene's frame rate is not known")?)?,
        None => Vec::new(),
    };
    let summary = Summary::new(heard.frames, &heard.spans, planted);
    finish(&args, &summary)
}

/// Follows the launcher's output to its end.
fn listen(mut progress: Progress) -> Result<Heard> {
    let mut heard = Heard::default();
    for line in std::io::stdin().lock().lines() {
        match messages::parse(&line.context("cannot read the launcher's output")?) {
            Line::Frame(frame) => {
                progress.frame(&frame);
                heard.frames.push(frame);
            }
            Line::Begin { id, time } => {
                progress.note(&format!("{}  anomaly {id} begins", summary::clock(time)));
                heard.spans.push((id, time, f64::INFINITY));
            }
            Line::End { id, time } => {
                if let Some(span) = heard.spans.iter_mut().find(|span| span.0 == id) {
                    span.2 = time.max(span.1);
                }
            }
            Line::Notice(text) => progress.note(&format!("{}  {text}", summary::clock(progress.time()))),
            Line::EndOfStream => heard.ended = true,
            Line::Error(text) => heard.errors.push(text),
            Line::Other => {}
        }
    }
    progress.done();
    let last = heard.frames.last().map_or(0.0, |frame| frame.time);
    for span in &mut heard.spans {
        span.2 = span.2.min(last);
    }
    Ok(heard)
}

/// Files and the printed summary.
fn finish(args: &Args, summary: &Summary) -> Result<()> {
    if !args.full.exists() {
        println!("Recording everything once more with the same encoder, to compare ...");
        media::encode(&args.source, &args.encoder, &args.full).context("the full recording")?;
    }
    let kept_frames = media::decode(&uri(&args.kept)?, |_| false, |_| ()).context("the kept video")?;
    let chart = args.out.join("score.png");
    pictures::write_chart(summary, &chart)?;
    let sheet = args.out.join("anomalies.png");
    let tiles = tiles(args, summary).context("pictures of the anomalies")?;
    pictures::write_sheet(summary, &tiles, &sheet)?;
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
    println!("  {:<42} everything, same encoder settings", args.full.display());
    println!("  {:<42} score over time", chart.display());
    if !tiles.is_empty() {
        println!("  {:<42} the anomalies found, place marked", sheet.display());
    }
    Ok(())
}

/// The frame to show of each event; of many events the strongest twelve, in order of time.
fn tiles(args: &Args, summary: &Summary) -> Result<Vec<(Found, media::Picture)>> {
    const MOST: usize = 12;
    let mut chosen = summary.found.clone();
    chosen.sort_by(|a, b| b.peak.total_cmp(&a.peak));
    chosen.truncate(MOST);
    chosen.sort_by(|a, b| a.shown_time.total_cmp(&b.shown_time));
    let is_shown = |time: f64| chosen.iter().any(|found| (found.shown_time - time).abs() < 0.002);
    let mut pictures: Vec<media::Picture> = Vec::new();
    media::decode(&args.source, is_shown, |picture| pictures.push(picture))?;
    let tiles = chosen.into_iter().filter_map(|found| {
        let at = pictures
            .iter()
            .position(|p| (found.shown_time - p.time).abs() < 0.002)?;
        Some((found, pictures.swap_remove(at)))
    });
    Ok(tiles.collect())
}

/// A local path as a URI.
fn uri(path: &Path) -> Result<String> {
    let path = path
        .canonicalize()
        .with_context(|| format!("{} is not there", path.display()))?;
    Ok(gst::glib::filename_to_uri(&path, None)?.to_string())
}
