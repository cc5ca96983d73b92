//! Thousands of live cameras: how late their scores are.

use std::collections::VecDeque;
use std::hint::spin_loop;
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gstvaeanomaly::detector::bench_support::{NetPair, PolledPair, Sample, counters};
use gstvaeanomaly::detector::{ComputeDevice, DeviceChoice};

use crate::crowd::{STACK, most_cameras};
use crate::gpu::Gpu;
use crate::nets::{COLOUR_HEIGHT, GREY_HEIGHT};
use crate::{process_time, row};

/// Cameras, and how their threads wait for scores.
const CAMERAS: [(u32, Clients); 3] = [
    (4000, Clients::Polling),
    (1000, Clients::Sleeping { each: 1 }),
    (4000, Clients::Sleeping { each: 8 }),
];
const RATE: u32 = 30;
const SECONDS: u32 = 5;
/// Seconds at the start that do not count.
const WARM_UP: u32 = 1;

/// What has the cameras.
#[derive(Clone, Copy)]
enum Clients {
    /// Threads with so many cameras each, which sleep until a score is there, as elements do.
    Sleeping { each: u32 },
    /// Three threads for four processors, which never sleep: they ask for the scores of frames that are due and take those
    /// that are there, as an application with a scheduler does.
    Polling,
}

impl Clients {
    fn threads(self, cameras: u32) -> u32 {
        match self {
            Self::Sleeping { each } => cameras.div_ceil(each),
            Self::Polling => {
                let processors = thread::available_parallelism().map_or(1, usize::from);
                u32::try_from(processors * 3 / 4)
                    .unwrap_or(u32::MAX)
                    .clamp(1, cameras)
            }
        }
    }

    fn name(self, cameras: u32) -> String {
        match self {
            Self::Sleeping { each: 1 } => "a thread each".to_owned(),
            Self::Sleeping { each } => format!("{each} a sleeping thread"),
            Self::Polling => format!("on {} polling threads", self.threads(cameras)),
        }
    }

    /// Runs the cameras of a thread, which have numbers of their own; their frames are due one after the other.
    fn cameras<'a>(
        self,
        device: &ComputeDevice,
        sample: &Arc<Sample>,
        numbers: impl Iterator<Item = u32>,
        cameras: u32,
    ) -> Result<Box<dyn FnOnce(Instant) -> Result<Times> + 'a>> {
        Ok(match self {
            Self::Sleeping { .. } => {
                let pairs: Result<Vec<_>> = numbers
                    .map(|number| Ok((number, NetPair::new(device, sample)?)))
                    .collect();
                let pairs = pairs?;
                Box::new(move |start| sleeping(pairs, cameras, start))
            }
            Self::Polling => {
                let pairs: Result<Vec<_>> = numbers
                    .map(|number| Ok((number, PolledPair::new(sample)?)))
                    .collect();
                let pairs = pairs?;
                Box::new(move |start| polling(pairs, cameras, start))
            }
        })
    }
}

/// When a frame is due. Frames of all cameras are evenly spread.
fn due(start: Instant, frame: u32, number: u32, cameras: u32) -> Instant {
    let interval = Duration::from_secs(1) / RATE;
    start + interval * frame + interval * number / cameras
}

/// Whether a step is made on a frame: not for all cameras on the same one.
fn has_step(frame: u32, number: u32) -> bool {
    (frame + number).is_multiple_of(5)
}

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

impl Times {
    fn observe(&mut self, frame: u32, called: Instant, due: Instant) {
        if frame >= RATE * WARM_UP {
            self.latency.push(microseconds(called.elapsed()));
            self.lateness.push(microseconds(due.elapsed()));
        }
    }

    fn observe_step(&mut self, frame: u32, called: Instant) {
        if frame >= RATE * WARM_UP {
            self.step.push(microseconds(called.elapsed()));
        }
    }
}

fn sleeping(mut pairs: Vec<(u32, NetPair)>, cameras: u32, start: Instant) -> Result<Times> {
    let mut times = Times::default();
    for frame in 0..RATE * SECONDS {
        for (number, pair) in &mut pairs {
            let due = due(start, frame, *number, cameras);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let called = Instant::now();
            pair.score()?;
            times.observe(frame, called, due);
            if has_step(frame, *number) {
                let called = Instant::now();
                pair.train()?;
                times.observe_step(frame, called);
            }
        }
    }
    Ok(times)
}

/// A score that was asked for.
struct Asked {
    /// Index of the camera in its thread.
    index: usize,
    frame: u32,
    called: Instant,
    due: Instant,
}

fn polling(mut pairs: Vec<(u32, PolledPair)>, cameras: u32, start: Instant) -> Result<Times> {
    let (mut times, count) = (Times::default(), pairs.len());
    let mut frames = (0..RATE * SECONDS).flat_map(|frame| (0..count).map(move |index| (frame, index)));
    let mut next = frames.next();
    // The server completes them in about this order.
    let mut asked: VecDeque<Asked> = VecDeque::new();
    while next.is_some() || !asked.is_empty() {
        if let Some(Asked { index, .. }) = asked.front()
            && pairs[*index].1.is_done()
            && let Some(Asked {
                index,
                frame,
                called,
                due,
            }) = asked.pop_front()
        {
            let (number, pair) = &mut pairs[index];
            times.observe(frame, called, due);
            pair.collect()?;
            if has_step(frame, *number) {
                let called = Instant::now();
                pair.train()?;
                times.observe_step(frame, called);
            }
            continue;
        }
        match next {
            Some((frame, index)) if due(start, frame, pairs[index].0, cameras) <= Instant::now() => {
                // A camera's frame follows its score of the one before.
                if asked.iter().any(|asked| asked.index == index) {
                    spin_loop();
                    continue;
                }
                let (number, pair) = &mut pairs[index];
                let (called, due) = (Instant::now(), due(start, frame, *number, cameras));
                pair.submit()?;
                asked.push_back(Asked {
                    index,
                    frame,
                    called,
                    due,
                });
                next = frames.next();
            }
            _ => spin_loop(),
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
    for (count, clients) in CAMERAS {
        let count = count.min(u32::try_from(most_cameras()).unwrap_or(u32::MAX));
        let threads = clients.threads(count);
        let (ready, go) = (
            Barrier::new(threads as usize + 1),
            Barrier::new(threads as usize + 1),
        );
        let start = OnceLock::new();
        thread::scope(|scope| -> Result<()> {
            let mut started = Vec::new();
            for first in 0..threads {
                let (device, sample, ready, go, start) = (&device, &sample, &ready, &go, &start);
                let work = move || {
                    let numbers = (first..count).step_by(threads as usize);
                    let run = clients.cameras(device, sample, numbers, count);
                    ready.wait();
                    go.wait();
                    run?(*start.get().context("set before the cameras go")?)
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
                &format!(
                    "{count} cameras {}: GPU MB in use by all processes",
                    clients.name(count)
                ),
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
