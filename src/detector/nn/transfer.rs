//! Values on their way to the nets' device and back.

use candle_core::{Device, Result, Tensor};

/// Uploads arrays to a device.
#[derive(Debug, Default)]
pub(crate) struct Staging {}

impl Staging {
    /// Arrays on `device`, each of one dimension.
    pub(crate) fn upload(&mut self, arrays: &[&[f32]], device: &Device) -> Result<Vec<Tensor>> {
        let array = |array: &&[f32]| Tensor::from_slice(array, array.len(), device);
        arrays.iter().map(array).collect()
    }
}

/// The values of some tensors.
pub(crate) fn read(tensors: &[Tensor]) -> Result<Vec<Vec<f32>>> {
    tensors.iter().map(|t| t.flatten_all()?.to_vec1()).collect()
}

/// Opens a CUDA device: its number and handle, or why there is none.
pub(crate) fn open_cuda(_: Option<usize>) -> std::result::Result<(usize, Device), String> {
    Err("this build has no CUDA support".to_owned())
}

/// Leaks the handle of a lost device, whose release would fail.
pub(crate) fn keep_alive(_: &Device) {}

/// CUDA kernels launched by this thread.
pub(crate) fn launches() -> u64 {
    0
}
