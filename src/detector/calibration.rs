//! Every cue against its own history, on one scale.

use super::clock::ROUNDING;

/// Constants of a cue's [`Calibration`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct CalibrationConfig {
    /// Scores below this count as this.
    pub(crate) floor: f64,
    /// Expected logarithm of the score before anything was seen.
    pub(crate) mean: f64,
    /// Expected deviation of that logarithm.
    pub(crate) deviation: f64,
    /// How many observations the expectation is worth.
    pub(crate) weight: f64,
    /// Observations that are not used.
    pub(crate) skip: f64,
    /// Observations of the ungated warm-up, after `skip`.
    pub(crate) warm_up: f64,
    /// Seconds that the warm-up lasts at least.
    pub(crate) warm_up_seconds: f64,
    /// Weight at the end of the warm-up, at least.
    pub(crate) settled_weight: f64,
}

/// Above this many deviations an observation enters with [`LEAK`] only.
const GATE: f64 = 1.75;
/// What passes the gate: an anomaly enters 50 times slower, and nothing locks in for ever.
const LEAK: f64 = 0.02;
/// The history never counts more than this many observations.
const LONGEST_MEMORY: f64 = 10_000.0;
/// Makes up for the variance that the clip at two deviations takes away.
const CLIP_CORRECTION: f64 = 1.15;
/// Deviations below this count as this.
const LEAST_DEVIATION: f64 = 0.1;

/// Running mean and variance of the logarithm of a positive score.
#[derive(Clone, Debug)]
pub(crate) struct Calibration {
    config: CalibrationConfig,
    mean: f64,
    variance: f64,
    weight: f64,
    /// Observations so far; one is a tenth of a second or a frame, whichever is longer.
    seen: f64,
    seconds: f64,
    ended: bool,
}

impl Calibration {
    pub(crate) fn new(config: CalibrationConfig) -> Self {
        Self {
            config,
            mean: config.mean,
            variance: config.deviation * config.deviation,
            weight: config.weight,
            seen: 0.0,
            seconds: 0.0,
            ended: false,
        }
    }

    /// Deviations of `score` from what was seen so far.
    pub(crate) fn standardise(&self, score: f64) -> f64 {
        (self.log(score) - self.mean) / self.deviation()
    }

    /// Whether enough was seen for [`Calibration::standardise`] to be used.
    pub(crate) fn is_ready(&self) -> bool {
        self.ended || self.is_past(1.0)
    }

    /// Ends the warm-up now, whatever was seen.
    pub(crate) fn end_warm_up(&mut self) {
        if !self.is_ready() {
            self.ended = true;
            self.weight = self.weight.max(self.config.settled_weight);
        }
    }

    /// Whether the skipped part and this share of the warm-up are over.
    pub(crate) fn is_past(&self, share: f64) -> bool {
        self.seen >= self.config.skip + share * self.config.warm_up - ROUNDING
            && self.seconds >= share * self.config.warm_up_seconds - ROUNDING
    }

    /// Takes a score into the history. `ticks` is its weight, 1 for a tenth of a second or a whole frame,
    /// `seconds` the time it stands for.
    pub(crate) fn observe(&mut self, score: f64, ticks: f64, seconds: f64) {
        let was_ready = self.is_ready();
        self.seen += ticks;
        self.seconds += seconds;
        if self.seen <= self.config.skip {
            return;
        }
        if was_ready {
            self.observe_gated(score, ticks);
        } else {
            self.observe_openly(score, ticks);
            if self.is_ready() {
                self.weight = self.weight.max(self.config.settled_weight);
            }
        }
    }

    fn observe_openly(&mut self, score: f64, ticks: f64) {
        let k = ticks / (self.weight + 1.0);
        let bound = 3.0 * self.variance.sqrt();
        let d = (self.log(score) - self.mean).clamp(-bound, bound);
        self.mean += k * d;
        self.variance += k * (d * d - self.variance);
        self.weight += ticks;
    }

    fn observe_gated(&mut self, score: f64, ticks: f64) {
        let gate = ticks * if self.standardise(score) < GATE { 1.0 } else { LEAK };
        let k = gate / (self.weight + 1.0).min(LONGEST_MEMORY);
        let bound = 2.0 * self.variance.sqrt();
        let d = (self.log(score) - self.mean).clamp(-bound, bound);
        self.mean += k * d;
        self.variance += k * (CLIP_CORRECTION * d * d - self.variance);
        self.weight += gate;
    }

    fn log(&self, score: f64) -> f64 {
        score.max(self.config.floor).ln()
    }

    fn deviation(&self) -> f64 {
        self.variance.sqrt().max(LEAST_DEVIATION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            c.observe(score * if i % 2 == 0 { 1.1 } else { 0.9 }, 1.0, 0.1);
        }
        c
    }

    #[test]
    fn ready_after_both_the_observations_and_the_seconds() {
        let mut c = Calibration::new(config());
        for i in 1..=80 {
            c.observe(5.0, 1.0, 0.1);
            assert_eq!(c.is_ready(), i >= 80, "after {i} tenths of a second");
        }
        let mut slow = Calibration::new(config());
        for i in 1..=50 {
            slow.observe(5.0, 1.0, 0.2);
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
            with.observe(8.0, 1.0, 0.1);
        }
        let after = with.standardise(8.0);
        assert!(after > 0.95 * before, "{before} -> {after}");
        assert!(after < before, "the gate must leak, or a new normal locks in");
    }

    #[test]
    fn thirds_of_a_tick_count_as_a_third() {
        let mut whole = Calibration::new(config());
        let mut thirds = Calibration::new(config());
        for i in 0..200 {
            let score = 3.0 + f64::from(i % 7);
            whole.observe(score, 1.0, 0.1);
            for _ in 0..3 {
                thirds.observe(score, 1.0 / 3.0, 0.1 / 3.0);
            }
        }
        let (a, b) = (whole.standardise(6.0), thirds.standardise(6.0));
        assert!((a - b).abs() < 0.02, "{a} and {b}");
    }
}
