//! A convolutional VAE as data: every net of every cue is one [`VaeConfig`].
//!
//! ```text
//! target [H, W, C] ++ condition [H, W, D]
//!   -> encoder stages -> bottleneck [h, w, F] (-> temporal layer) -> mean, log_var -> z
//!   -> from_latent -> decoder stages (some joined by the condition) -> prediction [H, W, C] (+ base image)
//! ```

use serde::{Deserialize, Serialize};

use crate::detector::config::Temporal;

/// Negative slope of the LeakyReLU behind every layer but the heads and the last one.
pub(crate) const NEGATIVE_SLOPE: f32 = 0.1;

/// A convolution of the encoder; zero padding of half the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EncoderStage {
    pub(crate) filters: usize,
    /// Side of the square kernel, odd.
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
}

/// Nearest-neighbour upsampling, then a convolution of stride 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DecoderStage {
    pub(crate) filters: usize,
    /// Side of the square kernel, odd.
    pub(crate) kernel: usize,
    /// Factor of the upsampling; 1 = none.
    pub(crate) upsample: usize,
    /// Whether the condition's channels join the upsampled ones. Only at full size.
    pub(crate) conditioned: bool,
}

/// A convolutional LSTM layer over the bottleneck, with as many channels as that (Shi et al., *Convolutional LSTM
/// Network*, NIPS 2015). Its state is carried along the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TemporalLayer {
    /// Side of the square kernel, odd.
    pub(crate) kernel: usize,
    /// Images of a clip: back-propagation through time is truncated to it.
    pub(crate) clip: usize,
}

impl TemporalLayer {
    pub(crate) fn new(temporal: Temporal) -> Option<Self> {
        match temporal {
            Temporal::None => None,
            Temporal::ConvLstm => Some(Self { kernel: 3, clip: 5 }),
        }
    }
}

/// Where the latent values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Latent {
    /// So many for the whole image: dense layers from and to the bottleneck.
    Flat(usize),
    /// So many for each cell of the bottleneck: 1x1 convolutions.
    Map(usize),
}

impl Latent {
    /// Values of one image, or of one cell.
    pub(crate) fn dim(self) -> usize {
        match self {
            Self::Flat(dim) | Self::Map(dim) => dim,
        }
    }
}

/// The weights that score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ScoringWeights {
    /// Those of the last training step.
    Trained,
    /// Their exponential moving average.
    MovingAverage,
}

/// How input and prediction become an anomaly map.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ScoreMap {
    /// Sum over the channels of the squared error.
    SquaredError,
    /// Mean over the channels of the target, plus that of the prediction, plus `kl_share` times the KL divergence of
    /// the cell's latent values. For a [`Latent::Map`] of half the size.
    Level {
        /// Weight of the divergence.
        kl_share: f32,
    },
}

/// A convolutional variational autoencoder (Kingma & Welling, *Auto-Encoding Variational Bayes*, 2014), conditional
/// where there are condition channels. All images are channels-last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct VaeConfig {
    /// Height and width of target, condition and prediction.
    pub(crate) size: [usize; 2],
    /// Channels of the target, which the net reconstructs.
    pub(crate) channels: usize,
    /// Channels of the condition; 0 = unconditional.
    pub(crate) condition: usize,
    pub(crate) encoder: Vec<EncoderStage>,
    pub(crate) temporal: Option<TemporalLayer>,
    pub(crate) latent: Latent,
    /// Range of the logarithm of the latent variance: the head's output is clamped to it.
    pub(crate) log_var_range: [f32; 2],
    /// The logarithm of the latent variance before training.
    pub(crate) initial_log_var: f32,
    pub(crate) decoder: Vec<DecoderStage>,
    /// The last layer starts at zero: the first prediction is zero, or the base image.
    pub(crate) zero_output: bool,
    /// Whether a learnt image `[H, W, C]` is added to the decoder's output.
    pub(crate) base_image: bool,
    /// Scale of the residuals' Student t distribution.
    pub(crate) residual_scale: f64,
    /// Weight in the loss of the reconstruction term, which is a mean over all values.
    pub(crate) reconstruction_weight: f64,
    pub(crate) scoring_weights: ScoringWeights,
    pub(crate) score_map: ScoreMap,
    /// Side of the box, in cells of the map, that the map is averaged over; odd.
    pub(crate) score_box: usize,
}

/// Where a layer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LayerRole {
    Encoder,
    /// All four gates of the temporal layer: input, forget, candidate, output. Its inputs are the bottleneck and the
    /// previous hidden state, one behind the other.
    Gates,
    Mean,
    LogVar,
    FromLatent,
    Decoder,
}

/// How a weight starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Start {
    /// Uniform in `±1/sqrt(fan_in)`, with the layer's inputs as fan-in.
    Uniform,
    Constant(f32),
}

/// One layer of a net, with all sizes. A dense layer has size 1x1 and kernel 1.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layer {
    /// Name of the layer; its parameters are `NAME.weight` `[kernel * kernel * (inputs + extra), outputs]`, rows in the
    /// order (y, x, channel), and `NAME.bias` `[outputs]`.
    pub(crate) name: String,
    pub(crate) role: LayerRole,
    pub(crate) dense: bool,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) upsample: usize,
    pub(crate) inputs: usize,
    /// Condition channels behind the upsampled inputs.
    pub(crate) extra: usize,
    pub(crate) outputs: usize,
    /// Height and width of the input.
    pub(crate) input_size: [usize; 2],
    /// The same after upsampling and cropping.
    pub(crate) upsampled_size: [usize; 2],
    pub(crate) output_size: [usize; 2],
    /// Negative slope of the activation; 1 = linear.
    pub(crate) negative_slope: f32,
    pub(crate) weight: Start,
    pub(crate) bias: Start,
}

impl Layer {
    /// Inputs that one output sums over.
    pub(crate) fn fan_in(&self) -> usize {
        self.kernel * self.kernel * (self.inputs + self.extra)
    }

    /// Values of weight and bias.
    pub(crate) fn parameters(&self) -> usize {
        (self.fan_in() + 1) * self.outputs
    }
}

impl VaeConfig {
    /// Height, width and channels of the encoder's output.
    pub(crate) fn bottleneck(&self) -> [usize; 3] {
        let mut size = self.size;
        for stage in &self.encoder {
            size = stage.output(size);
        }
        let channels = self
            .encoder
            .last()
            .map_or(self.channels + self.condition, |s| s.filters);
        [size[0], size[1], channels]
    }

    /// Values at the bottleneck of one image: what dropout acts on.
    pub(crate) fn features(&self) -> usize {
        self.bottleneck().iter().product()
    }

    /// Latent values of one image.
    pub(crate) fn latent_values(&self) -> usize {
        let [height, width, _] = self.bottleneck();
        match self.latent {
            Latent::Flat(dim) => dim,
            Latent::Map(dim) => height * width * dim,
        }
    }

    /// Values of one target.
    pub(crate) fn target_values(&self) -> usize {
        self.size[0] * self.size[1] * self.channels
    }

    /// Values of one condition.
    pub(crate) fn condition_values(&self) -> usize {
        self.size[0] * self.size[1] * self.condition
    }

    /// Images of a clip: 1 without a temporal layer.
    pub(crate) fn clip(&self) -> usize {
        self.temporal.map_or(1, |layer| layer.clip)
    }

    /// Number of trainable values.
    pub(crate) fn parameters(&self) -> usize {
        let base = if self.base_image { self.target_values() } else { 0 };
        self.layers().iter().map(Layer::parameters).sum::<usize>() + base
    }

    /// All layers, in the order in which their parameters are made and stored: encoder, gates, mean, log_var, from_latent,
    /// decoder. The base image comes behind them.
    pub(crate) fn layers(&self) -> Vec<Layer> {
        let mut layers = Vec::new();
        // Sizes before each reduction, for the decoder to return to.
        let mut reduced_from = Vec::new();
        let (mut size, mut channels) = (self.size, self.channels + self.condition);
        for (i, stage) in self.encoder.iter().enumerate() {
            let output_size = stage.output(size);
            layers.push(Layer {
                name: format!("encoder.{i}"),
                role: LayerRole::Encoder,
                dense: false,
                kernel: stage.kernel,
                stride: stage.stride,
                upsample: 1,
                inputs: channels,
                extra: 0,
                outputs: stage.filters,
                input_size: size,
                upsampled_size: size,
                output_size,
                negative_slope: NEGATIVE_SLOPE,
                weight: Start::Uniform,
                bias: Start::Uniform,
            });
            if stage.stride > 1 {
                reduced_from.push(size);
            }
            (size, channels) = (output_size, stage.filters);
        }
        layers.extend(self.temporal.map(|temporal| Layer {
            name: "gates".to_owned(),
            role: LayerRole::Gates,
            dense: false,
            kernel: temporal.kernel,
            stride: 1,
            upsample: 1,
            inputs: 2 * channels,
            extra: 0,
            outputs: 4 * channels,
            input_size: size,
            upsampled_size: size,
            output_size: size,
            negative_slope: 1.0,
            weight: Start::Uniform,
            bias: Start::Constant(0.0),
        }));
        layers.extend(self.latent_layers(size, channels));
        for (i, stage) in self.decoder.iter().enumerate() {
            let upsampled = match stage.upsample {
                1 => size,
                factor => reduced_from.pop().unwrap_or(size.map(|n| factor * n)),
            };
            let last = i + 1 == self.decoder.len();
            let start = match last && self.zero_output {
                true => Start::Constant(0.0),
                false => Start::Uniform,
            };
            layers.push(Layer {
                name: format!("decoder.{i}"),
                role: LayerRole::Decoder,
                dense: false,
                kernel: stage.kernel,
                stride: 1,
                upsample: stage.upsample,
                inputs: channels,
                extra: if stage.conditioned { self.condition } else { 0 },
                outputs: stage.filters,
                input_size: size,
                upsampled_size: upsampled,
                output_size: upsampled,
                negative_slope: if last { 1.0 } else { NEGATIVE_SLOPE },
                weight: start,
                bias: start,
            });
            (size, channels) = (upsampled, stage.filters);
        }
        debug_assert_eq!(
            (size, channels),
            (self.size, self.channels),
            "the decoder mirrors the encoder"
        );
        layers
    }

    /// Both heads, and the layer from the latent values back to the bottleneck.
    fn latent_layers(&self, size: [usize; 2], channels: usize) -> [Layer; 3] {
        let dense = matches!(self.latent, Latent::Flat(_));
        let (size, features) = match dense {
            true => ([1, 1], size[0] * size[1] * channels),
            false => (size, channels),
        };
        let layer = |name: &str, role, inputs, outputs, negative_slope, weight, bias| Layer {
            name: name.to_owned(),
            role,
            dense,
            kernel: 1,
            stride: 1,
            upsample: 1,
            inputs,
            extra: 0,
            outputs,
            input_size: size,
            upsampled_size: size,
            output_size: size,
            negative_slope,
            weight,
            bias,
        };
        let (dim, uniform) = (self.latent.dim(), Start::Uniform);
        let (zero, initial) = (Start::Constant(0.0), Start::Constant(self.initial_log_var));
        [
            layer("mean", LayerRole::Mean, features, dim, 1.0, uniform, uniform),
            layer("log_var", LayerRole::LogVar, features, dim, 1.0, zero, initial),
            layer(
                "from_latent",
                LayerRole::FromLatent,
                dim,
                features,
                NEGATIVE_SLOPE,
                uniform,
                uniform,
            ),
        ]
    }
}

impl EncoderStage {
    /// Height and width of the stage's output.
    fn output(&self, size: [usize; 2]) -> [usize; 2] {
        size.map(|n| (n + 2 * (self.kernel / 2) - self.kernel) / self.stride + 1)
    }
}
