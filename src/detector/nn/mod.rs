//! Layers, losses, parameters and the optimiser.
//!
//! Everything is `f32` and channels-last: images are `[B, H, W, C]`. An operation is described once, as an [`op::Op`] on
//! plain slices; inside [`Tape::record`] it is recorded for [`Parameters::backward`], elsewhere it only computes.

mod adam;
mod conv;
mod conv_lstm;
mod conv_op;
mod correlate;
mod elementwise;
mod geometry;
mod loss;
mod math;
mod op;
mod parameters;
mod plain_conv;
mod scratch;
mod simd;
mod tape;
mod tensor;
#[cfg(test)]
mod tests;
mod upsample;
mod upsample_conv;

#[cfg(test)]
pub(crate) use adam::StepOutcome;
pub(crate) use adam::{Adam, AdamConfig, AdamState, Losses};
pub(crate) use conv::{Activation, Conv, ConvSpec, Linear};
pub(crate) use conv_lstm::{ConvLstm, ConvLstmState};
pub(crate) use elementwise::{add_to_each, apply_mask, clamp, join, weighted_sum};
pub(crate) use loss::{kl, kl_loss, reparameterize, student_t_loss};
pub(crate) use parameters::{Parameters, fan_in_uniform};
pub(crate) use tape::{Tape, reshape};
pub(crate) use upsample::upsample;

/// Random numbers of the core: small, fast and the same on every machine for a seed.
pub(crate) type Rng = rand_xoshiro::Xoshiro256PlusPlus;
