//! GPUs through the driver alone, and the process's servers on them.

use std::ffi::{CString, c_void};
use std::fmt;
use std::mem::ManuallyDrop;
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use candle_core::cuda::cudarc::driver::result::{
    self, DriverError, device, event, function, module, occupancy, stream,
};
use candle_core::cuda::cudarc::driver::{CudaContext, sys};

use super::arena::lock;
use super::descriptor::THREADS;
use super::device::{Device, DeviceError, Kernel, Launch, Limits, Memory};
use super::server::{Server, ServerHandle};
use super::try_out::{Measured, try_out};
use crate::cuda_link;

/// Made by the build script: machine code for some compute capabilities, and PTX for every one from 7.5 on.
static KERNELS: &Image<[u8]> = &Image(*include_bytes!(concat!(env!("OUT_DIR"), "/kernels.fatbin")));
/// The kernel of scores in teams, from compute capability 9.0 on.
static TEAM_KERNEL: &Image<[u8]> = &Image(*include_bytes!(concat!(env!("OUT_DIR"), "/team.fatbin")));
/// Blocks of a team; `team.cu` has the same number.
const TEAM: usize = 4;
/// Aligned as the driver expects.
#[repr(C, align(64))]
pub(super) struct Image<T: ?Sized>(pub(super) T);

/// Floats of shared memory for staged weights: with more, too little of it is left as cache of the activations.
const STAGED: usize = 28_000;

/// The servers of this process.
static SERVERS: Mutex<Vec<Opened>> = Mutex::new(Vec::new());

struct Opened {
    number: usize,
    server: Weak<Server<Gpu>>,
    measured: Measured,
}

/// A server on GPU `number`, or on the first usable one, with its number.
///
/// # Errors
/// What is missing, to follow "but": driver, device number.
pub(crate) fn open(number: Option<usize>) -> Result<(usize, ServerHandle<Gpu>), String> {
    open_first(number, |_| Ok(()))
}

/// The same, where the first usable GPU trains and scores a frame sooner than this machine's CPU.
///
/// # Errors
/// What is missing, or that the GPU is slower.
pub(crate) fn open_faster_than_cpu() -> Result<(usize, ServerHandle<Gpu>), String> {
    open_first(None, |measured| {
        let Measured { device, cpu } = measured;
        match device <= cpu {
            true => Ok(()),
            false => {
                let [device, cpu] = [device, cpu].map(|time| 1e3 * time.as_secs_f64());
                Err(format!(
                    "is slower than the CPU: {device:.2} ms against {cpu:.2} ms for a frame and a step"
                ))
            }
        }
    })
}

fn open_first(
    number: Option<usize>,
    accept: impl Fn(Measured) -> Result<(), String>,
) -> Result<(usize, ServerHandle<Gpu>), String> {
    if let Some(library) = cuda_link::missing() {
        return Err(format!("CUDA needs {library}, which cannot be loaded"));
    }
    result::init().map_err(|e| format!("there is no usable CUDA driver: {}", name(e)))?;
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
        let opened = server(number).and_then(|(server, measured)| accept(measured).map(|()| server));
        match opened {
            Ok(server) => return Ok((number, server)),
            Err(reason) => reasons.push(format!("CUDA device {number} {reason}")),
        }
    }
    Err(reasons.join("; "))
}

/// The running server of a device, or a new one.
fn server(number: usize) -> Result<(ServerHandle<Gpu>, Measured), String> {
    let mut servers = lock(&SERVERS);
    servers.retain(|opened| opened.server.strong_count() > 0);
    for opened in servers.iter().filter(|opened| opened.number == number) {
        match ServerHandle::upgrade(&opened.server) {
            Some(server) if server.check().is_ok() => return Ok((server, opened.measured)),
            _ => {}
        }
    }
    let server = ServerHandle::start(Gpu::open(number)?).map_err(|e| format!("cannot be set up: {e}"))?;
    let measured = try_out(server.engine()).map_err(|e| format!("cannot compute: {e}"))?;
    servers.push(Opened {
        number,
        server: server.downgrade(),
        measured,
    });
    Ok((server, measured))
}

/// The driver's name for an error.
pub(super) fn name(error: DriverError) -> String {
    match error.error_name() {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => format!("error {}", error.0 as u32),
    }
}

/// A device with the kernels loaded.
pub(crate) struct Gpu {
    /// Dropped by hand: a lost context cannot be released, and a forked process has none.
    context: ManuallyDrop<Arc<CudaContext>>,
    module: sys::CUmodule,
    functions: [sys::CUfunction; 2],
    team: Option<Team>,
    /// One for each kernel, that of scores with priority.
    streams: [sys::CUstream; 2],
    copies: sys::CUstream,
    events: [[sys::CUevent; 2]; 2],
    limits: Limits,
    lost: AtomicBool,
    process: u32,
}

/// The kernel of scores in teams.
struct Team {
    module: sys::CUmodule,
    function: sys::CUfunction,
    /// The device has refused a launch: a part of a GPU may have no multiprocessors for a team.
    refused: AtomicBool,
}

// SAFETY: the driver's handles may be used from any thread.
unsafe impl Send for Gpu {}
// SAFETY: likewise, and by several at a time.
unsafe impl Sync for Gpu {}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpu")
            .field("number", &self.context.ordinal())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Has the device's context current on this thread, and at the end the one before: other libraries rely on theirs.
pub(super) struct Current(sys::CUcontext);

impl Current {
    pub(super) fn before() -> Result<Self, DriverError> {
        Ok(Self(result::ctx::get_current()?.unwrap_or(ptr::null_mut())))
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        // SAFETY: it was current before, or is none.
        let _ = unsafe { result::ctx::set_current(self.0) };
    }
}

/// Lowers the context's stack of every thread that the device can run, from a kilobyte to `bytes`: hundreds of megabytes
/// on a large GPU, of which the kernels use nothing. The driver gives other libraries' kernels what they need when they
/// start. A limit that somebody has set stays.
fn reserve_stack(bytes: usize) {
    use sys::CUlimit_enum::CU_LIMIT_STACK_SIZE;
    const DEFAULT: usize = 1024;
    if bytes < DEFAULT && result::ctx::get_limit(CU_LIMIT_STACK_SIZE) == Ok(DEFAULT) {
        // A driver that refuses keeps its own.
        let _ = result::ctx::set_limit(CU_LIMIT_STACK_SIZE, bytes);
    }
}

impl Team {
    /// `None` where the device does not take the kernel.
    fn load() -> Option<Self> {
        // SAFETY: the image is a whole fat binary.
        let module = unsafe { module::load_data(TEAM_KERNEL.0.as_ptr().cast()) }.ok()?;
        // SAFETY: the module is loaded.
        let function = unsafe { module::get_function(module, CString::from(c"score_in_teams")) }.ok()?;
        Some(Self {
            module,
            function,
            refused: AtomicBool::new(false),
        })
    }
}

impl Gpu {
    fn open(number: usize) -> Result<Self, String> {
        let setup = |e| format!("cannot be set up: {}", name(e));
        let _before = Current::before().map_err(setup)?;
        let context = CudaContext::new(number).map_err(setup)?;
        // SAFETY: the image is a whole fat binary.
        let module = unsafe { module::load_data(KERNELS.0.as_ptr().cast()) }.map_err(|e| {
            let needs = "which need compute capability 7.5 and a driver not older than their compiler";
            format!("does not take this build's kernels, {needs}: {}", name(e))
        })?;
        Self::load(context, module).map_err(setup)
    }

    fn load(context: Arc<CudaContext>, module: sys::CUmodule) -> Result<Self, DriverError> {
        use sys::CUdevice_attribute_enum as Attribute;
        use sys::CUfunction_attribute_enum as FunctionAttribute;
        use sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING;
        let device = context.cu_device();
        let attribute = |attribute| -> Result<usize, DriverError> {
            // SAFETY: the device is the context's.
            let value = unsafe { device::get_attribute(device, attribute) }?;
            Ok(usize::try_from(value).unwrap_or(0))
        };
        let a_block = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        let a_multiprocessor =
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)?;
        let multiprocessors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let mut limits = Limits {
            shared: STAGED,
            blocks: multiprocessors.max(1),
            team: 1,
            // SAFETY: the device is the context's.
            memory: unsafe { device::total_mem(device) }?,
        };
        let (mut functions, mut stack) = ([ptr::null_mut(); 2], 0);
        for (to, name) in functions.iter_mut().zip([c"score", c"step"]) {
            // SAFETY: the module is loaded.
            *to = unsafe { module::get_function(module, CString::from(name)) }?;
        }
        let team = match attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)? >= 9 {
            true => Team::load(),
            false => None,
        };
        if team.is_some() {
            limits.team = TEAM;
        }
        let all = functions.iter().copied();
        let all: Vec<sys::CUfunction> = all.chain(team.as_ref().map(|team| team.function)).collect();
        for &function in &all {
            let attribute = |attribute| -> Result<usize, DriverError> {
                // SAFETY: the function is its module's.
                let value = unsafe { function::get_function_attribute(function, attribute) }?;
                Ok(usize::try_from(value).unwrap_or(0))
            };
            let fixed = attribute(FunctionAttribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?;
            limits.shared = limits.shared.min(a_block.saturating_sub(fixed) / 4);
            stack = stack.max(attribute(FunctionAttribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?);
        }
        reserve_stack(stack);
        let shared = 4 * limits.shared;
        for (i, &function) in all.iter().enumerate() {
            let percent = 100 * (shared + 6144) / a_multiprocessor.max(1) + 1;
            let attributes = [
                (
                    FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                    shared,
                ),
                (
                    FunctionAttribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT,
                    percent.min(100),
                ),
            ];
            for (attribute, value) in attributes {
                // SAFETY: likewise.
                unsafe {
                    function::set_function_attribute(
                        function,
                        attribute,
                        i32::try_from(value).unwrap_or(i32::MAX),
                    )
                }?;
            }
            if i == Kernel::Step as usize {
                // SAFETY: likewise.
                let fit = unsafe {
                    occupancy::max_active_block_per_multiprocessor(function, THREADS as i32, shared)
                }?;
                limits.blocks = multiprocessors * usize::try_from(fit).unwrap_or(1).max(1);
            }
        }
        let (least, greatest) = stream::get_priority_range()?;
        let make_stream = |priority| {
            let mut made = ptr::null_mut();
            // SAFETY: the pointer is valid for writing.
            unsafe {
                sys::cuStreamCreateWithPriority(&raw mut made, CU_STREAM_NON_BLOCKING as u32, priority)
            }
            .result()?;
            Ok::<_, DriverError>(made)
        };
        let make_event = || {
            use sys::CUevent_flags_enum::{CU_EVENT_BLOCKING_SYNC, CU_EVENT_DISABLE_TIMING};
            let (mut made, flags) = (
                ptr::null_mut(),
                CU_EVENT_BLOCKING_SYNC as u32 | CU_EVENT_DISABLE_TIMING as u32,
            );
            // SAFETY: the pointer is valid for writing.
            unsafe { sys::cuEventCreate(&raw mut made, flags) }.result()?;
            Ok::<_, DriverError>(made)
        };
        let streams = [make_stream(greatest)?, make_stream(least)?];
        Ok(Self {
            module,
            functions,
            team,
            streams,
            copies: make_stream(greatest)?,
            events: [[make_event()?, make_event()?], [make_event()?, make_event()?]],
            limits,
            context: ManuallyDrop::new(context),
            lost: AtomicBool::new(false),
            process: process::id(),
        })
    }

    /// Makes the context current until the result is dropped.
    fn current(&self) -> Result<Current, DriverError> {
        let before = Current::before()?;
        self.context.bind_to_thread()?;
        Ok(before)
    }

    /// Runs `call` with the context current.
    fn with_context<T>(
        &self,
        what: &str,
        bytes: usize,
        call: impl FnOnce() -> Result<T, DriverError>,
    ) -> Result<T, DeviceError> {
        let result = self.current().and_then(|_current| call());
        result.map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY if bytes > 0 => DeviceError::OutOfMemory { bytes },
            _ => {
                self.lost.store(true, Ordering::Relaxed);
                DeviceError::Lost(format!(
                    "CUDA device {} failed in {what}: {}",
                    self.context.ordinal(),
                    name(error)
                ))
            }
        })
    }
}

impl Device for Gpu {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn allocate(&self, memory: Memory, bytes: usize) -> Result<u64, DeviceError> {
        self.with_context("an allocation", bytes, || match memory {
            // SAFETY: the memory is used as of no particular value.
            Memory::Device => unsafe { result::malloc_sync(bytes) },
            Memory::Host => {
                let flags = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;
                // SAFETY: likewise. With unified addresses, which all 64-bit systems have, the device uses the same one.
                unsafe { result::malloc_host(bytes, flags) }.map(|address| address as u64)
            }
        })
    }

    unsafe fn free(&self, memory: Memory, address: u64) {
        let freed = self.with_context("freeing memory", 0, || match memory {
            // SAFETY: the caller's.
            Memory::Device => unsafe { result::free_sync(address) },
            // SAFETY: the caller's.
            Memory::Host => unsafe { result::free_host(address as *mut c_void) },
        });
        // Memory that cannot be freed is leaked.
        let _ = freed;
    }

    unsafe fn upload(&self, to: u64, from: &[f32]) -> Result<(), DeviceError> {
        self.with_context("a copy to the device", 0, || {
            // SAFETY: the caller's; the copy has ended when `from` does.
            unsafe { result::memcpy_htod_async(to, from, self.copies) }?;
            // SAFETY: the stream is this device's.
            unsafe { stream::synchronize(self.copies) }
        })
    }

    unsafe fn download(&self, from: u64, to: &mut [f32]) -> Result<(), DeviceError> {
        self.with_context("a copy from the device", 0, || {
            // SAFETY: as above.
            unsafe { result::memcpy_dtoh_async(to, from, self.copies) }?;
            // SAFETY: the stream is this device's.
            unsafe { stream::synchronize(self.copies) }
        })
    }

    unsafe fn launch(&self, launch: &Launch) -> Result<(), DeviceError> {
        let (kernel, flight) = (launch.kernel as usize, launch.flight);
        let (mut jobs, mut count) = (launch.jobs, i32::try_from(launch.count).unwrap_or(i32::MAX));
        let (mut workspaces, mut pitch, mut queue) = (launch.workspaces, launch.pitch as i64, launch.queue);
        let mut arguments = [
            (&raw mut jobs).cast(),
            (&raw mut count).cast(),
            (&raw mut workspaces).cast(),
            (&raw mut pitch).cast(),
            (&raw mut queue).cast(),
        ];
        let (block, shared) = ((THREADS as u32, 1, 1), 4 * launch.shared as u32);
        let mut start = |function, blocks: usize| {
            let grid = (blocks as u32, 1, 1);
            // SAFETY: the arguments are the kernel's, in its order and types; what they point to is the caller's.
            unsafe {
                result::launch_kernel(
                    function,
                    grid,
                    block,
                    shared,
                    self.streams[kernel],
                    &mut arguments,
                )
            }
        };
        let team = self.team.as_ref().filter(|_| launch.team > 1);
        self.with_context("a launch", 0, || {
            let in_teams = team.is_some_and(|team| {
                if team.refused.load(Ordering::Relaxed) {
                    return false;
                }
                let started = start(team.function, launch.team * launch.blocks).is_ok();
                team.refused.store(!started, Ordering::Relaxed);
                started
            });
            if !in_teams {
                start(self.functions[kernel], launch.blocks)?;
            }
            // SAFETY: both are this device's.
            unsafe { event::record(self.events[kernel][flight], self.streams[kernel]) }
        })
    }

    fn is_done(&self, kernel: Kernel, flight: usize) -> Result<bool, DeviceError> {
        let done = self.events[kernel as usize][flight];
        // SAFETY: the event is this device's.
        self.with_context("a kernel", 0, || match unsafe { event::query(done) } {
            Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            result => result.map(|()| true),
        })
    }

    fn wait(&self, kernel: Kernel, flight: usize) -> Result<(), DeviceError> {
        let done = self.events[kernel as usize][flight];
        // SAFETY: the event is this device's.
        self.with_context("a kernel", 0, || unsafe { event::synchronize(done) })
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        if self.lost.load(Ordering::Relaxed) || self.process != process::id() {
            return;
        }
        let Ok(_before) = self.current() else { return };
        // SAFETY: all handles are this device's, and nothing uses them any more.
        unsafe {
            for &event in self.events.as_flattened() {
                let _ = event::destroy(event);
            }
            for stream in [self.streams[0], self.streams[1], self.copies] {
                let _ = stream::synchronize(stream);
                let _ = stream::destroy(stream);
            }
            let _ = module::unload(self.module);
            if let Some(team) = &self.team {
                let _ = module::unload(team.module);
            }
            // Releasing it makes it current once more.
            ManuallyDrop::drop(&mut self.context);
        }
    }
}
