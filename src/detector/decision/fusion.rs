//! From the cues' standardised scores to the raw score.

use serde::{Deserialize, Serialize};

/// Fuses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fusion {
    fused: f64,
}

impl Fusion {
    /// The largest score of the cues. Without any cue, or with numbers that are not finite, the score stays.
    pub(crate) fn update(&mut self, scores: &[f64]) -> f64 {
        let largest = scores.iter().copied().reduce(f64::max);
        if let Some(largest) = largest.filter(|_| scores.iter().all(|score| score.is_finite())) {
            self.fused = largest;
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
    fn is_the_largest() {
        let fused = |z: &[f64]| Fusion::default().update(z);
        assert_eq!(fused(&[3.0]), 3.0);
        assert_eq!(fused(&[-5.0, 5.0]), 5.0);
        assert_eq!(fused(&[2.0, 2.0]), 2.0);
    }

    #[test]
    fn nothing_and_nan_leave_the_score() {
        let mut fusion = Fusion::default();
        let before = fusion.update(&[4.0]);
        for bad in [
            &[][..],
            &[f64::NAN],
            &[f64::INFINITY],
            &[f64::NEG_INFINITY],
            &[9.0, f64::NAN],
        ] {
            assert_eq!(fusion.update(bad), before, "{bad:?}");
        }
    }

    #[test]
    fn half_is_at_the_threshold() {
        assert_eq!(to_unit(1.75, 1.75), 0.5);
        assert!(to_unit(2.0, 1.75) > 0.5 && to_unit(1e6, 1.75) <= 1.0 && to_unit(-1e6, 1.75) >= 0.0);
    }
}
