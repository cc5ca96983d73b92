//! Effects of the camera: slow changes of the light and sensor noise.

use super::random::Random;

const TABLE: usize = 1 << 16;

/// A table of noise values; every row of every frame reads it from another offset.
pub struct Sensor {
    noise: Vec<i8>,
    seed: u64,
}

impl Sensor {
    /// `sigma`: standard deviation of the noise in 8-bit levels.
    pub fn new(seed: u64, sigma: f32) -> Self {
        let mut random = Random::new(seed, 700);
        let noise = (0..TABLE)
            .map(|_| (sigma * random.normal()).round().clamp(-100.0, 100.0) as i8)
            .collect();
        Self { noise, seed }
    }

    /// Relative brightness at time `t`; varies by about 6 % with clouds and the sun.
    fn light(&self, t: f64) -> f32 {
        let phase = (self.seed % 97) as f64;
        let slow = 0.035 * (t * std::f64::consts::TAU / 431.0 + phase).sin();
        let cloud = 0.018 * (t * std::f64::consts::TAU / 87.0 + 2.0 * phase).sin();
        (1.0 + slow + cloud) as f32
    }

    /// Applies the effects in place to an RGBx image (4 bytes per pixel) of `width` pixels per row.
    pub fn expose(&self, image: &mut [u8], width: usize, t: f64) {
        let gain = self.light(t);
        let curve: [i16; 256] = std::array::from_fn(|i| (i as f32 * gain).round() as i16);
        // In milliseconds, so that the same moment looks the same at every frame rate.
        let mut random = Random::new(self.seed, 0x5e_0000 + (t * 1000.0).round() as u64);
        for row in image.chunks_exact_mut(width * 4) {
            // A section of the table as long as the row; very wide rows repeat the table.
            let stretch =
                |random: &mut Random| &self.noise[random.next() as usize % (TABLE - width.min(TABLE / 2))..];
            let (luma, chroma) = (stretch(&mut random), stretch(&mut random));
            let noise = luma.iter().zip(chroma).cycle();
            for (pixel, (common, tint)) in row.chunks_exact_mut(4).zip(noise) {
                let (common, tint) = (i16::from(*common), i16::from(*tint) / 2);
                for (channel, extra) in pixel.iter_mut().zip([tint, 0, -tint]) {
                    *channel = (curve[usize::from(*channel)] + common + extra).clamp(0, 255) as u8;
                }
            }
        }
    }
}
