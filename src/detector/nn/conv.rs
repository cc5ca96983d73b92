//! Channels-last convolution and dense layers with bias and activation.

use candle_core::{Result, Tensor, bail};

use super::affine::Affine;
use super::conv_op::{ConvOp, EnlargeOp};
use super::convolve::Convolve;
use super::enlarge::Enlarge;
use super::tape::reshape;
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
        let sizes = Convolve {
            batch,
            input: [height, width],
            inputs,
            outputs,
            kernel,
            stride,
            padding,
            slope: activation.slope(),
        };
        let [height, width] = sizes.output();
        let slot = self.affine.slot.clone();
        let y = ConvOp { sizes, slot }.apply(x, &self.affine)?;
        reshape(&y, (batch, height, width, outputs))
    }

    /// Enlarges a picture by two as [`upsample2x`] does, crops it to `size` (height, width), puts the
    /// channels of `extra` behind its own, and convolves the whole: as one step, with less than half the
    /// products.
    ///
    /// The layer has stride 1 and less padding than kernel; `size` is twice `x`'s or one less; `extra`
    /// gets no gradient.
    ///
    /// # Shapes
    /// `[B, h, w, C]`, `[B, H, W, inputs - C]` -> `[B, H', W', outputs]`, `H' = H + 2 padding - kernel + 1`
    pub(crate) fn forward_enlarged(
        &self,
        x: &Tensor,
        size: [usize; 2],
        extra: Option<&Tensor>,
    ) -> Result<Tensor> {
        let sizes = self.enlarge(x, size, extra)?;
        let [height, width] = sizes.output();
        let shape = (sizes.batch, height, width, sizes.outputs);
        let extra = extra.map(Tensor::contiguous).transpose()?;
        let slot = self.affine.slot.clone();
        let y = EnlargeOp { sizes, extra, slot }.apply(x, &self.affine)?;
        reshape(&y, shape)
    }

    fn enlarge(&self, x: &Tensor, size: [usize; 2], extra: Option<&Tensor>) -> Result<Enlarge> {
        let (batch, height, width, inputs) = x.dims4()?;
        let ConvSpec {
            outputs,
            kernel,
            stride,
            padding,
            activation,
            ..
        } = self.spec;
        let behind = self.spec.inputs.saturating_sub(inputs);
        let extra_fits = match extra {
            Some(extra) => extra.dims() == [batch, size[0], size[1], behind] && behind > 0,
            None => behind == 0,
        };
        let doubled = size.map(|n| n.div_ceil(2)) == [height, width];
        let kernel_fits = stride == 1 && padding < kernel && size[0].min(size[1]) + 2 * padding >= kernel;
        if !(extra_fits && doubled && kernel_fits && inputs + behind == self.spec.inputs) {
            let (x, extra) = (x.shape(), extra.map(Tensor::shape));
            bail!(
                "{:?} cannot enlarge {x:?} to {size:?} and take {extra:?} in",
                self.spec
            );
        }
        if extra.is_some_and(Tensor::track_op) {
            bail!("channels behind an enlarged picture get no gradient: detach them");
        }
        Ok(Enlarge {
            batch,
            input: [height, width],
            enlarged: size,
            inputs,
            extra: behind,
            outputs,
            kernel,
            padding,
            slope: activation.slope(),
        })
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
        let sizes = Convolve {
            batch: 1,
            input: [1, batch],
            inputs,
            outputs,
            kernel: 1,
            stride: 1,
            padding: 0,
            slope: self.activation.slope(),
        };
        let slot = self.affine.slot.clone();
        let y = ConvOp { sizes, slot }.apply(x, &self.affine)?;
        reshape(&y, (batch, outputs))
    }
}

/// Nearest-neighbour enlargement by two, of stock operations: what [`Conv::forward_enlarged`] is tested against.
///
/// # Shapes
/// `[B, H, W, C]` -> `[B, 2 H, 2 W, C]`
#[cfg(test)]
pub(crate) fn upsample2x(x: &Tensor) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    x.reshape((b, h, 1, w, 1, c))?
        .broadcast_as((b, h, 2, w, 2, c))?
        .reshape((b, 2 * h, 2 * w, c))
}

/// The upper left part of a picture, for tests as well.
///
/// # Shapes
/// `[B, H, W, C]` -> `[B, height, width, C]`
#[cfg(test)]
pub(crate) fn crop(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    x.narrow(1, 0, height)?.narrow(2, 0, width)
}
