//! Records a labelled street scene: encoded video with the ground truth of every frame.
//!
//! ```text
//! cargo run --release --example street_scene -- --out target/scene --lead-in 60 --events 6
//! ```
//!
//! writes `street.mp4`, `labels.csv` (`clip,frame,label`) and `events.csv` (one line an anomaly, with its place).
//! The same seed gives the same scene, at any size and frame rate.

mod record;
mod scene;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;

use record::{Recorder, Settings};
use scene::{Config, Kind, Labels, Scene};

/// Record a fixed-camera street with planted anomalies and their ground truth.
#[derive(Parser, Debug)]
#[command(version, about)]
struct Args {
    /// Folder for the video and the CSV files; made when it is not there
    #[arg(long, default_value = "target/scene")]
    out: PathBuf,
    /// Name of the clip and of the video file
    #[arg(long, default_value = "street")]
    name: String,
    /// The same seed gives the same scene
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Frames a second: a number or a fraction such as 30000/1001
    #[arg(long, default_value = "10", value_parser = parse_rate)]
    fps: gst::Fraction,
    /// Width in pixels, even
    #[arg(long, default_value_t = 640)]
    width: u32,
    /// Height in pixels, even
    #[arg(long, default_value_t = 360)]
    height: u32,
    /// Seconds of normal life before the first anomaly
    #[arg(long, default_value_t = 60.0)]
    lead_in: f64,
    /// How many anomalies
    #[arg(long, default_value_t = 6)]
    events: usize,
    /// No anomalies at all (needs --duration, or lasts for the lead-in)
    #[arg(long)]
    no_anomalies: bool,
    /// Kinds to take in turn, separated by commas; all when left out
    #[arg(long, value_delimiter = ',', value_parser = parse_kind)]
    kinds: Vec<Kind>,
    /// Seconds of normal life between anomalies, on average
    #[arg(long, default_value_t = 20.0)]
    spacing: f64,
    /// Length of the whole scene in seconds; the anomalies spread over it
    #[arg(long)]
    duration: Option<f64>,
    /// Standard deviation of the sensor's noise, in 8-bit steps
    #[arg(long, default_value_t = 2.0)]
    noise: f32,
    /// Bit rate in kbit/s; 0 = 800 at 640x360 and 10 frames/s, scaled to size and rate
    #[arg(long, default_value_t = 0)]
    bitrate: u32,
    /// Container: mp4 or mkv
    #[arg(long, default_value = "mp4", value_parser = ["mp4", "mkv"])]
    container: String,
}

fn parse_rate(text: &str) -> Result<gst::Fraction, String> {
    let (numerator, denominator) = text.split_once('/').unwrap_or((text, "1"));
    match (numerator.parse::<i32>(), denominator.parse::<i32>()) {
        (Ok(n), Ok(d)) if n > 0 && d > 0 && n / d <= 240 => Ok(gst::Fraction::new(n, d)),
        _ => Err(format!(
            "a rate above 0 and at most 240 such as 10 or 30000/1001, got {text}"
        )),
    }
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    let known = Kind::ALL.map(Kind::name).join(", ");
    Kind::from_name(text).ok_or_else(|| format!("known kinds are {known}; got {text}"))
}

impl Args {
    fn config(&self) -> Config {
        Config {
            width: self.width,
            height: self.height,
            seed: self.seed,
            lead_in: self.lead_in,
            events: if self.no_anomalies { 0 } else { self.events },
            kinds: self.kinds.clone(),
            spacing: self.spacing,
            duration: self.duration,
            noise: self.noise,
        }
    }

    fn settings(&self, file: PathBuf) -> Settings {
        let pixels = f64::from(self.width * self.height) / f64::from(640 * 360);
        let rate = f64::from(self.fps.numer()) / f64::from(self.fps.denom()) / 10.0;
        // Bits grow slower than pixels and frames: neighbours resemble each other more.
        let scaled = (800.0 * pixels.powf(0.75) * rate.powf(0.5)).max(60.0) as u32;
        Settings {
            file,
            width: self.width,
            height: self.height,
            fps: self.fps,
            bitrate: if self.bitrate == 0 { scaled } else { self.bitrate },
        }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    if args.width % 2 == 1 || args.height % 2 == 1 {
        bail!(
            "the encoder needs an even size, got {}x{}",
            args.width,
            args.height
        );
    }
    gst::init()?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let mut scene = Scene::new(&args.config()).map_err(|reason| anyhow!(reason))?;
    let fps = f64::from(args.fps.numer()) / f64::from(args.fps.denom());
    let labels = Labels::new(&scene, fps);
    let file = args.out.join(format!("{}.{}", args.name, args.container));

    record(&mut scene, fps, &args.settings(file.clone()))?;
    let write = |name: &str, text: String| {
        let path = args.out.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write("labels.csv", labels.frames_csv(&args.name))?;
    write("events.csv", labels.events_csv(&args.name))?;
    let anomalous = labels.frames.iter().filter(|label| **label).count();
    println!(
        "{}: {} frames at {fps:.2} frames/s, {} anomalies in {anomalous} frames",
        file.display(),
        labels.frames.len(),
        labels.events.len()
    );
    Ok(())
}

/// Renders every frame into the encoder, with a progress line on a terminal.
fn record(scene: &mut Scene, fps: f64, settings: &Settings) -> Result<()> {
    let count = (scene.duration() * fps).round() as u64;
    let mut recorder = Recorder::new(settings)?;
    let (start, terminal) = (Instant::now(), std::io::stderr().is_terminal());
    for frame in 0..count {
        recorder.push(scene.render(frame as f64 / fps))?;
        if terminal && (frame % 25 == 24 || frame + 1 == count) {
            let rate = (frame + 1) as f64 / start.elapsed().as_secs_f64();
            eprint!(
                "\rstreet scene: frame {} of {count}, {rate:.0} frames/s ",
                frame + 1
            );
            std::io::stderr().flush()?;
        }
    }
    if terminal {
        eprintln!();
    }
    recorder.finish()
}
