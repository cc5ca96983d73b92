//! Values on their way to the nets' device and back: many arrays, one transfer.

use candle_core::{Device, Result, Tensor};

use super::cuda;

/// Arrays on `device`, each of one dimension.
pub(crate) fn upload(arrays: &[&[f32]], device: &Device) -> Result<Vec<Tensor>> {
    if !device.is_cuda() || arrays.is_empty() {
        return each(arrays, device);
    }
    let values = arrays.concat();
    let count = values.len();
    let all = Tensor::from_vec(values, count, device)?;
    split(&all, arrays)
}

/// The values of some tensors. On a GPU this waits for all that was asked of it before.
pub(crate) fn read(tensors: &[Tensor]) -> Result<Vec<Vec<f32>>> {
    match tensors.first() {
        Some(first) if first.device().is_cuda() => cuda::read(tensors),
        _ => tensors.iter().map(|t| t.flatten_all()?.to_vec1()).collect(),
    }
}

/// As [`upload`], again and again: on a GPU from memory that it reads by itself, so that nothing waits for what the
/// GPU still has to do.
#[derive(Debug, Default)]
pub(crate) struct Staging(cuda::Staging);

impl Staging {
    pub(crate) fn upload(&mut self, arrays: &[&[f32]], device: &Device) -> Result<Vec<Tensor>> {
        if !device.is_cuda() || arrays.is_empty() {
            return each(arrays, device);
        }
        split(&self.0.upload(arrays, device)?, arrays)
    }
}

fn each(arrays: &[&[f32]], device: &Device) -> Result<Vec<Tensor>> {
    arrays
        .iter()
        .map(|a| Tensor::from_slice(a, a.len(), device))
        .collect()
}

/// What `arrays` became where they lie one behind the other.
fn split(all: &Tensor, arrays: &[&[f32]]) -> Result<Vec<Tensor>> {
    let mut start = 0;
    let part = |array: &&[f32]| {
        let part = all.narrow(0, start, array.len());
        start += array.len();
        part
    };
    arrays.iter().map(part).collect()
}
