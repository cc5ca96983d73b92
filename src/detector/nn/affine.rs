//! What the layers learn: a weight and a bias each.

use candle_core::{Result, Tensor};

use super::params::GradientSlot;
use super::{Init, Parameters, Rng};

/// Weight and bias of a layer, and where their gradients go.
#[derive(Clone, Debug)]
pub(super) struct Affine {
    /// `[rows, outputs]`
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
    /// Weight's gradient, then the bias's.
    pub(super) slot: GradientSlot,
}

impl Affine {
    pub(super) fn new(
        params: &mut Parameters,
        name: &str,
        (rows, outputs): (usize, usize),
        (weight, bias): (Init, Init),
        rng: &mut Rng,
    ) -> Result<Self> {
        let slot = params.next_slot((rows + 1) * outputs);
        Ok(Self {
            weight: params.add(&format!("{name}.weight"), (rows, outputs), weight, rng)?,
            bias: params.add(&format!("{name}.bias"), outputs, bias, rng)?,
            slot,
        })
    }

    pub(super) fn detached(&self) -> Self {
        Self {
            weight: self.weight.detach(),
            bias: self.bias.detach(),
            slot: self.slot.clone(),
        }
    }
}
