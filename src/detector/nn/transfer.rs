//! Values on their way to the nets' device and back: many arrays, one transfer.

use candle_core::{Device, Result, Tensor};

use super::cuda;

/// The way up. On a GPU the values go through memory that it copies from by itself, so that nothing waits for what it
/// still has to do.
#[derive(Debug, Default)]
pub(crate) struct Staging(cuda::Staging);

impl Staging {
    /// Arrays on `device`, each of one dimension.
    pub(crate) fn upload(&mut self, arrays: &[&[f32]], device: &Device) -> Result<Vec<Tensor>> {
        if !device.is_cuda() || arrays.is_empty() {
            let array = |array: &&[f32]| Tensor::from_slice(array, array.len(), device);
            return arrays.iter().map(array).collect();
        }
        let all = self.0.upload(arrays, device)?;
        let mut start = 0;
        let part = |array: &&[f32]| {
            let part = all.narrow(0, start, array.len());
            start += array.len();
            part
        };
        arrays.iter().map(part).collect()
    }
}

/// The values of some tensors. On a GPU this waits for all that was asked of it before.
pub(crate) fn read(tensors: &[Tensor]) -> Result<Vec<Vec<f32>>> {
    match tensors.first() {
        Some(first) if first.device().is_cuda() => cuda::read(tensors),
        _ => tensors.iter().map(|t| t.flatten_all()?.to_vec1()).collect(),
    }
}
