//! A plain online autoencoder as a baseline, in stock Candle.
//!
//! 32x32 grey, encoder `[(32,5,2),(8,3,2)]` as (filters, kernel, pooling), mirrored decoder, binary
//! cross-entropy, one RMSprop step per frame. The score is the distance of the loss from the mean of the
//! last 300 losses; it is flagged beyond five standard deviations.

use std::collections::VecDeque;

use anyhow::Result;
use candle_core::{DType, Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::baseline::{Baseline, Grey};

const SIZE: usize = 32;
const WINDOW: usize = 300;
const SIGMAS: f64 = 5.0;
const LEARNING_RATE: f64 = 1e-4;
/// Decay of RMSprop's running mean of squared gradients.
const DECAY: f64 = 0.9;
const EPSILON: f64 = 1e-7;

/// A convolution of unchanged size, with RMSprop's state.
///
/// Written as matrix products: stock `conv2d` takes ten times as long for shapes this small.
struct Conv {
    inputs: usize,
    outputs: usize,
    kernel: usize,
    /// `[outputs, kernel^2 inputs]` where inputs are fewer, else `[kernel^2 outputs, inputs]`.
    weight: Var,
    /// `[outputs, 1, 1]`
    bias: Var,
    weight_square: Tensor,
    bias_square: Tensor,
}

impl Conv {
    /// Glorot's uniform initialisation (Glorot & Bengio 2010), bias 0.
    fn new(inputs: usize, outputs: usize, kernel: usize, rng: &mut Xoshiro256PlusPlus) -> Result<Self> {
        let area = kernel * kernel;
        let limit = (6.0 / ((inputs + outputs) * area) as f64).sqrt();
        let values: Vec<f32> = (0..outputs * inputs * area)
            .map(|_| rng.random_range(-limit..limit) as f32)
            .collect();
        let shape = if inputs <= outputs {
            (outputs, area * inputs)
        } else {
            (area * outputs, inputs)
        };
        let weight = Tensor::from_vec(values, shape, &Device::Cpu)?;
        let bias = Tensor::zeros((outputs, 1, 1), DType::F32, &Device::Cpu)?;
        Ok(Self {
            inputs,
            outputs,
            kernel,
            weight_square: weight.zeros_like()?,
            bias_square: bias.zeros_like()?,
            weight: Var::from_tensor(&weight)?,
            bias: Var::from_tensor(&bias)?,
        })
    }

    /// # Shapes
    /// `[inputs, H, W]` to `[outputs, H, W]`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, height, width) = x.dims3()?;
        let (padding, area) = (self.kernel / 2, self.kernel * self.kernel);
        let padded = x
            .pad_with_zeros(1, padding, padding)?
            .pad_with_zeros(2, padding, padding)?;
        let (high, wide) = (height + 2 * padding, width + 2 * padding);
        let shifted = |map: &Tensor, i: usize| {
            map.narrow(1, i / self.kernel, height)?
                .narrow(2, i % self.kernel, width)
        };
        let y = if self.inputs <= self.outputs {
            let shifts = (0..area)
                .map(|i| shifted(&padded, i))
                .collect::<candle_core::Result<Vec<_>>>()?;
            let columns = Tensor::cat(&shifts, 0)?.reshape((area * self.inputs, height * width))?;
            self.weight
                .matmul(&columns)?
                .reshape((self.outputs, height, width))?
        } else {
            let maps = self.weight.matmul(&padded.reshape((self.inputs, high * wide))?)?;
            let maps = maps.reshape((area, self.outputs, high, wide))?;
            let first = shifted(&maps.get(0)?, 0)?;
            (1..area).try_fold(first, |sum, i| sum + shifted(&maps.get(i)?, i)?)?
        };
        Ok(y.broadcast_add(&self.bias)?)
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

/// The net, its recent losses, and its decision.
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
    /// `[1, 32, 32]` to `[1, 32, 32]`, before the sigmoid
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut features = x.clone();
        for conv in &self.encoder {
            features = conv
                .forward(&features)?
                .relu()?
                .unsqueeze(0)?
                .max_pool2d(2)?
                .squeeze(0)?;
        }
        for conv in &self.decoder[..2] {
            let size = features.dim(2)? * 2;
            let wide = conv.forward(&features)?.relu()?.unsqueeze(0)?;
            features = wide.upsample_nearest2d(size, size)?.squeeze(0)?;
        }
        self.decoder[2].forward(&features)
    }

    /// Binary cross-entropy of one frame, and one training step on it.
    fn train(&mut self, pixels: Vec<f32>) -> Result<f64> {
        let x = Tensor::from_vec(pixels, (1, SIZE, SIZE), &Device::Cpu)?;
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
        let pixels = grey.shrunk_to(SIZE).iter().map(|p| p / 255.0).collect();
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

    /// An image with one bright square.
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
    fn both_convolutions_agree_with_conv2d() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
        for (inputs, outputs, kernel) in [(2, 3, 5), (3, 2, 3)] {
            let conv = Conv::new(inputs, outputs, kernel, &mut rng).unwrap();
            let x = Tensor::rand(-1f32, 1f32, (inputs, 6, 7), &Device::Cpu).unwrap();
            // to [outputs, inputs, kernel, kernel]
            let weight = if inputs <= outputs {
                conv.weight
                    .reshape((outputs, kernel, kernel, inputs))
                    .unwrap()
                    .permute((0, 3, 1, 2))
            } else {
                conv.weight
                    .reshape((kernel, kernel, outputs, inputs))
                    .unwrap()
                    .permute((2, 3, 0, 1))
            };
            let weight = weight.unwrap().contiguous().unwrap();
            let stock = x
                .unsqueeze(0)
                .unwrap()
                .conv2d(&weight, kernel / 2, 1, 1, 1)
                .unwrap();
            let off = (conv.forward(&x).unwrap() - stock.squeeze(0).unwrap())
                .unwrap()
                .abs()
                .unwrap();
            let worst = off
                .flatten_all()
                .unwrap()
                .max(0)
                .unwrap()
                .to_scalar::<f32>()
                .unwrap();
            assert!(worst < 1e-5, "off by {worst}");
        }
    }

    #[test]
    fn it_learns_what_it_sees() {
        let mut net = Autoencoder::new(7).unwrap();
        let pixels = || {
            square(8)
                .shrunk_to(SIZE)
                .iter()
                .map(|p| p / 255.0)
                .collect::<Vec<f32>>()
        };
        let first = net.train(pixels()).unwrap();
        let mut last = first;
        for _ in 0..100 {
            last = net.train(pixels()).unwrap();
        }
        assert!(last < 0.9 * first, "loss fell from {first} to {last} only");
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
