//! Channels-last convolution and dense layers with bias and activation.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::convolve::{Convolve, Saved, Sums};
use super::params::GradientSlot;
use super::storage::{slice, with_slices};
use super::{Init, Parameters, Rng};

/// What follows a layer's sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Activation {
    /// Nothing.
    Identity,
    /// `max(x, slope * x)`, slope 0 to 1.
    LeakyRelu(f32),
}

impl Activation {
    /// Factor for negative sums.
    pub(super) fn slope(self) -> f32 {
        match self {
            Self::Identity => 1.0,
            Self::LeakyRelu(slope) => slope,
        }
    }
}

/// Shape of a convolution; zero padding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvSpec {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    pub(crate) activation: Activation,
}

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
    fn new(
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

    fn detached(&self) -> Self {
        Self {
            weight: self.weight.detach(),
            bias: self.bias.detach(),
            slot: self.slot.clone(),
        }
    }
}

/// A convolution over `[B, H, W, inputs]`.
#[derive(Clone, Debug)]
pub(crate) struct Conv {
    pub(super) spec: ConvSpec,
    /// Rows in the order (y, x, input).
    pub(super) affine: Affine,
}

impl Conv {
    /// Adds `NAME.weight` `[kernel * kernel * inputs, outputs]` and `NAME.bias`, both uniform in
    /// `±1/sqrt(fan_in)`.
    pub(crate) fn new(params: &mut Parameters, name: &str, spec: ConvSpec, rng: &mut Rng) -> Result<Self> {
        let fan_in = spec.kernel * spec.kernel * spec.inputs;
        let init = Init::Uniform { fan_in };
        Self::with_init(params, name, spec, init, init, rng)
    }

    /// As [`Conv::new`], with chosen starts of weight and bias.
    pub(crate) fn with_init(
        params: &mut Parameters,
        name: &str,
        spec: ConvSpec,
        weight: Init,
        bias: Init,
        rng: &mut Rng,
    ) -> Result<Self> {
        let size = (spec.kernel * spec.kernel * spec.inputs, spec.outputs);
        let affine = Affine::new(params, name, size, (weight, bias), rng)?;
        Ok(Self { spec, affine })
    }

    /// The same layer with the same values, now and later, that builds no graph: for scoring.
    pub(crate) fn detached(&self) -> Self {
        Self {
            spec: self.spec,
            affine: self.affine.detached(),
        }
    }

    /// # Shapes
    /// `[B, H, W, inputs]` -> `[B, H', W', outputs]`, `H' = (H + 2 padding - kernel) / stride + 1`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, height, width, channels) = x.dims4()?;
        let ConvSpec {
            inputs,
            outputs,
            kernel,
            stride,
            padding,
            activation,
        } = self.spec;
        if channels != inputs || height.min(width) + 2 * padding < kernel {
            bail!(
                "a {kernel}x{kernel} convolution of {inputs} channels does not fit {:?}",
                x.shape()
            );
        }
        let op = ConvOp {
            sizes: Convolve {
                batch,
                input: [height, width],
                inputs,
                outputs,
                kernel,
                stride,
                padding,
                slope: activation.slope(),
            },
            slot: self.affine.slot.clone(),
        };
        let [height, width] = op.sizes.output();
        op.apply(x, &self.affine)?
            .reshape((batch, height, width, outputs))
    }
}

/// A dense layer over `[B, inputs]`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    affine: Affine,
    activation: Activation,
}

impl Linear {
    /// Adds `NAME.weight` `[inputs, outputs]` and `NAME.bias`, both uniform in `±1/sqrt(inputs)`.
    pub(crate) fn new(
        params: &mut Parameters,
        name: &str,
        inputs: usize,
        outputs: usize,
        activation: Activation,
        rng: &mut Rng,
    ) -> Result<Self> {
        let init = Init::Uniform { fan_in: inputs };
        Self::with_init(params, name, [inputs, outputs], activation, init, init, rng)
    }

    /// As [`Linear::new`], with chosen starts; `size` is `[inputs, outputs]`.
    pub(crate) fn with_init(
        params: &mut Parameters,
        name: &str,
        size: [usize; 2],
        activation: Activation,
        weight: Init,
        bias: Init,
        rng: &mut Rng,
    ) -> Result<Self> {
        let affine = Affine::new(params, name, size.into(), (weight, bias), rng)?;
        Ok(Self { affine, activation })
    }

    /// The same layer with the same values, now and later, that builds no graph: for scoring.
    pub(crate) fn detached(&self) -> Self {
        Self {
            affine: self.affine.detached(),
            activation: self.activation,
        }
    }

    /// # Shapes
    /// `[B, inputs]` -> `[B, outputs]`
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, columns) = x.dims2()?;
        let (inputs, outputs) = self.affine.weight.dims2()?;
        if columns != inputs {
            bail!("a dense layer of {inputs} inputs does not fit {:?}", x.shape());
        }
        // A row of pixels, each on its own.
        let op = ConvOp {
            sizes: Convolve {
                batch: 1,
                input: [1, batch],
                inputs,
                outputs,
                kernel: 1,
                stride: 1,
                padding: 0,
                slope: self.activation.slope(),
            },
            slot: self.affine.slot.clone(),
        };
        op.apply(x, &self.affine)?.reshape((batch, outputs))
    }
}

/// The operation behind both layers. Gradients of weight and bias do not travel through Candle's store:
/// they are added to the layer's slot.
struct ConvOp {
    sizes: Convolve,
    slot: GradientSlot,
}

impl ConvOp {
    fn apply(self, x: &Tensor, Affine { weight, bias, .. }: &Affine) -> Result<Tensor> {
        x.contiguous()?.apply_op3(weight, bias, self)
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
        let out = self.sizes.forward(
            slice(x, x_layout)?,
            slice(weight, weight_layout)?,
            slice(bias, bias_layout)?,
        );
        let shape = Shape::from(out.len());
        Ok((CpuStorage::F32(out), shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (need_x, trains) = (x.track_op(), weight.is_variable());
        let dx = with_slices(
            [x, weight, result, gradient],
            |[input, weight, output, gradient]| {
                let saved = Saved {
                    input,
                    weight,
                    output,
                    gradient,
                };
                if !trains {
                    return self.sizes.backward(saved, None, need_x);
                }
                self.slot.with(|sums| {
                    let (weight, bias) = sums.split_at_mut(sums.len() - self.sizes.outputs);
                    self.sizes.backward(saved, Some(Sums { weight, bias }), need_x)
                })
            },
        )?;
        let dx = dx
            .map(|dx| Tensor::from_vec(dx, x.shape(), x.device()))
            .transpose()?;
        Ok((dx, None, None))
    }
}

/// Nearest-neighbour enlargement by two.
///
/// # Shapes
/// `[B, H, W, C]` -> `[B, 2 H, 2 W, C]`
pub(crate) fn upsample2x(x: &Tensor) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    x.reshape((b, h, 1, w, 1, c))?
        .broadcast_as((b, h, 2, w, 2, c))?
        .reshape((b, 2 * h, 2 * w, c))
}

/// The upper left part of a picture.
///
/// # Shapes
/// `[B, H, W, C]` -> `[B, height, width, C]`
pub(crate) fn crop(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    x.narrow(1, 0, height)?.narrow(2, 0, width)
}
