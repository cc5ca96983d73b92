//! Every cue's score against its own history, on one scale.

use serde::{Deserialize, Serialize};

use crate::detector::frame::ROUNDING;
use crate::detector::{Error, Result};

/// Constants of a cue's [`Calibration`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct CalibrationConfig {
    /// Smaller scores count as this.
    pub(crate) floor: f64,
    /// Expected logarithm of the score before the first observation.
    pub(crate) mean: f64,
    /// Expected deviation of that logarithm.
    pub(crate) deviation: f64,
    /// Weight of the expectation, in observations.
    pub(crate) weight: f64,
    /// Observations at the start that are ignored.
    pub(crate) skip: f64,
    /// Observations of the ungated warm-up, after `skip`.
    pub(crate) warm_up: f64,
    /// Minimum duration of the warm-up, in seconds.
    pub(crate) warm_up_seconds: f64,
    /// Minimum weight of the history at the end of the warm-up.
    pub(crate) settled_weight: f64,
}

/// Observations above this many deviations enter with [`LEAK`] only.
const GATE: f64 = 1.75;
/// Weight of an observation above the gate: an anomaly enters 50 times slower, but a new normal is learnt eventually.
const LEAK: f64 = 0.02;
/// Maximum weight of the history, in observations.
const LONGEST_MEMORY: f64 = 10_000.0;
/// Minimum of the same: shorter histories are noise.
const SHORTEST_MEMORY: f64 = 50.0;
/// Compensates for the variance lost by clipping at two deviations.
const CLIP_CORRECTION: f64 = 1.15;
/// Smaller deviations count as this.
const LEAST_DEVIATION: f64 = 0.1;

/// Running mean and variance of the logarithm of a positive score.
#[derive(Clone, Debug)]
pub(crate) struct Calibration {
    config: CalibrationConfig,
    learnt: CalibrationLearnt,
}

/// The history of a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CalibrationLearnt {
    mean: f64,
    variance: f64,
    /// Observations that the history counts for.
    weight: f64,
    /// Ticks observed so far.
    ticks: f64,
    /// Seconds observed so far.
    seconds: f64,
    /// Whether the warm-up was ended early.
    ended: bool,
}

impl Calibration {
    pub(crate) fn new(config: CalibrationConfig) -> Self {
        Self {
            config,
            learnt: CalibrationLearnt {
                mean: config.mean,
                variance: config.deviation * config.deviation,
                weight: config.weight,
                ticks: 0.0,
                seconds: 0.0,
                ended: false,
            },
        }
    }

    /// The history.
    pub(crate) fn learnt(&self) -> &CalibrationLearnt {
        &self.learnt
    }

    /// Continues from another history of the same cue.
    ///
    /// # Errors
    /// A number below 0 that cannot be.
    pub(crate) fn restore(&mut self, learnt: CalibrationLearnt) -> Result<()> {
        let CalibrationLearnt {
            variance,
            weight,
            ticks,
            seconds,
            ..
        } = learnt;
        if variance < 0.0 || weight < 0.0 || ticks < 0.0 || seconds < 0.0 {
            return Err(Error::Learnt(format!(
                "calibration: expected no numbers below 0, got {learnt:?}"
            )));
        }
        self.learnt = learnt;
        Ok(())
    }

    /// How many deviations `score` is above its history.
    pub(crate) fn standardise(&self, score: f64) -> f64 {
        (self.log(score) - self.learnt.mean) / self.deviation()
    }

    /// The score in the middle of the history.
    pub(crate) fn usual(&self) -> f64 {
        self.learnt.mean.exp()
    }

    /// Whether the history is long enough for [`Calibration::standardise`].
    pub(crate) fn is_ready(&self) -> bool {
        self.learnt.ended || self.is_past(1.0)
    }

    /// Ends the warm-up now.
    pub(crate) fn end_warm_up(&mut self) {
        if !self.is_ready() {
            self.learnt.ended = true;
            self.learnt.weight = self.learnt.weight.max(self.config.settled_weight);
        }
    }

    /// Whether the ignored observations and this share of the warm-up are over.
    pub(crate) fn is_past(&self, share: f64) -> bool {
        self.learnt.ticks >= self.config.skip + share * self.config.warm_up - ROUNDING
            && self.learnt.seconds >= share * self.config.warm_up_seconds - ROUNDING
    }

    /// Takes a score into the history, which is at most `memory` seconds long. `ticks` is the score's weight, `seconds` the
    /// time that it stands for.
    pub(crate) fn observe(&mut self, score: f64, ticks: f64, seconds: f64, memory: f64) {
        let was_ready = self.is_ready();
        self.learnt.ticks += ticks;
        self.learnt.seconds += seconds;
        if self.learnt.ticks <= self.config.skip {
            return;
        }
        if was_ready {
            let longest = memory * ticks / seconds.max(f64::MIN_POSITIVE);
            self.observe_gated(score, ticks, longest.clamp(SHORTEST_MEMORY, LONGEST_MEMORY));
        } else {
            self.observe_ungated(score, ticks);
            if self.is_ready() {
                self.learnt.weight = self.learnt.weight.max(self.config.settled_weight);
            }
        }
    }

    fn observe_ungated(&mut self, score: f64, ticks: f64) {
        let k = ticks / (self.learnt.weight + 1.0);
        let bound = 3.0 * self.learnt.variance.sqrt();
        let d = (self.log(score) - self.learnt.mean).clamp(-bound, bound);
        self.learnt.mean += k * d;
        self.learnt.variance += k * (d * d - self.learnt.variance);
        self.learnt.weight += ticks;
    }

    fn observe_gated(&mut self, score: f64, ticks: f64, longest: f64) {
        let gate = ticks * if self.standardise(score) < GATE { 1.0 } else { LEAK };
        let k = gate / (self.learnt.weight + 1.0).min(longest);
        let bound = 2.0 * self.learnt.variance.sqrt();
        let d = (self.log(score) - self.learnt.mean).clamp(-bound, bound);
        self.learnt.mean += k * d;
        self.learnt.variance += k * (CLIP_CORRECTION * d * d - self.learnt.variance);
        self.learnt.weight += gate;
    }

    fn log(&self, score: f64) -> f64 {
        score.max(self.config.floor).ln()
    }

    fn deviation(&self) -> f64 {
        self.learnt.variance.sqrt().max(LEAST_DEVIATION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds.
    const WEEK: f64 = 604_800.0;

    fn config() -> CalibrationConfig {
        CalibrationConfig {
            floor: 0.1,
            mean: 5f64.ln(),
            deviation: 0.25,
            weight: 50.0,
            skip: 0.0,
            warm_up: 50.0,
            warm_up_seconds: 8.0,
            settled_weight: 1000.0,
        }
    }

    fn settled_at(score: f64) -> Calibration {
        let mut c = Calibration::new(config());
        for i in 0..400 {
            c.observe(score * if i % 2 == 0 { 1.1 } else { 0.9 }, 1.0, 0.1, WEEK);
        }
        c
    }

    #[test]
    fn ready_after_both_the_observations_and_the_seconds() {
        let mut c = Calibration::new(config());
        for i in 1..=80 {
            c.observe(5.0, 1.0, 0.1, WEEK);
            assert_eq!(c.is_ready(), i >= 80, "after {i} tenths of a second");
        }
        let mut slow = Calibration::new(config());
        for i in 1..=50 {
            slow.observe(5.0, 1.0, 0.2, WEEK);
            assert_eq!(slow.is_ready(), i >= 50, "after {i} frames at 5 frames/s");
        }
    }

    #[test]
    fn finds_the_level_of_its_camera() {
        let c = settled_at(2.0);
        assert!(c.standardise(2.0).abs() < 1.5, "{}", c.standardise(2.0));
        assert!(c.standardise(8.0) > 2.0, "{}", c.standardise(8.0));
        assert!(
            Calibration::new(config()).standardise(8.0) < 2.0,
            "before it knew its camera"
        );
    }

    #[test]
    fn an_anomaly_hardly_moves_it() {
        let mut with = settled_at(2.0);
        let before = with.standardise(8.0);
        for _ in 0..100 {
            with.observe(8.0, 1.0, 0.1, WEEK);
        }
        let after = with.standardise(8.0);
        assert!(after > 0.95 * before, "{before} -> {after}");
        assert!(after < before, "the gate must leak, or a new normal locks in");
    }

    #[test]
    fn a_short_memory_follows_sooner() {
        let after = |memory: f64| {
            let mut c = settled_at(2.0);
            (0..20_000).for_each(|i| c.observe(if i % 2 == 0 { 2.2 } else { 1.8 }, 1.0, 0.1, memory));
            (0..300).for_each(|_| c.observe(2.3, 1.0, 0.1, memory));
            c.standardise(2.3)
        };
        let (short, long) = (after(10.0), after(WEEK));
        assert!(short < 0.3 && long > 0.8, "{short} and {long}");
    }

    #[test]
    fn thirds_of_a_tick_count_as_a_third() {
        let mut whole = Calibration::new(config());
        let mut thirds = Calibration::new(config());
        for i in 0..200 {
            let score = 3.0 + f64::from(i % 7);
            whole.observe(score, 1.0, 0.1, WEEK);
            for _ in 0..3 {
                thirds.observe(score, 1.0 / 3.0, 0.1 / 3.0, WEEK);
            }
        }
        let (a, b) = (whole.standardise(6.0), thirds.standardise(6.0));
        assert!((a - b).abs() < 0.02, "{a} and {b}");
    }
}
