//! The conditional VAE over the motion grid: what speeds belong to a scene like this?

use candle_core::{Result, Tensor};

use crate::detector::nn::{Activation, Conv, ConvSpec, Init, Parameters, Rng, apply_mask, clamp, join};
use crate::detector::vae::Posterior;

/// Latent values per latent cell.
pub(super) const LATENT: usize = 4;
/// Channels before the latent heads.
pub(super) const FEATURES: usize = 24;
const CONDITION: usize = 2;
const TARGET: usize = 2;
const ACT: Activation = Activation::LeakyRelu(0.1);

/// 13,650 weights.
#[derive(Debug)]
pub(super) struct MotionNet {
    encoder: [Conv; 3],
    mean: Conv,
    log_var: Conv,
    widen: Conv,
    refine: Conv,
    predict: Conv,
}

fn conv(inputs: usize, outputs: usize, kernel: usize, stride: usize, activation: Activation) -> ConvSpec {
    ConvSpec {
        inputs,
        outputs,
        kernel,
        stride,
        padding: kernel / 2,
        activation,
    }
}

impl MotionNet {
    pub(super) fn new(p: &mut Parameters, rng: &mut Rng) -> Result<Self> {
        let zero = Init::Constant(0.0);
        let flat = Activation::Identity;
        Ok(Self {
            encoder: [
                Conv::new(p, "encoder.0", conv(TARGET + CONDITION, 16, 3, 1, ACT), rng)?,
                Conv::new(p, "encoder.1", conv(16, 24, 3, 2, ACT), rng)?,
                Conv::new(p, "encoder.2", conv(24, FEATURES, 3, 1, ACT), rng)?,
            ],
            mean: Conv::new(p, "mean", conv(FEATURES, LATENT, 1, 1, flat), rng)?,
            log_var: Conv::with_init(
                p,
                "log_var",
                conv(FEATURES, LATENT, 1, 1, flat),
                zero,
                Init::Constant(-2.0),
                rng,
            )?,
            widen: Conv::new(p, "decoder.0", conv(LATENT, 24, 1, 1, ACT), rng)?,
            refine: Conv::new(p, "decoder.1", conv(24 + CONDITION, 16, 3, 1, ACT), rng)?,
            predict: Conv::with_init(p, "decoder.2", conv(16, TARGET, 3, 1, flat), zero, zero, rng)?,
        })
    }

    /// The same net with the same weights, now and later, that builds no graph: for scoring.
    pub(super) fn detached(&self) -> Self {
        Self {
            encoder: self.encoder.each_ref().map(Conv::detached),
            mean: self.mean.detached(),
            log_var: self.log_var.detached(),
            widen: self.widen.detached(),
            refine: self.refine.detached(),
            predict: self.predict.detached(),
        }
    }

    /// # Shapes
    /// `[B, H, W, 2]` twice -> `[B, ceil(H/2), ceil(W/2), 4]`; the mask has `B * ceil(H/2) * ceil(W/2) * 24` values
    pub(super) fn encode(
        &self,
        target: &Tensor,
        condition: &Tensor,
        mask: Option<&Tensor>,
    ) -> Result<Posterior> {
        let mut x = join(target, condition)?;
        for stage in &self.encoder {
            x = stage.forward(&x)?;
        }
        if let Some(mask) = mask {
            x = apply_mask(&x, &mask.reshape(x.shape())?)?;
        }
        Ok(Posterior {
            mean: self.mean.forward(&x)?,
            log_var: clamp(&self.log_var.forward(&x)?, -8.0, 3.0)?,
        })
    }

    /// # Shapes
    /// `[B, ceil(H/2), ceil(W/2), 4]`, `[B, H, W, 2]` -> `[B, H, W, 2]`
    pub(super) fn decode(&self, latent: &Tensor, condition: &Tensor) -> Result<Tensor> {
        let (_, height, width, _) = condition.dims4()?;
        let x = self.widen.forward(latent)?;
        let x = self
            .refine
            .forward_enlarged(&x, [height, width], Some(condition))?;
        self.predict.forward(&x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::cue::reference::{assert_pytorchs, set_weights, wave};
    use crate::detector::nn::{student_t_loss, weighted_sum};
    use candle_core::Device;
    use rand::SeedableRng;

    #[test]
    fn has_the_recipes_number_of_weights_and_odd_grids_fit() {
        let mut params = Parameters::new(&Device::Cpu);
        let net = MotionNet::new(&mut params, &mut Rng::seed_from_u64(1)).unwrap();
        assert_eq!(params.count(), 13_650);
        for (h, w) in [(33, 45), (25, 45), (2, 3)] {
            let y = Tensor::ones((2, h, w, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
            let q = net.encode(&y, &y, None).unwrap();
            assert_eq!(q.mean.dims(), [2, h.div_ceil(2), w.div_ceil(2), 4]);
            assert_eq!(net.decode(&q.mean, &y).unwrap().dims(), [2, h, w, 2]);
        }
    }

    #[test]
    fn loss_and_gradients_are_pytorchs() {
        let mut params = Parameters::new(&Device::Cpu);
        let net = MotionNet::new(&mut params, &mut Rng::seed_from_u64(1)).unwrap();
        set_weights(&params);
        let (y, c) = (wave(&[2, 5, 6, 2], 0.37), wave(&[2, 5, 6, 2], 0.23));
        let loss = || {
            let posterior = net.encode(&y, &c, None)?;
            let sample = posterior.reparameterize(&wave(&[2, 3, 3, 4], 0.91))?;
            let likelihood = student_t_loss(&net.decode(&sample, &c)?, &y, 1.0)?;
            weighted_sum([(&likelihood, 2.0), (&posterior.kl_loss()?, 0.1)])
        };
        let slopes = [
            0.042089395,
            0.0028958009,
            0.010671401,
            -0.0080662361,
            -0.019938973,
            -0.002789139,
            0.00019892184,
            0.012968734,
            0.00050274613,
            0.088180117,
            -1.3667818,
            0.2674781,
            -0.045149913,
            -0.11049104,
            0.11400513,
            0.11629895,
        ];
        assert_pytorchs(&params, loss, 0.713061267951029, &slopes);
    }
}
