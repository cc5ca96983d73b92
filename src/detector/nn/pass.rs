//! One pass over arrays, where they are: the seam between the CPU and CUDA.
//!
//! Operations that Candle calls choose by `cpu_fwd` and `cuda_fwd`; all else, gradients above all, chooses here.

use candle_core::{Device, Result, Shape, Tensor};

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

/// Tensors from the CPU on `device`, with one transfer to a GPU.
pub(crate) fn upload<const N: usize>(tensors: [&Tensor; N], device: &Device) -> Result<[Tensor; N]> {
    let mut there = tensors.map(Tensor::clone);
    if !device.is_cuda() {
        return Ok(there);
    }
    let count = tensors.iter().map(|t| t.elem_count()).sum();
    let mut values = Vec::with_capacity(count);
    for tensor in tensors {
        with_slices([tensor], |[slice]| values.extend_from_slice(slice))?;
    }
    let all = Tensor::from_vec(values, count, device)?;
    let mut start = 0;
    for tensor in &mut there {
        let count = tensor.elem_count();
        *tensor = all.narrow(0, start, count)?.reshape(tensor.shape())?;
        start += count;
    }
    Ok(there)
}

/// The values of two tensors, with one transfer where they are on a GPU.
pub(crate) fn read_both(a: &Tensor, b: &Tensor) -> Result<(Vec<f32>, Vec<f32>)> {
    let (a, b) = (a.flatten_all()?, b.flatten_all()?);
    if !a.device().is_cuda() {
        return Ok((a.to_vec1()?, b.to_vec1()?));
    }
    let (first, count) = (a.elem_count(), a.elem_count() + b.elem_count());
    let kernel = Kernel("append", &[Argument::Size(first)]);
    let mut values: Vec<f32> = cuda::pass(kernel, &Shape::from(count), [&a, &b])?.to_vec1()?;
    let rest = values.split_off(first);
    Ok((values, rest))
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
