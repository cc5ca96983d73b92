//! What the `stats` property tells.

use std::collections::VecDeque;
use std::time::Duration;

use super::State;
use super::session::{Notice, Outcome};
use crate::detector::{CueKind, Effort, Label, StepReport};
use crate::gate::Tally;

/// Frames that the times per stage reach back.
const RECENT: usize = 512;

/// The newest times of one stage.
#[derive(Clone, Debug, Default)]
struct Stage(VecDeque<Duration>);

impl Stage {
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

/// Counts since the start.
#[derive(Clone, Debug, Default)]
pub(super) struct Stats {
    pub(super) state: State,
    pub(super) tally: Tally,
    /// Where the nets compute; `None` before the first start.
    pub(super) device: Option<String>,
    frames: u64,
    trained: u64,
    refused: u64,
    anomalous: u64,
    events: u64,
    unscored: u64,
    skipped: u64,
    spared: u64,
    effort: Effort,
    lateness: Duration,
    threshold: f64,
    appearance: StepReport,
    motion: StepReport,
    reduce: Stage,
    score: Stage,
    learn: Stage,
}

impl Stats {
    /// At the start, on `device`.
    pub(super) fn on(device: &str) -> Self {
        Self {
            device: Some(device.to_owned()),
            ..Self::default()
        }
    }

    pub(super) fn count(&mut self, outcome: &Outcome) {
        let Outcome {
            result,
            prediction,
            report,
            pace,
            ..
        } = outcome;
        self.frames += 1;
        self.anomalous += u64::from(result.label == Some(Label::Anomaly));
        self.spared += u64::from(pace.effort != Effort::Full);
        self.effort = pace.effort;
        self.lateness = pace.lateness.unwrap_or_default();
        if !result.scored {
            self.skipped += 1;
            return;
        }
        self.threshold = prediction.threshold;
        self.state = prediction.state.into();
        self.trained += u64::from(!report.steps.is_empty());
        for (cue, lesson) in &report.steps {
            self.refused += u64::from(lesson.rejected);
            match cue {
                CueKind::Appearance => self.appearance = *lesson,
                CueKind::Motion => self.motion = *lesson,
            }
        }
        self.reduce.push(report.timings.preprocess);
        self.score.push(report.timings.score);
        if !report.steps.is_empty() {
            self.learn.push(report.timings.learn);
        }
    }

    pub(super) fn count_unscored(&mut self) {
        self.unscored += 1;
    }

    pub(super) fn count_notice(&mut self, notice: &Notice) {
        self.events += u64::from(matches!(notice, Notice::Begin(_)));
    }

    /// The structure of the property.
    pub(super) fn structure(&self) -> gst::Structure {
        let ((reduce, reduce95), (score, score95), (learn, learn95)) =
            (self.reduce.summary(), self.score.summary(), self.learn.summary());
        gst::Structure::builder("vaeanomaly-stats")
            .field("frames", self.frames)
            .field("unscored", self.unscored)
            .field("skipped", self.skipped)
            .field("untrained-late", self.spared)
            .field("effort", self.effort.as_str())
            .field("lateness", self.lateness.as_nanos() as u64)
            .field("trained", self.trained)
            .field("refused-steps", self.refused)
            .field("anomalous", self.anomalous)
            .field("events", self.events)
            .field("dropped", self.tally.frames_in - self.tally.frames_out)
            .field("passed", self.tally.frames_out)
            .field("bytes-in", self.tally.bytes_in)
            .field("bytes-out", self.tally.bytes_out)
            .field("reduce-ms-mean", reduce)
            .field("reduce-ms-p95", reduce95)
            .field("score-ms-mean", score)
            .field("score-ms-p95", score95)
            .field("learn-ms-mean", learn)
            .field("learn-ms-p95", learn95)
            .field("loss", self.appearance.loss)
            .field("reconstruction", self.appearance.reconstruction)
            .field("kl", self.appearance.kl)
            .field("motion-loss", self.motion.loss)
            .field("motion-reconstruction", self.motion.reconstruction)
            .field("motion-kl", self.motion.kl)
            .field("threshold", self.threshold)
            .field("device", self.device.as_deref().unwrap_or("cpu"))
            .build()
    }
}
