//! A [`VaeConfig`] as layers.

use candle_core::{Result, Tensor, bail};
use candle_nn::rnn::RNN;
use candle_nn::var_builder::VarBuilder;
use candle_nn::{Init, Module};

use super::config::{Layer, LayerRole, Start, VaeConfig};
use super::posterior::Posterior;
use crate::detector::nn::{
    Activation, Conv, ConvLstm, ConvLstmState, ConvSpec, Linear, Parameters, add_to_each, apply_mask, clamp,
    fan_in_uniform, join, reshape, upsample,
};

/// A conditional convolutional VAE.
#[derive(Debug)]
pub(crate) struct Vae {
    encoder: Vec<Conv>,
    temporal: Option<ConvLstm>,
    mean: LatentLayer,
    log_var: LatentLayer,
    from_latent: LatentLayer,
    decoder: Vec<DecoderLayer>,
    /// `[1, H, W, C]`
    base_image: Option<Tensor>,
    log_var_range: [f32; 2],
    /// Height, width and channels.
    bottleneck: [usize; 3],
}

/// A layer to or from the latent values.
#[derive(Debug)]
enum LatentLayer {
    Dense(Linear),
    Conv(Conv),
}

#[derive(Debug)]
struct DecoderLayer {
    conv: Conv,
    upsample: usize,
    /// Height and width after upsampling and cropping.
    size: [usize; 2],
    conditioned: bool,
}

impl Vae {
    /// Makes the layers of `config` and adds their weights to `parameters`. The base image starts at zero.
    pub(crate) fn new(config: &VaeConfig, parameters: &Parameters) -> Result<Self> {
        let vb = parameters.var_builder();
        let (mut encoder, mut latent, mut decoder) = (Vec::new(), Vec::new(), Vec::new());
        let mut temporal = None;
        for layer in config.layers() {
            match layer.role {
                LayerRole::Encoder => encoder.push(layer.conv(&vb)?),
                LayerRole::Gates => temporal = Some(layer.conv_lstm(&vb)?),
                LayerRole::Mean | LayerRole::LogVar | LayerRole::FromLatent => {
                    latent.push(LatentLayer::new(&layer, &vb)?);
                }
                LayerRole::Decoder => decoder.push(DecoderLayer {
                    conv: layer.conv(&vb)?,
                    upsample: layer.upsample,
                    size: layer.upsampled_size,
                    conditioned: layer.extra > 0,
                }),
            }
        }
        let Ok([mean, log_var, from_latent]) = <[LatentLayer; 3]>::try_from(latent) else {
            bail!("a VAE has three latent layers");
        };
        let [height, width] = config.size;
        let base_image = match config.base_image {
            true => {
                let zeros = vec![0.0; config.target_values()];
                Some(parameters.add("base_image", (1, height, width, config.channels), zeros)?)
            }
            false => None,
        };
        Ok(Self {
            encoder,
            temporal,
            mean,
            log_var,
            from_latent,
            decoder,
            base_image,
            log_var_range: config.log_var_range,
            bottleneck: config.bottleneck(),
        })
    }

    /// The temporal layer's state before the first image of `clips` sequences; `None` without that layer.
    pub(crate) fn zero_state(&self, clips: usize) -> Result<Option<ConvLstmState>> {
        let layer = self.temporal.as_ref();
        layer.map(|layer| layer.zero_state(clips)).transpose()
    }

    /// The posterior of the latent values, `q(z | target, condition)`, and the temporal layer's state after the last image
    /// of each clip. `state` is that before the first one; without it, every image begins a clip.
    ///
    /// # Shapes
    /// `[B, H, W, C]`, `[B, H, W, D]` -> `[B, K]` for flat latent values, `[B, h, w, K]` for a map of them; the dropout
    /// mask has `B` times the bottleneck's values. A state of `N` clips divides the batch into `N` times `B / N` images.
    pub(crate) fn encode(
        &self,
        target: &Tensor,
        condition: Option<&Tensor>,
        state: Option<&ConvLstmState>,
        dropout_mask: Option<&Tensor>,
    ) -> Result<(Posterior, Option<ConvLstmState>)> {
        let mut x = match condition {
            Some(condition) => join(target, condition)?,
            None => target.clone(),
        };
        for stage in &self.encoder {
            x = stage.forward(&x)?;
        }
        let mut last_state = None;
        if let Some(layer) = &self.temporal {
            let [height, width, channels] = self.bottleneck;
            let state = match state {
                Some(state) => state.clone(),
                None => layer.zero_state(x.dim(0)?)?,
            };
            let clips = reshape(&x, (state.h.dim(0)?, (), height, width, channels))?;
            let mut states = layer.seq_init(&clips, &state)?;
            x = reshape(&layer.states_to_tensor(&states)?, ((), height, width, channels))?;
            last_state = states.pop();
        }
        if let LatentLayer::Dense(_) = self.mean {
            x = reshape(&x, ((), self.bottleneck.iter().product()))?;
        }
        if let Some(mask) = dropout_mask {
            x = apply_mask(&x, &mask.reshape(x.shape())?)?;
        }
        let [low, high] = self.log_var_range;
        let posterior = Posterior {
            mean: self.mean.forward(&x)?,
            log_var: clamp(&self.log_var.forward(&x)?, low, high)?,
        };
        Ok((posterior, last_state))
    }

    /// The prediction of the target.
    ///
    /// # Shapes
    /// `[B, K]` or `[B, h, w, K]`, `[B, H, W, D]` -> `[B, H, W, C]`
    pub(crate) fn decode(&self, latent: &Tensor, condition: Option<&Tensor>) -> Result<Tensor> {
        let mut x = self.from_latent.forward(latent)?;
        if let LatentLayer::Dense(_) = self.from_latent {
            let [height, width, channels] = self.bottleneck;
            x = reshape(&x, ((), height, width, channels))?;
        }
        for layer in &self.decoder {
            x = layer.forward(&x, condition)?;
        }
        match &self.base_image {
            Some(image) => add_to_each(&x, image),
            None => Ok(x),
        }
    }
}

impl LatentLayer {
    fn new(layer: &Layer, vb: &VarBuilder<'_>) -> Result<Self> {
        if !layer.dense {
            return layer.conv(vb).map(Self::Conv);
        }
        let fan_in = layer.fan_in();
        Linear::new(
            layer.inputs,
            layer.outputs,
            layer.activation(),
            layer.weight.init(fan_in),
            layer.bias.init(fan_in),
            vb.pp(&layer.name),
        )
        .map(Self::Dense)
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Dense(layer) => layer.forward(x),
            Self::Conv(layer) => layer.forward(x),
        }
    }
}

impl DecoderLayer {
    /// # Shapes
    /// `[B, h, w, F]`, `[B, H, W, D]` -> `[B, H, W, G]`
    fn forward(&self, x: &Tensor, condition: Option<&Tensor>) -> Result<Tensor> {
        let condition = condition.filter(|_| self.conditioned);
        match (self.upsample, condition) {
            (2, condition) => self.conv.forward_upsampled(x, self.size, condition),
            (factor, None) => self.conv.forward(&upsample(x, factor)?),
            (factor, Some(_)) => bail!("a conditioned stage upsamples by 2, not by {factor}"),
        }
    }
}

impl Layer {
    fn activation(&self) -> Activation {
        match self.negative_slope {
            1.0 => Activation::Identity,
            slope => Activation::LeakyRelu(slope),
        }
    }

    fn conv_lstm(&self, vb: &VarBuilder<'_>) -> Result<ConvLstm> {
        let (fan_in, channels) = (self.fan_in(), self.inputs / 2);
        let init = (self.weight.init(fan_in), self.bias.init(fan_in));
        ConvLstm::new(self.input_size, channels, self.kernel, init, vb.pp(&self.name))
    }

    fn conv(&self, vb: &VarBuilder<'_>) -> Result<Conv> {
        let spec = ConvSpec {
            inputs: self.inputs + self.extra,
            outputs: self.outputs,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.kernel / 2,
            activation: self.activation(),
        };
        let fan_in = self.fan_in();
        let (weight, bias) = (self.weight.init(fan_in), self.bias.init(fan_in));
        Conv::new(spec, weight, bias, vb.pp(&self.name))
    }
}

impl Start {
    fn init(self, fan_in: usize) -> Init {
        match self {
            Self::Uniform => fan_in_uniform(fan_in),
            Self::Constant(value) => Init::Const(value.into()),
        }
    }
}
