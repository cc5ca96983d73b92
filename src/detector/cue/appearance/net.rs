//! The appearance VAE, shaped by `net-arch`.

use candle_core::{Result, Tensor};

use super::{AppearanceConfig, CHANNELS};
use crate::detector::nn::{
    Activation, Conv, ConvSpec, Init, Linear, Parameters, Rng, add_to_each, apply_mask, clamp, enlarge,
    reshape,
};
use crate::detector::vae::Posterior;

const ACT: Activation = Activation::LeakyRelu(0.1);

/// One mirrored stage: enlarge, then convolve.
#[derive(Debug)]
struct Upward {
    factor: usize,
    conv: Conv,
}

impl Upward {
    fn detached(&self) -> Self {
        Self {
            factor: self.factor,
            conv: self.conv.detached(),
        }
    }

    /// # Shapes
    /// `[B, H, W, C]` -> `[B, factor H, factor W, outputs]`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.factor == 2 {
            let (_, height, width, _) = x.dims4()?;
            return self.conv.forward_enlarged(x, [2 * height, 2 * width], None);
        }
        self.conv.forward(&enlarge(x, self.factor)?)
    }
}

/// 76,115 weights with the default architecture on a 64x32 picture.
#[derive(Debug)]
pub(super) struct AppearanceNet {
    encoder: Vec<Conv>,
    mean: Linear,
    log_var: Linear,
    widen: Linear,
    decoder: Vec<Upward>,
    /// The learnt picture that reconstructions are drawn upon, `[1, H, W, 3]`.
    scene: Tensor,
    /// Height, width and channels of the encoder's last map.
    top: (usize, usize, usize),
}

impl AppearanceNet {
    /// `picture` is the first guess of the scene, `[H, W, 3]`.
    pub(super) fn new(
        p: &mut Parameters,
        config: &AppearanceConfig,
        picture: &[f32],
        rng: &mut Rng,
    ) -> Result<Self> {
        let stages = config.arch.stages();
        let (width, height) = config.size;
        let reduction = config.arch.reduction();
        let inputs = |i: usize| if i == 0 { CHANNELS } else { stages[i - 1].filters };
        let spec = |i: usize, o: usize, kernel: usize, stride: usize, activation: Activation| ConvSpec {
            inputs: i,
            outputs: o,
            kernel,
            stride,
            padding: kernel / 2,
            activation,
        };

        let mut encoder = Vec::new();
        for (i, s) in stages.iter().enumerate() {
            let shape = spec(inputs(i), s.filters, s.kernel, s.pooling, ACT);
            encoder.push(Conv::new(p, &format!("encoder.{i}"), shape, rng)?);
        }
        let top = (height / reduction, width / reduction, inputs(stages.len()));
        let features = top.0 * top.1 * top.2;
        let latent = config.latent_dim;
        let flat = Activation::Identity;
        let mean = Linear::new(p, "mean", features, latent, flat, rng)?;
        let (zero, low) = (Init::Constant(0.0), Init::Constant(-4.0));
        let log_var = Linear::with_init(p, "log_var", [features, latent], flat, zero, low, rng)?;
        let widen = Linear::new(p, "widen", latent, features, ACT, rng)?;

        let mut decoder = Vec::new();
        for (i, s) in stages.iter().enumerate().rev() {
            let activation = if i == 0 { flat } else { ACT };
            let shape = spec(s.filters, inputs(i), s.kernel, 1, activation);
            let conv = Conv::new(p, &format!("decoder.{i}"), shape, rng)?;
            decoder.push(Upward {
                factor: s.pooling,
                conv,
            });
        }
        let scene = p.add_values("scene", (1, height, width, CHANNELS), picture.to_vec())?;
        Ok(Self {
            encoder,
            mean,
            log_var,
            widen,
            decoder,
            scene,
            top,
        })
    }

    /// The same net with the same weights, now and later, that builds no graph: for scoring.
    pub(super) fn detached(&self) -> Self {
        Self {
            encoder: self.encoder.iter().map(Conv::detached).collect(),
            mean: self.mean.detached(),
            log_var: self.log_var.detached(),
            widen: self.widen.detached(),
            decoder: self.decoder.iter().map(Upward::detached).collect(),
            scene: self.scene.detach(),
            top: self.top,
        }
    }

    /// Values that the encoder hands to the latent heads.
    pub(super) fn features(&self) -> usize {
        self.top.0 * self.top.1 * self.top.2
    }

    /// # Shapes
    /// `[B, H, W, 3]` -> `[B, K]`; the mask has `B * features` values
    pub(super) fn encode(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Posterior> {
        let mut x = x.clone();
        for stage in &self.encoder {
            x = stage.forward(&x)?;
        }
        let mut x = reshape(&x, ((), self.features()))?;
        if let Some(mask) = mask {
            x = apply_mask(&x, &mask.reshape(x.shape())?)?;
        }
        Ok(Posterior {
            mean: self.mean.forward(&x)?,
            log_var: clamp(&self.log_var.forward(&x)?, -10.0, 3.0)?,
        })
    }

    /// # Shapes
    /// `[B, K]` -> `[B, H, W, 3]`
    pub(super) fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        let (height, width, channels) = self.top;
        let mut x = reshape(&self.widen.forward(latent)?, ((), height, width, channels))?;
        for stage in &self.decoder {
            x = stage.forward(&x)?;
        }
        add_to_each(&x, &self.scene)
    }
}

#[cfg(test)]
mod tests {
    use super::super::to_net;
    use super::*;
    use crate::detector::config::Networks;
    use crate::detector::cue::reference::{assert_pytorchs, set_weights, wave};
    use crate::detector::nn::{Tape, student_t_loss, weighted_sum};
    use candle_core::Device;
    use rand::SeedableRng;

    fn net(arch: &str, size: (usize, usize)) -> (Parameters, AppearanceNet) {
        net_of(arch, size, 16)
    }

    fn net_of(arch: &str, size: (usize, usize), latent_dim: usize) -> (Parameters, AppearanceNet) {
        let config = AppearanceConfig {
            arch: arch.parse().unwrap(),
            latent_dim,
            size,
            networks: Networks::Trained,
            seed: 1,
        };
        let mut params = Parameters::new(&Device::Cpu);
        let picture = vec![to_net(100.0); size.0 * size.1 * CHANNELS];
        let net = AppearanceNet::new(&mut params, &config, &picture, &mut Rng::seed_from_u64(1)).unwrap();
        (params, net)
    }

    #[test]
    fn has_the_recipes_number_of_weights() {
        let (params, _) = net("[(12,3,2),(24,3,2),(32,3,2)]", (64, 32));
        assert_eq!(params.count(), 76_115);
    }

    #[test]
    fn the_decoder_mirrors_any_encoder() {
        for (arch, size) in [
            ("[(32,5,2),(8,3,2)]", (32, 32)),
            ("[(4,7,3),(6,1,1)]", (48, 27)),
            ("[(4,3,4)]", (16, 4)),
            ("[(4,3,1)]", (16, 7)),
        ] {
            let (params, net) = net(arch, size);
            let shape = [2, size.1, size.0, 3];
            let (x, mask) = (wave(&shape, 0.37), wave(&[2, net.features()], 0.5));
            let forward = || {
                let posterior = net.encode(&x, Some(&mask))?;
                assert_eq!(posterior.mean.dims(), [2, 16], "{arch}");
                let picture = net.decode(&posterior.mean)?;
                assert_eq!(picture.dims(), shape, "{arch}");
                student_t_loss(&picture, &x, 0.2)
            };
            let (loss, tape) = Tape::record(forward).unwrap();
            let gradients = params.backward(tape, &loss).unwrap().clone();
            assert_eq!(gradients, *params.backward_by_candle(&loss).unwrap(), "{arch}");
            let first = params.iter().next().unwrap().1.elem_count();
            assert!(
                gradients[..first].iter().any(|g| *g != 0.0),
                "{arch}: the first layer learns"
            );
        }
    }

    #[test]
    fn loss_and_gradients_are_pytorchs() {
        let (params, net) = net_of("[(4,3,2),(6,3,2)]", (8, 4), 3);
        set_weights(&params);
        let x = wave(&[2, 4, 8, 3], 0.37);
        let loss = || {
            let posterior = net.encode(&x, None)?;
            let sample = posterior.reparameterize(&wave(&[2, 3], 0.91))?;
            let likelihood = student_t_loss(&net.decode(&sample)?, &x, 0.2)?;
            weighted_sum([(&likelihood, 1.0), (&posterior.kl_loss()?, 0.03)])
        };
        let slopes = [
            -0.00036334036,
            -0.00066723613,
            -0.0016729812,
            0.0069426983,
            0.00019076081,
            -0.0071453112,
            -0.0002718913,
            0.0065248461,
            -0.0012864949,
            -0.002277319,
            0.0032875441,
            0.019581206,
            -0.05613925,
            -0.10534644,
            -0.026046687,
        ];
        assert_pytorchs(&params, loss, 2.7990277748786356, &slopes);
    }
}
