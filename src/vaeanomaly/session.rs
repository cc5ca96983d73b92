//! One stream: from a buffer to everything that is to be said about it. Nothing is posted or pushed here.

use std::time::Duration;

use super::State;
use super::meta::FrameResult;
use super::picture;
use super::settings::Settings;
use crate::buffer_times::BufferTimes;
use crate::detector::{
    ComputeDevice, Detector, Effort, EffortControl, FrameReport, Label, Prediction, Region, SceneChange,
    Tuning,
};
use crate::gate::{Change, EventInfo, EventTracker, Mark, Retention, Sighting, Span, Verdict};

/// Something to tell the application and the elements downstream.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Notice {
    StateChanged { from: Option<State> },
    SceneChange(SceneChange),
    ViewBlocked,
    EffortChanged { from: Effort, pace: Pace },
    Begin(EventInfo),
    Update(EventInfo, Region),
    End(EventInfo, Region),
    Frame,
}

/// When a frame is shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    /// Its own time.
    pub(super) pts: Option<gst::ClockTime>,
    /// The same, or what its running time comes to where it has none.
    pub(super) position: Option<gst::ClockTime>,
    /// In the segment: its own or the nominal one.
    pub(super) duration: Option<gst::ClockTime>,
    /// In running time.
    pub(super) span: Span,
}

impl Times {
    /// When it is shown.
    pub(super) fn running_time(&self) -> gst::ClockTime {
        gst::ClockTime::try_from(self.span.start).unwrap_or(gst::ClockTime::MAX)
    }
}

/// How late a frame came, where that can be measured, and what is done for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    pub(super) effort: Effort,
    pub(super) lateness: Option<Duration>,
}

/// All there is to say about a frame.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) result: FrameResult,
    pub(super) prediction: Prediction,
    pub(super) report: FrameReport,
    pub(super) pace: Pace,
    pub(super) verdict: Verdict,
    pub(super) notices: Vec<Notice>,
}

/// The learnt camera and where its stream is.
#[derive(Debug)]
pub(super) struct Session {
    detector: Detector,
    info: gst_video::VideoInfo,
    times: BufferTimes,
    effort: EffortControl,
    /// The last frame's, for one that comes too late to be scored.
    last: Option<Prediction>,
    tracker: EventTracker,
    retention: Retention,
    state: Option<State>,
    view_blocked: bool,
    peak: Option<(f64, Region)>,
}

impl Session {
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

    /// A session with a detector for frames of `info`.
    pub(super) fn with_detector(detector: Detector, info: gst_video::VideoInfo) -> Self {
        let mut times = BufferTimes::default();
        times.set_frame_rate(Some(info.fps()));
        Self {
            detector,
            info,
            times,
            effort: EffortControl::default(),
            last: None,
            tracker: EventTracker::new(),
            retention: Retention::new(),
            state: None,
            view_blocked: false,
            peak: None,
        }
    }

    /// Takes new caps; what was learnt stays where the shape of the picture does.
    pub(super) fn renegotiate(&mut self, info: gst_video::VideoInfo) -> crate::detector::Result<()> {
        self.detector
            .resize((info.width() as usize, info.height() as usize))?;
        self.times.set_frame_rate(Some(info.fps()));
        self.info = info;
        self.last = None;
        Ok(())
    }

    pub(super) fn info(&self) -> &gst_video::VideoInfo {
        &self.info
    }

    /// When the next frame is shown; to be asked once for every frame.
    pub(super) fn times(
        &mut self,
        buffer: &gst::BufferRef,
        segment: &gst::FormattedSegment<gst::ClockTime>,
    ) -> Times {
        self.times.set_segment(segment.upcast_ref());
        let span = self.times.span(buffer);
        Times {
            pts: buffer.pts(),
            position: buffer.pts().or_else(|| self.times.position(span.start)),
            duration: self.times.duration(buffer),
            span,
        }
    }

    /// Scores and learns from a frame and decides what becomes of it.
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
        let before = self.effort.effort();
        let decision = self
            .effort
            .decide(times.span.start, lateness, settings.max_lateness.into());
        let pace = Pace {
            effort: decision.effort,
            lateness,
        };
        let ((prediction, report), scored) = match self.last.take() {
            Some(last) if !decision.score => {
                let report = FrameReport {
                    view_blocked: self.view_blocked,
                    ..FrameReport::default()
                };
                ((self.repeat(last), report), false)
            }
            _ => (self.predict(buffer, times, pace.effort, settings)?, true),
        };
        self.last = Some(prediction);
        let span = times.span;
        let anomalous = prediction.label == Some(Label::Anomaly);
        let tracked = self.tracker.observe(
            &settings.event_policy(),
            &Sighting {
                span,
                anomalous,
                score: prediction.score,
                raw_score: prediction.raw_score,
            },
        );
        let verdict = self.retention.decide(
            &settings.retention_policy(),
            &Mark {
                span,
                protected: prediction.label.is_none(),
                anomalous,
                event: tracked.event_id,
            },
        );
        let mut notices = self.observe_changes(&prediction, &report);
        if pace.effort != before {
            notices.push(Notice::EffortChanged { from: before, pace });
        }
        for change in tracked.changes() {
            notices.push(self.event_notice(change, &prediction));
        }
        if tracked.event_id.is_some() {
            self.follow_peak(&prediction);
        }
        notices.push(Notice::Frame);
        let result = FrameResult {
            score: prediction.score,
            raw_score: prediction.raw_score,
            threshold: prediction.threshold,
            label: prediction.label,
            cue: prediction.cue,
            state: prediction.state.into(),
            event_id: tracked.event_id,
            frame: prediction.frame,
            region: prediction.region,
            scored,
        };
        Ok(Outcome {
            result,
            prediction,
            report,
            pace,
            verdict,
            notices,
        })
    }

    /// Scores a frame and learns from it.
    fn predict(
        &mut self,
        buffer: &gst::BufferRef,
        times: Times,
        effort: Effort,
        settings: &Settings,
    ) -> Result<(Prediction, FrameReport), String> {
        let nominal = self.times.frame_duration().map(Duration::from);
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &self.info).map_err(|_| {
            format!(
                "the buffer of {} bytes cannot be mapped as a frame",
                buffer.size()
            )
        })?;
        let tuning = Tuning {
            train: effort == Effort::Full,
            ..settings.tuning()
        };
        picture::with_view(&frame, |view| {
            self.detector
                .process(view, times.pts.map(Duration::from), nominal, &tuning)
        })
    }

    /// The result of the frame before once more, for a frame that nobody looked at.
    fn repeat(&mut self, last: Prediction) -> Prediction {
        Prediction {
            frame: self.detector.skip(),
            ..last
        }
    }

    /// What to do with a frame that could not be scored: it counts as protected, so that nothing is lost.
    pub(super) fn pass_unscored(&mut self, times: Times, settings: &Settings) -> Verdict {
        self.retention.decide(
            &settings.retention_policy(),
            &Mark {
                span: times.span,
                protected: true,
                ..Mark::default()
            },
        )
    }

    /// The stream ends or jumps: closes an open event.
    pub(super) fn finish(&mut self) -> Option<Notice> {
        let event = self.tracker.finish()?;
        Some(Notice::End(
            event,
            self.peak.take().map(|p| p.1).unwrap_or_default(),
        ))
    }

    /// The next frame does not follow the last one.
    pub(super) fn restart(&mut self) {
        self.detector.restart();
        self.last = None;
        self.times.restart();
        self.retention.restart();
    }

    fn observe_changes(&mut self, prediction: &Prediction, report: &FrameReport) -> Vec<Notice> {
        let mut notices = Vec::new();
        let state = State::from(prediction.state);
        if self.state != Some(state) {
            notices.push(Notice::StateChanged {
                from: self.state.replace(state),
            });
        }
        notices.extend(report.scene_change.map(Notice::SceneChange));
        if report.view_blocked && !self.view_blocked {
            notices.push(Notice::ViewBlocked);
        }
        self.view_blocked = report.view_blocked;
        notices
    }

    fn event_notice(&mut self, change: Change, prediction: &Prediction) -> Notice {
        match change {
            Change::Begin(event) => {
                self.peak = None;
                Notice::Begin(event)
            }
            Change::Update(event) => Notice::Update(event, prediction.region),
            Change::End(event) => Notice::End(event, self.peak.take().map(|p| p.1).unwrap_or_default()),
        }
    }

    fn follow_peak(&mut self, prediction: &Prediction) {
        if self.peak.is_none_or(|(top, _)| prediction.raw_score > top) {
            self.peak = Some((prediction.raw_score, prediction.region));
        }
    }
}
