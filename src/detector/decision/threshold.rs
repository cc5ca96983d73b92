//! The threshold on the raw score.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::detector::store::{Array, Visitor, check_len};
use crate::detector::{Result, ThresholdMode, Tuning};

/// Observations below which every mode uses [`Tuning::threshold`].
const LEAST: usize = 50;
/// No threshold from past scores is below this: a raw score below it is usual for the camera, however still it was before.
const LEAST_RAW: f64 = 1.0;
/// Share of the window that the tail is fitted to.
const TAIL: f64 = 0.1;
/// The window of the mode `Evt` takes as many flagged scores as twice the false-alarm rate explains. More are an anomaly,
/// which must not raise its own threshold: of those every 50th enters, so that a new normal is learnt eventually.
const EXPLAINED: f64 = 2.0;
const LEAK: u32 = 50;

/// The window of past scores, and the rules on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Threshold {
    /// Scores from the oldest to the newest, and whether they were over the threshold.
    #[serde(skip)]
    recent: VecDeque<(f64, bool)>,
    /// The same scores in ascending order.
    #[serde(skip)]
    sorted: Vec<f64>,
    /// How many of them were over the threshold.
    #[serde(skip)]
    flagged: usize,
    /// Flagged scores since the last one that entered, modulo [`LEAK`].
    left_out: u32,
}

impl Threshold {
    /// All arrays with their names. What follows from the window is made anew.
    pub(crate) fn arrays(&mut self, visit: &mut Visitor<'_>) -> Result<()> {
        let recent = std::mem::take(&mut self.recent);
        let (mut scores, flags): (Vec<f64>, Vec<bool>) = recent.into_iter().unzip();
        let mut flags = flags.into_iter().map(|flag| f32::from(u8::from(flag))).collect();
        visit("threshold.scores", Array::F64(&mut scores))?;
        visit("threshold.flagged", Array::F32(&mut flags))?;
        check_len("threshold.flagged", flags.len(), scores.len())?;
        self.recent = scores
            .iter()
            .copied()
            .zip(flags.iter().map(|&flag| flag > 0.0))
            .collect();
        self.flagged = self.recent.iter().filter(|(_, flagged)| *flagged).count();
        self.sorted = scores;
        self.sorted.sort_by(f64::total_cmp);
        Ok(())
    }

    /// The threshold for a frame of this raw score, from the previous frames; then takes the score into the window.
    pub(crate) fn update(&mut self, raw: f64, tuning: &Tuning) -> f64 {
        let threshold = self.current(tuning);
        if tuning.threshold_mode != ThresholdMode::Calibrated && tuning.learn && raw.is_finite() {
            let flagged = raw > threshold && self.has_enough(tuning);
            if !flagged || tuning.threshold_mode != ThresholdMode::Evt || self.admits_flagged(tuning) {
                self.push(raw, flagged, tuning.window as usize);
            }
        }
        threshold
    }

    /// The threshold from the scores so far.
    pub(crate) fn current(&self, tuning: &Tuning) -> f64 {
        if !self.has_enough(tuning) {
            return tuning.threshold;
        }
        let threshold = match tuning.threshold_mode {
            ThresholdMode::Calibrated => return tuning.threshold,
            ThresholdMode::Sigma => self.mean_plus_deviations(tuning.sigma),
            ThresholdMode::Quantile => self.quantile(1.0 - tuning.false_alarm_rate),
            ThresholdMode::Evt => self.extreme_value(tuning.false_alarm_rate),
        };
        threshold.max(LEAST_RAW)
    }

    fn has_enough(&self, tuning: &Tuning) -> bool {
        self.sorted.len() >= LEAST.min(tuning.window as usize)
    }

    fn admits_flagged(&mut self, tuning: &Tuning) -> bool {
        let explained = (EXPLAINED * tuning.false_alarm_rate * f64::from(tuning.window)).max(1.0);
        if (self.flagged as f64) < explained {
            return true;
        }
        self.left_out = (self.left_out + 1) % LEAK;
        self.left_out == 0
    }

    fn push(&mut self, raw: f64, flagged: bool, window: usize) {
        let index = self.sorted.partition_point(|&v| v < raw);
        self.sorted.insert(index, raw);
        self.recent.push_back((raw, flagged));
        self.flagged += usize::from(flagged);
        while self.recent.len() > window.max(1) {
            if let Some((old, flagged)) = self.recent.pop_front() {
                let index = self.sorted.partition_point(|&v| v < old);
                self.sorted.remove(index);
                self.flagged -= usize::from(flagged);
            }
        }
    }

    fn mean_plus_deviations(&self, sigma: f64) -> f64 {
        let n = self.sorted.len() as f64;
        let mean = self.sorted.iter().sum::<f64>() / n;
        let variance = self.sorted.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        mean + sigma * variance.sqrt()
    }

    /// Linear between ranks.
    fn quantile(&self, share: f64) -> f64 {
        let rank = share.clamp(0.0, 1.0) * (self.sorted.len() - 1) as f64;
        let low = rank.floor() as usize;
        let high = (low + 1).min(self.sorted.len() - 1);
        self.sorted[low] + rank.fract() * (self.sorted[high] - self.sorted[low])
    }

    /// Peaks over threshold (Siffer et al., KDD 2017, eq. 1): the excesses over the window's upper tenth follow
    /// a generalised Pareto distribution, `z_q = t + scale / shape * ((q / tail)^-shape - 1)`. It is fitted by
    /// probability-weighted moments (Hosking & Wallis 1987, section 3), which need no search.
    fn extreme_value(&self, rate: f64) -> f64 {
        let start = ((1.0 - TAIL) * self.sorted.len() as f64).floor() as usize;
        let peaks = &self.sorted[start..];
        if rate >= TAIL || peaks.len() < 5 {
            return self.quantile(1.0 - rate);
        }
        let base = self.sorted[start - 1];
        let n = peaks.len() as f64;
        let mean = peaks.iter().map(|p| p - base).sum::<f64>() / n;
        let weighted = peaks
            .iter()
            .enumerate()
            .map(|(i, p)| (n - (i as f64 + 0.65)) / n * (p - base))
            .sum::<f64>()
            / n;
        let spread = mean - 2.0 * weighted;
        if spread <= f64::EPSILON || weighted <= 0.0 {
            return self.quantile(1.0 - rate);
        }
        let shape = 2.0 - mean / spread;
        let scale = 2.0 * mean * weighted / spread;
        let ratio = rate / (n / self.sorted.len() as f64);
        if shape.abs() < 1e-6 {
            base - scale * ratio.ln()
        } else {
            base + scale / shape * (ratio.powf(-shape) - 1.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng as _, SeedableRng};

    fn filled(mode: ThresholdMode, window: u32, value: impl Fn(f64) -> f64) -> (Threshold, Tuning) {
        let tuning = Tuning {
            threshold_mode: mode,
            window,
            sigma: 2.0,
            ..Tuning::default()
        };
        let mut threshold = Threshold::default();
        let mut rng = crate::detector::nn::Rng::seed_from_u64(3);
        for _ in 0..5000 {
            threshold.update(value(rng.random::<f64>()), &tuning);
        }
        (threshold, tuning)
    }

    #[test]
    fn a_short_history_uses_the_calibrated_threshold() {
        for mode in [ThresholdMode::Sigma, ThresholdMode::Evt, ThresholdMode::Quantile] {
            let tuning = Tuning {
                threshold_mode: mode,
                threshold: 1.25,
                ..Tuning::default()
            };
            let mut threshold = Threshold::default();
            for i in 0..LEAST {
                assert_eq!(
                    threshold.update(i as f64 * 1e-3, &tuning),
                    1.25,
                    "{mode:?} frame {i}"
                );
            }
            assert_ne!(threshold.update(0.0, &tuning), 1.25, "{mode:?}");
        }
    }

    #[test]
    fn sigma_is_mean_plus_deviations() {
        let (threshold, tuning) = filled(ThresholdMode::Sigma, 2000, |u| u);
        let want = 0.5 + 2.0 / 12f64.sqrt();
        assert!((threshold.current(&tuning) - want).abs() < 0.02);
    }

    #[test]
    fn quantile_and_evt_keep_the_false_alarm_rate() {
        for mode in [ThresholdMode::Quantile, ThresholdMode::Evt] {
            let (threshold, tuning) = filled(mode, 2000, |u| -(1.0 - u).ln());
            let got = threshold.current(&tuning);
            let want = 100f64.ln();
            assert!(
                (got - want).abs() < 0.6,
                "{mode:?}: {got}, exponential's 99 % is {want}"
            );
        }
    }

    #[test]
    fn evt_is_not_raised_by_an_anomaly() {
        let (mut threshold, tuning) = filled(ThresholdMode::Evt, 300, |u| u);
        let before = threshold.current(&tuning);
        for _ in 0..100 {
            threshold.update(50.0, &tuning);
        }
        assert!(threshold.current(&tuning) < before + 20.0);
        let (mut classic, tuning) = filled(ThresholdMode::Sigma, 300, |u| u);
        for _ in 0..100 {
            classic.update(50.0, &tuning);
        }
        assert!(
            classic.current(&tuning) > 50.0,
            "mean plus deviations does learn it"
        );
    }

    #[test]
    fn a_shorter_window_forgets() {
        let (mut threshold, mut tuning) = filled(ThresholdMode::Quantile, 2000, |u| u);
        tuning.window = 60;
        for _ in 0..60 {
            threshold.update(9.0, &tuning);
        }
        assert_eq!(threshold.recent.len(), 60);
        assert_eq!(threshold.sorted.len(), 60);
        assert_eq!(threshold.current(&tuning), 9.0);
    }
}
