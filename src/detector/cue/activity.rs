//! Where something usually moves. Every cell has an activity: the largest score seen there, which falls slowly. The lower it
//! is compared with that of the busiest cell, the more a score there counts: a person on a lawn is more unusual than the same
//! person on the path beside it.

use serde::{Deserialize, Serialize};

use crate::detector::AnomalyMap;
use crate::detector::frame::{Step, blend};
use crate::detector::store::{Array, Visitor, check_len};
use crate::detector::{Error, Result};

/// A score is multiplied by this power of the ratio of the largest activity to that of its cell.
const POWER: f64 = 0.5;
/// Seconds after which half of that power is used: a cell where nothing has moved for a minute may still be a usual one.
const UNCERTAIN: f64 = 1200.0;
/// Rate per tick at which the activity follows a larger score.
const RISE: f64 = 0.1;
/// Factor of that rate in anomalous frames.
const LEAK: f64 = 0.02;
/// Seconds in which the activity falls to 1/e where nothing moves.
const FALL: f64 = 300.0;

/// The activity of all cells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Activity {
    /// Empty before the first frame.
    #[serde(skip)]
    cells: Vec<f32>,
    /// Seconds observed so far.
    seconds: f64,
}

impl Activity {
    /// All arrays with their names.
    pub(super) fn arrays(&mut self, visit: &mut Visitor<'_>) -> Result<()> {
        // Models that were saved by earlier versions have none.
        match self.seconds > 0.0 {
            true => visit("activity", Array::F32(&mut self.cells)),
            false => Ok(()),
        }
    }

    /// For a map of so many `cells`, with the `floor` of [`Activity::observe`].
    ///
    /// # Errors
    /// It is of a map of another size, or a number cannot be.
    pub(super) fn check(&self, cells: usize, floor: f32) -> Result<()> {
        if self.seconds > 0.0 || !self.cells.is_empty() {
            check_len("activity", self.cells.len(), cells)?;
        }
        let least = self.cells.iter().copied().fold(f32::INFINITY, f32::min);
        match self.seconds >= 0.0 && least >= floor {
            true => Ok(()),
            false => Err(Error::Learnt(format!(
                "activity: expected at least 0 s and cells of at least {floor}, got {} s and a cell of {least}",
                self.seconds
            ))),
        }
    }

    /// Raises the scores of the cells that are less active than the busiest one.
    pub(super) fn raise(&self, map: &mut AnomalyMap) {
        let Some(largest) = self.cells.iter().copied().reduce(f32::max) else {
            return;
        };
        let power = (POWER * self.seconds / (self.seconds + UNCERTAIN)) as f32;
        for (value, &cell) in map.values.iter_mut().zip(&self.cells) {
            *value *= (largest / cell).powf(power);
        }
    }

    /// Takes the scores of a frame before [`Activity::raise`]; those below `floor` count as no motion. What is older than
    /// `memory` seconds is forgotten.
    pub(super) fn observe(
        &mut self,
        scores: &[f32],
        floor: f32,
        step: Step,
        is_anomalous: bool,
        memory: f64,
    ) {
        self.seconds += step.seconds;
        self.cells.resize(scores.len(), floor);
        let leak = if is_anomalous { LEAK } else { 1.0 };
        let rise = (leak * blend(RISE, step.ticks)) as f32;
        let kept = (-step.seconds / FALL.min(memory)).exp() as f32;
        for (cell, &score) in self.cells.iter_mut().zip(scores) {
            *cell = match score > *cell {
                true => *cell + rise * (score - *cell),
                false => (*cell * kept).max(score).max(floor),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: f32 = 1.0;
    const WEEK: f64 = 604_800.0;
    const STEP: Step = Step {
        seconds: 0.1,
        ticks: 1.0,
    };

    /// A road in cell 0; what happens in cell 1 during the last `seconds` of an hour; nothing elsewhere.
    fn street(seconds: f64, score: f32, is_anomalous: bool) -> Activity {
        let mut activity = Activity::default();
        for i in 0..36_000 {
            let beside = if i as f64 * 0.1 >= 3600.0 - seconds {
                score
            } else {
                0.0
            };
            let is_anomalous = is_anomalous && beside > 0.0;
            activity.observe(&[8.0, beside, 0.0], FLOOR, STEP, is_anomalous, WEEK);
        }
        activity
    }

    fn raised(activity: &Activity, scores: [f32; 3]) -> Vec<f32> {
        let mut map = AnomalyMap::new(3, 1);
        map.values.copy_from_slice(&scores);
        activity.raise(&mut map);
        map.values
    }

    #[test]
    fn a_score_where_nothing_moves_counts_more() {
        let activity = street(0.0, 0.0, false);
        let scores = raised(&activity, [4.0, 4.0, f32::NEG_INFINITY]);
        assert!((scores[0] - 4.0).abs() < 0.01, "{scores:?}");
        // 8^(0.5 * 3600 / 4800)
        assert!((scores[1] / 4.0 - 8f32.powf(0.375)).abs() < 0.05, "{scores:?}");
        assert_eq!(scores[2], f32::NEG_INFINITY, "what is ignored stays so");
    }

    #[test]
    fn a_short_history_raises_little() {
        let mut activity = Activity::default();
        assert_eq!(raised(&activity, [4.0; 3]), [4.0; 3]);
        for _ in 0..600 {
            activity.observe(&[8.0, 0.0, 0.0], FLOOR, STEP, false, WEEK);
        }
        let raised = raised(&activity, [4.0; 3])[1];
        assert!(raised > 4.1 && raised < 4.5, "{raised}");
    }

    #[test]
    fn what_moves_once_is_usual_for_minutes() {
        let mut activity = street(3.0, 8.0, false);
        let at_once = raised(&activity, [4.0; 3])[1];
        assert!(at_once < 4.1, "{at_once}");
        for _ in 0..18_000 {
            activity.observe(&[8.0, 0.0, 0.0], FLOOR, STEP, false, WEEK);
        }
        let later = raised(&activity, [4.0; 3])[1];
        assert!(later > 8.0, "{later}");
    }

    #[test]
    fn an_anomaly_hardly_makes_its_location_usual() {
        let (usual, anomaly) = (street(3.0, 8.0, false), street(3.0, 8.0, true));
        let [usual, anomaly] = [usual, anomaly].map(|activity| raised(&activity, [4.0; 3])[1]);
        assert!(anomaly > 1.5 * usual, "{anomaly} and {usual}");
    }

    #[test]
    fn does_not_depend_on_the_frame_rate() {
        let after = |step: Step, frames: usize| {
            let mut activity = Activity::default();
            for i in 0..frames {
                let score = if i < frames / 2 { 5.0 } else { 0.0 };
                activity.observe(&[5.0, score, 0.0], FLOOR, step, false, WEEK);
            }
            raised(&activity, [1.0; 3])[1]
        };
        let twice = Step {
            seconds: 0.2,
            ticks: 2.0,
        };
        let (at_ten, at_five) = (after(STEP, 6000), after(twice, 3000));
        assert!((at_ten / at_five - 1.0).abs() < 0.01, "{at_ten} and {at_five}");
    }

    #[test]
    fn a_short_memory_forgets_sooner() {
        let after = |memory: f64| {
            let mut activity = street(3.0, 8.0, false);
            for _ in 0..1200 {
                activity.observe(&[8.0, 0.0, 0.0], FLOOR, STEP, false, memory);
            }
            raised(&activity, [4.0; 3])[1]
        };
        assert!(after(60.0) > 1.3 * after(WEEK));
    }

    #[test]
    fn only_what_fits_is_restored() {
        let activity = street(0.0, 0.0, false);
        assert!(activity.check(3, FLOOR).is_ok() && Activity::default().check(3, FLOOR).is_ok());
        assert!(activity.check(4, FLOOR).is_err());
        let without_cells = Activity {
            cells: Vec::new(),
            ..activity.clone()
        };
        assert!(without_cells.check(3, FLOOR).is_err());
        let mut broken = activity;
        broken.cells[1] = 0.5;
        let error = broken.check(3, FLOOR).unwrap_err().to_string();
        assert!(
            error.contains("at least 1") && error.contains("a cell of 0.5"),
            "{error}"
        );
    }
}
