//! From input and prediction to the anomaly map.

use super::config::{ScoreMap, VaeConfig};
use crate::detector::frame::filter::box_mean;

impl VaeConfig {
    /// The anomaly map of one image; `kl` is the divergence of each latent cell.
    ///
    /// # Shapes
    /// `[H, W, C]` twice, `[h, w]` or `[1]` -> `[H, W]`
    pub(crate) fn anomaly_map(&self, target: &[f32], prediction: &[f32], kl: &[f32]) -> Vec<f32> {
        let [height, width] = self.size;
        let pixels = target
            .chunks_exact(self.channels)
            .zip(prediction.chunks_exact(self.channels));
        let map: Vec<f32> = match self.score_map {
            ScoreMap::SquaredError => pixels.map(|(x, p)| squared_error(x, p)).collect(),
            ScoreMap::Level { kl_share } => {
                let columns = width.div_ceil(2);
                let cell = |i: usize| i / width / 2 * columns + i % width / 2;
                let level = |(i, (x, p))| mean(x) + (mean(p) + kl_share * kl[cell(i)]);
                pixels.enumerate().map(level).collect()
            }
        };
        let mut smoothed = Vec::with_capacity(map.len());
        box_mean(
            &map,
            (width, height),
            self.score_box,
            &mut Vec::new(),
            &mut smoothed,
        );
        smoothed
    }
}

fn squared_error(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::vae::tests::{appearance, motion};

    #[test]
    fn a_squared_error_map_sums_over_channels_and_averages_over_boxes() {
        let config = VaeConfig {
            size: [2, 2],
            score_box: 1,
            ..appearance()
        };
        let target = [1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0];
        let map = config.anomaly_map(&target, &[0.0; 12], &[]);
        assert_eq!(map, [1.0, 4.0, 0.0, 3.0]);
        let smoothed = VaeConfig {
            score_box: 3,
            ..config
        }
        .anomaly_map(&target, &[0.0; 12], &[]);
        // Mirrored borders: the other row and column count twice.
        assert!(
            (smoothed[0] - (1.0 + 2.0 * 4.0 + 2.0 * 0.0 + 4.0 * 3.0) / 9.0).abs() < 1e-6,
            "{smoothed:?}"
        );
    }

    #[test]
    fn a_level_map_adds_target_prediction_and_divergence() {
        let config = VaeConfig {
            size: [3, 3],
            score_box: 1,
            score_map: ScoreMap::Level { kl_share: 0.5 },
            ..motion()
        };
        let target: Vec<f32> = (0..18).map(|i| i as f32).collect();
        let prediction = vec![1.0; 18];
        let map = config.anomaly_map(&target, &prediction, &[2.0, 4.0, 6.0, 8.0]);
        let cells = [0, 0, 1, 0, 0, 1, 2, 2, 3];
        for (i, value) in map.iter().enumerate() {
            let want = (2 * i) as f32 + 0.5 + 1.0 + 0.5 * [2.0, 4.0, 6.0, 8.0][cells[i]];
            assert!((value - want).abs() < 1e-6, "cell {i}: {value}, not {want}");
        }
    }
}
