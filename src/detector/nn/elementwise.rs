//! Small operations between the layers.

use candle_core::{Result, Shape, Tensor, bail};

use super::op::{Op, apply};
use super::simd::vectorized;
use super::tensor::{add, same_shape};

/// `min(max(x, low), high)`, NaN of NaN. Values outside get no gradient.
pub(crate) fn clamp(x: &Tensor, low: f32, high: f32) -> Result<Tensor> {
    apply(Clamp { low, high }, [x])
}

/// Concatenation along the channels.
///
/// # Shapes
/// `[B, H, W, C]`, `[B, H, W, D]` -> `[B, H, W, C + D]`
pub(crate) fn join(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (batch, height, width, first) = a.dims4()?;
    let (.., second) = b.dims4()?;
    if b.dims() != [batch, height, width, second] || first * second == 0 {
        bail!(
            "the channels of {:?} and {:?} cannot be joined",
            a.shape(),
            b.shape()
        );
    }
    let channels = [first, second];
    apply(Join { channels }, [a, b])
}

/// Adds one image to each of a batch.
///
/// # Shapes
/// `[B, ..]`, `[1, ..]` -> `[B, ..]`
pub(crate) fn add_to_each(x: &Tensor, image: &Tensor) -> Result<Tensor> {
    if x.dims().get(1..) != image.dims().get(1..) || image.dims().first() != Some(&1) {
        bail!("{:?} cannot be added to each of {:?}", image.shape(), x.shape());
    }
    apply(AddToEach, [x, image])
}

/// `x * mask`. The mask gets no gradient.
///
/// # Shapes
/// Two of the same -> the same
pub(crate) fn apply_mask(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    same_shape(x, mask)?;
    apply(Mask, [x, &mask.detach()])
}

/// `first * a + second * b` of two losses.
///
/// # Shapes
/// Two of `[]` -> `[]`
pub(crate) fn weighted_sum([(a, first), (b, second)]: [(&Tensor, f64); 2]) -> Result<Tensor> {
    if a.elem_count() != 1 || b.elem_count() != 1 {
        bail!(
            "losses are single values, got {:?} and {:?}",
            a.shape(),
            b.shape()
        );
    }
    let weights = [first as f32, second as f32];
    apply(WeightedSum { weights }, [a, b])
}

struct Clamp {
    low: f32,
    high: f32,
}

impl Op<1> for Clamp {
    fn name(&self) -> &'static str {
        "clamp"
    }

    fn shape(&self, [x]: [&Shape; 1]) -> Shape {
        x.clone()
    }

    fn forward(&self, [x]: [&[f32]; 1], output: &mut [f32]) {
        for (o, x) in output.iter_mut().zip(x) {
            // Unlike `f32::min` and `f32::max` this keeps NaN.
            *o = x.clamp(self.low, self.high);
        }
    }

    fn backward(&self, [x]: [&[f32]; 1], _: &[f32], grad: &[f32], [dx]: [Option<&mut [f32]>; 1]) {
        for ((d, &x), &g) in dx.into_iter().flatten().zip(x).zip(grad) {
            if x >= self.low && x <= self.high {
                *d += g;
            }
        }
    }
}

struct Join {
    channels: [usize; 2],
}

impl Op<2> for Join {
    fn name(&self) -> &'static str {
        "join"
    }

    fn shape(&self, [a, _]: [&Shape; 2]) -> Shape {
        let mut dims = a.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = self.channels.iter().sum();
        }
        Shape::from(dims)
    }

    fn forward(&self, [a, b]: [&[f32]; 2], output: &mut [f32]) {
        let [first, second] = self.channels;
        let pixels = a.chunks_exact(first).zip(b.chunks_exact(second));
        for (to, (a, b)) in output.chunks_exact_mut(first + second).zip(pixels) {
            to[..first].copy_from_slice(a);
            to[first..].copy_from_slice(b);
        }
    }

    fn backward(&self, _: [&[f32]; 2], _: &[f32], grad: &[f32], [da, db]: [Option<&mut [f32]>; 2]) {
        let [first, second] = self.channels;
        for (d, start, channels) in [(da, 0, first), (db, first, second)] {
            let Some(d) = d else { continue };
            for (d, grad) in d
                .chunks_exact_mut(channels)
                .zip(grad.chunks_exact(first + second))
            {
                d.iter_mut().zip(&grad[start..]).for_each(|(d, g)| *d += g);
            }
        }
    }
}

struct AddToEach;

impl Op<2> for AddToEach {
    fn name(&self) -> &'static str {
        "add to each"
    }

    fn shape(&self, [x, _]: [&Shape; 2]) -> Shape {
        x.clone()
    }

    fn forward(&self, [x, image]: [&[f32]; 2], output: &mut [f32]) {
        output.copy_from_slice(x);
        for output in output.chunks_exact_mut(image.len().max(1)) {
            add(output, image);
        }
    }

    fn backward(&self, _: [&[f32]; 2], _: &[f32], grad: &[f32], [dx, dimage]: [Option<&mut [f32]>; 2]) {
        if let Some(dx) = dx {
            add(dx, grad);
        }
        if let Some(dimage) = dimage {
            for grad in grad.chunks_exact(dimage.len().max(1)) {
                add(dimage, grad);
            }
        }
    }
}

struct Mask;

impl Op<2> for Mask {
    fn name(&self) -> &'static str {
        "mask"
    }

    fn shape(&self, [x, _]: [&Shape; 2]) -> Shape {
        x.clone()
    }

    fn forward(&self, [x, mask]: [&[f32]; 2], output: &mut [f32]) {
        add_product(output, x, mask);
    }

    fn backward(&self, [_, mask]: [&[f32]; 2], _: &[f32], grad: &[f32], [dx, _]: [Option<&mut [f32]>; 2]) {
        if let Some(dx) = dx {
            add_product(dx, grad, mask);
        }
    }
}

struct WeightedSum {
    weights: [f32; 2],
}

impl Op<2> for WeightedSum {
    fn name(&self) -> &'static str {
        "weighted sum"
    }

    fn shape(&self, _: [&Shape; 2]) -> Shape {
        Shape::from(())
    }

    fn forward(&self, [a, b]: [&[f32]; 2], output: &mut [f32]) {
        output[0] = self.weights[0] * a[0] + self.weights[1] * b[0];
    }

    fn backward(&self, _: [&[f32]; 2], _: &[f32], grad: &[f32], grads: [Option<&mut [f32]>; 2]) {
        for (d, weight) in grads.into_iter().zip(self.weights) {
            if let Some(d) = d {
                d[0] += weight * grad[0];
            }
        }
    }
}

vectorized! {
    /// `to += a * b`, element by element.
    fn add_product<'a>(to: &'a mut [f32], a: &'a [f32], b: &'a [f32]) -> () {
        for ((t, a), b) in to.iter_mut().zip(a).zip(b) {
            *t += a * b;
        }
    }
}
