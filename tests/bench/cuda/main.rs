//! What the nets and the detector's core cost on a CUDA device. Needs no GStreamer: `make bench-cuda` packs the program
//! with PyTorch's side for a machine that has a GPU, and `run.sh` there runs it.
//!
//! `cuda table [torch.json]` prints the table, `cuda PART [torch.json]` a part of it: memory, nets, live, crowd, camera,
//! gpu; `cuda profile` runs the nets alone, for a profiler; `cuda soak MINUTES` runs one camera and watches the GPU's memory.
//! All times are of the wall clock where nothing else is said. A part that fails is reported, and the others run.

mod camera;
mod crowd;
mod gpu;
#[path = "../support/images.rs"]
#[allow(dead_code, reason = "a camera uses views only")]
mod images;
mod live;
mod nets;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gstvaeanomaly::detector::DeviceChoice;
use nix::sys::resource::{UsageWho, getrusage};

use camera::{Cadence, Camera, Setup};
use gpu::Gpu;

fn main() -> Result<()> {
    // `cargo bench` adds an argument of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["profile"] => nets::measure_gpu().map(drop),
        ["soak", minutes] => soak(minutes.parse().context("minutes")?),
        [part] => table(part, None),
        [part, torch] => table(part, Some(torch)),
        _ => {
            println!(
                "cuda: run with the argument table, a part of it, or soak MINUTES, as make bench-cuda does"
            );
            Ok(())
        }
    }
}

/// Prints the part of that name, or all of them.
fn table(name: &str, torch: Option<&str>) -> Result<()> {
    type Part = (&'static str, &'static str, fn(&Gpu, Option<&str>) -> Result<()>);
    const PARTS: [Part; 6] = [
        (
            "memory",
            "Memory of the GPU: MB of 10^6 bytes, by all processes",
            |gpu, _| memory(gpu),
        ),
        ("nets", "The nets of one camera: milliseconds", |_, torch| {
            nets::measure(torch)
        }),
        // They need as many threads as cameras.
        (
            "live",
            "Live: 30 frames/s a camera, a step every 5th frame",
            |gpu, _| live::measure(gpu),
        ),
        (
            "crowd",
            "Cameras in one process, small images from memory, a step every 5th frame",
            |gpu, _| crowd::measure(gpu),
        ),
        ("camera", "The detector on images of 1920 x 1080", |gpu, _| {
            camera::measure(gpu)
        }),
        ("gpu", "The GPU itself", |gpu, _| gpu.measure()),
    ];
    let parts: Vec<_> = PARTS
        .iter()
        .filter(|part| name == "table" || name == part.0)
        .collect();
    if parts.is_empty() {
        bail!("there is no part {name}");
    }
    let gpu = Gpu::open()?;
    let (major, minor) = gpu.compute_capability()?;
    println!(
        "{}, compute capability {major}.{minor}, {} multiprocessors; {} processors",
        gpu.name()?,
        gpu.multiprocessors()?,
        std::thread::available_parallelism()?
    );
    let mut failed = Vec::new();
    for (name, title, measure) in parts {
        println!("\n{title}\n{}", "-".repeat(title.chars().count()));
        let start = Instant::now();
        if let Err(error) = measure(&gpu, torch) {
            println!("FAILED: {error:#}");
            failed.push(*name);
        }
        println!("({:.1} s)", start.elapsed().as_secs_f64());
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Prints what one camera has of the GPU's memory.
fn memory(gpu: &Gpu) -> Result<()> {
    row("a context alone", format!("{:.0}", gpu.context_mb()));
    row("with the engine's server", format!("{:.0}", gpu.used_mb()?));
    let pair = nets::one_camera(&gpu.device()?)?;
    let [nets, workspaces] = crowd::memory_mb()?;
    row(
        "with one camera; of that nets, workspaces, context and kernels",
        format!(
            "{:.0}: {nets:.0} {workspaces:.0} {:.0}",
            gpu.used_mb()?,
            gpu.used_mb()? - nets - workspaces
        ),
    );
    drop(pair);
    let auto = DeviceChoice::Auto.open()?;
    println!(
        "device=auto is {}{}",
        auto.name(),
        auto.note().map(|note| format!(" ({note})")).unwrap_or_default()
    );
    Ok(())
}

fn row(name: &str, value: impl std::fmt::Display) {
    println!("{name:62} {value:>18}");
}

/// Time of all of the process's threads on processors.
fn process_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("the system counts")?;
    let microseconds = |t: nix::sys::time::TimeVal| t.tv_sec() as u64 * 1_000_000 + t.tv_usec() as u64;
    Ok(Duration::from_micros(
        microseconds(usage.user_time()) + microseconds(usage.system_time()),
    ))
}

/// One camera for some time; an error when the GPU's memory has grown after the first tenth.
fn soak(minutes: f64) -> Result<()> {
    const SLACK_MB: f64 = 8.0;
    let gpu = Gpu::open()?;
    let setup = Setup {
        device: gpu.device()?,
        frames: None,
    };
    let mut camera = Camera::new(&setup, 0)?;
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
    println!("the GPU's memory does not grow");
    Ok(())
}
