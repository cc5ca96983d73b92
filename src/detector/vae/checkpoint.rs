//! All that a net has learnt.

use candle_core::{Result, bail};
use serde::{Deserialize, Serialize};

use super::{ScoringWeights, VaeConfig};
use crate::detector::store::{Array, Visitor};

/// Weights and optimiser state of one net. All vectors are in the order of [`VaeConfig::layers`] (weight, then bias, of
/// each layer), the base image last.
///
/// [`VaeConfig::layers`]: super::VaeConfig::layers
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// Trained weights.
    #[serde(skip)]
    pub(crate) weights: Vec<f32>,
    /// Their moving average; empty where the net scores with the trained ones.
    #[serde(skip)]
    pub(crate) average: Vec<f32>,
    /// Adam's running mean of the gradient.
    #[serde(skip)]
    pub(crate) first_moment: Vec<f32>,
    /// Adam's running mean of the squared gradient.
    #[serde(skip)]
    pub(crate) second_moment: Vec<f32>,
    /// Training steps so far, without rejected ones.
    pub(crate) steps: u32,
}

impl Checkpoint {
    /// All arrays with their names.
    pub(crate) fn arrays(&mut self, visit: &mut Visitor<'_>) -> crate::detector::Result<()> {
        visit("weights", Array::F32(&mut self.weights))?;
        visit("average", Array::F32(&mut self.average))?;
        visit("first-moment", Array::F32(&mut self.first_moment))?;
        visit("second-moment", Array::F32(&mut self.second_moment))
    }

    /// Checks that this is a checkpoint of such a net.
    ///
    /// # Errors
    /// The numbers of values differ, or a mean of squares is below 0.
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
        if self.second_moment.iter().any(|&mean| mean < 0.0) {
            bail!("the second moments of a net are not below 0");
        }
        Ok(())
    }
}
