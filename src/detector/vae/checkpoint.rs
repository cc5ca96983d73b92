//! All that a net has learnt.

use candle_core::{Result, bail};
use serde::{Deserialize, Serialize};

use super::{ScoringWeights, VaeConfig};

/// Weights and optimiser state of one net. All vectors are in the order of [`VaeConfig::layers`] (weight, then bias, of
/// each layer), the base image last.
///
/// [`VaeConfig::layers`]: super::VaeConfig::layers
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// Trained weights.
    pub(crate) weights: Vec<f32>,
    /// Their moving average; empty where the net scores with the trained ones.
    pub(crate) average: Vec<f32>,
    /// Adam's running mean of the gradient.
    pub(crate) first_moment: Vec<f32>,
    /// Adam's running mean of the squared gradient.
    pub(crate) second_moment: Vec<f32>,
    /// Training steps so far, without rejected ones.
    pub(crate) steps: u32,
}

impl Checkpoint {
    /// Checks that this is a checkpoint of such a net.
    ///
    /// # Errors
    /// The numbers of values differ.
    pub(crate) fn validate(&self, config: &VaeConfig) -> Result<()> {
        let count = config.parameters();
        let average = match config.scoring_weights {
            ScoringWeights::MovingAverage => count,
            ScoringWeights::Trained => 0,
        };
        let want = [count, average, count, count];
        let got = [
            &self.weights,
            &self.average,
            &self.first_moment,
            &self.second_moment,
        ]
        .map(Vec::len);
        if got != want {
            bail!("a checkpoint of the net has {want:?} weights, averages and moments, got {got:?}");
        }
        Ok(())
    }
}
