//! Trains a model on normal videos of one camera, and measures how often it would raise a false alarm.
//!
//! ```text
//! cargo run --release -p train -- --out camera.safetensors monday.mp4 tuesday.mp4 wednesday.mp4
//! gst-launch-1.0 ... ! vaeanomaly model-location=camera.safetensors learn=false threshold=1.9 ! ...
//! ```
//!
//! The videos go through the element in the order of the command line, as one stream. Held-out videos are scored by the
//! frozen model: normal frames that it labels as anomalies are false alarms, and the threshold suggested is the one that
//! the wanted share of those frames exceeds.

mod video;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use lexopt::prelude::*;

use self::video::{Stream, Summary};

const HELP: &str = "\
Trains a vaeanomaly model on normal videos of one camera.

Usage: train --out FILE VIDEO... [OPTIONS]

Options:
  --out FILE             Model file to write; it must not exist
  --detector SETTINGS    Properties of vaeanomaly, for example \"cues=motion model-width=96\"
  --hold-out N           Number of videos at the end of the list that are not trained on, but scored
                         [default: a fifth of them]
  --folds K              K-fold cross-validation first: each video is held out once; then all videos are trained on
  --rate SHARE           Wanted share of normal frames above the threshold [default: 0.01]
  -h, --help             Print this help
";

struct Args {
    out: PathBuf,
    videos: Vec<PathBuf>,
    detector: String,
    hold_out: Option<usize>,
    folds: Option<usize>,
    rate: f64,
}

impl Args {
    /// Parses the command line; `None` if it asks for help.
    fn parse() -> Result<Option<Self>> {
        let mut args = Self {
            out: PathBuf::new(),
            videos: Vec::new(),
            detector: String::new(),
            hold_out: None,
            folds: None,
            rate: 0.01,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Value(video) => args.videos.push(video.into()),
                Long("out") => args.out = parser.value()?.into(),
                Long("detector") => args.detector = parser.value()?.string()?,
                Long("hold-out") => args.hold_out = Some(parser.value()?.parse()?),
                Long("folds") => args.folds = Some(parser.value()?.parse()?),
                Long("rate") => args.rate = parser.value()?.parse()?,
                Short('h') | Long("help") => return Ok(None),
                _ => return Err(arg.unexpected().into()),
            }
        }
        ensure!(!args.out.as_os_str().is_empty(), "--out FILE is missing");
        ensure!(!args.out.exists(), "{} exists already", args.out.display());
        ensure!(!args.videos.is_empty(), "there is no VIDEO to train on");
        for video in &args.videos {
            ensure!(video.is_file(), "{} is not a file", video.display());
        }
        ensure!(
            args.rate > 0.0 && args.rate < 1.0,
            "--rate must be above 0 and below 1, got {}",
            args.rate
        );
        let count = args.videos.len();
        if let Some(folds) = args.folds {
            ensure!(
                (2..=count).contains(&folds),
                "--folds must be 2 to {count}, the number of videos, got {folds}"
            );
            ensure!(
                args.hold_out.is_none(),
                "--hold-out and --folds exclude each other"
            );
        }
        if let Some(hold_out) = args.hold_out {
            ensure!(
                hold_out < count,
                "--hold-out must be below {count}, the number of videos, got {hold_out}"
            );
        }
        Ok(Some(args))
    }
}

fn main() -> Result<()> {
    let Some(args) = Args::parse()? else {
        print!("{HELP}");
        return Ok(());
    };
    gst::init()?;
    gstvaeanomaly::plugin_register_static()?;
    match args.folds {
        Some(folds) => {
            let summary = cross_validate(&args, folds)?;
            report(&summary, &args, "cross-validation")?;
            train(&args.videos, &args.detector, &args.out)
        }
        None => {
            let held_out = args.hold_out.unwrap_or(args.videos.len() / 5);
            let (training, held_out) = args.videos.split_at(args.videos.len() - held_out);
            train(training, &args.detector, &args.out)?;
            if held_out.is_empty() {
                println!("no video is held out: there is no false-alarm share");
                return Ok(());
            }
            report(
                &score(held_out, &args.detector, &args.out)?,
                &args,
                "held-out videos",
            )
        }
    }
}

/// Trains on the videos and writes the model.
fn train(videos: &[PathBuf], detector: &str, out: &Path) -> Result<()> {
    let settings = format!("{detector} learn=true save-interval=0");
    let mut stream = Stream::open(&settings, out)?;
    for (i, video) in videos.iter().enumerate() {
        let summary = stream.play(video)?;
        eprintln!(
            "trained on {} of {}: {}, {} frames, {}",
            i + 1,
            videos.len(),
            video.display(),
            summary.frames,
            summary.state
        );
    }
    let state = stream.close()?;
    ensure!(out.is_file(), "{} was not written", out.display());
    println!("{} is written", out.display());
    if state != "detecting" {
        println!("it is still {state}: more video is needed before frames get labels");
    }
    Ok(())
}

/// Scores videos with a trained model, which stays as it is.
fn score(videos: &[PathBuf], detector: &str, model: &Path) -> Result<Summary> {
    let settings = format!("{detector} learn=false save-interval=0");
    let mut stream = Stream::open(&settings, model)?;
    let mut all = Summary::default();
    for video in videos {
        let summary = stream.play(video)?;
        eprintln!(
            "{}: {} of {} labelled frames are false alarms",
            video.display(),
            summary.alarms,
            summary.labelled
        );
        all.add(summary);
    }
    stream.close()?;
    Ok(all)
}

/// Every video is scored by a model of the others.
fn cross_validate(args: &Args, folds: usize) -> Result<Summary> {
    let folder = tempfile::tempdir().context("no folder for the folds' models")?;
    let mut all = Summary::default();
    for fold in 0..folds {
        let of_fold = |held_out: bool| -> Vec<PathBuf> {
            let videos = args.videos.iter().enumerate();
            let chosen = videos.filter(|(i, _)| (i % folds == fold) == held_out);
            chosen.map(|(_, video)| video.clone()).collect()
        };
        eprintln!("fold {} of {folds}", fold + 1);
        let model = folder.path().join(format!("fold-{fold}.safetensors"));
        train(&of_fold(false), &args.detector, &model)?;
        all.add(score(&of_fold(true), &args.detector, &model)?);
    }
    Ok(all)
}

/// Prints the false-alarm share, and the threshold that gives the wanted one.
fn report(summary: &Summary, args: &Args, of: &str) -> Result<()> {
    if summary.labelled == 0 {
        bail!("no frame of the {of} got a label: the training videos are too short");
    }
    let share = summary.alarms as f64 / summary.labelled as f64;
    println!(
        "{of}: {} of {} labelled frames are false alarms, {:.2} %",
        summary.alarms,
        summary.labelled,
        100.0 * share
    );
    if let Some(threshold) = summary.threshold(args.rate) {
        println!(
            "threshold={threshold:.2} would flag {:.2} % of them",
            100.0 * args.rate
        );
    }
    Ok(())
}
