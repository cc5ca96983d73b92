//! Figures of the order of the scores, over all thresholds.

use super::MetricError;

/// Counts at one threshold: a frame is flagged where its score is at least the threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OperatingPoint {
    /// The threshold; `+inf` where nothing is flagged.
    pub threshold: f64,
    /// Anomalous frames flagged.
    pub true_positives: usize,
    /// Normal frames flagged.
    pub false_positives: usize,
    /// All anomalous frames.
    pub positives: usize,
    /// All normal frames.
    pub negatives: usize,
}

impl OperatingPoint {
    /// Recall, `TP / P`; `None` without anomalous frames.
    #[must_use]
    pub fn true_positive_rate(&self) -> Option<f64> {
        super::share(self.true_positives as u64, self.positives as u64)
    }

    /// `FP / N`; `None` without normal frames.
    #[must_use]
    pub fn false_positive_rate(&self) -> Option<f64> {
        super::share(self.false_positives as u64, self.negatives as u64)
    }

    /// `TP / (TP + FP)`; `None` where nothing is flagged.
    #[must_use]
    pub fn precision(&self) -> Option<f64> {
        super::share(
            self.true_positives as u64,
            (self.true_positives + self.false_positives) as u64,
        )
    }

    /// `2 TP / (TP + FP + P)`; `None` where nothing is flagged and nothing is anomalous.
    #[must_use]
    pub fn f1(&self) -> Option<f64> {
        super::share(
            2 * self.true_positives as u64,
            (self.true_positives + self.false_positives + self.positives) as u64,
        )
    }
}

/// Scores in descending order, with equal scores as one step: the basis of every threshold-free figure.
///
/// Ties are exact: frames of equal score can only be flagged together.
#[derive(Clone, Debug)]
pub struct Ranking {
    points: Vec<OperatingPoint>,
    positives: usize,
    negatives: usize,
}

impl Ranking {
    /// Sorts `scores` (higher = more anomalous, infinities allowed) with their `labels` (`true` = anomalous).
    ///
    /// # Errors
    /// [`MetricError::Length`] when the lengths differ, [`MetricError::NotANumber`] when a score is NaN.
    pub fn new(scores: &[f64], labels: &[bool]) -> Result<Self, MetricError> {
        if scores.len() != labels.len() {
            return Err(MetricError::Length {
                scores: scores.len(),
                labels: labels.len(),
            });
        }
        if let Some(index) = scores.iter().position(|s| s.is_nan()) {
            return Err(MetricError::NotANumber { index });
        }
        let mut order: Vec<(f64, bool)> = scores.iter().copied().zip(labels.iter().copied()).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));

        let positives = labels.iter().filter(|&&l| l).count();
        let negatives = labels.len() - positives;
        let mut point = OperatingPoint {
            threshold: f64::INFINITY,
            true_positives: 0,
            false_positives: 0,
            positives,
            negatives,
        };
        let mut points = vec![point];
        for equal in order.chunk_by(|a, b| a.0 == b.0) {
            let hits = equal.iter().filter(|(_, anomalous)| *anomalous).count();
            point.threshold = equal[0].0;
            point.true_positives += hits;
            point.false_positives += equal.len() - hits;
            points.push(point);
        }
        Ok(Self {
            points,
            positives,
            negatives,
        })
    }

    /// Every operating point, from "nothing flagged" (threshold `+inf`) to "everything flagged".
    ///
    /// Read as (false, true positive rate) it is the ROC curve, as (recall, precision) the
    /// precision-recall curve.
    #[must_use]
    pub fn points(&self) -> &[OperatingPoint] {
        &self.points
    }

    /// Area under the ROC curve: the probability that an anomalous frame has a higher score than a
    /// normal one, ties counting half. `None` unless both classes are present.
    ///
    /// `AUROC = sum_i (FP_i - FP_(i-1)) (TP_i + TP_(i-1)) / (2 P N)` (Fawcett 2006), summed in integers.
    #[must_use]
    pub fn auroc(&self) -> Option<f64> {
        if self.positives == 0 || self.negatives == 0 {
            return None;
        }
        let doubled_area: u128 = self
            .points
            .windows(2)
            .map(|w| {
                (w[1].false_positives - w[0].false_positives) as u128
                    * (w[1].true_positives + w[0].true_positives) as u128
            })
            .sum();
        Some(doubled_area as f64 / (2.0 * self.positives as f64 * self.negatives as f64))
    }

    /// `AP = sum_i (R_i - R_(i-1)) P_i`, without interpolation. `None` without anomalous frames.
    #[must_use]
    pub fn average_precision(&self) -> Option<f64> {
        (self.positives > 0).then(|| {
            self.points
                .windows(2)
                .map(|w| {
                    let gained = (w[1].true_positives - w[0].true_positives) as f64;
                    gained * w[1].precision().unwrap_or(0.0)
                })
                .sum::<f64>()
                / self.positives as f64
        })
    }

    /// The error rate where misses and false alarms are equally frequent: the crossing of the ROC
    /// polyline with `FPR = 1 - TPR`. `None` unless both classes are present.
    #[must_use]
    pub fn equal_error_rate(&self) -> Option<f64> {
        let rates: Vec<(f64, f64)> = self
            .points
            .iter()
            .map(|p| Some((p.false_positive_rate()?, p.true_positive_rate()?)))
            .collect::<Option<_>>()?;
        rates.windows(2).find_map(|w| {
            let ((fpr_a, tpr_a), (fpr_b, tpr_b)) = (w[0], w[1]);
            let (before, after) = (fpr_a + tpr_a - 1.0, fpr_b + tpr_b - 1.0);
            (after >= 0.0).then(|| fpr_a + (fpr_b - fpr_a) * before / (before - after))
        })
    }

    /// The operating point with the highest F1 (the highest threshold of equals). `None` without
    /// anomalous frames.
    #[must_use]
    pub fn best_f1(&self) -> Option<OperatingPoint> {
        if self.positives == 0 {
            return None;
        }
        self.points[1..]
            .iter()
            .copied()
            .reduce(|best, p| if p.f1() > best.f1() { p } else { best })
    }

    /// The operating point with the most flagged frames whose false positive rate is at most `rate`.
    /// `None` without normal frames.
    #[must_use]
    pub fn at_false_positive_rate(&self, rate: f64) -> Option<OperatingPoint> {
        if self.negatives == 0 {
            return None;
        }
        self.points
            .iter()
            .copied()
            .rfind(|p| p.false_positive_rate().is_some_and(|r| r <= rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores on `levels` levels (few levels = many ties) that lean towards the labels.
    fn generated(n: usize, levels: u64) -> (Vec<f64>, Vec<bool>) {
        let mut x = 12345u64;
        let mut draw = || {
            x = (1_103_515_245 * x + 12345) % (1 << 31);
            x >> 16
        };
        let labels: Vec<bool> = (0..n).map(|_| draw() % 3 == 0).collect();
        let scores = labels
            .iter()
            .map(|&l| (draw() % levels + if l { levels / 3 } else { 0 }) as f64)
            .collect();
        (scores, labels)
    }

    #[test]
    fn agrees_with_scikit_learn() {
        // import numpy as np
        // from sklearn.metrics import roc_auc_score, average_precision_score, precision_recall_curve, roc_curve
        // def generated(n, levels):
        //     x, out = 12345, []
        //     for _ in range(2 * n):
        //         x = (1103515245 * x + 12345) % 2**31
        //         out.append(x >> 16)
        //     labels = np.array([v % 3 == 0 for v in out[:n]])
        //     scores = np.array([v % levels for v in out[n:]]) + np.where(labels, levels // 3, 0)
        //     return scores.astype(float), labels
        // def eer(scores, labels):
        //     fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
        //     s = fpr + tpr - 1
        //     i = np.argmax(s >= 0)
        //     return fpr[i-1] + (fpr[i] - fpr[i-1]) * s[i-1] / (s[i-1] - s[i])
        // for n, levels in ((50, 5), (400, 40), (400, 20000)):
        //     s, y = generated(n, levels)
        //     p, r, t = precision_recall_curve(y, s)
        //     f = (2 * p * r / np.maximum(p + r, 1e-300))[:-1]
        //     best = len(f) - 1 - np.argmax(f[::-1])
        //     print(n, levels, repr((roc_auc_score(y, s), average_precision_score(y, s), eer(s, y), f[best], t[best])))
        let references = [
            (
                50,
                5,
                [
                    0.7599206349206349,
                    0.6511904761904762,
                    0.35000000000000003,
                    0.6,
                    5.0,
                ],
            ),
            (
                400,
                40,
                [
                    0.7173852495543671,
                    0.6167126461651409,
                    0.38095238095238093,
                    0.6057906458797327,
                    13.0,
                ],
            ),
            (
                400,
                20000,
                [
                    0.7367424242424243,
                    0.6023407975926278,
                    0.375,
                    0.6224256292906178,
                    6698.0,
                ],
            ),
        ];
        for (n, levels, expected) in references {
            let (scores, labels) = generated(n, levels);
            let ranking = Ranking::new(&scores, &labels).unwrap();
            let best = ranking.best_f1().unwrap();
            let got = [
                ranking.auroc().unwrap(),
                ranking.average_precision().unwrap(),
                ranking.equal_error_rate().unwrap(),
                best.f1().unwrap(),
                best.threshold,
            ];
            for (g, e) in got.iter().zip(expected) {
                assert!(
                    (g - e).abs() < 1e-12,
                    "{n} scores on {levels} levels: {got:?} is not {expected:?}"
                );
            }
        }
    }

    #[test]
    fn one_score_for_all_is_chance() {
        let ranking = Ranking::new(&[0.5; 6], &[true, false, false, true, false, false]).unwrap();
        assert_eq!(ranking.auroc(), Some(0.5));
        assert_eq!(ranking.equal_error_rate(), Some(0.5));
        assert_eq!(ranking.average_precision(), Some(1.0 / 3.0));
        assert_eq!(ranking.points().len(), 2);
    }

    #[test]
    fn perfect_and_inverted_order() {
        let labels = [false, false, true, true];
        let perfect = Ranking::new(&[1.0, 2.0, 3.0, f64::INFINITY], &labels).unwrap();
        assert_eq!(perfect.auroc(), Some(1.0));
        assert_eq!(perfect.equal_error_rate(), Some(0.0));
        assert_eq!(
            perfect.best_f1().map(|p| (p.f1(), p.threshold)),
            Some((Some(1.0), 3.0))
        );
        let inverted = Ranking::new(&[4.0, 3.0, 2.0, f64::NEG_INFINITY], &labels).unwrap();
        assert_eq!(inverted.auroc(), Some(0.0));
        assert_eq!(inverted.equal_error_rate(), Some(1.0));
    }

    #[test]
    fn one_class_or_nothing_is_none() {
        let normal = Ranking::new(&[1.0, 2.0], &[false, false]).unwrap();
        assert_eq!(
            (
                normal.auroc(),
                normal.average_precision(),
                normal.equal_error_rate(),
                normal.best_f1()
            ),
            (None, None, None, None)
        );
        let anomalous = Ranking::new(&[1.0, 2.0], &[true, true]).unwrap();
        assert_eq!(
            (anomalous.auroc(), anomalous.average_precision()),
            (None, Some(1.0))
        );
        assert_eq!(anomalous.at_false_positive_rate(0.1), None);
        let empty = Ranking::new(&[], &[]).unwrap();
        assert_eq!((empty.auroc(), empty.best_f1()), (None, None));
    }

    #[test]
    fn a_false_positive_rate_is_never_exceeded() {
        let scores = [9.0, 8.0, 7.0, 7.0, 6.0, 5.0];
        let labels = [true, false, true, false, true, false];
        let ranking = Ranking::new(&scores, &labels).unwrap();
        let at = |rate: f64| {
            ranking
                .at_false_positive_rate(rate)
                .map(|p| (p.threshold, p.true_positives))
                .unwrap()
        };
        assert_eq!(at(0.0), (9.0, 1));
        assert_eq!(at(0.5), (8.0, 1), "the tie at 7 cannot be split");
        assert_eq!(at(0.67), (6.0, 3));
        assert_eq!(at(1.0), (5.0, 3));
    }

    #[test]
    fn invalid_input_is_an_error_with_its_position() {
        let length = Ranking::new(&[0.0], &[]).unwrap_err();
        assert_eq!(length.to_string(), "1 scores but 0 labels");
        let nan = Ranking::new(&[0.0, f64::NAN], &[true, false]).unwrap_err();
        assert_eq!(nan.to_string(), "score 1 is not a number");
    }
}
