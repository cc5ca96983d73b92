//! Figures of merit of a detector: ranking, decisions, events, locations, images.
//!
//! Everything here is a pure function of slices and exact on ties. Degenerate input (for instance only one class) gives
//! `None` instead of an arbitrary number.
//!
//! | question | answer |
//! |---|---|
//! | do anomalous frames get higher scores? | [`Ranking::auroc`], [`Ranking::average_precision`], [`Ranking::equal_error_rate`] |
//! | how good are the decisions at a threshold? | [`Confusion`], [`Ranking::best_f1`] |
//! | are the incidents found, how soon, at how many false alarms? | [`EventReport`] |
//! | is what was found where the anomaly is? | [`LocalisationReport`], [`MapCurve`] |
//! | how close is a reconstruction to its image? | [`mse`], [`psnr`], [`ssim`] |
//!
//! ```
//! use gstvaeanomaly::metrics::Ranking;
//! let ranking = Ranking::new(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]).unwrap();
//! assert_eq!(ranking.auroc(), Some(0.75));
//! ```

mod confusion;
mod event;
mod image;
mod localisation;
mod ranking;

pub use confusion::Confusion;
pub use event::{EventOutcome, EventReport, flagged_with_post_roll, runs};
pub use image::{mse, psnr, ssim};
pub use localisation::{LocalisationReport, LocatedFrame, MapCurve, iou, mask_parts};
pub use ranking::{OperatingPoint, Ranking};

/// Input for which no figure can be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// There is not one label per score.
    #[error("{scores} scores but {labels} labels")]
    Length {
        /// Number of scores.
        scores: usize,
        /// Number of labels.
        labels: usize,
    },
    /// A score is not a number, so it has no rank.
    #[error("score {index} is not a number")]
    NotANumber {
        /// Position of the first such score.
        index: usize,
    },
}

/// `part / whole`; `None` if the whole is zero.
///
/// # Examples
/// ```
/// assert_eq!(gstvaeanomaly::metrics::share(1, 4), Some(0.25));
/// assert_eq!(gstvaeanomaly::metrics::share(0, 0), None);
/// ```
#[must_use]
pub fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Median; the mean of the two middle values for an even number of values; `None` without values.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some(0.5 * (sorted[middle - 1] + sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_even_and_no_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
