//! How much the net adds to the score, so that it can be divided out.

use serde::{Deserialize, Serialize};

use crate::detector::frame::blend;

/// Rate of the running mean per tick.
const RATE: f64 = 0.05;
/// Largest difference that a frame counts with, after the first ones, of which the plain mean is taken: the net does not follow
/// an anomaly, which says nothing about the usual gain.
const LARGEST: f64 = 0.3;

/// The ratio of the score with the net to the score of its input alone: a running mean of the logarithm.
///
/// The net predicts nothing at first and half of the motion two hundred ticks later, so the score of an unchanged street
/// doubles while it learns, and a history of such scores would call the street unusual for minutes. Scores divided by this
/// gain have the same level from the first second on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Gain {
    log: f64,
    ticks: f64,
}

impl Gain {
    /// Takes the largest cell of the net's `input` and that of the `output` made from it, both above 0.
    pub(super) fn observe(&mut self, input: f64, output: f64, ticks: f64) {
        let log = (output / input).ln();
        if log.is_finite() && ticks > 0.0 {
            self.ticks += ticks;
            let (rate, plain) = (blend(RATE, ticks), ticks / self.ticks);
            let difference = log - self.log;
            self.log += match plain > rate {
                true => plain * difference,
                false => rate * difference.clamp(-LARGEST, LARGEST),
            };
        }
    }

    pub(super) fn factor(&self) -> f64 {
        self.log.exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_a_net_that_learns() {
        let mut gain = Gain::default();
        assert_eq!(gain.factor(), 1.0);
        gain.observe(3.0, 3.6, 1.0);
        assert!(
            (gain.factor() - 1.2).abs() < 1e-12,
            "the first one counts in full"
        );
        for _ in 0..200 {
            gain.observe(5.0, 10.0, 1.0);
        }
        assert!((gain.factor() - 2.0).abs() < 1e-3, "{}", gain.factor());
    }

    #[test]
    fn one_frame_moves_it_little() {
        let mut gain = Gain::default();
        (0..100).for_each(|_| gain.observe(5.0, 10.0, 1.0));
        gain.observe(5.0, 40.0, 1.0);
        assert!(gain.factor() < 2.2, "{}", gain.factor());
        let before = gain.factor();
        for (input, output) in [(0.0, 1.0), (1.0, 0.0), (f64::NAN, 1.0), (1.0, f64::INFINITY)] {
            gain.observe(input, output, 1.0);
        }
        assert_eq!(gain.factor(), before, "numbers that are not finite are ignored");
    }

    #[test]
    fn an_anomaly_that_the_net_does_not_follow_moves_it_little() {
        let mut gain = Gain::default();
        (0..100).for_each(|_| gain.observe(5.0, 10.0, 1.0));
        (0..20).for_each(|_| gain.observe(20.0, 10.0, 1.0));
        // 2 * exp(-20 * 0.05 * 0.3); without the bound 0.8.
        assert!(gain.factor() > 1.4, "{}", gain.factor());
    }

    #[test]
    fn thirds_of_a_tick_count_as_a_third() {
        let (mut whole, mut thirds) = (Gain::default(), Gain::default());
        for i in 0..60 {
            let output = 2.0 + f64::from(i % 5);
            whole.observe(2.0, output, 1.0);
            (0..3).for_each(|_| thirds.observe(2.0, output, 1.0 / 3.0));
        }
        assert!((whole.factor() - thirds.factor()).abs() < 0.02 * whole.factor());
    }
}
