//! Cameras: detectors on the GPU that are shown moving pictures of 1920 x 1080.

use std::sync::{Arc, Barrier, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gstvaeanomaly::detector::bench_support::launches;
use gstvaeanomaly::detector::{Config, Detector, DeviceChoice, Tuning};
use nix::sys::resource::{UsageWho, getrusage};

use crate::gpu::Gpu;
use crate::images::Images;

const SIZE: (usize, usize) = (1920, 1080);
/// At ten frames a second every frame can be trained on.
const INTERVAL: Duration = Duration::from_millis(100);
/// Frames before anything is measured: the nets train, buffers have their sizes.
const WARM_UP: usize = 60;

/// On which frames a training step of both nets is made.
#[derive(Clone, Copy)]
pub enum Cadence {
    Never,
    /// Every n-th.
    Every(usize),
}

/// What some frames took.
#[derive(Default)]
pub struct Run {
    pub frames: u64,
    pub launches: u64,
    pub reduce: Duration,
    pub score: Duration,
    pub learn: Duration,
    pub wall: Duration,
}

impl Run {
    /// Milliseconds a frame.
    pub fn milliseconds(&self, all: Duration) -> f64 {
        1e3 * all.as_secs_f64() / self.frames as f64
    }

    pub fn frames_per_second(&self) -> f64 {
        self.frames as f64 / self.wall.as_secs_f64()
    }
}

/// A detector and its pictures.
pub struct Camera {
    detector: Detector,
    shown: u32,
}

impl Camera {
    /// Opens a stream of its own on the GPU; warmed up.
    pub fn new(seed: u64) -> Result<Self> {
        let config = Config {
            seed,
            ..Config::default()
        };
        let device = DeviceChoice::Cuda(Some(0)).open()?;
        let mut camera = Self {
            detector: Detector::on(device, config, SIZE)?,
            shown: 0,
        };
        for _ in 0..WARM_UP {
            camera.show(Cadence::Every(1), &mut Run::default())?;
        }
        Ok(camera)
    }

    fn show(&mut self, cadence: Cadence, run: &mut Run) -> Result<()> {
        static IMAGES: OnceLock<Images> = OnceLock::new();
        let images = IMAGES.get_or_init(|| Images::new(SIZE.0, SIZE.1, 0));
        let i = self.shown as usize;
        let tuning = Tuning {
            train: match cadence {
                Cadence::Never => false,
                Cadence::Every(n) => i.is_multiple_of(n),
            },
            ..Tuning::default()
        };
        let (_, report) = images.with_view(i, |view| {
            self.detector
                .process(view, Some(INTERVAL * self.shown), None, &tuning)
        })?;
        if let Some(reason) = report.device_failure {
            bail!("the GPU failed: {reason}");
        }
        self.shown += 1;
        run.frames += 1;
        run.reduce += report.timings.preprocess;
        run.score += report.timings.score;
        run.learn += report.timings.learn;
        Ok(())
    }

    /// Shows frames for as long as `least`.
    pub fn run(&mut self, cadence: Cadence, least: Duration) -> Result<Run> {
        let (mut run, launched, started) = (Run::default(), launches(), Instant::now());
        while started.elapsed() < least {
            self.show(cadence, &mut run)?;
        }
        run.wall = started.elapsed();
        run.launches = launches() - launched;
        Ok(run)
    }
}

/// What cameras that run beside each other get.
pub struct Share {
    pub frames_per_second: f64,
    /// Time of all of the process's threads on processors, a frame.
    pub cpu_milliseconds: f64,
    /// Memory in use on the GPU while they run.
    pub used_mb: f64,
}

/// `count` cameras at once for `least`, each in a thread of its own.
pub fn crowd(gpu: &Gpu, count: usize, least: Duration) -> Result<Share> {
    let ready = Arc::new(Barrier::new(count + 1));
    let threads: Vec<_> = (0..count)
        .map(|seed| {
            let ready = ready.clone();
            std::thread::spawn(move || {
                let camera = Camera::new(seed as u64);
                ready.wait();
                // Nobody's frames count while others still get ready.
                let mut camera = camera?;
                camera.run(Cadence::Every(5), least)
            })
        })
        .collect();
    ready.wait();
    let (spent, started) = (process_time()?, Instant::now());
    std::thread::sleep(least / 2);
    let used_mb = gpu.used_mb()?;
    let mut frames = 0;
    for thread in threads {
        match thread.join() {
            Ok(run) => frames += run?.frames,
            Err(_) => bail!("a camera's thread panicked"),
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Share {
        frames_per_second: frames as f64 / seconds,
        cpu_milliseconds: 1e3 * (process_time()? - spent).as_secs_f64() / frames as f64,
        used_mb,
    })
}

fn process_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("the system counts")?;
    let microseconds = |t: nix::sys::time::TimeVal| t.tv_sec() as u64 * 1_000_000 + t.tv_usec() as u64;
    Ok(Duration::from_micros(
        microseconds(usage.user_time()) + microseconds(usage.system_time()),
    ))
}
