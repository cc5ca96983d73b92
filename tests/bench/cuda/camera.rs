//! Cameras: detectors that process moving images of 1920 x 1080.

use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use gstvaeanomaly::detector::bench_support::{DeviceFrames, DeviceReader};
use gstvaeanomaly::detector::{ComputeDevice, Config, Detector, Tuning};

use crate::crowd::most_cameras;
use crate::gpu::Gpu;
use crate::images::{Images, LOOP};
use crate::process_time;

const SIZE: (usize, usize) = (1920, 1080);
/// At ten frames a second every frame can be trained on.
const INTERVAL: Duration = Duration::from_millis(100);
/// Frames before anything is measured: the nets train, buffers have their sizes.
const WARM_UP: usize = 40;
/// Time of one figure.
const TIME: Duration = Duration::from_millis(1500);
/// Cameras in one process.
const CROWDS: [usize; 3] = [1, 16, 64];

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

/// A detector and its images, in the host's memory or on the GPU.
pub struct Camera {
    detector: Detector,
    frames: u32,
    reader: Option<DeviceReader>,
}

/// What a camera of a table's row uses.
#[derive(Clone)]
pub struct Setup {
    pub device: ComputeDevice,
    /// Frames that are on the GPU.
    pub frames: Option<Arc<DeviceFrames>>,
}

fn images() -> &'static Images {
    static IMAGES: OnceLock<Images> = OnceLock::new();
    IMAGES.get_or_init(|| Images::new(SIZE.0, SIZE.1, 0))
}

fn frames_on_gpu() -> Result<Arc<DeviceFrames>> {
    let mut frames = DeviceFrames::new()?;
    for i in 0..LOOP {
        images().with_view(i, |view| frames.push(view))?;
    }
    Ok(Arc::new(frames))
}

impl Camera {
    /// Warmed up.
    pub fn new(setup: &Setup, seed: u64) -> Result<Self> {
        let config = Config {
            seed,
            ..Config::default()
        };
        let mut camera = Self {
            detector: Detector::on(setup.device.clone(), config, SIZE)?,
            frames: 0,
            reader: setup.frames.as_ref().map(DeviceReader::new).transpose()?,
        };
        for _ in 0..WARM_UP {
            camera.process(Cadence::Every(1), &mut Run::default())?;
        }
        Ok(camera)
    }

    fn process(&mut self, cadence: Cadence, run: &mut Run) -> Result<()> {
        let i = self.frames as usize;
        let tuning = Tuning {
            train: match cadence {
                Cadence::Never => false,
                Cadence::Every(n) => i.is_multiple_of(n),
            },
            ..Tuning::default()
        };
        let time = Some(INTERVAL * self.frames);
        let (_, report) = match &mut self.reader {
            Some(reader) => reader.process(&mut self.detector, i, time, &tuning)?,
            None => images().with_view(i, |view| self.detector.process(view, time, None, &tuning))?,
        };
        if let Some(reason) = report.device_failure {
            bail!("the GPU failed: {reason}");
        }
        self.frames += 1;
        run.frames += 1;
        run.reduce += report.timings.preprocess;
        run.score += report.timings.score;
        run.learn += report.timings.learn;
        Ok(())
    }

    /// Processes frames for as long as `least`.
    pub fn run(&mut self, cadence: Cadence, least: Duration) -> Result<Run> {
        let (mut run, started) = (Run::default(), Instant::now());
        while started.elapsed() < least {
            self.process(cadence, &mut run)?;
        }
        run.wall = started.elapsed();
        Ok(run)
    }
}

/// What cameras that run beside each other get.
struct Share {
    frames_per_second: f64,
    /// Time of all of the process's threads on processors, a frame.
    cpu_milliseconds: f64,
    /// Memory in use on the GPU while they run.
    used_mb: f64,
}

/// `count` cameras at once for `least`, each in a thread of its own.
fn crowd(gpu: &Gpu, setup: &Setup, count: usize, least: Duration) -> Result<Share> {
    let (ready, go) = (Barrier::new(count + 1), Barrier::new(count + 1));
    thread::scope(|scope| {
        let start = |seed| {
            let (ready, go) = (&ready, &go);
            scope.spawn(move || {
                let camera = Camera::new(setup, seed as u64);
                ready.wait();
                go.wait();
                camera?.run(Cadence::Every(5), least)
            })
        };
        let threads: Vec<_> = (0..count).map(start).collect();
        ready.wait();
        let (spent, started) = (process_time()?, Instant::now());
        go.wait();
        thread::sleep(least / 2);
        let used_mb = gpu.used_mb()?;
        let mut frames = 0;
        for thread in threads {
            match thread.join() {
                Ok(run) => frames += run?.frames,
                Err(_) => bail!("a camera's thread panicked"),
            }
        }
        Ok(Share {
            frames_per_second: frames as f64 / started.elapsed().as_secs_f64(),
            cpu_milliseconds: 1e3 * (process_time()? - spent).as_secs_f64() / frames as f64,
            used_mb,
        })
    })
}

/// Prints the part.
pub fn measure(gpu: &Gpu) -> Result<()> {
    let setup = |device, frames| Setup { device, frames };
    let setups = [
        ("CPU", setup(ComputeDevice::cpu(), None)),
        ("GPU, host memory", setup(gpu.device()?, None)),
        ("GPU, CUDA memory", setup(gpu.device()?, Some(frames_on_gpu()?))),
    ];
    println!(
        "{:44} {:>8} {:>8} {:>8} {:>8} {:>10}",
        "one camera: milliseconds a frame", "reduce", "score", "learn", "all", "frames/s"
    );
    for (name, setup) in &setups {
        let mut camera = Camera::new(setup, 0)?;
        for (what, cadence) in [
            ("scoring only", Cadence::Never),
            ("a step every 5th frame", Cadence::Every(5)),
            ("a step on every frame", Cadence::Every(1)),
        ] {
            let run = camera.run(cadence, TIME / 4)?;
            println!(
                "{:44} {:8.3} {:8.3} {:8.3} {:8.3} {:10.0}",
                format!("  {name}, {what}"),
                run.milliseconds(run.reduce),
                run.milliseconds(run.score),
                run.milliseconds(run.learn),
                run.milliseconds(run.wall),
                run.frames_per_second(),
            );
        }
    }
    println!(
        "{:>26} {:>12} {:>16} {:>18} {:>18}",
        "cameras", "frames/s", "frames/s each", "CPU ms a frame", "GPU memory, MB"
    );
    for count in CROWDS.into_iter().filter(|&count| count <= most_cameras()) {
        for (name, setup) in &setups {
            let share = crowd(gpu, setup, count, TIME)?;
            println!(
                "{count:8} {name:17} {:12.0} {:16.1} {:18.2} {:18.1}",
                share.frames_per_second,
                share.frames_per_second / count as f64,
                share.cpu_milliseconds,
                share.used_mb
            );
        }
    }
    Ok(())
}
