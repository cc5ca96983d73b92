//! What is done with every frame behind the detector.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gstvaeanomaly::FrameResult;
use gstvaeanomaly::detector::Label;

use crate::pipeline::Observer;
use crate::state::{Camera, Image, Millis, RegionInfo, Score, Watch, lock, now};

/// From running times to times of day.
#[derive(Debug)]
pub struct WallClock {
    /// The pipeline's running time is that of the world.
    realtime: bool,
    /// Time of running time 0.
    zero: AtomicI64,
}

impl WallClock {
    pub fn new(realtime: bool) -> Self {
        Self {
            realtime,
            zero: AtomicI64::new(now()),
        }
    }

    /// Follows the time of day, which may be set, and a pipeline that was rewound.
    pub fn update(&self, pipeline: &gst::Pipeline) {
        if let Some(running) = pipeline.current_running_time().filter(|_| self.realtime) {
            self.zero
                .store(now() - running.mseconds() as Millis, Ordering::Relaxed);
        }
    }

    /// The time at a running time.
    pub fn at(&self, running: gst::ClockTime) -> Millis {
        self.zero.load(Ordering::Relaxed) + running.mseconds() as Millis
    }
}

/// The strongest frame of an anomaly.
#[derive(Clone, Debug)]
pub struct Peak {
    /// The detector's number of the event, once there is one.
    pub number: Option<u64>,
    pub score: f64,
    pub time: Millis,
    pub cue: String,
    pub size: (u32, u32),
    pub regions: Vec<RegionInfo>,
    /// Its image, or that of the strongest frame that has one.
    pub image: Option<Arc<Image>>,
    pts: Option<gst::ClockTime>,
}

/// A frame whose image was requested.
#[derive(Debug)]
struct Wanted {
    pts: Option<gst::ClockTime>,
    time: Millis,
    live: bool,
}

/// Collects what the frames of a camera say.
#[derive(Debug)]
pub struct Frames {
    watch: Arc<Watch>,
    camera: Arc<Camera>,
    clock: Arc<WallClock>,
    count: AtomicU64,
    peak: Mutex<Option<Peak>>,
    wanted: Mutex<VecDeque<Wanted>>,
    last_live: AtomicI64,
}

impl Frames {
    pub fn new(watch: &Arc<Watch>, camera: &Arc<Camera>, clock: &Arc<WallClock>) -> Self {
        Self {
            watch: Arc::clone(watch),
            camera: Arc::clone(camera),
            clock: Arc::clone(clock),
            count: AtomicU64::new(0),
            peak: Mutex::new(None),
            wanted: Mutex::default(),
            last_live: AtomicI64::new(0),
        }
    }

    /// Frames so far.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub fn clock(&self) -> &WallClock {
        &self.clock
    }

    /// The strongest frame of the event with this number, or of the anomaly that is becoming one.
    pub fn peak(&self, number: u64) -> Option<Peak> {
        let peak = lock(&self.peak);
        peak.as_ref()
            .filter(|peak| peak.number.is_none_or(|of| of == number))
            .cloned()
    }

    /// Follows the strongest frame. Returns whether its image is wanted.
    fn follow(&self, result: &FrameResult, time: Millis, pts: Option<gst::ClockTime>) -> bool {
        let prediction = &result.prediction;
        let number = result.event_id.map(u64::from);
        let mut peak = lock(&self.peak);
        if prediction.label != Some(Label::Anomaly) {
            // Too short to become an event.
            if number.is_none() && peak.as_ref().is_some_and(|peak| peak.number.is_none()) {
                *peak = None;
            }
            return false;
        }
        let other = |of: u64| number.is_some_and(|number| number != of);
        if peak
            .as_ref()
            .and_then(|peak| peak.number)
            .is_some_and(|of| other(of) || number.is_none())
        {
            *peak = None;
        }
        if let Some(peak) = &mut *peak {
            peak.number = number.or(peak.number);
            if prediction.score <= peak.score {
                return false;
            }
        }
        let regions = prediction.regions.iter().map(|found| RegionInfo {
            id: found.id,
            score: found.score,
            cue: found.cue.as_str().to_owned(),
            x: found.region.x,
            y: found.region.y,
            width: found.region.width,
            height: found.region.height,
        });
        *peak = Some(Peak {
            number: number.or(peak.as_ref().and_then(|peak| peak.number)),
            score: prediction.score,
            time,
            cue: prediction.cue.as_str().to_owned(),
            size: result.image_size,
            regions: regions.collect(),
            image: peak.as_ref().and_then(|peak| peak.image.clone()),
            pts,
        });
        true
    }

    /// Whether a live image is due.
    fn live_is_due(&self) -> bool {
        if !self.camera.is_viewed() {
            return false;
        }
        let interval = (1000.0 / self.camera.config.live_rate) as Millis;
        let (last, now) = (self.last_live.load(Ordering::Relaxed), now());
        // A tolerance of half a frame at 25 frames/s: images keep their pace.
        let due = now - last >= interval - 20 || now < last;
        if due {
            self.last_live.store(now, Ordering::Relaxed);
        }
        due
    }
}

impl Observer for Frames {
    fn frame(&self, buffer: &gst::BufferRef, running_time: Option<gst::ClockTime>) -> bool {
        self.count.fetch_add(1, Ordering::Relaxed);
        let Some(result) = FrameResult::read(buffer) else {
            return false;
        };
        let time = self.clock.at(running_time.unwrap_or_default());
        let prediction = &result.prediction;
        let label = prediction.label.map_or("unknown", Label::as_str);
        self.camera.update(|status| {
            status.frames += 1;
            status.state.clear();
            status.state.push_str(prediction.state.as_str());
            status.label.clear();
            status.label.push_str(label);
            status.cue.clear();
            status.cue.push_str(prediction.cue.as_str());
            status.score = prediction.score;
            status.raw_score = prediction.raw_score;
            status.threshold = prediction.threshold;
            (status.width, status.height) = result.image_size;
            status.updated = time;
        });
        self.camera.push_score(Score {
            time,
            score: prediction.score as f32,
            anomaly: prediction.label == Some(Label::Anomaly),
        });
        self.watch.frame(&self.camera, &result, time);
        let peak = self.follow(&result, time, buffer.pts());
        let live = self.live_is_due();
        if peak || live {
            let mut wanted = lock(&self.wanted);
            // The branch drops frames when it is too slow.
            if wanted.len() == 8 {
                wanted.pop_front();
            }
            wanted.push_back(Wanted {
                pts: buffer.pts(),
                time,
                live,
            });
        }
        peak || live
    }

    fn image(&self, pts: Option<gst::ClockTime>, jpeg: &[u8]) {
        let found = {
            let mut wanted = lock(&self.wanted);
            let at = wanted.iter().position(|wanted| wanted.pts == pts);
            at.and_then(|at| wanted.drain(..=at).next_back())
        };
        let Some(found) = found else {
            return;
        };
        let image = Arc::new(Image {
            time: found.time,
            jpeg: jpeg.to_vec(),
        });
        if let Some(peak) = &mut *lock(&self.peak)
            && (peak.pts == pts || peak.image.is_none())
        {
            peak.image = Some(Arc::clone(&image));
        }
        if found.live {
            self.camera.show(image);
        }
    }
}
