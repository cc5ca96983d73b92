//! The `stats` property.

use std::collections::VecDeque;
use std::time::Duration;

use super::load::LoadLevel;
use super::message::Notification;
use super::model::{ModelReport, unix_time};
use super::state::Outcome;
use crate::detector::{CueKind, Label, State, StepReport};
use crate::events::Tally;

/// Number of frames over which the times per stage are averaged.
const RECENT: usize = 512;

/// The most recent times of one stage.
#[derive(Clone, Debug, Default)]
struct StageTimes(VecDeque<Duration>);

impl StageTimes {
    fn push(&mut self, time: Duration) {
        if self.0.len() == RECENT {
            self.0.pop_front();
        }
        self.0.push_back(time);
    }

    /// Mean and 95th percentile in milliseconds.
    fn summary(&self) -> (f64, f64) {
        if self.0.is_empty() {
            return (0.0, 0.0);
        }
        let mut ms: Vec<f64> = self.0.iter().map(|t| t.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        let mean = ms.iter().sum::<f64>() / ms.len() as f64;
        (mean, ms[(ms.len() * 95 / 100).min(ms.len() - 1)])
    }
}

/// Counts since start.
#[derive(Clone, Debug, Default)]
pub(super) struct Stats {
    pub(super) state: State,
    pub(super) tally: Tally,
    /// Compute device; `None` before the first start.
    pub(super) device: Option<String>,
    frames: u64,
    trained: u64,
    rejected: u64,
    anomalous: u64,
    events: u64,
    unscored: u64,
    skipped: u64,
    training_suspended: u64,
    load: LoadLevel,
    lateness: Duration,
    threshold: f64,
    /// The last training step of each cue, in the order of [`CueKind::ALL`].
    steps: [StepReport; CueKind::ALL.len()],
    preprocess: StageTimes,
    score: StageTimes,
    learn: StageTimes,
    model: ModelStats,
}

/// The model and its file.
#[derive(Clone, Copy, Debug, Default)]
struct ModelStats {
    frames: u64,
    /// Unix times in seconds; 0 = not yet.
    began: u64,
    saved: u64,
    bytes: u64,
}

impl Stats {
    /// Statistics at the start, on `device`.
    pub(super) fn on(device: &str) -> Self {
        Self {
            device: Some(device.to_owned()),
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, outcome: &Outcome) {
        let Outcome {
            result, report, load, ..
        } = outcome;
        self.frames += 1;
        self.model.frames = result.prediction.frame.saturating_add(1);
        self.anomalous += u64::from(result.prediction.label == Some(Label::Anomaly));
        self.training_suspended += u64::from(load.level != LoadLevel::Full);
        self.load = load.level;
        self.lateness = load.lateness.unwrap_or_default();
        if !result.scored {
            self.skipped += 1;
            return;
        }
        self.threshold = result.prediction.threshold;
        self.state = result.prediction.state;
        self.trained += u64::from(!report.steps.is_empty());
        for (cue, step) in &report.steps {
            self.rejected += u64::from(step.rejected);
            for (kind, last) in CueKind::ALL.iter().zip(&mut self.steps) {
                if kind == cue {
                    *last = *step;
                }
            }
        }
        self.preprocess.push(report.timings.preprocess);
        self.score.push(report.timings.score);
        if !report.steps.is_empty() {
            self.learn.push(report.timings.learn);
        }
    }

    /// Learning began at this Unix time, in seconds.
    pub(super) fn set_began(&mut self, began: u64) {
        self.model.began = began;
    }

    pub(super) fn add_model(&mut self, report: &ModelReport) {
        let (saved, bytes) = match report {
            ModelReport::Saved { at, bytes, .. } => (*at, *bytes),
            ModelReport::Loaded { saved, bytes, .. } => (*saved, *bytes),
            ModelReport::Refused(_) | ModelReport::Failed { .. } => return,
        };
        self.model = ModelStats {
            saved,
            bytes,
            ..self.model
        };
    }

    pub(super) fn add_unscored(&mut self) {
        self.unscored += 1;
    }

    pub(super) fn add_notification(&mut self, notification: &Notification) {
        self.events += u64::from(matches!(notification, Notification::Begin(_)));
    }

    /// The structure of the property.
    pub(super) fn structure(&self) -> gst::Structure {
        let mut s = gst::Structure::builder("vaeanomaly-stats")
            .field("frames", self.frames)
            .field("unscored", self.unscored)
            .field("skipped", self.skipped)
            .field("training-suspended", self.training_suspended)
            .field("effort", self.load.as_str())
            .field("lateness", self.lateness.as_nanos() as u64)
            .field("trained", self.trained)
            .field("rejected-steps", self.rejected)
            .field("anomalous", self.anomalous)
            .field("events", self.events)
            .field("dropped", self.tally.frames_in - self.tally.frames_out)
            .field("passed", self.tally.frames_out)
            .field("bytes-in", self.tally.bytes_in)
            .field("bytes-out", self.tally.bytes_out)
            .field("threshold", self.threshold)
            .field("device", self.device.as_deref().unwrap_or("cpu"))
            .field("model-frames", self.model.frames)
            .field("model-age", self.model.age())
            .field("model-saved-at", self.model.saved)
            .field("model-size", self.model.bytes)
            .build();
        for (stage, times) in [
            ("preprocess", &self.preprocess),
            ("score", &self.score),
            ("learn", &self.learn),
        ] {
            let (mean, p95) = times.summary();
            s.set(format!("{stage}-ms-mean"), mean);
            s.set(format!("{stage}-ms-p95"), p95);
        }
        for (cue, step) in CueKind::ALL.iter().zip(&self.steps) {
            let prefix = field_prefix(*cue);
            s.set(format!("{prefix}loss"), step.loss);
            s.set(format!("{prefix}reconstruction"), step.reconstruction);
            s.set(format!("{prefix}kl"), step.kl);
        }
        s
    }
}

impl ModelStats {
    /// Time since learning began, in ns; 0 before.
    fn age(self) -> u64 {
        match self.began {
            0 => 0,
            began => unix_time().saturating_sub(began).saturating_mul(1_000_000_000),
        }
    }
}

/// What the names of a cue's losses start with: nothing for the appearance cue.
fn field_prefix(cue: CueKind) -> String {
    match cue {
        CueKind::Appearance => String::new(),
        cue => format!("{cue}-"),
    }
}
