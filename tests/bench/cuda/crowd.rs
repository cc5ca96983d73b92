//! How many frames the nets of many cameras get through, on the GPU and on the CPU.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use gstvaeanomaly::detector::bench_support::{NetPair, Sample, counters};
use gstvaeanomaly::detector::{ComputeDevice, DeviceChoice};

use crate::gpu::Gpu;
use crate::nets::{COLOUR_HEIGHT, GREY_HEIGHT};
use crate::process_time;

const ON_GPU: [usize; 6] = [1, 16, 64, 256, 1024, 4096];
const ON_CPU: [usize; 3] = [1, 16, 64];
const TIME: Duration = Duration::from_millis(1500);
pub const STACK: usize = 512 << 10;

/// Cameras of a process at most: the number that CAMERAS names, where threads are scarce.
pub fn most_cameras() -> usize {
    let number = std::env::var("CAMERAS").ok().and_then(|text| text.parse().ok());
    number.unwrap_or(usize::MAX)
}

/// What cameras that run beside each other get.
struct Share {
    frames_per_second: f64,
    cpu_milliseconds: f64,
    /// Memory in use on the GPU, by all processes; of that the nets', and that of workspaces.
    used_mb: f64,
    nets_mb: f64,
    workspaces_mb: f64,
    launches: f64,
}

fn run(device: &ComputeDevice, gpu: Option<&Gpu>, sample: &Arc<Sample>, count: usize) -> Result<Share> {
    let (ready, go) = (Barrier::new(count + 1), Barrier::new(count + 1));
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for _ in 0..count {
            let (ready, go) = (&ready, &go);
            let work = move || -> Result<u64> {
                let pair = NetPair::new(device, sample);
                ready.wait();
                go.wait();
                let mut pair = pair?;
                let (mut frames, started) = (0u64, Instant::now());
                while started.elapsed() < TIME {
                    pair.score()?;
                    if frames.is_multiple_of(5) {
                        pair.train()?;
                    }
                    frames += 1;
                }
                Ok(frames)
            };
            threads.push(
                thread::Builder::new()
                    .stack_size(STACK)
                    .spawn_scoped(scope, work)?,
            );
        }
        ready.wait();
        let launches = || -> Result<usize> { Ok(if gpu.is_some() { counters()?.launches } else { 0 }) };
        let (launched, spent, started) = (launches()?, process_time()?, Instant::now());
        go.wait();
        thread::sleep(TIME / 2);
        let used_mb = gpu.map_or(Ok(0.0), Gpu::used_mb)?;
        let [nets_mb, workspaces_mb] = if gpu.is_some() { memory_mb()? } else { [0.0; 2] };
        let mut frames = 0;
        for thread in threads {
            match thread.join() {
                Ok(run) => frames += run?,
                Err(_) => bail!("a camera's thread panicked"),
            }
        }
        let frames = frames as f64;
        Ok(Share {
            frames_per_second: frames / started.elapsed().as_secs_f64(),
            cpu_milliseconds: 1e3 * (process_time()? - spent).as_secs_f64() / frames,
            used_mb,
            nets_mb,
            workspaces_mb,
            launches: (launches()? - launched) as f64 / frames,
        })
    })
}

/// Memory of the engine's server, in MB of 10^6 bytes: of nets, and of workspaces.
pub fn memory_mb() -> Result<[f64; 2]> {
    let counters = counters()?;
    Ok([counters.memory - counters.workspaces, counters.workspaces].map(|bytes| bytes as f64 / 1e6))
}

/// Prints the part.
pub fn measure(gpu: &Gpu) -> Result<()> {
    let sample = Sample::new(GREY_HEIGHT, COLOUR_HEIGHT, 1)?;
    let device = DeviceChoice::Cuda(Some(0)).open()?;
    println!(
        "{:>10} {:>13} {:>14} {:>13} {:>15} {:>9} {:>9} {:>14}",
        "cameras",
        "frames/s",
        "frames/s each",
        "CPU ms/frame",
        "launches/frame",
        "GPU MB",
        "nets MB",
        "workspaces MB"
    );
    for count in ON_GPU.into_iter().filter(|&count| count <= most_cameras()) {
        print(count, "GPU", &run(&device, Some(gpu), &sample, count)?);
    }
    for count in ON_CPU.into_iter().filter(|&count| count <= most_cameras()) {
        print(count, "CPU", &run(&ComputeDevice::cpu(), None, &sample, count)?);
    }
    Ok(())
}

fn print(count: usize, device: &str, share: &Share) {
    println!(
        "{count:6} {device} {:13.0} {:14.1} {:13.3} {:15.3} {:9.1} {:9.1} {:14.1}",
        share.frames_per_second,
        share.frames_per_second / count as f64,
        share.cpu_milliseconds,
        share.launches,
        share.used_mb,
        share.nets_mb,
        share.workspaces_mb,
    );
}
