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

/// Cameras, and how many of them one thread has: an element has a thread a camera, and so many threads are a load of their
/// own.
const CAMERAS: [(u32, u32); 3] = [(1000, 1), (4000, 1), (4000, 8)];
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

/// Runs the cameras of a thread, which have numbers of their own; their frames are due one after the other.
fn cameras(mut pairs: Vec<(u32, NetPair)>, cameras: u32, start: Instant) -> Result<Times> {
    let mut times = Times::default();
    let interval = Duration::from_secs(1) / RATE;
    for frame in 0..RATE * SECONDS {
        for (number, pair) in &mut pairs {
            let due = start + interval * frame + interval * *number / cameras;
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
            if (frame + *number).is_multiple_of(5) {
                pair.train()?;
                if counts {
                    times.step.push(microseconds(scored.elapsed()));
                }
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
    for (count, each) in CAMERAS {
        let count = count.min(u32::try_from(most_cameras()).unwrap_or(u32::MAX));
        let threads = count.div_ceil(each);
        let (ready, go) = (
            Barrier::new(threads as usize + 1),
            Barrier::new(threads as usize + 1),
        );
        let start = std::sync::OnceLock::new();
        thread::scope(|scope| -> Result<()> {
            let mut started = Vec::new();
            for first in 0..threads {
                let (device, sample, ready, go, start) = (&device, &sample, &ready, &go, &start);
                let work = move || {
                    let numbers = (first..count).step_by(threads as usize);
                    let pairs: Result<Vec<_>> = numbers
                        .map(|number| Ok((number, NetPair::new(device, sample)?)))
                        .collect();
                    ready.wait();
                    go.wait();
                    let start = *start.get().context("set before the cameras go")?;
                    cameras(pairs?, count, start)
                };
                let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
                match thread {
                    Ok(thread) => started.push(thread),
                    // The others wait at the barrier for ever.
                    Err(error) => {
                        println!("no thread for camera {first}: {error}");
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
            for thread in started {
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
            let scores = f64::from(count * RATE * SECONDS);
            row(
                &format!("{count} cameras, {each} a thread: GPU MB in use by all processes"),
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
