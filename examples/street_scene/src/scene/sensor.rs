//! What the camera adds: a slow drift of the light and the noise of its sensor.

use super::random::Random;

const TABLE: usize = 1 << 16;

/// Noise values drawn once; every row of every frame reads them from its own place.
pub struct Sensor {
    noise: Vec<i8>,
    seed: u64,
}

impl Sensor {
    /// `sigma` is the noise's standard deviation in 8-bit steps.
    pub fn new(seed: u64, sigma: f32) -> Self {
        let mut random = Random::new(seed, 700);
        let noise = (0..TABLE)
            .map(|_| (sigma * random.normal()).round().clamp(-100.0, 100.0) as i8)
            .collect();
        Self { noise, seed }
    }

    /// Relative brightness at time `t`: clouds and the sun's way, within about 6 %.
    fn light(&self, t: f64) -> f32 {
        let phase = (self.seed % 97) as f64;
        let slow = 0.035 * (t * std::f64::consts::TAU / 431.0 + phase).sin();
        let cloud = 0.018 * (t * std::f64::consts::TAU / 87.0 + 2.0 * phase).sin();
        (1.0 + slow + cloud) as f32
    }

    /// Exposes an RGBx picture (4 bytes a pixel) of `width` pixels a row, in place.
    pub fn expose(&self, picture: &mut [u8], width: usize, t: f64) {
        let gain = self.light(t);
        let curve: [i16; 256] = std::array::from_fn(|i| (i as f32 * gain).round() as i16);
        // Milliseconds, so that the same moment looks the same at every frame rate.
        let mut random = Random::new(self.seed, 0x5e_0000 + (t * 1000.0).round() as u64);
        for row in picture.chunks_exact_mut(width * 4) {
            // A stretch of the table as long as the row, or all of it again and again for very wide rows.
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
