//! From the cues' standardised scores to the raw score.

use serde::{Deserialize, Serialize};

/// Fuses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fusion {
    fused: f64,
}

impl Fusion {
    /// A soft maximum of the cues, `1/2 ln sum exp(2 z)`. Without any cue, or with numbers that are not finite, the score
    /// stays.
    pub(crate) fn update(&mut self, scores: &[f64]) -> f64 {
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|z| (2.0 * (z - largest)).exp()).sum();
        let fused = largest + 0.5 * sum.ln();
        if fused.is_finite() {
            self.fused = fused;
        }
        self.fused
    }

    /// The raw score.
    pub(crate) fn raw_score(&self) -> f64 {
        self.fused
    }
}

/// The raw score on a scale of 0..1 with 0.5 at the threshold: `1 / (1 + exp(threshold - raw))`.
pub(crate) fn to_unit(raw: f64, threshold: f64) -> f64 {
    1.0 / (1.0 + (threshold - raw).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_soft_maximum() {
        let fused = |z: &[f64]| Fusion::default().update(z);
        assert!((fused(&[3.0]) - 3.0).abs() < 1e-12);
        assert!((fused(&[5.0, -5.0]) - 5.0).abs() < 1e-6);
        assert!((fused(&[2.0, 2.0]) - (2.0 + 0.5 * 2f64.ln())).abs() < 1e-12);
        assert!((fused(&[1000.0, 900.0]) - 1000.0).abs() < 1e-9, "no overflow");
    }

    #[test]
    fn nothing_and_nan_leave_the_score() {
        let mut fusion = Fusion::default();
        let before = fusion.update(&[4.0]);
        for bad in [&[][..], &[f64::NAN], &[f64::INFINITY], &[f64::NEG_INFINITY]] {
            assert_eq!(fusion.update(bad), before, "{bad:?}");
        }
    }

    #[test]
    fn half_is_at_the_threshold() {
        assert_eq!(to_unit(1.75, 1.75), 0.5);
        assert!(to_unit(2.0, 1.75) > 0.5 && to_unit(1e6, 1.75) <= 1.0 && to_unit(-1e6, 1.75) >= 0.0);
    }
}
