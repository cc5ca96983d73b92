//! The state of one stream: from a buffer to all that is to be done about it. Nothing is posted or pushed here.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

#[cfg(feature = "v1_24")]
use super::analytics::{Track, Tracks};
#[cfg(feature = "cuda")]
use super::cuda_memory::CudaFrames;
use super::load::{LoadLevel, LoadShedder};
use super::message::{Found, Notification};
use super::meta::{FrameResult, SmallImage};
use super::model::unix_time;
use super::settings::Settings;
use super::view;
use crate::detector::store::Model;
use crate::detector::{ComputeDevice, Detector, FrameReport, Label, Prediction, State, Tuning};
use crate::events::{Decision, EventChange, EventTracker, FrameVerdict, Observation, Retention, Span};
use crate::gstutil::{BufferTimes, lock, to_clock_time};

/// When a frame is presented.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    /// The buffer's own timestamp.
    pub(super) pts: Option<gst::ClockTime>,
    /// The timestamp, or the position of its running time for a buffer with an implausible one or without one.
    pub(super) position: Option<gst::ClockTime>,
    /// The buffer's own duration or the nominal one, in the segment.
    pub(super) duration: Option<gst::ClockTime>,
    /// In running time.
    pub(super) span: Span,
}

impl Times {
    /// Running time of the frame.
    pub(super) fn running_time(&self) -> gst::ClockTime {
        to_clock_time(self.span.start)
    }
}

/// How late a frame came, where that can be measured, and the load level it led to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Load {
    pub(super) level: LoadLevel,
    pub(super) lateness: Option<Duration>,
}

/// Events that can still be accepted.
const EVENTS: usize = 64;

/// Everything about one processed frame.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) result: FrameResult,
    /// The tracks of its regions.
    #[cfg(feature = "v1_24")]
    pub(super) tracks: Vec<Track>,
    pub(super) report: FrameReport,
    pub(super) load: Load,
    pub(super) decision: Decision,
    pub(super) notifications: Vec<Notification>,
}

/// Anomaly map and reconstruction, where they are attached.
#[derive(Clone, Debug, Default)]
struct Images {
    map: Option<SmallImage>,
    reconstruction: Option<SmallImage>,
}

/// The learnt camera and the position in its stream.
#[derive(Debug)]
pub(super) struct StreamState {
    detector: Detector,
    /// Unix time in seconds at which learning began.
    began: u64,
    /// Whether anything was learnt that is not in the file.
    has_learnt: bool,
    #[cfg(feature = "cuda")]
    cuda: CudaFrames,
    info: gst_video::VideoInfo,
    times: BufferTimes,
    load: LoadShedder,
    /// The previous frame's prediction, for a frame that comes too late to be scored.
    last: Option<Prediction>,
    /// The small images of the last frame that was scored.
    images: Images,
    #[cfg(feature = "v1_24")]
    tracks: Tracks,
    tracker: EventTracker,
    retention: Retention,
    life_cycle: Option<State>,
    view_blocked: bool,
    /// Highest raw score of the open event, and what was found in that frame.
    peak: Option<(f64, Found)>,
    /// The last events and the numbers of their frames.
    events: VecDeque<(NonZeroU64, RangeInclusive<u64>)>,
}

impl StreamState {
    pub(super) fn new(
        settings: &Settings,
        device: ComputeDevice,
        info: gst_video::VideoInfo,
    ) -> crate::detector::Result<Self> {
        let detector = Detector::on(
            device,
            settings.config()?,
            (info.width() as usize, info.height() as usize),
        )?;
        Ok(Self::with_detector(detector, info))
    }

    /// The state of a stream whose detector is for frames of `info`.
    pub(super) fn with_detector(detector: Detector, info: gst_video::VideoInfo) -> Self {
        let mut times = BufferTimes::default();
        times.set_frame_rate(Some(info.fps()));
        Self {
            detector,
            began: unix_time(),
            has_learnt: false,
            #[cfg(feature = "cuda")]
            cuda: CudaFrames::default(),
            info,
            times,
            load: LoadShedder::default(),
            last: None,
            images: Images::default(),
            #[cfg(feature = "v1_24")]
            tracks: Tracks::default(),
            tracker: EventTracker::new(),
            retention: Retention::new(),
            life_cycle: None,
            view_blocked: false,
            peak: None,
            events: VecDeque::new(),
        }
    }

    /// Adopts new caps. What was learnt is kept if the aspect ratio stays the same.
    pub(super) fn renegotiate(&mut self, info: gst_video::VideoInfo) -> crate::detector::Result<()> {
        self.detector
            .resize((info.width() as usize, info.height() as usize))?;
        self.times.set_frame_rate(Some(info.fps()));
        self.info = info;
        self.last = None;
        Ok(())
    }

    /// Whether [`Self::renegotiate`] to these caps keeps what was learnt.
    pub(super) fn keeps_learnt(&self, info: &gst_video::VideoInfo) -> bool {
        self.detector
            .keeps_learnt((info.width() as usize, info.height() as usize))
    }

    /// A copy of all that was learnt.
    ///
    /// # Errors
    /// The device failed.
    pub(super) fn model(&mut self) -> crate::detector::Result<Model> {
        Ok(Model {
            learnt: self.detector.learnt()?,
            next_event: self.tracker.next_id(),
            began: self.began,
            saved: unix_time(),
        })
    }

    /// The same for the file; `None` where it has all that was learnt.
    pub(super) fn unsaved_model(&mut self) -> Option<crate::detector::Result<Model>> {
        std::mem::take(&mut self.has_learnt).then(|| self.model())
    }

    /// Continues from a model instead of what was learnt; ends an open event.
    ///
    /// # Errors
    /// The model is of other settings or of another aspect ratio. Then nothing changes.
    pub(super) fn load(&mut self, model: Model) -> crate::detector::Result<Option<Notification>> {
        self.detector.replace(model.learnt)?;
        let ended = self.finish();
        self.tracker.continue_from(model.next_event);
        self.began = model.began;
        self.has_learnt = true;
        self.last = None;
        Ok(ended)
    }

    /// Continues from the model in the file, before the first frame.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(super) fn continue_from(&mut self, model: Model) -> crate::detector::Result<()> {
        self.load(model)?;
        self.has_learnt = false;
        Ok(())
    }

    /// Forgets all that was learnt; ends an open event. Events and frames are counted on.
    ///
    /// # Errors
    /// The model cannot be made.
    pub(super) fn reset(&mut self) -> crate::detector::Result<Option<Notification>> {
        self.detector.reset()?;
        self.began = unix_time();
        self.has_learnt = true;
        self.last = None;
        Ok(self.finish())
    }

    /// Unix time in seconds at which learning began.
    pub(super) fn began(&self) -> u64 {
        self.began
    }

    pub(super) fn info(&self) -> &gst_video::VideoInfo {
        &self.info
    }

    /// The times of the next frame; to be called once a frame.
    pub(super) fn times(
        &mut self,
        buffer: &gst::BufferRef,
        segment: &gst::FormattedSegment<gst::ClockTime>,
    ) -> Times {
        self.times.set_segment(segment.upcast_ref());
        let span = self.times.next(buffer).span;
        let plausible = buffer.pts().filter(|_| !self.times.is_suspect());
        Times {
            pts: buffer.pts(),
            position: plausible.or_else(|| self.times.position(span.start)),
            duration: self.times.duration(buffer),
            span,
        }
    }

    /// No frame comes for a time.
    pub(super) fn skip(&mut self, gap: &gst::event::Gap) {
        let (start, duration) = gap.get();
        self.times.gap(start, duration);
    }

    /// Scores a frame, learns from it, and decides whether it is kept.
    ///
    /// # Errors
    /// A sentence: why the frame could not be scored.
    pub(super) fn process(
        &mut self,
        buffer: &gst::BufferRef,
        times: Times,
        lateness: Option<Duration>,
        settings: &Settings,
    ) -> Result<Outcome, String> {
        let previous_level = self.load.level();
        let shed = self
            .load
            .decide(times.span.start, lateness, settings.max_lateness.into());
        let load = Load {
            level: shed.level,
            lateness,
        };
        let ((prediction, report), scored) = match self.last.take() {
            Some(last) if !shed.score => (self.repeat(last), false),
            _ => (self.predict(buffer, times, load.level, settings)?, true),
        };
        if scored {
            self.images = self.images(&prediction, settings);
        }
        self.last = Some(prediction.clone());
        let span = times.span;
        let anomalous = prediction.label == Some(Label::Anomaly);
        let tracked = self.tracker.observe(
            &settings.event_policy(),
            &Observation {
                span,
                anomalous,
                score: prediction.score,
                raw_score: prediction.raw_score,
                absorbed: report.absorbed,
            },
        );
        let decision = self.retention.decide(
            &settings.retention_policy(),
            &FrameVerdict {
                span,
                protected: prediction.label.is_none(),
                anomalous,
                event: tracked.event_id,
            },
        );
        let mut notifications = self.observe_changes(&prediction, &report);
        if load.level != previous_level {
            notifications.push(Notification::LoadChanged {
                from: previous_level,
                load,
            });
        }
        for change in tracked.changes() {
            notifications.push(self.event_notification(change));
        }
        if let Some(id) = tracked.event_id {
            self.update_peak(&prediction);
            self.follow_event(id, prediction.frame);
        }
        notifications.push(Notification::Frame);
        Ok(Outcome {
            #[cfg(feature = "v1_24")]
            tracks: self
                .tracks
                .follow(&prediction.regions, times.running_time(), scored),
            result: FrameResult {
                prediction,
                event_id: tracked.event_id,
                scored,
                image_size: (self.info.width(), self.info.height()),
                anomaly_map: self.images.map.clone(),
                reconstruction: self.images.reconstruction.clone(),
            },
            report,
            load,
            decision,
            notifications,
        })
    }

    /// Scores a frame and learns from it.
    fn predict(
        &mut self,
        buffer: &gst::BufferRef,
        times: Times,
        level: LoadLevel,
        settings: &Settings,
    ) -> Result<(Prediction, FrameReport), String> {
        let time = times.pts.and(times.position);
        let nominal = self.times.frame_duration().map(Duration::from);
        let time = time.map(Duration::from);
        self.detector.ignore(&settings.ignored);
        self.has_learnt |= settings.tuning.learn;
        let tuning = Tuning {
            train: level == LoadLevel::Full,
            ..settings.tuning
        };
        #[cfg(feature = "cuda")]
        {
            let detector = &mut self.detector;
            let processed = self.cuda.process(buffer, &self.info, |frame| {
                frame.score(detector, time, nominal, &tuning)
            });
            if let Some(result) = processed {
                return result;
            }
        }
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &self.info).map_err(|_| {
            format!(
                "the buffer of {} bytes cannot be mapped as a frame",
                buffer.size()
            )
        })?;
        view::with_view(&frame, |view| self.detector.process(view, time, nominal, &tuning))
    }

    /// The small images of the frame that was just scored.
    fn images(&mut self, prediction: &Prediction, settings: &Settings) -> Images {
        let map = settings
            .attach_map
            .then(|| SmallImage::from_map(&self.detector.anomaly_map(prediction.threshold)));
        let reconstruction = match settings.attach_reconstruction {
            true => self.detector.reconstruction(),
            false => None,
        };
        Images {
            map,
            reconstruction: reconstruction.map(|(width, height, pixels)| SmallImage {
                width: width as u32,
                height: height as u32,
                pixels,
            }),
        }
    }

    /// The previous frame's prediction for a frame that is not scored.
    fn repeat(&mut self, last: Prediction) -> (Prediction, FrameReport) {
        let prediction = Prediction {
            frame: self.detector.skip(),
            ..last
        };
        let report = FrameReport {
            view_blocked: self.view_blocked,
            ..FrameReport::default()
        };
        (prediction, report)
    }

    /// Decides about a frame that could not be scored: it is protected, so that nothing is lost.
    pub(super) fn decide_unscored(&mut self, times: Times, settings: &Settings) -> Decision {
        self.retention
            .decide(&settings.retention_policy(), &FrameVerdict::unknown(times.span))
    }

    /// The stream ends or jumps: ends an open event.
    pub(super) fn finish(&mut self) -> Option<Notification> {
        let event = self.tracker.finish()?;
        Some(Notification::End(event, self.take_peak()))
    }

    /// The next frame does not follow the previous one.
    pub(super) fn restart(&mut self) {
        self.detector.restart();
        self.last = None;
        self.times.restart();
        self.retention.restart();
    }

    fn observe_changes(&mut self, prediction: &Prediction, report: &FrameReport) -> Vec<Notification> {
        let mut notifications = Vec::new();
        if self.life_cycle != Some(prediction.state) {
            notifications.push(Notification::StateChanged {
                from: self.life_cycle.replace(prediction.state),
            });
        }
        notifications.extend(report.scene_change.map(Notification::SceneChange));
        if report.view_blocked && !self.view_blocked {
            notifications.push(Notification::ViewBlocked);
        }
        self.view_blocked = report.view_blocked;
        notifications
    }

    fn event_notification(&mut self, change: EventChange) -> Notification {
        match change {
            EventChange::Begin(event) => {
                self.peak = None;
                Notification::Begin(event)
            }
            EventChange::Update(event) => Notification::Update(event),
            EventChange::End(event) => Notification::End(event, self.take_peak()),
        }
    }

    /// Notes which frames belong to which event.
    fn follow_event(&mut self, id: NonZeroU64, frame: u64) {
        match self.events.back_mut() {
            Some((last, frames)) if *last == id => *frames = *frames.start()..=frame,
            _ => {
                if self.events.len() == EVENTS {
                    self.events.pop_front();
                }
                let before = self
                    .tracker
                    .open_event()
                    .map_or(0, |event| event.frames.saturating_sub(1));
                self.events.push_back((id, frame.saturating_sub(before)..=frame));
            }
        }
    }

    /// Accepts what was seen in an event as normal; `false` where it is unknown or too long ago.
    pub(super) fn accept(&mut self, event_id: u64) -> bool {
        let event = self.events.iter().find(|(id, _)| id.get() == event_id);
        let frames = event.map(|(_, frames)| frames.clone());
        let accepted = frames.is_some_and(|frames| self.detector.accept(frames));
        self.has_learnt |= accepted;
        accepted
    }

    fn update_peak(&mut self, prediction: &Prediction) {
        if self
            .peak
            .as_ref()
            .is_none_or(|(score, _)| prediction.raw_score > *score)
        {
            let found = Found {
                region: prediction.region,
                regions: prediction.regions.clone(),
            };
            self.peak = Some((prediction.raw_score, found));
        }
    }

    fn take_peak(&mut self) -> Found {
        self.peak.take().map(|(_, found)| found).unwrap_or_default()
    }
}

/// The state of the stream, which the streaming thread takes out while it works with it: no lock is held during inference
/// and training. Other threads wait until it is back.
#[derive(Debug, Default)]
pub(super) struct StateSlot {
    slot: Mutex<Slot>,
    returned: Condvar,
}

#[derive(Debug, Default)]
enum Slot {
    /// No caps.
    #[default]
    Empty,
    Idle(Box<StreamState>),
    InUse,
}

/// Other threads do not wait longer than this: something is wrong with the streaming thread.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

impl StateSlot {
    /// Takes the state out; `None` without caps. To be put back.
    pub(super) fn take(&self) -> Option<Box<StreamState>> {
        let mut slot = lock(&self.slot);
        match std::mem::take(&mut *slot) {
            Slot::Idle(state) => {
                *slot = Slot::InUse;
                Some(state)
            }
            other => {
                *slot = other;
                None
            }
        }
    }

    pub(super) fn put(&self, state: Box<StreamState>) {
        *lock(&self.slot) = Slot::Idle(state);
        self.returned.notify_all();
    }

    /// Removes the state.
    pub(super) fn clear(&self) -> Option<Box<StreamState>> {
        let slot = std::mem::take(&mut *lock(&self.slot));
        self.returned.notify_all();
        match slot {
            Slot::Idle(state) => Some(state),
            Slot::Empty | Slot::InUse => None,
        }
    }

    /// Does something with the state between two frames; `None` without caps.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut StreamState) -> R) -> Option<R> {
        let slot = lock(&self.slot);
        let in_use = |slot: &mut Slot| matches!(slot, Slot::InUse);
        let waited = self.returned.wait_timeout_while(slot, LONGEST_WAIT, in_use);
        let (mut slot, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match &mut *slot {
            Slot::Idle(state) => Some(work(state)),
            Slot::Empty | Slot::InUse => None,
        }
    }
}
