//! Variational autoencoders as data, and what trains them.

mod checkpoint;
mod config;
mod noise;

pub(crate) use checkpoint::Checkpoint;
pub(crate) use config::{
    DecoderStage, EncoderStage, Latent, Layer, LayerRole, ScoreMap, ScoringWeights, Start, VaeConfig,
};
pub(crate) use noise::{Posterior, dropout_mask, normal};
