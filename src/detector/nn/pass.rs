//! One pass over the values of tensors.

use candle_core::{Result, Shape, Tensor};

use super::storage::with_slices;

/// Computes a tensor of the given shape from the values of `inputs`. The result has no gradient.
pub(super) fn pass<const N: usize>(
    shape: &Shape,
    inputs: [&Tensor; N],
    compute: impl FnOnce([&[f32]; N]) -> Vec<f32>,
) -> Result<Tensor> {
    let device = inputs[0].device();
    Tensor::from_vec(with_slices(inputs, compute)?, shape, device)
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
    pass(&Shape::from(first + rest), [a, b], |values| values.concat())
}

/// Channels of two pictures side by side; no gradients.
///
/// # Shapes
/// `[B, H, W, C]`, `[B, H, W, D]` -> `[B, H, W, C + D]`
pub(crate) fn join(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Tensor::cat(&[a, b], 3)
}
