//! The mathematics that both variational autoencoders share.

use candle_core::{Device, Result, Tensor};
use rand_distr::{Distribution, StandardNormal};

use super::nn::{self, Rng};

/// A diagonal normal distribution over the latent values, `q(z | x)`.
#[derive(Clone, Debug)]
pub(crate) struct Posterior {
    /// Mean, any shape.
    pub(crate) mean: Tensor,
    /// Natural logarithm of the variance, same shape.
    pub(crate) log_var: Tensor,
}

impl Posterior {
    /// `z = mean + exp(log_var / 2) * noise` (Kingma & Welling 2014, section 2.4).
    pub(crate) fn reparameterize(&self, noise: &Tensor) -> Result<Tensor> {
        nn::reparameterize(&self.mean, &self.log_var, noise)
    }

    /// `KL(q || N(0, 1)) = 1/2 sum(mean^2 + exp(log_var) - 1 - log_var)` over the last dimension
    /// (Kingma & Welling 2014, appendix B), in nats; without gradients.
    ///
    /// # Shapes
    /// `[.., K]` -> `[..]`
    pub(crate) fn kl(&self) -> Result<Tensor> {
        nn::kl(&self.mean, &self.log_var)
    }

    /// Mean of [`Posterior::kl`] over all distributions, to be minimised.
    ///
    /// # Shapes
    /// `[.., K]` -> `[]`
    pub(crate) fn kl_loss(&self) -> Result<Tensor> {
        nn::kl_loss(&self.mean, &self.log_var)
    }
}

/// Standard normal numbers.
pub(crate) fn normal(rng: &mut Rng, shape: &[usize], device: &Device) -> Result<Tensor> {
    let count = shape.iter().product();
    let values: Vec<f32> = StandardNormal.sample_iter(rng).take(count).collect();
    Tensor::from_vec(values, shape, device)
}

/// Zeroes a share of the values and scales up the others (Srivastava et al. 2014); `None` for a share of 0.
pub(crate) fn dropout_mask(
    rng: &mut Rng,
    share: f64,
    shape: &[usize],
    device: &Device,
) -> Result<Option<Tensor>> {
    use rand::Rng as _;
    if share <= 0.0 {
        return Ok(None);
    }
    let keep = 1.0 / (1.0 - share) as f32;
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|_| if rng.random_bool(share) { 0.0 } else { keep })
        .collect();
    Tensor::from_vec(values, shape, device).map(Some)
}
