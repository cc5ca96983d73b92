//! Thousands of live cameras: how late their scores are.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gstvaeanomaly::detector::DeviceChoice;
use gstvaeanomaly::detector::bench_support::{NetPair, Sample, counters};

use crate::crowd::{STACK, most_cameras};
use crate::gpu::Gpu;
use crate::nets::{COLOUR_HEIGHT, GREY_HEIGHT};
use crate::{process_time, row};

const CAMERAS: [u32; 2] = [1000, 4000];
const RATE: u32 = 30;
const SECONDS: u32 = 5;
/// Seconds at the start that do not count.
const WARM_UP: u32 = 1;

/// Times of one camera, in microseconds.
#[derive(Default)]
struct Times {
    /// From the call for a score to the score.
    latency: Vec<u32>,
    /// From when the frame was due to the score: with the thread's waking up, and with what came before.
    lateness: Vec<u32>,
    /// Of the call for a training step.
    step: Vec<u32>,
}

fn microseconds(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

fn camera(mut pair: NetPair, number: u32, cameras: u32, start: Instant) -> Result<Times> {
    let mut times = Times::default();
    let interval = Duration::from_secs(1) / RATE;
    for frame in 0..RATE * SECONDS {
        let due = start + interval * frame + interval * number / cameras;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let called = Instant::now();
        pair.score()?;
        let scored = Instant::now();
        let counts = frame >= RATE * WARM_UP;
        if counts {
            times.latency.push(microseconds(scored - called));
            times.lateness.push(microseconds(scored - due));
        }
        // Not all cameras on the same frame.
        if (frame + number).is_multiple_of(5) {
            pair.train()?;
            if counts {
                times.step.push(microseconds(scored.elapsed()));
            }
        }
    }
    Ok(times)
}

fn quantiles(name: &str, mut values: Vec<u32>) {
    values.sort_unstable();
    let at = |share: f64| {
        values
            .get((share * values.len() as f64) as usize)
            .copied()
            .unwrap_or(0)
    };
    let [half, most, nearly_all] = [0.5, 0.99, 0.999].map(at);
    row(
        &format!("{name}: p50, p99, p99.9, us ({} of them)", values.len()),
        format!("{half} {most} {nearly_all}"),
    );
}

/// Prints the part.
pub fn measure(gpu: &Gpu) -> Result<()> {
    let device = DeviceChoice::Cuda(Some(0)).open()?;
    let sample = Sample::new(GREY_HEIGHT, COLOUR_HEIGHT, 1)?;
    for cameras in CAMERAS {
        let cameras = cameras.min(u32::try_from(most_cameras()).unwrap_or(u32::MAX));
        let (ready, go) = (
            Barrier::new(cameras as usize + 1),
            Barrier::new(cameras as usize + 1),
        );
        let start = std::sync::OnceLock::new();
        thread::scope(|scope| -> Result<()> {
            let mut threads = Vec::new();
            for number in 0..cameras {
                let (device, sample, ready, go, start) = (&device, &sample, &ready, &go, &start);
                let work = move || {
                    let pair = NetPair::new(device, sample);
                    ready.wait();
                    go.wait();
                    let start = *start.get().context("set before the cameras go")?;
                    camera(pair?, number, cameras, start)
                };
                let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
                match thread {
                    Ok(thread) => threads.push(thread),
                    // The others wait at the barrier for ever.
                    Err(error) => {
                        println!("no thread for camera {number}: {error}");
                        std::process::exit(1);
                    }
                }
            }
            ready.wait();
            let used = gpu.used_mb()?;
            let (before, spent) = (counters()?, process_time()?);
            let _ = start.set(Instant::now() + Duration::from_millis(50));
            go.wait();
            let mut all = Times::default();
            let mut failed = None;
            for thread in threads {
                match thread.join() {
                    Ok(Ok(times)) => {
                        all.latency.extend(times.latency);
                        all.lateness.extend(times.lateness);
                        all.step.extend(times.step);
                    }
                    Ok(Err(error)) => failed = Some(error),
                    Err(_) => bail!("a camera's thread panicked"),
                }
            }
            let (after, spent) = (counters()?, process_time()? - spent);
            if let Some(error) = failed {
                return Err(error);
            }
            let scores = f64::from(cameras * RATE * SECONDS);
            row(
                &format!("{cameras} cameras: GPU MB in use by all processes"),
                format!("{used:.0}"),
            );
            quantiles("  a score, from its call", all.latency);
            quantiles("  a score, from when its frame was due", all.lateness);
            quantiles("  the call of a step", all.step);
            let wall = f64::from(SECONDS) * gpu.multiprocessors()? as f64;
            let share = |after: Duration, before: Duration| 100.0 * (after - before).as_secs_f64() / wall;
            row(
                "  multiprocessors' time for scores, for steps",
                format!(
                    "{:.1} %  {:.1} %",
                    share(after.scores, before.scores),
                    share(after.steps, before.steps)
                ),
            );
            row(
                "  launches a frame",
                format!("{:.3}", (after.launches - before.launches) as f64 / scores),
            );
            row(
                "  CPU ms a frame",
                format!("{:.3}", 1e3 * spent.as_secs_f64() / scores),
            );
            Ok(())
        })?;
    }
    Ok(())
}
