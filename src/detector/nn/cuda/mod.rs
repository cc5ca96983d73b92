//! The CUDA side of the nets' operations: own kernels (`kernels.cu`), and cuBLAS for the products.
//!
//! All work of a net goes to one stream, in the order in which it was asked for, so no operation waits for
//! another; what is read back waits for what made it, and nothing else waits. Each launch binds the device's context to the calling
//! thread first: threads may change between frames.

// Launching a kernel is unsafe. What is kept true here: addresses are of contiguous `f32` arrays that live on the
// stream's device and are as long as the kernel's sizes say, and freeing is queued behind the launch.
#![allow(unsafe_code)]

mod convolve;
mod device;
mod optimise;
mod transfer;

use std::cell::Cell;

use candle_core::backend::BackendStorage;
use candle_core::cuda::WrapErr;
use candle_core::cuda::cudarc::driver::{CudaSlice, DevicePtr, LaunchConfig, PushKernelArg};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, Layout, Result, Shape, Storage, Tensor, bail};

pub(super) use convolve::Windows;
pub(crate) use device::{keep_alive, open};
pub(super) use optimise::{Moments, Store, follow};
pub(super) use transfer::{Staging, read};

use super::launch::{Argument, Kernel};

/// Made of `kernels.cu` by the build script, for compute capability 7.5 and upwards.
const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
const MODULE: &str = "vaeanomaly";
/// Threads of a block, as in `kernels.cu`.
const THREADS: usize = 256;

thread_local!(static LAUNCHES: Cell<u64> = const { Cell::new(0) });

/// Kernels and products that this thread has started.
pub(crate) fn launches() -> u64 {
    LAUNCHES.get()
}

fn count_launch() {
    LAUNCHES.set(LAUNCHES.get() + 1);
}

type Array<'a> = (&'a CudaStorage, &'a Layout);

/// What a kernel is called with.
#[derive(Clone, Copy, Debug)]
enum Value {
    Address(u64),
    Size(i32),
    Number(f32),
}

fn size(n: usize) -> Result<Value> {
    match i32::try_from(n) {
        Ok(n) => Ok(Value::Size(n)),
        Err(_) => bail!("{n} values are too many for one kernel"),
    }
}

/// Where a contiguous `f32` array is.
fn address((storage, layout): Array<'_>) -> Result<u64> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("values must be contiguous, got strides {:?}", layout.stride());
    };
    let all = storage.as_cuda_slice::<f32>()?;
    Ok(start_of(&all.slice(start..end)))
}

/// Where memory begins. Without event tracking there is nothing to be recorded about its use.
fn start_of<T>(memory: &impl DevicePtr<T>) -> u64 {
    memory.device_ptr(memory.stream()).0
}

/// Starts `name` on `blocks` blocks.
fn launch(device: &CudaDevice, name: &str, blocks: usize, values: &[Value]) -> Result<()> {
    let function = device.get_or_load_custom_func(name, MODULE, PTX)?;
    let mut builder = function.builder();
    for value in values {
        match value {
            Value::Address(address) => builder.arg(address),
            Value::Size(size) => builder.arg(size),
            Value::Number(number) => builder.arg(number),
        };
    }
    let Ok(blocks) = u32::try_from(blocks) else {
        bail!("{name}: {blocks} blocks are too many");
    };
    let shape = LaunchConfig {
        grid_dim: (blocks, 1, 1),
        block_dim: (THREADS as u32, 1, 1),
        shared_mem_bytes: 0,
    };
    count_launch();
    // SAFETY: see the head of the module; the callers pass each kernel's own arguments.
    unsafe { builder.launch(shape) }.w()?;
    Ok(())
}

/// Starts an elementwise kernel on `count` values.
fn launch_each(device: &CudaDevice, name: &str, count: usize, values: &[Value]) -> Result<()> {
    match count {
        0 => Ok(()),
        _ => launch(device, name, count.div_ceil(THREADS), values),
    }
}

/// Memory for `count` values, as yet of no meaning.
fn allocate(device: &CudaDevice, count: usize) -> Result<CudaSlice<f32>> {
    // SAFETY: every kernel writes the whole of its result before anything reads it.
    unsafe { device.alloc::<f32>(count) }
}

fn storage(memory: CudaSlice<f32>, device: &CudaDevice) -> CudaStorage {
    CudaStorage::wrap_cuda_slice(memory, device.clone())
}

fn tensor(memory: CudaSlice<f32>, shape: impl Into<Shape>, device: &CudaDevice) -> Tensor {
    let storage = Storage::Cuda(storage(memory, device));
    Tensor::from_storage(storage, shape, BackpropOp::none(), false)
}

/// Runs `work` on where some tensors' values are; all are on `device`.
fn with_arrays<const N: usize, R>(
    tensors: [&Tensor; N],
    work: impl FnOnce(&CudaDevice, [u64; N]) -> Result<R>,
) -> Result<R> {
    let tensors = tensors.map(Tensor::contiguous);
    let mut guards = Vec::with_capacity(N);
    for tensor in &tensors {
        match tensor {
            Ok(tensor) => guards.push(tensor.storage_and_layout()),
            Err(e) => bail!("{e}"),
        }
    }
    let mut addresses = [0; N];
    let mut device = None;
    for (to, (storage, layout)) in addresses.iter_mut().zip(&guards) {
        let Storage::Cuda(storage) = &**storage else {
            bail!("values must be on the GPU");
        };
        *to = address((storage, layout))?;
        device = Some(storage.device());
    }
    match device {
        Some(device) => work(device, addresses),
        None => bail!("there are no values"),
    }
}

fn arguments(Kernel(_, arguments): Kernel<'_>, arrays: &[u64], out: u64, count: usize) -> Result<Vec<Value>> {
    let mut values: Vec<Value> = arrays.iter().chain([&out]).map(|&a| Value::Address(a)).collect();
    values.push(size(count)?);
    for argument in arguments {
        values.push(match *argument {
            Argument::Size(n) => size(n)?,
            Argument::Number(number) => Value::Number(number),
        });
    }
    Ok(values)
}

fn run_each(
    device: &CudaDevice,
    kernel: Kernel<'_>,
    arrays: &[u64],
    shape: &Shape,
) -> Result<CudaSlice<f32>> {
    let count = shape.elem_count();
    let out = allocate(device, count)?;
    let values = arguments(kernel, arrays, start_of(&out), count)?;
    launch_each(device, kernel.0, count, &values)?;
    Ok(out)
}

/// An elementwise kernel on tensors; the result has no gradient.
pub(super) fn pass<const N: usize>(
    kernel: Kernel<'_>,
    shape: &Shape,
    inputs: [&Tensor; N],
) -> Result<Tensor> {
    with_arrays(inputs, |device, arrays| {
        let out = run_each(device, kernel, &arrays, shape)?;
        Ok(tensor(out, shape, device))
    })
}

/// An elementwise kernel on storages, and on the values of a tensor behind them.
pub(super) fn map<const N: usize>(
    kernel: Kernel<'_>,
    shape: &Shape,
    inputs: [Array<'_>; N],
    behind: Option<&Tensor>,
) -> Result<(CudaStorage, Shape)> {
    let device = inputs[0].0.device();
    let mut arrays = Vec::with_capacity(N + 1);
    for input in inputs {
        arrays.push(address(input)?);
    }
    let out = match behind {
        None => run_each(device, kernel, &arrays, shape)?,
        Some(behind) => with_arrays([behind], |_, [behind]| {
            arrays.push(behind);
            run_each(device, kernel, &arrays, shape)
        })?,
    };
    Ok((storage(out, device), shape.clone()))
}

/// A kernel that makes one value of all.
pub(super) fn reduce<const N: usize>(
    kernel: Kernel<'_>,
    inputs: [Array<'_>; N],
) -> Result<(CudaStorage, Shape)> {
    let (first, layout) = inputs[0];
    let device = first.device();
    let mut arrays = [0; N];
    for (to, input) in arrays.iter_mut().zip(inputs) {
        *to = address(input)?;
    }
    let out = allocate(device, 1)?;
    let count = layout.shape().elem_count();
    let values = arguments(kernel, &arrays, start_of(&out), count)?;
    launch(device, kernel.0, 1, &values)?;
    Ok((storage(out, device), Shape::from(())))
}
