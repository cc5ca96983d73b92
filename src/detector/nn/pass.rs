//! One pass over arrays, where they are: the seam between the CPU and CUDA.
//!
//! Operations that Candle calls choose by `cpu_fwd` and `cuda_fwd`; all else, gradients above all, chooses here.

use candle_core::{Result, Shape, Tensor};

use super::cuda;
use super::launch::{Argument, Kernel};
use super::storage::with_slices;

/// Runs `cpu` on the values of `inputs`, or `kernel` on the device that they are on. The result has no gradient.
pub(super) fn pass<const N: usize>(
    kernel: Kernel<'_>,
    shape: &Shape,
    inputs: [&Tensor; N],
    cpu: impl FnOnce([&[f32]; N]) -> Vec<f32>,
) -> Result<Tensor> {
    let device = inputs[0].device();
    if device.is_cuda() {
        return cuda::pass(kernel, shape, inputs);
    }
    Tensor::from_vec(with_slices(inputs, cpu)?, shape, device)
}

/// One array behind the other; no gradients.
///
/// # Shapes
/// `[N]`, `[M]` -> `[N + M]`
pub(crate) fn append(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (first, rest) = (a.elem_count(), b.elem_count());
    if rest == 0 {
        return Ok(a.clone());
    }
    let kernel = Kernel("append", &[Argument::Size(first)]);
    pass(kernel, &Shape::from(first + rest), [a, b], |values| {
        values.concat()
    })
}

/// Channels of two pictures side by side; no gradients.
///
/// # Shapes
/// `[B, H, W, C]`, `[B, H, W, D]` -> `[B, H, W, C + D]`
pub(crate) fn join(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !a.device().is_cuda() {
        return Tensor::cat(&[a, b], 3);
    }
    let (batch, height, width, left) = a.dims4()?;
    let right = b.dim(3)?;
    let shape = Shape::from((batch, height, width, left + right));
    let sizes = [Argument::Size(left), Argument::Size(right)];
    cuda::pass(Kernel("join", &sizes), &shape, [a, b])
}
