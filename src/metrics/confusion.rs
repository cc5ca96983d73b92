//! Decisions against the ground truth.

use super::MetricError;

/// Counts of decisions: flagged or not, anomalous or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confusion {
    /// Anomalous and flagged.
    pub true_positives: usize,
    /// Normal but flagged.
    pub false_positives: usize,
    /// Anomalous but not flagged.
    pub false_negatives: usize,
    /// Normal and not flagged.
    pub true_negatives: usize,
}

impl Confusion {
    /// Counts `flagged` against `labels` (`true` = anomalous).
    ///
    /// # Errors
    /// [`MetricError::Length`] when the lengths differ.
    pub fn new(flagged: &[bool], labels: &[bool]) -> Result<Self, MetricError> {
        if flagged.len() != labels.len() {
            return Err(MetricError::Length {
                scores: flagged.len(),
                labels: labels.len(),
            });
        }
        let mut counts = Self::default();
        for pair in flagged.iter().zip(labels) {
            match pair {
                (true, true) => counts.true_positives += 1,
                (true, false) => counts.false_positives += 1,
                (false, true) => counts.false_negatives += 1,
                (false, false) => counts.true_negatives += 1,
            }
        }
        Ok(counts)
    }

    /// `TP / (TP + FP)`; `None` where nothing was flagged.
    #[must_use]
    pub fn precision(&self) -> Option<f64> {
        ratio(self.true_positives, self.true_positives + self.false_positives)
    }

    /// `TP / (TP + FN)`; `None` where nothing is anomalous.
    #[must_use]
    pub fn recall(&self) -> Option<f64> {
        ratio(self.true_positives, self.true_positives + self.false_negatives)
    }

    /// `2 TP / (2 TP + FP + FN)`, the harmonic mean of precision and recall; `None` where nothing was
    /// flagged and nothing is anomalous.
    #[must_use]
    pub fn f1(&self) -> Option<f64> {
        let doubled = 2 * self.true_positives;
        ratio(doubled, doubled + self.false_positives + self.false_negatives)
    }

    /// `FP / (FP + TN)`, the share of normal frames that was flagged; `None` where nothing is normal.
    #[must_use]
    pub fn false_alarm_share(&self) -> Option<f64> {
        ratio(self.false_positives, self.false_positives + self.true_negatives)
    }
}

fn ratio(part: usize, whole: usize) -> Option<f64> {
    super::share(part as u64, whole as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_ratios() {
        // from sklearn.metrics import precision_score, recall_score, f1_score
        // y = [1,1,1,0,0,0,0]; p = [1,1,0,1,0,0,0]
        let labels = [true, true, true, false, false, false, false];
        let flagged = [true, true, false, true, false, false, false];
        let counts = Confusion::new(&flagged, &labels).unwrap();
        assert_eq!(
            counts,
            Confusion {
                true_positives: 2,
                false_positives: 1,
                false_negatives: 1,
                true_negatives: 3
            }
        );
        assert_eq!(counts.precision(), Some(2.0 / 3.0));
        assert_eq!(counts.recall(), Some(2.0 / 3.0));
        assert_eq!(counts.f1(), Some(2.0 / 3.0));
        assert_eq!(counts.false_alarm_share(), Some(0.25));
    }

    #[test]
    fn empty_classes_are_none() {
        let none = Confusion::new(&[], &[]).unwrap();
        assert_eq!(
            (
                none.precision(),
                none.recall(),
                none.f1(),
                none.false_alarm_share()
            ),
            (None, None, None, None)
        );
        let silent = Confusion::new(&[false, false], &[true, false]).unwrap();
        assert_eq!(
            (silent.precision(), silent.recall(), silent.f1()),
            (None, Some(0.0), Some(0.0))
        );
    }

    #[test]
    fn lengths_must_agree() {
        assert_eq!(
            Confusion::new(&[true], &[]).unwrap_err().to_string(),
            "1 scores but 0 labels"
        );
    }
}
