//! Between the host's memory and the GPU's.

use candle_core::cuda::WrapErr;
use candle_core::cuda::cudarc::driver::PinnedHostSlice;
use candle_core::cuda::cudarc::driver::sys::{CU_MEMHOSTALLOC_WRITECOMBINED, CUevent_flags};
use candle_core::{Device, Result, Storage, Tensor, bail};

use super::optimise::gpu;
use super::{allocate, tensor};

/// Memory of the host that a GPU copies from while the host goes on: copies from any other may wait until the stream
/// is idle. It is as long as the longest upload so far.
#[derive(Debug, Default)]
pub(in super::super) struct Staging(Option<PinnedHostSlice<f32>>);

impl Staging {
    /// One array of all, one behind the other, and perhaps of more behind them. Waits, if at all, for the upload before.
    pub(in super::super) fn upload(&mut self, arrays: &[&[f32]], device: &Device) -> Result<Tensor> {
        let device = gpu(device)?;
        let stream = device.cuda_stream();
        let count: usize = arrays.iter().map(|a| a.len()).sum();
        let pinned = match &mut self.0 {
            Some(pinned) if pinned.len() >= count => pinned,
            slot => {
                // SAFETY: no bit pattern of a float is invalid, and nothing reads what is not written below.
                let flags = CU_MEMHOSTALLOC_WRITECOMBINED;
                slot.insert(unsafe { stream.context().alloc_pinned_with_flags(count, flags) }.w()?)
            }
        };
        let mut rest = pinned.as_mut_slice().w()?;
        for array in arrays {
            let (here, behind) = rest.split_at_mut(array.len());
            here.copy_from_slice(array);
            rest = behind;
        }
        let mut values = allocate(device, pinned.len())?;
        stream.memcpy_htod(pinned, &mut values).w()?;
        Ok(tensor(values, pinned.len(), device))
    }
}

/// The values of some tensors, with one transfer, once the stream has come to it.
pub(in super::super) fn read(tensors: &[Tensor]) -> Result<Vec<Vec<f32>>> {
    let Some(first) = tensors.first() else {
        return Ok(Vec::new());
    };
    let device = gpu(first.device())?;
    let stream = device.cuda_stream();
    let counts: Vec<usize> = tensors.iter().map(Tensor::elem_count).collect();
    let mut all = allocate(device, counts.iter().sum())?;
    let mut start = 0;
    for (part, &count) in tensors.iter().zip(&counts) {
        let part = part.contiguous()?;
        let (storage, layout) = part.storage_and_layout();
        let (Storage::Cuda(storage), Some((from, to))) = (&*storage, layout.contiguous_offsets()) else {
            bail!("values must be on the GPU");
        };
        let from = storage.as_cuda_slice::<f32>()?.slice(from..to);
        let mut to = all.slice_mut(start..start + count);
        stream.memcpy_dtod(&from, &mut to).w()?;
        start += count;
    }
    // The thread sleeps until the GPU is done, where waiting for the copy would keep a processor busy.
    let done = stream
        .record_event(Some(CUevent_flags::CU_EVENT_BLOCKING_SYNC))
        .w()?;
    done.synchronize().w()?;
    let values = stream.clone_dtoh(&all).w()?;
    // What failed only now is kept for the next call; by then these values would be believed.
    stream.synchronize().w()?;
    let mut rest = &values[..];
    let take = |count: &usize| {
        let (here, behind) = rest.split_at(*count);
        rest = behind;
        here.to_vec()
    };
    Ok(counts.iter().map(take).collect())
}
