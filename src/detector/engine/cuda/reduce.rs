//! Reduces frames in device memory to the small images, in the context that the memory belongs to.
//!
//! The frame's producer has a context of its own, and memory is only sure to be readable there. So the kernel is loaded into
//! that context, whatever device the nets compute on; the small images come back through mapped host memory.

use std::ffi::{CString, c_void};
use std::fmt;
use std::hint::spin_loop;
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use candle_core::cuda::cudarc::driver::result::{self, DriverError, event, module, stream};
use candle_core::cuda::cudarc::driver::sys;

use super::descriptor::THREADS;
use super::driver::{Current, Image, name};
use crate::detector::frame::{CudaImage, ReducedFrame, ReducedSizes, Reduction};
use crate::detector::{Error, Result};

/// Made by the build script, as that of the nets.
static KERNEL: &Image<[u8]> = &Image(*include_bytes!(concat!(env!("OUT_DIR"), "/reduce.fatbin")));
/// How long a kernel is waited for without sleeping, where there are processors enough.
const SPIN: Duration = Duration::from_micros(200);
/// Reducers of this process.
static REDUCERS: AtomicUsize = AtomicUsize::new(0);

/// Reduces the frames of one stream in one context.
pub(crate) struct CudaReducer {
    context: sys::CUcontext,
    module: sys::CUmodule,
    function: sys::CUfunction,
    stream: sys::CUstream,
    done: sys::CUevent,
    /// Mapped host memory for `capacity` values.
    output: *mut f32,
    capacity: usize,
    failure: Option<String>,
    process: u32,
}

// SAFETY: the driver's handles may be used from any thread, and the output is this reducer's alone.
unsafe impl Send for CudaReducer {}

impl fmt::Debug for CudaReducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CudaReducer")
            .field("context", &self.context)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

impl CudaReducer {
    /// A reducer in a context. `after_default_stream`: work on the context's default stream is waited for as well.
    ///
    /// # Safety
    /// `context` is a `CUcontext` that outlives the reducer.
    ///
    /// # Errors
    /// What the driver refuses, as a sentence.
    pub(crate) unsafe fn new(
        context: *mut c_void,
        after_default_stream: bool,
    ) -> std::result::Result<Self, String> {
        let mut reducer = Self {
            context: context.cast(),
            module: ptr::null_mut(),
            function: ptr::null_mut(),
            stream: ptr::null_mut(),
            done: ptr::null_mut(),
            output: ptr::null_mut(),
            capacity: 0,
            failure: None,
            process: process::id(),
        };
        REDUCERS.fetch_add(1, Ordering::Relaxed);
        reducer
            .load(after_default_stream)
            .map_err(|e| format!("frames cannot be reduced on the GPU: {}", name(e)))?;
        Ok(reducer)
    }

    fn load(&mut self, after_default_stream: bool) -> std::result::Result<(), DriverError> {
        use sys::CUevent_flags_enum::{CU_EVENT_BLOCKING_SYNC, CU_EVENT_DISABLE_TIMING};
        use sys::CUstream_flags_enum::{CU_STREAM_DEFAULT, CU_STREAM_NON_BLOCKING};
        result::init()?;
        let _current = self.current()?;
        // SAFETY: the image is a whole fat binary.
        self.module = unsafe { module::load_data(KERNEL.0.as_ptr().cast()) }?;
        // SAFETY: the module is loaded.
        self.function = unsafe { module::get_function(self.module, CString::from(c"reduce")) }?;
        let (_, greatest) = stream::get_priority_range()?;
        let flags = match after_default_stream {
            true => CU_STREAM_DEFAULT,
            false => CU_STREAM_NON_BLOCKING,
        };
        // SAFETY: the pointer is valid for writing.
        unsafe { sys::cuStreamCreateWithPriority(&raw mut self.stream, flags as u32, greatest) }.result()?;
        let flags = CU_EVENT_BLOCKING_SYNC as u32 | CU_EVENT_DISABLE_TIMING as u32;
        // SAFETY: likewise.
        unsafe { sys::cuEventCreate(&raw mut self.done, flags) }.result()
    }

    /// Makes the context current until the result is dropped.
    fn current(&self) -> std::result::Result<Current, DriverError> {
        let before = Current::before()?;
        // SAFETY: the context outlives the reducer.
        unsafe { result::ctx::set_current(self.context) }?;
        Ok(before)
    }

    /// Fills `out` from `image`, displaced as by [`Reduction::new`], and waits: the frame's memory is no longer read
    /// afterwards.
    ///
    /// # Safety
    /// The planes are in memory that the context can read, and what writes them is done or on the default stream.
    ///
    /// # Errors
    /// The image is not valid, or the device failed, see [`Self::failure`].
    pub(crate) unsafe fn reduce(
        &mut self,
        image: &CudaImage<'_>,
        sizes: ReducedSizes,
        displacement: [f32; 2],
        out: &mut ReducedFrame,
    ) -> Result<()> {
        let values = Reduction::values(sizes);
        let made = self.make_room(values);
        self.checked("an allocation", made)?;
        let reduction = Reduction::new(image, sizes, displacement, self.output as u64)?;
        let ran = self.run(&reduction);
        self.checked("the reduction of a frame", ran)?;
        // SAFETY: there is room for so many values, and the kernel has written them.
        let written = unsafe { std::slice::from_raw_parts(self.output, values) };
        reduction.read(written, out);
        Ok(())
    }

    fn make_room(&mut self, values: usize) -> std::result::Result<(), DriverError> {
        if self.capacity >= values {
            return Ok(());
        }
        let _current = self.current()?;
        self.free_output();
        let flags = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;
        // SAFETY: the memory is used as of no particular value. With unified addresses, which all 64-bit systems have, the
        // device uses the same one.
        self.output = unsafe { result::malloc_host(4 * values, flags) }?.cast();
        self.capacity = values;
        Ok(())
    }

    /// The context is current.
    fn free_output(&mut self) {
        if !self.output.is_null() {
            // SAFETY: allocated above, and no kernel is running. Memory that cannot be freed is leaked.
            let _ = unsafe { result::free_host(self.output.cast()) };
        }
        (self.output, self.capacity) = (ptr::null_mut(), 0);
    }

    fn run(&self, reduction: &Reduction) -> std::result::Result<(), DriverError> {
        let _current = self.current()?;
        let (blocks, threads) = (reduction.blocks() as u32, THREADS as u32);
        // The driver takes pointers for writing, and only reads.
        let mut arguments = [reduction.argument().cast_mut()];
        // SAFETY: the argument is the kernel's; what it points to is the caller's.
        unsafe {
            result::launch_kernel(
                self.function,
                (blocks, 1, 1),
                (threads, 1, 1),
                0,
                self.stream,
                &mut arguments,
            )?;
            event::record(self.done, self.stream)?;
        }
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let start = Instant::now();
        while REDUCERS.load(Ordering::Relaxed) <= processors / 4 && start.elapsed() < SPIN {
            // SAFETY: the event is this reducer's.
            match unsafe { event::query(self.done) } {
                Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NOT_READY => spin_loop(),
                result => return result,
            }
        }
        // SAFETY: likewise.
        unsafe { event::synchronize(self.done) }
    }

    fn checked(&mut self, what: &str, result: std::result::Result<(), DriverError>) -> Result<()> {
        result.map_err(|error| {
            let reason = format!("the GPU failed in {what}: {}", name(error));
            self.failure = Some(reason.clone());
            Error::Image(reason)
        })
    }

    /// Why the device failed; the reducer is of no use then.
    #[cfg(feature = "plugin")]
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}

impl Drop for CudaReducer {
    fn drop(&mut self) {
        REDUCERS.fetch_sub(1, Ordering::Relaxed);
        if self.process != process::id() {
            return;
        }
        let Ok(_current) = self.current() else { return };
        // SAFETY: all handles are this reducer's, and nothing uses them any more.
        unsafe {
            if !self.stream.is_null() {
                let _ = stream::synchronize(self.stream);
                let _ = stream::destroy(self.stream);
            }
            if !self.done.is_null() {
                let _ = event::destroy(self.done);
            }
            if !self.module.is_null() {
                let _ = module::unload(self.module);
            }
        }
        self.free_output();
    }
}
