//! The cues side by side: score, fuse, compare, label, learn.

use candle_core::Device;

use super::channel::Channel;
use super::cue::{Cue, CueKind, Frame, StepReport, Turn};
use super::exchange::Exchange;
use super::fusion::Fusion;
use super::lifecycle::{LifeCycle, Signs, State};
use super::scene::SceneReport;
use super::threshold::Threshold;
use super::{AnomalyMap, Region, Result, Tuning};

/// What is held of a frame before anything is learnt from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    pub(crate) raw_score: f64,
    pub(crate) threshold: f64,
    pub(crate) over_threshold: bool,
    pub(crate) state: State,
    pub(crate) cue: CueKind,
    pub(crate) region: Region,
}

/// All cues of a detector.
#[derive(Debug)]
pub(crate) struct Judge {
    channels: Vec<Channel>,
    exchange: Exchange,
    fusion: Fusion,
    threshold: Threshold,
    life: LifeCycle,
    /// Frames after which the warm-up ends; 0 = the cues know.
    warm_up: u32,
    frames: u32,
}

impl Judge {
    /// With nets on `device`.
    pub(crate) fn new(cues: Vec<Box<dyn Cue>>, warm_up: u32, device: &Device) -> Self {
        Self {
            exchange: Exchange::new(device),
            channels: cues.into_iter().map(|cue| Channel::new(cue, warm_up)).collect(),
            fusion: Fusion::default(),
            threshold: Threshold::default(),
            life: LifeCycle::default(),
            warm_up,
            frames: 0,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.life.state()
    }

    /// Scores a frame in a picture of `picture` = (width, height) pixels.
    pub(crate) fn judge(
        &mut self,
        frame: &Frame<'_>,
        report: SceneReport,
        picture: (usize, usize),
        tuning: &Tuning,
    ) -> Result<Verdict> {
        if report.cut.is_some() {
            self.restart();
        }
        let mut cues: Vec<_> = self.channels.iter_mut().map(Channel::cue_mut).collect();
        let scores = self.exchange.score(&mut cues, frame, tuning.learn)?;
        for (channel, score) in self.channels.iter_mut().zip(scores) {
            channel.take(score);
        }
        self.count_warm_up();
        let held = self.channels.iter().any(Channel::is_held);
        let scores: Vec<f64> = self.channels.iter().filter_map(Channel::standardised).collect();
        let (raw_score, threshold) = if held || scores.is_empty() {
            (self.fusion.raw_score(), self.threshold.current(tuning))
        } else {
            let raw = self.fusion.update(&scores, frame.step);
            (raw, self.threshold.judge(raw, tuning))
        };
        let over_threshold = raw_score > threshold;
        let state = self.life.advance(&Signs {
            learn: tuning.learn,
            scoring: self.is_scoring(),
            calibrated: self.channels.iter().any(|c| c.calibration().is_ready()),
            held,
            over_threshold,
            cut: report.cut,
            step: frame.step,
        });
        let strongest = self.strongest();
        let region = strongest.cue().map().region_of_peak(picture);
        Ok(Verdict {
            raw_score,
            threshold,
            over_threshold,
            state,
            cue: strongest.kind(),
            region,
        })
    }

    /// Lets every cue whose turn it is learn from the frame that was just judged.
    pub(crate) fn learn(&mut self, frame: &Frame<'_>, tuning: &Tuning) -> Result<Vec<(CueKind, StepReport)>> {
        if !tuning.learn {
            return Ok(Vec::new());
        }
        let eager = self.life.state() == State::Adapting;
        let turns: Vec<Turn> = self
            .channels
            .iter_mut()
            .map(|channel| channel.prepare(frame, tuning, eager))
            .collect();
        let mut cues: Vec<_> = self.channels.iter_mut().map(Channel::cue_mut).collect();
        let lessons = self.exchange.learn(&mut cues, &turns)?;
        let mut told = Vec::new();
        for (channel, lesson) in self.channels.iter_mut().zip(lessons) {
            channel.calibrate(frame, lesson.is_some());
            told.extend(lesson.map(|lesson| (channel.kind(), lesson)));
        }
        Ok(told)
    }

    /// Why the nets had to leave a GPU since this was asked last.
    pub(crate) fn take_failure(&mut self) -> Option<String> {
        self.exchange.take_failure()
    }

    /// Lets the nets of one cue fail as on a GPU.
    #[cfg(test)]
    pub(crate) fn inject(&mut self, cue: CueKind, fault: super::cue::Fault) {
        let channel = self.channels.iter_mut().find(|c| c.kind() == cue);
        channel.expect("the cue is on").cue_mut().inject(fault);
    }

    pub(crate) fn restart(&mut self) {
        self.channels.iter_mut().for_each(Channel::restart);
    }

    /// Every place's standardised score, on the grid of the first cue, the larger of the cues.
    pub(crate) fn map(&self) -> AnomalyMap {
        let Some((first, others)) = self.channels.split_first() else {
            return AnomalyMap::default();
        };
        let mut map = first.cue().map().clone();
        for value in &mut map.values {
            *value = first.calibration().standardise(f64::from(*value)) as f32;
        }
        for channel in others {
            let other = channel.cue().map();
            for (i, value) in map.values.iter_mut().enumerate() {
                let x = i % map.width * other.width / map.width;
                let y = i / map.width * other.height / map.height;
                let there = f64::from(other.values[y * other.width + x]);
                *value = value.max(channel.calibration().standardise(there) as f32);
            }
        }
        map
    }

    /// The appearance cue's idea of the last picture, and its width.
    pub(crate) fn reconstruction(&self) -> Option<(Vec<f32>, usize)> {
        self.channels.iter().find_map(|c| c.cue().reconstruction())
    }

    fn count_warm_up(&mut self) {
        self.frames = self.frames.saturating_add(1);
        if self.warm_up > 0 && self.frames >= self.warm_up {
            self.channels.iter_mut().for_each(Channel::end_warm_up);
        }
    }

    /// Whether the first quarter of a warm-up is over.
    fn is_scoring(&self) -> bool {
        if self.warm_up > 0 {
            return self.frames > self.warm_up / 4;
        }
        self.channels.iter().any(|c| c.calibration().is_past(0.25))
    }

    /// The channel with the largest standardised score; the first while none has one.
    fn strongest(&self) -> &Channel {
        let score = |c: &Channel| c.standardised().unwrap_or(f64::NEG_INFINITY);
        self.channels
            .iter()
            .reduce(|best, c| if score(c) > score(best) { c } else { best })
            .expect("a detector has at least one cue")
    }
}
