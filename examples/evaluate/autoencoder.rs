//! The plain online autoencoder that most people try first, as a baseline, in stock Candle.
//!
//! 32x32 grey, encoder `[(32,5,2),(8,3,2)]` as (filters, kernel, pooling), mirrored decoder, binary
//! cross-entropy, one RMSprop step a frame. A frame's score is how far its loss is from the mean of the
//! last 300 losses; it is flagged beyond five standard deviations.

use std::collections::VecDeque;

use anyhow::Result;
use candle_core::{DType, Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::baseline::{Baseline, Grey};

const SIDE: usize = 32;
const WINDOW: usize = 300;
const SIGMAS: f64 = 5.0;
const LEARNING_RATE: f64 = 1e-4;
/// Decay of RMSprop's running mean of squared gradients.
const DECAY: f64 = 0.9;
const EPSILON: f64 = 1e-7;

/// A convolution that keeps the size, with what RMSprop remembers about it.
struct Conv {
    weight: Var,
    bias: Var,
    weight_square: Tensor,
    bias_square: Tensor,
    padding: usize,
}

impl Conv {
    /// Glorot's uniform initialisation (Glorot & Bengio 2010), bias 0.
    fn new(inputs: usize, outputs: usize, kernel: usize, rng: &mut Xoshiro256PlusPlus) -> Result<Self> {
        let area = kernel * kernel;
        let limit = (6.0 / ((inputs + outputs) * area) as f64).sqrt();
        let values: Vec<f32> = (0..outputs * inputs * area)
            .map(|_| rng.random_range(-limit..limit) as f32)
            .collect();
        let weight = Tensor::from_vec(values, (outputs, inputs, kernel, kernel), &Device::Cpu)?;
        let bias = Tensor::zeros(outputs, DType::F32, &Device::Cpu)?;
        Ok(Self {
            weight_square: weight.zeros_like()?,
            bias_square: bias.zeros_like()?,
            weight: Var::from_tensor(&weight)?,
            bias: Var::from_tensor(&bias)?,
            padding: kernel / 2,
        })
    }

    /// # Shapes
    /// `[1, inputs, H, W]` to `[1, outputs, H, W]`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let bias = self.bias.reshape((1, (), 1, 1))?;
        Ok(x.conv2d(&self.weight, self.padding, 1, 1, 1)?
            .broadcast_add(&bias)?)
    }

    /// One step of RMSprop (Hinton 2012).
    fn step(&mut self, gradients: &candle_core::backprop::GradStore) -> Result<()> {
        for (var, square) in [
            (&self.weight, &mut self.weight_square),
            (&self.bias, &mut self.bias_square),
        ] {
            let Some(gradient) = gradients.get(var) else {
                continue;
            };
            *square = ((&*square * DECAY)? + (gradient.sqr()? * (1.0 - DECAY))?)?.detach();
            let step = (gradient / (square.sqrt()? + EPSILON)?)?;
            var.set(&(var.as_tensor() - (step * LEARNING_RATE)?)?)?;
        }
        Ok(())
    }
}

/// The net, its losses, and its rule.
pub struct Autoencoder {
    encoder: [Conv; 2],
    decoder: [Conv; 3],
    losses: VecDeque<f64>,
    flagged: bool,
}

impl Autoencoder {
    /// Random weights from `seed`.
    pub fn new(seed: u64) -> Result<Self> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut conv = |inputs, outputs, kernel| Conv::new(inputs, outputs, kernel, &mut rng);
        Ok(Self {
            encoder: [conv(1, 32, 5)?, conv(32, 8, 3)?],
            decoder: [conv(8, 8, 3)?, conv(8, 32, 5)?, conv(32, 1, 5)?],
            losses: VecDeque::new(),
            flagged: false,
        })
    }

    /// # Shapes
    /// `[1, 1, 32, 32]` to `[1, 1, 32, 32]`, before the sigmoid
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut features = x.clone();
        for conv in &self.encoder {
            features = conv.forward(&features)?.relu()?.max_pool2d(2)?;
        }
        for conv in &self.decoder[..2] {
            let side = features.dim(3)? * 2;
            features = conv.forward(&features)?.relu()?.upsample_nearest2d(side, side)?;
        }
        self.decoder[2].forward(&features)
    }

    /// Binary cross-entropy of one frame, and one training step on it.
    fn train(&mut self, pixels: Vec<f32>) -> Result<f64> {
        let x = Tensor::from_vec(pixels, (1, 1, SIDE, SIDE), &Device::Cpu)?;
        let logits = self.forward(&x)?;
        // max(l, 0) - l x + ln(1 + exp(-|l|)), finite for every logit
        let soft = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
        let loss = ((logits.relu()? - (&logits * &x)?)? + soft)?.mean_all()?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        let gradients = loss.backward()?;
        for conv in self.encoder.iter_mut().chain(&mut self.decoder) {
            conv.step(&gradients)?;
        }
        Ok(value)
    }
}

impl Baseline for Autoencoder {
    fn name(&self) -> &'static str {
        "online autoencoder"
    }

    fn score(&mut self, grey: &Grey) -> Result<f64> {
        let pixels = grey.shrunk_to(SIDE).iter().map(|p| p / 255.0).collect();
        let loss = self.train(pixels)?;
        let count = self.losses.len().max(1) as f64;
        let mean = self.losses.iter().sum::<f64>() / count;
        let variance = self.losses.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / count;
        let full = self.losses.len() == WINDOW;
        let score = if self.losses.is_empty() {
            0.0
        } else {
            (loss - mean).abs()
        };
        self.flagged = full && score > SIGMAS * variance.sqrt();
        if full {
            self.losses.pop_front();
        }
        self.losses.push_back(loss);
        Ok(score)
    }

    fn flagged(&self) -> Option<bool> {
        Some(self.flagged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture with one bright square.
    fn square(left: usize) -> Grey {
        let pixels = (0..64 * 64)
            .map(|i| {
                if (left..left + 16).contains(&(i % 64)) {
                    230.0
                } else {
                    20.0
                }
            })
            .collect();
        Grey {
            width: 64,
            height: 64,
            pixels,
        }
    }

    #[test]
    fn it_learns_what_it_sees() {
        let mut net = Autoencoder::new(7).unwrap();
        let pixels = || {
            square(8)
                .shrunk_to(SIDE)
                .iter()
                .map(|p| p / 255.0)
                .collect::<Vec<f32>>()
        };
        let first = net.train(pixels()).unwrap();
        let mut last = first;
        for _ in 0..150 {
            last = net.train(pixels()).unwrap();
        }
        assert!(last < 0.8 * first, "loss fell from {first} to {last} only");
    }

    #[test]
    fn the_same_seed_gives_the_same_scores() {
        let scores = |seed| {
            let mut net = Autoencoder::new(seed).unwrap();
            (0..5)
                .map(|i| net.score(&square(i * 4)).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(scores(3), scores(3));
        assert_ne!(scores(3), scores(4));
    }
}
