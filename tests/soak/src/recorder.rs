//! One live camera for the whole time: a viewer, a recorder behind the detector and the encoder, and a recorder and a viewer
//! of the camera's own stream. Its clock never jumps, so its latency can be measured.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use gst_base::prelude::*;
use rand::Rng;

use crate::account::{Account, Counter};
use crate::camera::{self, Camera, Shutter};
use crate::changes;
use crate::figures::{self, Series};

const FPS: u64 = 10;

/// A model is written in less.
const SAVED: Duration = Duration::from_secs(1);

/// Room for the latency that the gates announce.
const QUEUE: &str = "queue max-size-buffers=0 max-size-bytes=0 max-size-time=0";

type Shared = Arc<Mutex<Series>>;

/// Sinks that wait for the time of each frame: of the analysed stream, and of what a gate passes on.
const VIEWERS: [&str; 2] = ["viewer", "gated-viewer"];

/// The pipeline while it plays.
#[derive(Debug)]
pub struct Recorder {
    pipeline: gst::Pipeline,
    counters: Vec<Counter>,
    late: Vec<Shared>,
    latency: Shared,
    stop: Arc<AtomicBool>,
    source: JoinHandle<()>,
}

/// What it measured.
#[derive(Debug)]
pub struct Figures {
    /// Where the frames went.
    pub account: Account,
    /// How long after its time, the pipeline's latency included, each viewer showed a frame, in seconds.
    pub late: Vec<(&'static str, Series)>,
    /// The pipeline's latency in seconds.
    pub latency: Series,
}

impl Recorder {
    /// Starts the pipeline; files go to `folder`. What is measured is summed up over periods of this many seconds.
    pub fn start(seed: u64, folder: &Path, period: f64) -> Result<Self> {
        let encoder =
            "videoconvert ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=40 threads=1";
        let description = format!(
            "appsrc name=camera is-live=true format=time ! tee name=c \
             c. ! queue ! videoconvert ! video/x-raw,format=I420 \
                ! vaeanomaly name=eye warm-up=80 model-location={folder}/model.vae save-interval=5000000000 ! tee name=t \
             t. ! {QUEUE} ! fakesink name=viewer sync=true qos=true signal-handoffs=true \
             t. ! queue ! {encoder} name=encoder ! h264parse ! vaeanomalygate name=recorder pre-roll=1000000000 \
                ! {QUEUE} ! splitmuxsink max-size-time=10000000000 max-files=4 location={folder}/recorder-%02d.mp4 \
             c. ! {QUEUE} ! {encoder} name=camera-encoder ! h264parse ! vaeanomalygate name=copy follow=eye \
                pre-roll=1000000000 ! tee name=k \
             k. ! {QUEUE} ! fakesink name=gated-viewer sync=true async=false signal-handoffs=true \
             k. ! {QUEUE} ! splitmuxsink muxer=matroskamux max-size-time=10000000000 max-files=4 \
                location={folder}/copy-%02d.mkv",
            folder = folder.display(),
        );
        let pipeline = crate::parse(&description)?;
        let names = ["eye", "recorder", "copy"];
        let counters = names.map(|name| Counter::new(&pipeline, name)).into();
        let latency = Arc::new(Mutex::new(Series::new(period)));
        let late = VIEWERS
            .map(|viewer| watch_viewer(&pipeline, viewer, period, &latency))
            .into();
        pipeline.set_state(gst::State::Playing)?;
        let stop = Arc::new(AtomicBool::new(false));
        let source = {
            let (pipeline, stop) = (pipeline.clone(), Arc::clone(&stop));
            std::thread::spawn(move || send(&pipeline, seed, &stop))
        };
        Ok(Recorder {
            pipeline,
            counters,
            late,
            latency,
            stop,
            source,
        })
    }

    /// Handles the messages on the bus.
    ///
    /// # Errors
    /// An element has failed.
    pub fn check(&self) -> Result<()> {
        crate::drain_bus(&self.pipeline).map(drop)
    }

    /// Lets the detector forget all that it has learnt and its mask, calls `measure` when all memory of that is free, and
    /// returns its result. It is called in the thread of the detector, between two frames: no training step is running.
    ///
    /// # Errors
    /// No frame comes any more.
    pub fn forget<R: Send + 'static>(&self, measure: fn() -> R) -> Result<R> {
        let eye = self.pipeline.by_name("eye").context("the detector")?;
        let interval: u64 = eye.property("save-interval");
        // No copy of what was learnt is being saved.
        eye.set_property("save-interval", 0u64);
        // A mask takes 1 MB, and there is one now and then.
        let mask: String = eye.property("ignore-regions");
        eye.set_property("ignore-regions", "");
        changes::reset_model(&self.pipeline, "eye");
        std::thread::sleep(SAVED);
        // The new detector was made in this thread.
        figures::return_freed_memory();
        let (measured, result) = mpsc::channel();
        camera::pad(&self.pipeline, "eye", "src").add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            // The receiver no longer waits after an error.
            let _ = measured.send(measure());
            gst::PadProbeReturn::Remove
        });
        let result = result.recv_timeout(crate::PATIENCE);
        eye.set_property("save-interval", interval);
        eye.set_property("ignore-regions", mask);
        result.context("no frame comes from the detector")
    }

    /// Frames so far.
    pub fn frames(&self) -> u64 {
        self.counters.iter().map(Counter::frames).sum()
    }

    /// The last lateness and latency of the viewer, in seconds.
    pub fn now(&self) -> (f64, f64) {
        let last = |series: &Shared| series.lock().unwrap_or_else(|e| e.into_inner()).last();
        (self.late.first().map_or(0.0, last), last(&self.latency))
    }

    /// Ends the stream and stops.
    ///
    /// # Errors
    /// An element has failed, or the end did not arrive.
    pub fn finish(self) -> Result<Figures> {
        self.stop.store(true, Relaxed);
        if self.source.join().is_err() {
            bail!("the camera has panicked");
        }
        crate::wait_for_end(&self.pipeline)?;
        let mut account = Account::default();
        self.counters
            .iter()
            .for_each(|counter| account += counter.account());
        self.pipeline.set_state(gst::State::Null)?;
        let copy = |series: &Shared| series.lock().unwrap_or_else(|e| e.into_inner()).clone();
        Ok(Figures {
            account,
            late: VIEWERS.into_iter().zip(self.late.iter().map(copy)).collect(),
            latency: copy(&self.latency),
        })
    }
}

/// The lateness of each frame that the sink `viewer` gets.
fn watch_viewer(pipeline: &gst::Pipeline, viewer: &str, period: f64, latency: &Shared) -> Shared {
    let viewer = pipeline.by_name(viewer).and_downcast::<gst_base::BaseSink>();
    let viewer = viewer.expect("fakesink is a sink");
    let series = Arc::new(Mutex::new(Series::new(period)));
    let (late, latency) = (Arc::clone(&series), Arc::clone(latency));
    let start = Instant::now();
    viewer.connect("handoff", false, move |values| {
        let sink = values.first()?.get::<gst_base::BaseSink>().ok()?;
        let buffer = values.get(1)?.get::<gst::Buffer>().ok()?;
        let seconds = |time: gst::ClockTime| time.nseconds() as f64 / 1e9;
        let now = seconds(sink.current_running_time()?);
        let announced = seconds(sink.latency());
        let at = start.elapsed().as_secs_f64();
        let lateness = (now - seconds(buffer.pts()?) - announced).max(0.0);
        late.lock().unwrap_or_else(|e| e.into_inner()).push(at, lateness);
        latency
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .push(at, announced);
        None
    });
    series
}

/// Sends frames and changes properties until `stop` is set.
fn send(pipeline: &gst::Pipeline, seed: u64, stop: &AtomicBool) {
    let source = crate::source(pipeline);
    source.set_caps(Some(&camera::caps(FPS as i32)));
    let mut camera = Camera::new(seed);
    let mut random = camera::random(seed, 1);
    let interval = Duration::from_micros(1_000_000 / FPS);
    let mut shutter = Shutter::new(interval);
    let duration = gst::ClockTime::SECOND / FPS;
    for frame in 0.. {
        shutter.wait();
        if stop.load(Relaxed) {
            break;
        }
        let now = pipeline.current_running_time().unwrap_or_default();
        if source
            .push_buffer(camera::buffer(camera.next(frame), now, duration))
            .is_err()
        {
            break;
        }
        if random.random_range(0..20) == 0 {
            changes::change(pipeline, "eye", false, &["recorder", "copy"], &mut random);
        }
        for encoder in ["encoder", "camera-encoder"] {
            if random.random_range(0..30) == 0
                && let Some(encoder) = pipeline.by_name(encoder)
            {
                changes::request_key_frame(&encoder);
            }
        }
    }
    // The source fails only when the pipeline has stopped already.
    let _ = source.end_of_stream();
}
