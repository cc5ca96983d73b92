//! Convolution, bias and activation as one operation.

use candle_core::Shape;

use super::geometry::ConvGeometry;
use super::op::Op;
use super::scratch::{PaddedImage, Scratch, add_columns, sized, with_scratch};
use super::simd::vectorized;
use super::tensor::add;
use super::{plain_conv, upsample_conv};

/// `act(weight * x + bias)`, where `*` is the convolution of a [`ConvGeometry`].
///
/// # Shapes
/// `[B, H, W, inputs]`, `[kernel * kernel * (inputs + extra), outputs]`, `[outputs]` -> `[B, H', W', outputs]`
pub(super) struct ConvOp {
    pub(super) geometry: ConvGeometry,
    /// The second image, `[B, size, extra]`, which gets no gradient.
    pub(super) extra: Vec<f32>,
}

impl Op<3> for ConvOp {
    fn name(&self) -> &'static str {
        "convolution"
    }

    fn shape(&self, _: [&Shape; 3]) -> Shape {
        let [height, width] = self.geometry.output();
        Shape::from((self.geometry.batch, height, width, self.geometry.outputs))
    }

    fn forward(&self, [x, weight, bias]: [&[f32]; 3], output: &mut [f32]) {
        let geometry = &self.geometry;
        with_scratch(|scratch| match geometry.upsample {
            1 => plain_conv::forward(geometry, [x, weight, bias], output, scratch),
            _ => upsample_conv::forward(geometry, [x, &self.extra, weight, bias], output, scratch),
        });
    }

    fn backward(
        &self,
        [x, weight, _]: [&[f32]; 3],
        output: &[f32],
        grad: &[f32],
        [dx, dweight, dbias]: [Option<&mut [f32]>; 3],
    ) {
        let geometry = &self.geometry;
        with_scratch(|scratch| {
            let image = geometry.padded_grad();
            self.grad_before_activation(image, output, grad, scratch);
            if let Some(dbias) = dbias {
                self.bias_grad(image, &scratch.grad, dbias);
            }
            if let Some(dweight) = dweight {
                match geometry.upsample {
                    1 => plain_conv::weight_grad(geometry, x, dweight, scratch),
                    _ => upsample_conv::weight_grad(geometry, x, &self.extra, dweight, scratch),
                }
            }
            if let Some(dx) = dx {
                let mut buffer = std::mem::take(&mut scratch.input_grad);
                let part = sized(&mut buffer, dx.len());
                match geometry.upsample {
                    1 => plain_conv::input_grad(geometry, weight, part, scratch),
                    _ => upsample_conv::input_grad(geometry, weight, part, scratch),
                }
                add(dx, part);
                scratch.input_grad = buffer;
            }
        });
    }
}

impl ConvOp {
    /// Writes the padded gradient of the sums to `scratch.grad`.
    fn grad_before_activation(
        &self,
        image: PaddedImage,
        output: &[f32],
        grad: &[f32],
        scratch: &mut Scratch,
    ) {
        let ConvGeometry {
            batch,
            outputs,
            negative_slope,
            ..
        } = self.geometry;
        let [height, width] = self.geometry.output();
        let length = width * outputs;
        image.fill(&mut scratch.grad, (batch, [height, width]), |y, row| {
            let range = y * length..(y + 1) * length;
            before_activation(row, &grad[range.clone()], &output[range], negative_slope);
        });
    }

    /// Adds the sums of the padded gradient over all positions to `sums`.
    fn bias_grad(&self, image: PaddedImage, grad: &[f32], sums: &mut [f32]) {
        let [rows, cols] = self.geometry.output();
        for values in grad.chunks_exact(image.len()).take(self.geometry.batch) {
            for y in 0..rows {
                let row = &values[image.cells().at([y, 0])..][..cols * self.geometry.outputs];
                add_columns(row, sums);
            }
        }
    }
}

vectorized! {
    /// Gradient before the activation. An output has the sign of its sum.
    fn before_activation<'a>(out: &'a mut [f32], grad: &'a [f32], output: &'a [f32], negative_slope: f32) -> () {
        for ((o, &g), &y) in out.iter_mut().zip(grad).zip(output) {
            *o = if y > 0.0 { g } else { g * negative_slope };
        }
    }
}
