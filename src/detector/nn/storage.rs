//! Plain slices out of Candle's tensors and storages.

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};

use super::simd::vectorized;

/// The values of a contiguous `f32` storage.
pub(super) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("values must be contiguous, got strides {:?}", layout.stride());
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// As [`slice`], to write to.
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

/// Runs `work` on the values of some tensors on the CPU.
pub(super) fn with_slices<const N: usize, R>(
    tensors: [&Tensor; N],
    work: impl FnOnce([&[f32]; N]) -> R,
) -> Result<R> {
    let tensors = tensors.map(Tensor::contiguous);
    let mut guards = Vec::with_capacity(N);
    for tensor in tensors.iter() {
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

vectorized! {
    /// Adds `from` to `out`, value by value.
    pub(super) fn add<'a>(out: &'a mut [f32], from: &'a [f32]) -> () {
        out.iter_mut().zip(from).for_each(|(o, f)| *o += f);
    }
}
