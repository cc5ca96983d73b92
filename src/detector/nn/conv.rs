//! Channels-last convolution and dense layers with bias and activation.

use candle_core::{Result, Tensor};

use super::{Init, Parameters, Rng};

/// What follows a layer's sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Activation {
    /// Nothing.
    Identity,
    /// `max(x, slope * x)`.
    LeakyRelu(f32),
}

impl Activation {
    fn apply(self, x: Tensor) -> Result<Tensor> {
        match self {
            Self::Identity => Ok(x),
            Self::LeakyRelu(slope) => x.maximum(&(&x * f64::from(slope))?),
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

/// A convolution over `[B, H, W, inputs]`.
#[derive(Debug)]
pub(crate) struct Conv {
    spec: ConvSpec,
    /// `[kernel * kernel * inputs, outputs]`, rows in the order (y, x, input).
    weight: Tensor,
    bias: Tensor,
}

impl Conv {
    /// Adds `NAME.weight` and `NAME.bias`, both uniform in `±1/sqrt(fan_in)`.
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
        let rows = spec.kernel * spec.kernel * spec.inputs;
        Ok(Self {
            spec,
            weight: params.add(&format!("{name}.weight"), (rows, spec.outputs), weight, rng)?,
            bias: params.add(&format!("{name}.bias"), spec.outputs, bias, rng)?,
        })
    }

    /// # Shapes
    /// `[B, H, W, inputs]` -> `[B, H', W', outputs]`, `H' = (H + 2 padding - kernel) / stride + 1`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let ConvSpec {
            inputs,
            outputs,
            kernel,
            stride,
            padding,
            activation,
        } = self.spec;
        let weight = self
            .weight
            .reshape((kernel, kernel, inputs, outputs))?
            .permute((3, 2, 0, 1))?
            .contiguous()?;
        let y = x
            .permute((0, 3, 1, 2))?
            .contiguous()?
            .conv2d(&weight, padding, stride, 1, 1)?
            .permute((0, 2, 3, 1))?
            .contiguous()?
            .broadcast_add(&self.bias)?;
        activation.apply(y)
    }
}

/// A dense layer over `[B, inputs]`.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Tensor,
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
        Ok(Self {
            weight: params.add(&format!("{name}.weight"), (size[0], size[1]), weight, rng)?,
            bias: params.add(&format!("{name}.bias"), size[1], bias, rng)?,
            activation,
        })
    }

    /// # Shapes
    /// `[B, inputs]` -> `[B, outputs]`
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.activation
            .apply(x.matmul(&self.weight)?.broadcast_add(&self.bias)?)
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
