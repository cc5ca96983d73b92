//! What stays becomes normal. Every cell has a level: the score that is usual there, followed slowly. Where the level is above
//! the usual maximum of the whole image, the difference is deducted from the cell's score: a chair that was moved counts as
//! normal after a while, and something new in front of it still stands out.

use serde::{Deserialize, Serialize};

use crate::detector::AnomalyMap;

/// Seconds between two updates of the levels.
const INTERVAL: f64 = 1.0;
/// A static change counts as normal after about this many time constants of its level.
const TIME_CONSTANTS: f32 = 2.0;
/// How fast a level rises and falls, as multiples of the rate.
const RISE: f32 = 1.6;
const FALL: f32 = 0.4;
/// Smaller scores count as this.
const FLOOR: f32 = 0.01;

/// The levels of all cells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Absorption {
    /// Logarithms of scores; empty before the first update.
    #[serde(skip)]
    pub(super) levels: Vec<f32>,
    /// Seconds since the last update.
    waited: f64,
}

impl Absorption {
    /// Deducts what is usual in each cell beyond `usual`, the usual maximum of the image.
    pub(super) fn deduct(&self, map: &mut AnomalyMap, usual: f32) {
        let usual = usual.max(FLOOR).ln();
        for (value, &level) in map.values.iter_mut().zip(&self.levels) {
            if level > usual {
                *value *= (usual - level).exp();
            }
        }
    }

    /// Takes a map after [`Absorption::deduct`] with the same `usual`. A change is normal after about `after` seconds.
    pub(super) fn observe(&mut self, map: &AnomalyMap, usual: f32, seconds: f64, after: f64) {
        self.waited += seconds;
        if self.waited < INTERVAL {
            return;
        }
        let waited = std::mem::take(&mut self.waited) as f32;
        let usual = usual.max(FLOOR).ln();
        if self.levels.is_empty() {
            self.levels.resize(map.values.len(), usual);
        }
        let rate = 1.0 - (-waited * TIME_CONSTANTS / after as f32).exp();
        for (level, &value) in self.levels.iter_mut().zip(&map.values) {
            let deducted = (*level - usual).max(0.0);
            let above = value.max(FLOOR).ln() + deducted - *level;
            let rate = rate * if above > 0.0 { RISE } else { FALL };
            *level += rate.min(1.0) * above;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds after which a change is to be normal.
    const AFTER: f64 = 60.0;

    fn map(cell: f32) -> AnomalyMap {
        let mut map = AnomalyMap::new(4, 3);
        map.values.fill(1.0);
        map.values[5] = cell;
        map
    }

    /// The score of the cell after `seconds` at `cell`, where 2 is usual.
    fn after(absorption: &mut Absorption, cell: f32, seconds: u32) -> f32 {
        let mut last = map(cell);
        for _ in 0..seconds {
            last = map(cell);
            absorption.deduct(&mut last, 2.0);
            absorption.observe(&last, 2.0, 1.0, AFTER);
        }
        last.values[5]
    }

    #[test]
    fn what_stays_becomes_usual() {
        let mut absorption = Absorption::default();
        assert!(after(&mut absorption, 20.0, 5) > 12.0);
        let absorbed = after(&mut absorption, 20.0, 60);
        assert!((2.0..2.6).contains(&absorbed), "{absorbed}");
        let mut more = map(200.0);
        absorption.deduct(&mut more, 2.0);
        assert!(more.values[5] > 15.0, "{}", more.values[5]);
        assert_eq!(more.values[4], 1.0, "other cells stay");
    }

    #[test]
    fn what_was_gone_for_long_is_new_again() {
        let mut absorption = Absorption::default();
        after(&mut absorption, 20.0, 120);
        after(&mut absorption, 1.0, 300);
        assert!(after(&mut absorption, 20.0, 1) > 15.0);
    }

    #[test]
    fn what_passes_is_not_absorbed() {
        let mut absorption = Absorption::default();
        for _ in 0..30 {
            after(&mut absorption, 20.0, 1);
            after(&mut absorption, 1.0, 19);
        }
        assert!(after(&mut absorption, 20.0, 1) > 10.0);
    }
}
