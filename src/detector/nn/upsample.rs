//! Nearest-neighbour upsampling by whole factors.

use candle_core::{Result, Shape, Tensor};

use super::op::{Op, apply};
use super::tensor::add;

/// Repeats every row and column `factor` times.
///
/// # Shapes
/// `[B, H, W, C]` -> `[B, factor H, factor W, C]`
pub(crate) fn upsample(x: &Tensor, factor: usize) -> Result<Tensor> {
    if factor == 1 {
        return Ok(x.clone());
    }
    let (_, _, width, channels) = x.dims4()?;
    let op = Upsample {
        factor,
        width,
        channels,
    };
    apply(op, [x])
}

struct Upsample {
    factor: usize,
    /// Size of an input row.
    width: usize,
    channels: usize,
}

impl Op<1> for Upsample {
    fn name(&self) -> &'static str {
        "upsample"
    }

    fn shape(&self, [x]: [&Shape; 1]) -> Shape {
        let mut dims = x.dims().to_vec();
        dims[1] *= self.factor;
        dims[2] *= self.factor;
        Shape::from(dims)
    }

    fn forward(&self, [x]: [&[f32]; 1], output: &mut [f32]) {
        let Self {
            factor,
            width,
            channels,
        } = *self;
        let length = factor * width * channels;
        let rows = output.chunks_exact_mut(factor * length);
        for (x, rows) in x.chunks_exact(width * channels).zip(rows) {
            let (first, others) = rows.split_at_mut(length);
            let copies = first.chunks_exact_mut(factor * channels);
            for (x, copies) in x.chunks_exact(channels).zip(copies) {
                copies
                    .chunks_exact_mut(channels)
                    .for_each(|copy| copy.copy_from_slice(x));
            }
            for other in others.chunks_exact_mut(length) {
                other.copy_from_slice(first);
            }
        }
    }

    fn backward(&self, _: [&[f32]; 1], _: &[f32], grad: &[f32], [dx]: [Option<&mut [f32]>; 1]) {
        let Self {
            factor,
            width,
            channels,
        } = *self;
        let Some(dx) = dx else { return };
        let length = factor * width * channels;
        for (dx, rows) in dx
            .chunks_exact_mut(width * channels)
            .zip(grad.chunks_exact(factor * length))
        {
            for row in rows.chunks_exact(length) {
                let copies = row.chunks_exact(factor * channels);
                for (dx, copies) in dx.chunks_exact_mut(channels).zip(copies) {
                    copies.chunks_exact(channels).for_each(|copy| add(dx, copy));
                }
            }
        }
    }
}
