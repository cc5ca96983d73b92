//! Uses the core without GStreamer: reads raw I420 frames from standard input and writes one line per frame.
//!
//! ```sh
//! gst-launch-1.0 -q filesrc location=street.mp4 ! decodebin ! videoconvert ! video/x-raw,format=I420 ! fdsink \
//!   | cargo run --release --no-default-features --example score_frames -- --width 640 --height 360 --fps 10
//! ```

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use gstvaeanomaly::detector::{
    ColorModel, ColorRange, Config, Detector, ImageView, Label, PixelFormat, Tuning,
};

/// Scores raw I420 frames from standard input and learns from them.
#[derive(Parser)]
struct Args {
    /// Width of the frames in pixels.
    #[arg(long)]
    width: usize,
    /// Height of the frames in pixels.
    #[arg(long)]
    height: usize,
    /// Frames per second.
    #[arg(long, default_value_t = 10.0)]
    fps: f64,
    /// Seed of weights, noise and replay.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.fps > 0.0, "--fps must be above 0, got {}", args.fps);
    let (width, height) = (args.width, args.height);
    let chroma = width.div_ceil(2) * height.div_ceil(2);
    let interval = Duration::from_secs_f64(1.0 / args.fps);

    let config = Config {
        seed: args.seed,
        ..Config::default()
    };
    let tuning = Tuning::default();
    let mut detector = Detector::new(config, (width, height))?;

    let mut bytes = vec![0u8; width * height + 2 * chroma];
    let mut input = std::io::stdin().lock();
    let mut output = std::io::stdout().lock();
    writeln!(
        output,
        "frame,raw_score,threshold,score,label,cue,state,x,y,width,height"
    )?;
    for frame in 0u32.. {
        match input.read_exact(&mut bytes) {
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => break,
            read => read.context("standard input")?,
        }
        let (luma, rest) = bytes.split_at(width * height);
        let (u, v) = rest.split_at(chroma);
        let view = ImageView {
            format: PixelFormat::I420,
            width,
            height,
            planes: &[luma, u, v],
            strides: &[width, width.div_ceil(2), width.div_ceil(2)],
            color: ColorModel {
                range: ColorRange::Limited,
                kr: 0.299,
                kb: 0.114,
            },
        };
        let (p, _) = detector.process(&view, Some(interval * frame), Some(interval), &tuning)?;
        let label = match p.label {
            Some(Label::Anomaly) => "anomaly",
            Some(Label::Normal) => "normal",
            None => "unknown",
        };
        let (cue, state, region) = (p.cue.as_str(), p.state.as_str(), p.region);
        writeln!(
            output,
            "{},{:.4},{:.4},{:.4},{label},{cue},{state},{},{},{},{}",
            p.frame, p.raw_score, p.threshold, p.score, region.x, region.y, region.width, region.height
        )?;
    }
    Ok(())
}
