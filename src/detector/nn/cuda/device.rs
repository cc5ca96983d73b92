//! From a device's number to a stream on it that can train.

use candle_core::cuda::cudarc::driver::{self, CudaContext, DriverError, sys};
use candle_core::{CudaDevice, Device, Result, Tensor};

use crate::cuda_link;
use crate::detector::error::words;

use super::super::launch::{Argument, Kernel};
use super::convolve::{Rows, product};
use super::{MODULE, PTX, allocate, pass, start_of, tensor, with_arrays};

/// GPU `number`, or the first usable one, with its number: a stream of its own on it, and libraries and kernels.
///
/// # Errors
/// What is missing, to follow "but": driver, library, device number.
pub(crate) fn open(number: Option<usize>) -> std::result::Result<(usize, Device), String> {
    if let Some(library) = cuda_link::missing() {
        return Err(format!("CUDA needs {library}, which cannot be loaded"));
    }
    driver::result::init().map_err(|e| format!("there is no usable CUDA driver: {}", name(e)))?;
    let count =
        CudaContext::device_count().map_err(|e| format!("the driver lists no CUDA device: {}", name(e)))?;
    let count = usize::try_from(count).unwrap_or(0);
    let numbers = match number {
        _ if count == 0 => return Err("the NVIDIA driver finds no CUDA device".to_owned()),
        Some(number) if number >= count => {
            return Err(format!(
                "there is no CUDA device {number}: the last one is {}",
                count - 1
            ));
        }
        Some(number) => number..number + 1,
        None => 0..count,
    };
    let mut reasons = Vec::new();
    for number in numbers {
        match open_one(number) {
            Ok(device) => return Ok((number, device)),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(reasons.join("; "))
}

/// The driver's name for an error; asking it for words may need the library that is missing.
fn name(error: DriverError) -> String {
    match error.error_name() {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => format!("error {}", error.0 as u32),
    }
}

fn open_one(number: usize) -> std::result::Result<Device, String> {
    let device = CudaDevice::new_with_stream(number).map_err(|e| {
        format!(
            "CUDA device {number}, cuBLAS or cuRAND cannot be set up: {}",
            words(e)
        )
    })?;
    // SAFETY: a detector's tensors are made, used and freed on this one stream.
    unsafe { device.disable_event_tracking() };
    if let Err(e) = device.get_or_load_custom_func("ones", MODULE, PTX) {
        let needs = "which need compute capability 7.5 and a driver not older than their compiler";
        return Err(format!(
            "CUDA device {number} does not take this build's kernels, {needs}: {}",
            words(e)
        ));
    }
    keep_memory(&device);
    let device = Device::Cuda(device);
    try_out(&device).map_err(|e| {
        keep_alive(&device);
        format!("CUDA device {number} cannot compute: {}", words(e))
    })?;
    Ok(device)
}

/// Once a GPU is lost its libraries' handles cannot be closed, and panic where that is tried.
pub(crate) fn keep_alive(device: &Device) {
    std::mem::forget(device.clone());
}

/// Has freed memory kept for the next operation instead of given back at every wait. Costs time alone where it fails.
fn keep_memory(device: &CudaDevice) {
    let mut all = u64::MAX;
    let context = device.cuda_stream().context().clone();
    // SAFETY: the context's device is valid, and the attribute is a 64-bit number.
    unsafe {
        if let Ok(pool) = driver::result::device::get_default_mem_pool(context.cu_device()) {
            let _ = driver::result::mem_pool::set_attribute(
                pool,
                sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
                (&raw mut all).cast(),
            );
        }
    }
}

/// A launch and a product whose results are known.
fn try_out(device: &Device) -> Result<()> {
    let x = Tensor::from_vec(vec![1.0f32, 2.0, 3.0, 4.0], (2, 2), device)?;
    let doubled = pass(Kernel("scale", &[Argument::Number(2.0)]), x.shape(), [&x])?;
    let product = with_arrays([&x, &doubled], |device, [x, doubled]| {
        let out = allocate(device, 4)?;
        product(device, [2, 2, 2], Rows(x), Rows(doubled), start_of(&out), 0.0)?;
        Ok(tensor(out, 4, device))
    })?;
    let product: Vec<f32> = product.to_vec1()?;
    if product != [14.0, 20.0, 30.0, 44.0] {
        candle_core::bail!("a product came out as {product:?}");
    }
    Ok(())
}
