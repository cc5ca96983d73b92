//! Records a labelled street scene: encoded video with the ground truth of every frame.
//!
//! ```text
//! cargo run --release -p street_scene -- --out target/scene --lead-in 60 --events 6
//! ```
//!
//! writes `street.mp4`, `labels.csv` (`clip,frame,label`), `events.csv` (one line per anomaly, with its bounding box) and
//! `boxes.csv` (`clip,frame,x,y,w,h`, the bounding box of the anomaly in every frame).
//! The same seed gives the same scene at any size and frame rate.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use lexopt::prelude::*;
use street_scene::record::{Recorder, Settings};
use street_scene::scene::{Config, Kind, Labels, Scene};

const HELP: &str = "\
Records a street seen by a fixed camera, with planted anomalies and their ground truth.

Usage: street_scene [OPTIONS]

Options:
  --out FOLDER        Folder for the video and the CSV files, created if missing [default: target/scene]
  --name NAME         Name of the clip and of the video file [default: street]
  --container FORMAT  mp4 or mkv [default: mp4]
  --seed N            The same seed gives the same scene [default: 1]
  --fps RATE          Frames per second, a number or a fraction such as 30000/1001 [default: 10]
  --width PIXELS      Even number [default: 640]
  --height PIXELS     Even number [default: 360]
  --lead-in SECONDS   Normal time before the first anomaly [default: 60]
  --events N          Number of anomalies [default: 6]
  --no-anomalies      Same as --events 0
  --kinds LIST        Comma-separated kinds of anomaly, used in turn [default: all]
  --spacing SECONDS   Mean normal time between anomalies [default: 20]
  --duration SECONDS  Length of the scene; spreads the anomalies over it
  --noise SIGMA       Standard deviation of the sensor noise in 8-bit levels [default: 2]
  --bitrate KBITS     Bit rate in kbit/s; 0 = 800 at 640x360 and 10 frames/s, scaled to size and rate [default: 0]
  -h, --help          Print this help
";

struct Args {
    out: PathBuf,
    name: String,
    container: String,
    fps: gst::Fraction,
    /// kbit/s, 0 = chosen by size and rate.
    bitrate: u32,
    scene: Config,
}

impl Args {
    /// Parses the command line; `None` if it asks for help.
    fn parse(mut parser: lexopt::Parser) -> Result<Option<Self>, lexopt::Error> {
        let mut args = Self {
            out: "target/scene".into(),
            name: "street".into(),
            container: "mp4".into(),
            fps: gst::Fraction::new(10, 1),
            bitrate: 0,
            scene: Config::default(),
        };
        let mut no_anomalies = false;
        while let Some(arg) = parser.next()? {
            match arg {
                Long("out") => args.out = parser.value()?.into(),
                Long("name") => args.name = parser.value()?.string()?,
                Long("container") => args.container = parser.value()?.parse_with(parse_container)?,
                Long("seed") => args.scene.seed = parser.value()?.parse()?,
                Long("fps") => args.fps = parser.value()?.parse_with(parse_rate)?,
                Long("width") => args.scene.width = parser.value()?.parse()?,
                Long("height") => args.scene.height = parser.value()?.parse()?,
                Long("lead-in") => args.scene.lead_in = parser.value()?.parse()?,
                Long("events") => args.scene.events = parser.value()?.parse()?,
                Long("no-anomalies") => no_anomalies = true,
                Long("kinds") => args.scene.kinds = parser.value()?.parse_with(parse_kinds)?,
                Long("spacing") => args.scene.spacing = parser.value()?.parse()?,
                Long("duration") => args.scene.duration = Some(parser.value()?.parse()?),
                Long("noise") => args.scene.noise = parser.value()?.parse()?,
                Long("bitrate") => args.bitrate = parser.value()?.parse()?,
                Short('h') | Long("help") => return Ok(None),
                _ => return Err(arg.unexpected()),
            }
        }
        if no_anomalies {
            args.scene.events = 0;
        }
        Ok(Some(args))
    }

    fn settings(&self, file: PathBuf) -> Settings {
        let (width, height) = (self.scene.width, self.scene.height);
        let pixels = f64::from(width * height) / f64::from(640 * 360);
        let rate = f64::from(self.fps.numer()) / f64::from(self.fps.denom()) / 10.0;
        // The bit rate grows more slowly than pixels and frames: neighbours are more alike.
        let scaled = (800.0 * pixels.powf(0.75) * rate.powf(0.5)).max(60.0) as u32;
        Settings {
            file,
            width,
            height,
            fps: self.fps,
            bitrate: if self.bitrate == 0 { scaled } else { self.bitrate },
        }
    }
}

fn parse_container(text: &str) -> Result<String, String> {
    match text {
        "mp4" | "mkv" => Ok(text.to_owned()),
        _ => Err("must be mp4 or mkv".to_owned()),
    }
}

fn parse_rate(text: &str) -> Result<gst::Fraction, String> {
    let (numerator, denominator) = text.split_once('/').unwrap_or((text, "1"));
    match (numerator.parse::<i32>(), denominator.parse::<i32>()) {
        (Ok(n), Ok(d)) if n > 0 && d > 0 && n / d <= 240 => Ok(gst::Fraction::new(n, d)),
        _ => Err("must be above 0 and at most 240, such as 10 or 30000/1001".to_owned()),
    }
}

fn parse_kinds(text: &str) -> Result<Vec<Kind>, String> {
    let known = Kind::ALL.map(Kind::name).join(", ");
    let parse =
        |name: &str| Kind::from_name(name).ok_or_else(|| format!("known kinds are {known}; got {name}"));
    text.split(',').map(parse).collect()
}

fn main() -> Result<()> {
    let Some(args) = Args::parse(lexopt::Parser::from_env())? else {
        print!("{HELP}");
        return Ok(());
    };
    let (width, height) = (args.scene.width, args.scene.height);
    if width % 2 == 1 || height % 2 == 1 {
        bail!("width and height must be even, got {width}x{height}");
    }
    gst::init()?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot create {}", args.out.display()))?;
    let mut scene = Scene::new(&args.scene).map_err(|reason| anyhow!(reason))?;
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
    write("boxes.csv", labels.boxes_csv(&args.name))?;
    let anomalous = labels.frames.iter().filter(|label| **label).count();
    println!(
        "{}: {} frames at {fps:.2} frames/s, {} anomalies in {anomalous} frames",
        file.display(),
        labels.frames.len(),
        labels.events.len()
    );
    Ok(())
}

/// Renders and encodes every frame; shows progress on a terminal.
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
