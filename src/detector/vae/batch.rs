//! Everything random about a training step.

use rand::Rng as _;
use rand_distr::{Distribution, StandardNormal};

use super::VaeConfig;
use crate::detector::engine::TrainingBatch;
use crate::detector::nn::Rng;

impl TrainingBatch {
    /// Draws dropout mask and noise for the current image, those before it and the replayed ones.
    pub(crate) fn draw(&mut self, config: &VaeConfig, dropout: f64, rng: &mut Rng) {
        let others = self.previous_target.len() + self.replayed_target.len();
        let images = 1 + others / config.target_values();
        self.dropout_mask = dropout_mask(rng, dropout, images * config.features());
        self.noise = normal(rng, images * config.latent_values());
    }
}

/// Standard normal samples.
fn normal(rng: &mut Rng, count: usize) -> Vec<f32> {
    StandardNormal.sample_iter(rng).take(count).collect()
}

/// Zeroes a share of `count` values and scales up the others (Srivastava et al. 2014); empty for a share of 0.
fn dropout_mask(rng: &mut Rng, share: f64, count: usize) -> Vec<f32> {
    if share <= 0.0 {
        return Vec::new();
    }
    let scale = 1.0 / (1.0 - share) as f32;
    (0..count)
        .map(|_| if rng.random_bool(share) { 0.0 } else { scale })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn dropout_keeps_the_mean() {
        let mask = |share| dropout_mask(&mut Rng::seed_from_u64(1), share, 20_000);
        assert!(mask(0.0).is_empty());
        for share in [0.1, 0.5, 0.9] {
            let values = mask(share);
            let kept = (1.0 / (1.0 - share)) as f32;
            assert!(values.iter().all(|&v| v == 0.0 || (v - kept).abs() < 1e-5 * kept));
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            assert!((mean - 1.0).abs() < 0.05, "share {share}: mean {mean}");
        }
    }

    #[test]
    fn noise_is_standard_normal() {
        let values = normal(&mut Rng::seed_from_u64(2), 50_000);
        let moment = |power: i32| values.iter().map(|v| v.powi(power)).sum::<f32>() / values.len() as f32;
        assert!(moment(1).abs() < 0.02 && (moment(2) - 1.0).abs() < 0.03 && (moment(4) - 3.0).abs() < 0.2);
    }
}
