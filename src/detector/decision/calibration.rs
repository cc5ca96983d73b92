//! Every cue's score against its own history, on one scale.
//!
//! The history consists of the maxima of the smoothed logarithm of the score over blocks of one second. A score is compared
//! with their median, in units of the distance to their upper quartile: both ignore what less than a quarter of the seconds
//! did. A block that was anomalous itself has a small weight, so that an anomaly does not become normal while it lasts, but
//! a new normal does in the end.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::detector::frame::{ROUNDING, Step, blend};
use crate::detector::{Error, Result};

/// Constants of a cue's [`Calibration`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct CalibrationConfig {
    /// Smaller scores count as this.
    pub(crate) floor: f64,
    /// What is expected of the history before the first observation, if anything.
    pub(crate) prior: Option<Prior>,
    /// Smallest distance between median and upper quartile, of the logarithm.
    pub(crate) least_spread: f64,
    /// Deducted from the standardised score: a cue with rare, strong outliers is trusted less.
    pub(crate) offset: f64,
    /// Seconds of the ungated warm-up.
    pub(crate) warm_up: f64,
}

/// An expected history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prior {
    /// Median of the logarithm of the score.
    pub(crate) median: f64,
    /// Its standard deviation.
    pub(crate) deviation: f64,
    /// Weight in blocks, at most [`PRIOR_SHARE`] of the history's once that is long.
    pub(crate) weight: f64,
}

/// Rate per tick of the exponential smoothing.
const SMOOTHING: f64 = 0.25;
/// A score below this, standardised, is smoothed with at most this, so that the smoothed score falls within tenths of a second
/// after an anomaly, however strong it was.
const LARGEST_REMEMBERED: f64 = 3.0;
/// Seconds in a block.
const BLOCK: f64 = 1.0;
/// A block's maximum is that of at least as many scores: at low frame rates, of some before the block too. Maxima of fewer
/// scores are lower.
const LEAST_SCORES: usize = 10;
/// Blocks in a full history.
const BLOCKS: usize = 300;
/// Fewest blocks in a full history, whatever the memory: shorter ones are noise.
const LEAST_BLOCKS: f64 = 60.0;
/// Weight of a block of the warm-up: the history is short then, and what comes next must not move it much.
const WARM_UP_WEIGHT: f64 = 20.0;
/// Weight of the whole warm-up, where it was ended early.
const SHORT_WARM_UP_WEIGHT: f64 = 160.0;
/// Seconds after other circumstances for which scores enter as in the warm-up, at most.
const LONGEST_RELEARNING: f64 = 8.0;
/// Factor of the weights of a history of other circumstances.
const OUTDATED: f64 = 0.1;
/// Standardised scores above this are anomalous to the history.
const GATE: f64 = 1.75;
/// Weight of a block of which more than half is above the gate.
const LEAK: f64 = 0.02;
/// Weight of the prior as a share of what was observed.
const PRIOR_SHARE: f64 = 1.0 / 6.0;
/// Quantiles of the history: lower tail, median, upper quartile.
const QUANTILES: [f64; 3] = [0.1, 0.5, 0.75];
/// Share of the distance between median and lower tail that the spread is at least.
const LOWER_SHARE: f64 = 0.25;
/// A short history is uncertain: its spread is larger by this, times `UNCERTAIN / (blocks + UNCERTAIN)`.
const UNCERTAINTY: f64 = 0.2;
const UNCERTAIN: f64 = 20.0;
/// Spreads in one unit of the standardised score: 1.75 units are 1.42 spreads.
const UNIT: f64 = 1.42 / 1.75;

/// A score's history of block maxima.
#[derive(Clone, Debug)]
pub(crate) struct Calibration {
    config: CalibrationConfig,
    learnt: CalibrationLearnt,
    /// Follows from the history; `None` before the first block without a prior.
    scale: Option<Scale>,
}

/// What a score is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scale {
    median: f64,
    unit: f64,
}

/// The history of a score.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CalibrationLearnt {
    /// Maximum and weight of each block, from the oldest to the newest.
    blocks: VecDeque<(f64, f64)>,
    /// The block that is not complete yet.
    current: Block,
    /// The last scores, at most [`LEAST_SCORES`].
    #[serde(default)]
    recent: VecDeque<f64>,
    /// The logarithm of the score, smoothed; `None` before the first.
    smoothed: Option<f64>,
    /// Seconds observed so far.
    seconds: f64,
    /// Seconds left of a further warm-up.
    relearning: f64,
    /// Whether the warm-up was ended early.
    ended: bool,
}

/// A block in the making.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Block {
    /// `None` before the first score.
    max: Option<f64>,
    seconds: f64,
    /// Seconds above the gate.
    anomalous: f64,
}

impl Calibration {
    pub(crate) fn new(config: CalibrationConfig) -> Self {
        let learnt = CalibrationLearnt::default();
        Self {
            scale: scale(&config, &learnt),
            config,
            learnt,
        }
    }

    /// The history.
    pub(crate) fn learnt(&self) -> &CalibrationLearnt {
        &self.learnt
    }

    /// Continues from another history of the same cue.
    ///
    /// # Errors
    /// A number that cannot be.
    pub(crate) fn restore(&mut self, learnt: CalibrationLearnt) -> Result<()> {
        let CalibrationLearnt {
            blocks,
            current,
            seconds,
            ..
        } = &learnt;
        let weights = blocks.iter().map(|&(_, weight)| weight);
        let mut positive = weights.chain([current.seconds, current.anomalous, *seconds]);
        if blocks.len() > BLOCKS || !positive.all(|number| number >= 0.0) {
            return Err(Error::Learnt(format!(
                "calibration: expected at most {BLOCKS} blocks and no weights or times below 0, got {} blocks, {current:?}, {seconds} s",
                blocks.len()
            )));
        }
        self.scale = scale(&self.config, &learnt);
        self.learnt = learnt;
        Ok(())
    }

    /// How far a score is above its history. 0 without a history.
    pub(crate) fn standardise(&self, score: f64) -> f64 {
        self.standardise_log(self.log(score))
    }

    /// The same of the smoothed score; `None` before the first.
    pub(crate) fn standardised(&self) -> Option<f64> {
        self.learnt.smoothed.map(|log| self.standardise_log(log))
    }

    /// Whether the smoothed score is anomalous to the history.
    pub(crate) fn is_anomalous(&self) -> bool {
        self.standardised().is_some_and(|score| score > GATE)
    }

    /// The score in the middle of the history; `None` without one.
    pub(crate) fn usual(&self) -> Option<f64> {
        self.scale.map(|scale| scale.median.exp())
    }

    /// Whether the history is long enough for [`Calibration::standardise`].
    pub(crate) fn is_ready(&self) -> bool {
        self.learnt.ended || self.is_past(1.0)
    }

    /// Ends the warm-up now.
    pub(crate) fn end_warm_up(&mut self) {
        if self.is_ready() {
            return;
        }
        let CalibrationLearnt {
            blocks,
            current,
            ended,
            ..
        } = &mut self.learnt;
        *ended = true;
        blocks.extend(std::mem::take(current).max.map(|max| (max, WARM_UP_WEIGHT)));
        let total: f64 = blocks.iter().map(|(_, weight)| weight).sum();
        let factor = (SHORT_WARM_UP_WEIGHT / total).max(1.0);
        blocks.iter_mut().for_each(|(_, weight)| *weight *= factor);
        self.scale = scale(&self.config, &self.learnt);
    }

    /// The history is of other circumstances: it counts less from now on, and what comes next enters as in the warm-up.
    pub(crate) fn relearn(&mut self) {
        if self.learnt.relearning <= 0.0 {
            self.learnt
                .blocks
                .iter_mut()
                .for_each(|(_, weight)| *weight *= OUTDATED);
        }
        self.learnt.relearning = self.config.warm_up.min(LONGEST_RELEARNING);
    }

    /// Whether this share of the warm-up is over.
    pub(crate) fn is_past(&self, share: f64) -> bool {
        self.learnt.seconds >= share * self.config.warm_up - ROUNDING
    }

    /// Smooths a score before it is standardised.
    pub(crate) fn smooth(&mut self, score: f64, step: Step) {
        let log = self.log(score);
        let largest = self.scale.map_or(f64::INFINITY, |scale| {
            scale.median + scale.unit * (LARGEST_REMEMBERED + self.config.offset)
        });
        let smoothed = self.learnt.smoothed.get_or_insert(log);
        if log < largest {
            *smoothed = smoothed.min(largest);
        }
        *smoothed += blend(SMOOTHING, step.ticks) * (log - *smoothed);
    }

    /// Takes the smoothed score, which stands for `seconds`, into the history, which is at most `memory` seconds long.
    pub(crate) fn observe(&mut self, seconds: f64, memory: f64) {
        let Some(smoothed) = self.learnt.smoothed else {
            return;
        };
        let is_anomalous = self.is_anomalous();
        let is_warming_up = !self.is_ready() || self.learnt.relearning > 0.0;
        self.learnt.relearning = (self.learnt.relearning - seconds).max(0.0);
        self.learnt.seconds += seconds;
        self.learnt.recent.push_back(smoothed);
        if self.learnt.recent.len() > LEAST_SCORES {
            self.learnt.recent.pop_front();
        }
        let block = &mut self.learnt.current;
        block.max = Some(block.max.map_or(smoothed, |max| max.max(smoothed)));
        block.seconds += seconds;
        if is_anomalous {
            block.anomalous += seconds;
        }
        if block.seconds < BLOCK - ROUNDING {
            return;
        }
        let weight = match (is_warming_up, block.anomalous > 0.5 * block.seconds) {
            (true, _) => WARM_UP_WEIGHT,
            (false, true) => LEAK,
            (false, false) => 1.0,
        };
        let Block { max, .. } = std::mem::take(block);
        let max = self.learnt.recent.iter().copied().chain(max).reduce(f64::max);
        let blocks = &mut self.learnt.blocks;
        blocks.extend(max.map(|max| (max, weight)));
        let most = (memory / BLOCK).clamp(LEAST_BLOCKS, BLOCKS as f64) as usize;
        while blocks.len() > most {
            blocks.pop_front();
        }
        self.scale = scale(&self.config, &self.learnt);
    }

    fn standardise_log(&self, log: f64) -> f64 {
        let above = |scale: Scale| (log - scale.median) / scale.unit - self.config.offset;
        self.scale.map_or(0.0, above)
    }

    fn log(&self, score: f64) -> f64 {
        score.max(self.config.floor).ln()
    }
}

/// Median and unit of a history.
fn scale(config: &CalibrationConfig, learnt: &CalibrationLearnt) -> Option<Scale> {
    let mut weighted: Vec<(f64, f64)> = learnt.blocks.iter().copied().collect();
    if let Some(Prior {
        median,
        deviation,
        weight,
    }) = config.prior
    {
        let observed: f64 = weighted.iter().map(|(_, weight)| weight).sum();
        let weight = match weighted.len() < LEAST_BLOCKS as usize {
            true => weight,
            false => weight.min(PRIOR_SHARE * observed),
        };
        // Seven values that stand for a distribution of this deviation.
        let values = (-3..=3).map(|i| median + 0.5 * f64::from(i) * deviation);
        weighted.extend(values.map(|value| (value, weight / 7.0)));
    }
    if weighted.is_empty() {
        return None;
    }
    let [low, median, high] = quantiles(&mut weighted, QUANTILES);
    let spread = (high - median)
        .max(LOWER_SHARE * (median - low))
        .max(config.least_spread);
    let uncertainty = UNCERTAINTY * UNCERTAIN / (learnt.blocks.len() as f64 + UNCERTAIN);
    Some(Scale {
        median,
        unit: UNIT * (spread + uncertainty),
    })
}

/// Weighted quantiles of at least one value, each value at the middle of its weight, linear between them.
fn quantiles<const N: usize>(weighted: &mut [(f64, f64)], shares: [f64; N]) -> [f64; N] {
    weighted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = weighted.iter().map(|(_, weight)| weight).sum();
    let mut middles = Vec::with_capacity(weighted.len());
    let mut before = 0.0;
    for &(value, weight) in weighted.iter() {
        middles.push(((before + 0.5 * weight) / total, value));
        before += weight;
    }
    shares.map(|share| {
        let above = middles.partition_point(|&(middle, _)| middle < share);
        match (above.checked_sub(1).map(|i| middles[i]), middles.get(above)) {
            (Some((a, low)), Some(&(b, high))) => low + (share - a) / (b - a) * (high - low),
            (Some((_, value)), None) | (None, Some(&(_, value))) => value,
            (None, None) => f64::NAN,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds.
    const WEEK: f64 = 604_800.0;
    /// Scores are usually around this.
    const USUAL: f64 = 5.0;

    fn config() -> CalibrationConfig {
        CalibrationConfig {
            floor: 0.1,
            prior: Some(Prior {
                median: USUAL.ln(),
                deviation: 0.2,
                weight: 50.0,
            }),
            least_spread: 0.1,
            offset: 0.0,
            warm_up: 8.0,
        }
    }

    fn without_prior() -> CalibrationConfig {
        CalibrationConfig {
            prior: None,
            ..config()
        }
    }

    /// Ten frames a second with scores a tenth above and below `level`.
    fn run(c: &mut Calibration, level: f64, seconds: usize) {
        let step = Step {
            seconds: 0.1,
            ticks: 1.0,
        };
        for i in 0..10 * seconds {
            c.smooth(level * if i % 2 == 0 { 1.1 } else { 0.9 }, step);
            c.observe(0.1, WEEK);
        }
    }

    fn settled(config: CalibrationConfig, level: f64, seconds: usize) -> Calibration {
        let mut c = Calibration::new(config);
        run(&mut c, level, seconds);
        c
    }

    #[test]
    fn ready_after_the_seconds_of_the_warm_up_at_any_rate() {
        for rate in [1.0, 10.0, 30.0] {
            let mut c = Calibration::new(config());
            let seconds = 1.0 / rate;
            let step = Step {
                seconds,
                ticks: 10.0 * seconds,
            };
            let frames = (1..).find(|_| {
                c.smooth(5.0, step);
                c.observe(seconds, WEEK);
                c.is_ready()
            });
            assert_eq!(frames, Some((8.0 * rate) as usize), "{rate} frames/s");
        }
    }

    #[test]
    fn a_strong_anomaly_is_over_as_soon_as_a_weak_one() {
        let frames = |level: f64| {
            let mut c = settled(without_prior(), USUAL, 60);
            let step = Step {
                seconds: 0.1,
                ticks: 1.0,
            };
            (0..20).for_each(|_| c.smooth(level, step));
            let strong = c.standardised().unwrap();
            let over = (0..100).take_while(|_| {
                c.smooth(USUAL, step);
                c.is_anomalous()
            });
            (strong, over.count())
        };
        let ((weak, after_weak), (strong, after_strong)) = (frames(3.0 * USUAL), frames(1e4 * USUAL));
        assert!(
            weak > LARGEST_REMEMBERED && strong > 5.0 * weak,
            "{weak} and {strong}"
        );
        assert!(
            after_strong == after_weak && after_weak < 5,
            "{after_weak} and {after_strong} frames"
        );
    }

    #[test]
    fn maxima_do_not_depend_on_the_frame_rate() {
        // Scores without any order, the same at both rates.
        let score = |i: usize| USUAL * (1.0 + 0.01 * ((i * 7919) % 101) as f64);
        let median = |seconds: f64| {
            let mut c = Calibration::new(without_prior());
            for i in 0..600 {
                // One tick: the smoothing is the same.
                c.smooth(score(i), Step { seconds, ticks: 1.0 });
                c.observe(seconds, WEEK);
            }
            c.usual().unwrap()
        };
        let (fast, slow) = (median(0.1), median(0.5));
        assert!((slow / fast - 1.0).abs() < 0.03, "{fast} and {slow}");
    }

    #[test]
    fn finds_the_level_of_its_camera() {
        for level in [0.3, 2.0, 60.0] {
            let c = settled(without_prior(), level, 40);
            let (usual, unusual) = (c.standardise(1.05 * level), c.standardise(3.0 * level));
            assert!(usual < 1.0 && unusual > 3.0, "{level}: {usual} and {unusual}");
        }
        assert_eq!(Calibration::new(without_prior()).standardise(100.0), 0.0);
    }

    #[test]
    fn knows_an_anomaly_from_the_first_frame_by_its_prior() {
        let c = Calibration::new(config());
        assert!(c.standardise(3.0 * USUAL) > 2.0, "{}", c.standardise(3.0 * USUAL));
    }

    #[test]
    fn another_level_than_the_priors_is_learnt() {
        let c = settled(config(), 10.0 * USUAL, 400);
        assert!(
            c.standardise(10.0 * USUAL) < 1.0,
            "{}",
            c.standardise(10.0 * USUAL)
        );
        assert!(
            c.standardise(40.0 * USUAL) > 2.0,
            "{}",
            c.standardise(40.0 * USUAL)
        );
    }

    #[test]
    fn an_anomaly_hardly_moves_it_and_a_new_normal_does() {
        let mut c = settled(without_prior(), 2.0, 100);
        let before = c.standardise(8.0);
        run(&mut c, 8.0, 40);
        let after = c.standardise(8.0);
        assert!(after > 0.9 * before, "{before} -> {after}");
        run(&mut c, 8.0, 400);
        assert!(c.standardise(8.0) < 1.0, "{}", c.standardise(8.0));
    }

    #[test]
    fn other_circumstances_are_learnt_within_seconds() {
        let mut c = settled(without_prior(), 2.0, 300);
        c.relearn();
        run(&mut c, 4.0, 6);
        assert!(c.standardise(4.0) < 1.0, "{}", c.standardise(4.0));
        assert!(c.standardise(20.0) > 2.0, "{}", c.standardise(20.0));
        run(&mut c, 4.0, 30);
        let before = c.standardise(16.0);
        run(&mut c, 16.0, 10);
        assert!(c.standardise(16.0) > 0.9 * before, "gated again");
    }

    #[test]
    fn a_few_seconds_do_not_move_it_however_high() {
        let mut c = settled(without_prior(), 2.0, 100);
        let before = c.standardise(8.0);
        for _ in 0..8 {
            run(&mut c, 2.0, 10);
            run(&mut c, 1000.0, 1);
        }
        assert!((c.standardise(8.0) - before).abs() < 0.15 * before);
    }

    #[test]
    fn a_short_memory_follows_sooner() {
        let after = |memory: f64| {
            let mut c = settled(without_prior(), 2.0, 300);
            let step = Step {
                seconds: 0.1,
                ticks: 1.0,
            };
            for _ in 0..500 {
                c.smooth(2.4, step);
                c.observe(0.1, memory);
            }
            c.usual().unwrap()
        };
        let (short, long) = (after(60.0), after(WEEK));
        assert!(short > 2.3 && long < 2.3, "{short} and {long}");
    }

    #[test]
    fn a_restored_history_is_the_same_and_a_broken_one_is_rejected() {
        let c = settled(config(), 2.0, 30);
        let mut restored = Calibration::new(config());
        restored.restore(c.learnt().clone()).unwrap();
        assert_eq!(restored.standardise(7.0), c.standardise(7.0));
        let mut learnt = c.learnt().clone();
        learnt.blocks[3].1 = -1.0;
        assert!(restored.restore(learnt).is_err());
        let mut learnt = c.learnt().clone();
        learnt.blocks.resize(BLOCKS + 1, (0.0, 1.0));
        assert!(restored.restore(learnt).is_err());
    }

    #[test]
    fn quantiles_are_weighted() {
        let mut values = [(3.0, 1.0), (1.0, 1.0), (2.0, 1.0)];
        assert_eq!(quantiles(&mut values, [0.0, 0.5, 1.0]), [1.0, 2.0, 3.0]);
        let mut values = [(1.0, 1.0), (2.0, 3.0)];
        assert_eq!(quantiles(&mut values, [0.5]), [1.75]);
        assert_eq!(quantiles(&mut [(4.0, 0.5)], [0.1, 0.9]), [4.0, 4.0]);
    }
}
