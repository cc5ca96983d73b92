//! The GPU itself: its name, its memory, what a launch and a copy on it cost.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use candle_core::cuda::cudarc::driver::sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
use candle_core::cuda::cudarc::driver::{CudaContext, CudaModule, CudaSlice, CudaStream, LaunchConfig};
use gstvaeanomaly::detector::{ComputeDevice, DeviceChoice};

use crate::row;

/// A kernel that does nothing.
const NOTHING: &str = ".version 6.4\n.target sm_75\n.address_size 64\n.visible .entry nothing() { ret; }\n";

/// The first CUDA device, beside the detectors that use it.
pub struct Gpu {
    device: ComputeDevice,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    context_mb: f64,
}

impl Gpu {
    /// # Errors
    /// There is no usable device: what is missing.
    pub fn open() -> Result<Self> {
        // Its errors name what is missing.
        drop(DeviceChoice::Cuda(Some(0)).open()?);
        let context = CudaContext::new(0).context("CUDA device 0")?;
        let context_mb = used_mb(&context)?;
        let device = DeviceChoice::Cuda(Some(0)).open()?;
        let stream = context.new_stream()?;
        Ok(Self {
            device,
            context,
            stream,
            context_mb,
        })
    }

    /// Memory that was in use before the engine was there, in MB of 10^6 bytes.
    pub fn context_mb(&self) -> f64 {
        self.context_mb
    }

    /// The device that this opened.
    pub fn device(&self) -> Result<ComputeDevice> {
        Ok(self.device.clone())
    }

    pub fn multiprocessors(&self) -> Result<i32> {
        Ok(self.context.attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?)
    }

    /// Prints the part.
    pub fn measure(&self) -> Result<()> {
        row("an empty launch, us", format!("{:.2}", self.launch_us()?));
        let bandwidth = self.bandwidth()? / 1e9;
        row("copies inside the GPU's memory, GB/s", format!("{bandwidth:.0}"));
        Ok(())
    }

    pub fn name(&self) -> Result<String> {
        Ok(self.context.name()?)
    }

    /// Major and minor.
    pub fn compute_capability(&self) -> Result<(i32, i32)> {
        Ok(self.context.compute_capability()?)
    }

    /// Memory in use on the device, by all processes, in MB of 10^6 bytes.
    pub fn used_mb(&self) -> Result<f64> {
        used_mb(&self.context)
    }

    /// Waits for all that this process has asked for.
    fn wait(&self) -> Result<()> {
        Ok(self.context.synchronize()?)
    }

    /// Microseconds of a launch, one behind the other.
    fn launch_us(&self) -> Result<f64> {
        const LAUNCHES: u32 = 20_000;
        let module: Arc<CudaModule> = self.context.load_module(NOTHING.into())?;
        let nothing = module.load_function("nothing")?;
        let run = |count| -> Result<f64> {
            self.wait()?;
            let started = Instant::now();
            for _ in 0..count {
                // SAFETY: the kernel has no arguments and touches nothing.
                unsafe {
                    self.stream
                        .launch_builder(&nothing)
                        .launch(LaunchConfig::for_num_elems(1))
                }?;
            }
            self.wait()?;
            Ok(started.elapsed().as_secs_f64())
        };
        run(LAUNCHES / 10)?;
        Ok(1e6 * run(LAUNCHES)? / f64::from(LAUNCHES))
    }

    /// Bytes a second that are read and written by copies inside the device's memory.
    fn bandwidth(&self) -> Result<f64> {
        const BYTES: usize = 256 << 20;
        const COPIES: usize = 20;
        let from: CudaSlice<u8> = self.stream.alloc_zeros(BYTES)?;
        let mut to: CudaSlice<u8> = self.stream.alloc_zeros(BYTES)?;
        self.wait()?;
        let started = Instant::now();
        for _ in 0..COPIES {
            self.stream.memcpy_dtod(&from, &mut to)?;
        }
        self.wait()?;
        let seconds = started.elapsed().as_secs_f64();
        if seconds <= 0.0 {
            bail!("{COPIES} copies took no time");
        }
        Ok((2 * BYTES * COPIES) as f64 / seconds)
    }
}

fn used_mb(context: &CudaContext) -> Result<f64> {
    context.synchronize()?;
    let (free, total) = context.mem_get_info()?;
    Ok((total - free) as f64 / 1e6)
}
