//! Layers, parameters and the optimiser: what the two nets are built of.
//!
//! Everything is `f32` and channels-last: pictures are `[B, H, W, C]`.

mod adam;
mod affine;
mod conv;
mod conv_op;
mod convolve;
mod elementwise;
mod enlarge;
mod frame;
mod kernel;
mod loss;
mod math;
mod narrow;
mod nearest;
mod packed;
mod params;
mod parity;
mod pass;
mod simd;
mod storage;
mod tables;
mod tape;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use adam::StepOutcome;
pub(crate) use adam::{Adam, AdamConfig, AdamState, Losses, Report};
pub(crate) use conv::{Activation, Conv, ConvSpec, Linear};
pub(crate) use elementwise::{add_to_each, apply_mask, clamp, weighted_sum};
pub(crate) use loss::{kl, kl_loss, reparameterize, student_t_loss};
pub(crate) use nearest::enlarge;
pub(crate) use params::{Init, Parameters};
pub(crate) use pass::join;
pub(crate) use tape::{Tape, reshape};

/// Random numbers of the core: small, fast and the same on every machine for a seed.
pub(crate) type Rng = rand_xoshiro::Xoshiro256PlusPlus;
