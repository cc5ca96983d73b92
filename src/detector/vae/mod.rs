//! Variational autoencoders as data, and what trains them on the CPU.

mod batch;
mod checkpoint;
mod config;
mod learner;
mod model;
mod posterior;
mod replay;
mod score;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use checkpoint::Checkpoint;
pub(crate) use config::{
    DecoderStage, EncoderStage, Latent, ScoreMap, ScoringWeights, TemporalLayer, VaeConfig,
};
#[cfg(any(feature = "cuda", test))]
pub(crate) use config::{Layer, LayerRole};
pub(crate) use learner::Learner;
pub(crate) use model::Vae;
pub(crate) use replay::{Replay, ReplayPolicy};
