//! The operations behind the layers, as Candle sees them.
//!
//! Gradients of weight and bias do not travel through Candle's store: the backward passes add them to the
//! layer's slot. Weight and bias are arguments all the same, so that the graph knows of them.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::affine::Affine;
use super::convolve::{Convolve, Saved, Sums};
use super::enlarge::Enlarge;
use super::params::GradientSlot;
use super::storage::{slice, with_slices};
use super::tape::apply3;

type Gradients = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

/// Convolution, bias and activation.
pub(super) struct ConvOp {
    pub(super) sizes: Convolve,
    pub(super) slot: GradientSlot,
}

impl ConvOp {
    /// All results in one dimension.
    pub(super) fn apply(self, x: &Tensor, Affine { weight, bias, .. }: &Affine) -> Result<Tensor> {
        apply3([&x.contiguous()?, weight, bias], self)
    }
}

impl CustomOp3 for ConvOp {
    fn name(&self) -> &'static str {
        "convolution"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight, bias) = (
            slice(x, x_layout)?,
            slice(weight, weight_layout)?,
            slice(bias, bias_layout)?,
        );
        let out = self.sizes.forward(x, weight, bias);
        let shape = Shape::from(out.len());
        Ok((CpuStorage::F32(out), shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<Gradients> {
        let need_x = x.track_op();
        let dx = with_slices(
            [x, weight, result, gradient],
            |[input, values, output, gradient]| {
                let saved = Saved {
                    input,
                    weight: values,
                    output,
                    gradient,
                };
                train(weight, &self.slot, self.sizes.outputs, |sums| {
                    self.sizes.backward(saved, sums, need_x)
                })
            },
        )?;
        gradients(x, dx)
    }
}

/// Enlargement, cropping, more channels, and then as [`ConvOp`].
pub(super) struct EnlargeOp {
    pub(super) sizes: Enlarge,
    pub(super) extra: Option<Tensor>,
    pub(super) slot: GradientSlot,
}

impl EnlargeOp {
    /// All results in one dimension.
    pub(super) fn apply(self, x: &Tensor, Affine { weight, bias, .. }: &Affine) -> Result<Tensor> {
        apply3([&x.contiguous()?, weight, bias], self)
    }

    fn with_extra<R>(&self, work: impl FnOnce(&[f32]) -> R) -> Result<R> {
        match &self.extra {
            Some(extra) => with_slices([extra], |[extra]| work(extra)),
            None => Ok(work(&[])),
        }
    }
}

impl CustomOp3 for EnlargeOp {
    fn name(&self) -> &'static str {
        "enlargement and convolution"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight, bias) = (
            slice(x, x_layout)?,
            slice(weight, weight_layout)?,
            slice(bias, bias_layout)?,
        );
        let out = self.with_extra(|extra| self.sizes.forward(x, extra, weight, bias))?;
        let shape = Shape::from(out.len());
        Ok((CpuStorage::F32(out), shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<Gradients> {
        let need_x = x.track_op();
        let dx = with_slices(
            [x, weight, result, gradient],
            |[input, values, output, gradient]| {
                let saved = Saved {
                    input,
                    weight: values,
                    output,
                    gradient,
                };
                self.with_extra(|extra| {
                    train(weight, &self.slot, self.sizes.outputs, |sums| {
                        self.sizes.backward(saved, extra, sums, need_x)
                    })
                })
            },
        )??;
        gradients(x, dx)
    }
}

/// Hands the layer's gradients to `backward`, or nothing where the layer is not trained.
fn train<R>(
    weight: &Tensor,
    slot: &GradientSlot,
    outputs: usize,
    backward: impl FnOnce(Option<Sums<'_>>) -> R,
) -> R {
    if !weight.is_variable() {
        return backward(None);
    }
    slot.with(|sums| {
        let (weight, bias) = sums.split_at_mut(sums.len() - outputs);
        backward(Some(Sums { weight, bias }))
    })
}

fn gradients(x: &Tensor, dx: Option<Vec<f32>>) -> Result<Gradients> {
    let dx = dx
        .map(|dx| Tensor::from_vec(dx, x.shape(), x.device()))
        .transpose()?;
    Ok((dx, None, None))
}
