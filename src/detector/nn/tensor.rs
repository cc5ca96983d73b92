//! Plain slices from Candle's tensors, and tensors computed from slices.

use candle_core::{CpuStorage, Layout, Result, Shape, Storage, Tensor, bail};

use super::simd::vectorized;

/// The values of a contiguous `f32` storage.
pub(super) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("values must be contiguous, got strides {:?}", layout.stride());
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// As [`slice`], mutable.
pub(super) fn slice_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("values must be contiguous, got strides {:?}", layout.stride());
    };
    match storage {
        CpuStorage::F32(values) => Ok(&mut values[start..end]),
        other => bail!(
            "values must be f32, got {:?}",
            candle_core::backend::BackendStorage::dtype(other)
        ),
    }
}

/// Runs `work` on the values of tensors on the CPU.
pub(super) fn with_slices<const N: usize, R>(
    tensors: [&Tensor; N],
    work: impl FnOnce([&[f32]; N]) -> R,
) -> Result<R> {
    let tensors = tensors.map(Tensor::contiguous);
    let mut guards = Vec::with_capacity(N);
    for tensor in &tensors {
        match tensor {
            Ok(tensor) => guards.push(tensor.storage_and_layout()),
            Err(e) => bail!("{e}"),
        }
    }
    let mut slices = [[].as_slice(); N];
    for (to, (storage, layout)) in slices.iter_mut().zip(&guards) {
        let Storage::Cpu(storage) = &**storage else {
            bail!("values must be on the CPU");
        };
        *to = slice(storage, layout)?;
    }
    Ok(work(slices))
}

/// A tensor of the given shape, computed from the values of `inputs`. It has no gradient.
pub(super) fn compute<const N: usize>(
    shape: impl Into<Shape>,
    inputs: [&Tensor; N],
    values: impl FnOnce([&[f32]; N]) -> Vec<f32>,
) -> Result<Tensor> {
    let device = inputs[0].device();
    Tensor::from_vec(with_slices(inputs, values)?, shape, device)
}

/// Fails unless both tensors have the same shape.
pub(super) fn same_shape(a: &Tensor, b: &Tensor) -> Result<()> {
    if a.dims() != b.dims() {
        bail!("shapes differ: {:?} and {:?}", a.shape(), b.shape());
    }
    Ok(())
}

vectorized! {
    /// `to += from`, element by element.
    pub(super) fn add<'a>(to: &'a mut [f32], from: &'a [f32]) -> () {
        to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
    }
}
