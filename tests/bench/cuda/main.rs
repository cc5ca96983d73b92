//! What the detector's core costs on a CUDA device. Needs no GStreamer: `make bench-cuda` packs the program with
//! PyTorch's side for a machine that has a GPU, and `run.sh` there runs it.
//!
//! `cuda table [torch.json]` prints the table; `cuda soak MINUTES` runs one camera and watches the GPU's memory.
//! All times are of the wall clock: most of the work is done elsewhere than on this thread.

mod camera;
mod floors;
mod gpu;
#[path = "../support/images.rs"]
#[allow(dead_code, reason = "a camera uses views only")]
mod images;
mod nets;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use camera::{Cadence, Camera, Share};
use gpu::Gpu;

/// Cameras in one process.
const CROWDS: [usize; 4] = [1, 4, 16, 64];
/// Time of one figure.
const TURN: Duration = Duration::from_secs(3);

fn main() -> Result<()> {
    // `cargo bench` adds an argument of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["table"] => table(None),
        ["table", torch] => table(Some(torch)),
        ["soak", minutes] => soak(minutes.parse().context("minutes")?),
        [] => {
            println!("cuda: run with the argument table or soak MINUTES, as make bench-cuda does");
            Ok(())
        }
        _ => bail!("cuda table [torch.json], or cuda soak MINUTES"),
    }
}

fn part(title: &str) {
    println!("\n{title}\n{}", "-".repeat(title.len()));
}

fn row(name: &str, value: impl std::fmt::Display) {
    println!("{name:58} {value:>18}");
}

fn table(torch: Option<&str>) -> Result<()> {
    let gpu = Gpu::open()?;
    let (major, minor) = gpu.compute_capability()?;
    println!("{}, compute capability {major}.{minor}", gpu.name()?);
    let before = gpu.used_mb()?;
    let mut camera = Camera::new(0)?;
    let launches = stages(&mut camera)?;
    drop(camera);
    crowds(&gpu, before)?;
    let costs = nets::measure(&gpu, torch)?;
    floors::measure(&gpu, &costs, launches)
}

/// Prints what a frame of one camera takes, stage by stage, and gives the launches of scoring and of training.
fn stages(camera: &mut Camera) -> Result<Launches> {
    camera.run(Cadence::Every(1), Duration::from_secs(2))?;
    part("One camera of 1920 x 1080: milliseconds a frame");
    println!(
        "{:26} {:>8} {:>8} {:>8} {:>8} {:>10} {:>10}",
        "", "reduce", "score", "learn", "all", "launches", "frames/s"
    );
    let mut launches = Vec::new();
    for (name, cadence) in [
        ("scoring only", Cadence::Never),
        ("a step every 5th frame", Cadence::Every(5)),
        ("a step on every frame", Cadence::Every(1)),
    ] {
        let run = camera.run(cadence, TURN)?;
        println!(
            "{name:26} {:8.3} {:8.3} {:8.3} {:8.3} {:10.1} {:10.0}",
            run.milliseconds(run.reduce),
            run.milliseconds(run.score),
            run.milliseconds(run.learn),
            run.milliseconds(run.wall),
            run.launches as f64 / run.frames as f64,
            run.frames_per_second(),
        );
        launches.push(run.launches as f64 / run.frames as f64);
    }
    println!(
        "(Nothing waits for a training step: what it still takes on the GPU counts to the next frame's score.)"
    );
    Ok(Launches {
        score: launches[0],
        train: launches[2] - launches[0],
    })
}

/// Kernels and products that a frame starts, for its score and for a training step of both nets.
pub struct Launches {
    score: f64,
    train: f64,
}

fn crowds(gpu: &Gpu, before: f64) -> Result<()> {
    part("Cameras in one process, a thread each, a step every 5th frame");
    println!(
        "{:>8} {:>12} {:>16} {:>22} {:>20}",
        "cameras", "frames/s", "frames/s each", "CPU ms a frame", "GPU memory, MB"
    );
    let mut first = 0.0;
    for count in CROWDS {
        let Share {
            frames_per_second,
            cpu_milliseconds,
            used_mb,
        } = camera::crowd(gpu, count, TURN)?;
        let memory = used_mb - before;
        if count == 1 {
            first = memory;
        }
        println!(
            "{count:8} {frames_per_second:12.0} {:16.1} {cpu_milliseconds:22.2} {memory:20.1}",
            frames_per_second / count as f64
        );
        if count > 1 {
            row(
                "  GPU memory of every camera more, MB",
                format!("{:.2}", (memory - first) / (count - 1) as f64),
            );
        }
    }
    Ok(())
}

/// One camera for some time; an error when the GPU's memory has grown after the first tenth.
fn soak(minutes: f64) -> Result<()> {
    const SLACK_MB: f64 = 8.0;
    let gpu = Gpu::open()?;
    let mut camera = Camera::new(0)?;
    let all = Duration::from_secs_f64(60.0 * minutes);
    let (started, mut frames, mut usual) = (Instant::now(), 0, None);
    println!("{:>10} {:>12} {:>12}", "seconds", "frames", "GPU MB");
    while started.elapsed() < all {
        frames += camera.run(Cadence::Every(1), all / 20)?.frames;
        let used = gpu.used_mb()?;
        println!("{:10.0} {frames:12} {used:12.1}", started.elapsed().as_secs_f64());
        if started.elapsed() >= all / 10 {
            let usual = *usual.get_or_insert(used);
            if used > usual + SLACK_MB {
                bail!("the GPU's memory has grown from {usual:.1} to {used:.1} MB");
            }
        }
    }
    println!("the GPU's memory stays where it is");
    Ok(())
}
