//! All that a net has learnt.

use serde::{Deserialize, Serialize};

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
