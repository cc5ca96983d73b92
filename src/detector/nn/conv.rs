//! Channels-last convolution and dense layers with bias and activation.

use candle_core::{Result, Tensor, bail};
use candle_nn::var_builder::VarBuilder;
use candle_nn::{Init, Module};

use super::conv_op::ConvOp;
use super::geometry::ConvGeometry;
use super::op::apply;
use super::tape::reshape;

/// Activation of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Activation {
    /// None.
    Identity,
    /// `max(x, slope * x)` with a negative slope of 0 to 1.
    LeakyRelu(f32),
}

impl Activation {
    /// Factor for negative sums.
    fn negative_slope(self) -> f32 {
        match self {
            Self::Identity => 1.0,
            Self::LeakyRelu(slope) => slope,
        }
    }
}

/// Shape of a convolution layer with a square kernel and zero padding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvSpec {
    /// Channels of the input.
    pub(crate) inputs: usize,
    /// Channels of the output.
    pub(crate) outputs: usize,
    /// Side of the kernel.
    pub(crate) kernel: usize,
    /// Stride on both axes.
    pub(crate) stride: usize,
    /// Zeros on each side.
    pub(crate) padding: usize,
    /// Activation.
    pub(crate) activation: Activation,
}

/// A convolution layer over `[B, H, W, inputs]`.
#[derive(Clone, Debug)]
pub(crate) struct Conv {
    spec: ConvSpec,
    /// `[kernel * kernel * inputs, outputs]`, rows in the order (y, x, input).
    weight: Tensor,
    bias: Tensor,
}

impl Conv {
    /// A layer with parameters `weight` and `bias`, given their initial values.
    pub(crate) fn new(spec: ConvSpec, weight: Init, bias: Init, vb: VarBuilder<'_>) -> Result<Self> {
        let rows = spec.kernel * spec.kernel * spec.inputs;
        Ok(Self {
            spec,
            weight: vb.get_with_hints((rows, spec.outputs), "weight", weight)?,
            bias: vb.get_with_hints(spec.outputs, "bias", bias)?,
        })
    }

    /// Upsamples an image by two (nearest neighbour), crops it to `size` = `[height, width]`, appends the channels of
    /// `extra` and convolves the result: all as one operation, with less than half the products.
    ///
    /// The layer has stride 1 and less padding than kernel. The size is twice that of `x` or one less. `extra` gets no
    /// gradient.
    ///
    /// # Shapes
    /// `[B, h, w, C]`, `[B, H, W, inputs - C]` -> `[B, H', W', outputs]`, `H' = H + 2 padding - kernel + 1`
    pub(crate) fn forward_upsampled(
        &self,
        x: &Tensor,
        size: [usize; 2],
        extra: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (batch, height, width, inputs) = x.dims4()?;
        let ConvSpec {
            kernel,
            stride,
            padding,
            ..
        } = self.spec;
        let extra_channels = self.spec.inputs.saturating_sub(inputs);
        let extra_fits = match extra {
            Some(extra) => extra.dims() == [batch, size[0], size[1], extra_channels] && extra_channels > 0,
            None => extra_channels == 0,
        };
        let size_fits = size.map(|n| n.div_ceil(2)) == [height, width];
        let kernel_fits = stride == 1 && padding < kernel && size[0].min(size[1]) + 2 * padding >= kernel;
        if !(extra_fits && size_fits && kernel_fits && inputs + extra_channels == self.spec.inputs) {
            let (x, extra) = (x.shape(), extra.map(Tensor::shape));
            bail!(
                "{:?} cannot upsample {x:?} to {size:?} and append {extra:?}",
                self.spec
            );
        }
        if extra.is_some_and(Tensor::track_op) {
            bail!("channels that are appended to an upsampled image get no gradient: detach them");
        }
        let geometry = ConvGeometry {
            upsample: 2,
            size,
            inputs,
            extra: extra_channels,
            ..self.geometry(batch, [height, width])
        };
        let extra = match extra {
            Some(extra) => extra.flatten_all()?.to_vec1()?,
            None => Vec::new(),
        };
        apply(ConvOp { geometry, extra }, [x, &self.weight, &self.bias])
    }

    /// Geometry without upsampling.
    fn geometry(&self, batch: usize, input: [usize; 2]) -> ConvGeometry {
        let ConvSpec {
            inputs,
            outputs,
            kernel,
            stride,
            padding,
            activation,
        } = self.spec;
        ConvGeometry {
            batch,
            input,
            upsample: 1,
            size: input,
            inputs,
            extra: 0,
            outputs,
            kernel,
            stride,
            padding,
            negative_slope: activation.negative_slope(),
        }
    }
}

impl Module for Conv {
    /// # Shapes
    /// `[B, H, W, inputs]` -> `[B, H', W', outputs]`, `H' = (H + 2 padding - kernel) / stride + 1`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, height, width, channels) = x.dims4()?;
        let ConvSpec {
            inputs,
            kernel,
            padding,
            ..
        } = self.spec;
        if channels != inputs || height.min(width) + 2 * padding < kernel {
            bail!(
                "a {kernel}x{kernel} convolution of {inputs} channels does not fit {:?}",
                x.shape()
            );
        }
        let op = ConvOp {
            geometry: self.geometry(batch, [height, width]),
            extra: Vec::new(),
        };
        apply(op, [x, &self.weight, &self.bias])
    }
}

/// A dense layer over `[B, inputs]`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    /// A 1x1 convolution over a row of `B` pixels.
    conv: Conv,
}

impl Linear {
    /// A layer with parameters `weight` `[inputs, outputs]` and `bias`, given their initial values.
    pub(crate) fn new(
        inputs: usize,
        outputs: usize,
        activation: Activation,
        weight: Init,
        bias: Init,
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        let spec = ConvSpec {
            inputs,
            outputs,
            kernel: 1,
            stride: 1,
            padding: 0,
            activation,
        };
        Ok(Self {
            conv: Conv::new(spec, weight, bias, vb)?,
        })
    }
}

impl Module for Linear {
    /// # Shapes
    /// `[B, inputs]` -> `[B, outputs]`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, columns) = x.dims2()?;
        let ConvSpec { inputs, outputs, .. } = self.conv.spec;
        if columns != inputs {
            bail!("a dense layer of {inputs} inputs does not fit {:?}", x.shape());
        }
        let pixels = self.conv.forward(&reshape(x, (1, 1, batch, inputs))?)?;
        reshape(&pixels, (batch, outputs))
    }
}
