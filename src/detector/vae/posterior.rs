//! The posterior of the latent values.

use candle_core::{Result, Tensor};

use crate::detector::nn;

/// A diagonal normal distribution over the latent values, `q(z | x)`.
#[derive(Clone, Debug)]
pub(crate) struct Posterior {
    /// Mean, any shape.
    pub(crate) mean: Tensor,
    /// Natural logarithm of the variance, same shape.
    pub(crate) log_var: Tensor,
}

impl Posterior {
    /// `z = mean + exp(log_var / 2) * noise` (Kingma & Welling 2014, section 2.4); `noise` has as many values.
    pub(crate) fn reparameterize(&self, noise: &Tensor) -> Result<Tensor> {
        nn::reparameterize(&self.mean, &self.log_var, &noise.reshape(self.mean.shape())?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::nn::{Tape, student_t_loss};
    use candle_core::{Device, Var};

    /*
    import torch
    from torch.distributions import Normal, StudentT, kl_divergence
    m = torch.tensor([[0.5, -1.2, 0.0], [2.0, 0.1, -0.3]])
    lv = torch.tensor([[-2.0, 0.3, 0.0], [1.0, -8.0, 3.0]])
    n = torch.tensor([[0.1, -0.7, 1.5], [-1.0, 2.0, 0.25]])
    s = (lv / 2).exp()
    print((m + s * n).tolist())
    print(kl_divergence(Normal(m, s), Normal(torch.zeros_like(m), torch.ones_like(s))).sum(-1).tolist())
    for scale in [1.0, 0.2]:
        r = torch.tensor([0.0, 0.05, -0.5, 3.0, -40.0], requires_grad=True)
        t = StudentT(3.0, 0.0, scale)
        loss = t.log_prob(torch.tensor(0.0)) - t.log_prob(r)
        loss.sum().backward()
        print(scale, loss.tolist(), r.grad.tolist())
    */

    fn posterior() -> Posterior {
        let device = Device::Cpu;
        Posterior {
            mean: Tensor::new(&[[0.5f32, -1.2, 0.0], [2.0, 0.1, -0.3]], &device).unwrap(),
            log_var: Tensor::new(&[[-2.0f32, 0.3, 0.0], [1.0, -8.0, 3.0]], &device).unwrap(),
        }
    }

    fn assert_near(got: &[f32], want: &[f32]) {
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert!(
                (got - want).abs() <= 1e-5 * want.abs().max(1.0),
                "{got}, PyTorch {want}"
            );
        }
    }

    fn flat(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn samples_and_divergences_are_pytorchs() {
        let noise = Tensor::new(&[[0.1f32, -0.7, 1.5], [-1.0, 2.0, 0.25]], &Device::Cpu).unwrap();
        let samples = posterior().reparameterize(&noise).unwrap();
        let want = [0.536_788, -2.013_284, 1.5, 0.351_279, 0.136_631, 0.820_422];
        assert_near(&flat(&samples), &want);
        let want = [1.437_597, 13.952_077];
        assert_near(&flat(&posterior().kl().unwrap()), &want);
        let mean = 0.5 * (want[0] + want[1]);
        assert_near(&flat(&posterior().kl_loss().unwrap()), &[mean]);
    }

    #[test]
    fn the_likelihood_is_pytorchs_student_t_with_three_degrees_of_freedom() {
        let residuals = [0.0f32, 0.05, -0.5, 3.0, -40.0];
        let wanted = [
            (
                1.0,
                [0.0, 0.001_666, 0.160_085, 2.772_589, 12.562_039],
                [0.0, 0.066_611, -0.615_385, 1.0, -0.099_813],
            ),
            (
                0.2,
                [0.0, 0.041_239, 2.252_023, 8.661_467, 18.996_195],
                [0.0, 1.632_653, -5.405_406, 1.315_789, -0.099_992],
            ),
        ];
        let zero = Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu).unwrap();
        for (scale, losses, gradients) in wanted {
            for ((residual, loss), gradient) in residuals.into_iter().zip(losses).zip(gradients) {
                let prediction = Var::new(&[residual], &Device::Cpu).unwrap();
                let (got, _) = Tape::record(|| student_t_loss(&prediction, &zero, scale)).unwrap();
                assert_near(&[got.to_scalar().unwrap()], &[loss]);
                let store = got.backward().unwrap();
                assert_near(&flat(store.get(&prediction).unwrap()), &[gradient]);
            }
        }
    }
}
