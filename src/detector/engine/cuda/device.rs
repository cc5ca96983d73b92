//! What the server needs of a GPU, as a trait: tests run the same server on emulated devices.

use std::fmt;

/// Kinds of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// The device's own.
    Device,
    /// The host's, page-locked and mapped: host and device use the same address.
    Host,
}

/// The two kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Scores images.
    Score,
    /// Makes training steps.
    Step,
}

impl Kernel {
    pub(crate) const ALL: [Self; 2] = [Self::Score, Self::Step];
}

/// Why a device did not do something.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum DeviceError {
    /// There is no memory left; nothing else has changed.
    #[error("the GPU has no {} MB of memory left", .bytes.div_ceil(1_000_000))]
    OutOfMemory {
        /// Bytes that were asked for.
        bytes: usize,
    },
    /// The device is lost, or its state is unknown.
    #[error("{0}")]
    Lost(String),
}

/// A device's limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Floats of shared memory that a block may use for staged weights.
    pub(crate) shared: usize,
    /// Blocks of each kernel that run at a time.
    pub(crate) blocks: usize,
    /// Blocks that can work on one score together; 1 where they cannot.
    pub(crate) team: usize,
    /// Bytes of device memory.
    pub(crate) memory: usize,
}

/// A launch of one kernel; all addresses are valid until [`Device::wait`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Launch {
    pub(crate) kernel: Kernel,
    /// Host memory: an array of [`Job`](super::descriptor::Job)s.
    pub(crate) jobs: u64,
    pub(crate) count: usize,
    /// Device memory: a workspace of `pitch` floats for each block.
    pub(crate) workspaces: u64,
    pub(crate) pitch: usize,
    pub(crate) blocks: usize,
    /// In place of each block [`Limits::team`] of them, for a launch of scores with no more jobs than blocks; or 1.
    pub(crate) team: usize,
    /// Floats of shared memory of a block.
    pub(crate) shared: usize,
    /// Device memory: the kernel's `Queue`, four words that were zero at first.
    pub(crate) queue: u64,
    /// Which of the two launches of the kernel that may be in flight.
    pub(crate) flight: usize,
}

/// A GPU. All methods may be called from any thread.
pub(crate) trait Device: fmt::Debug + Send + Sync + 'static {
    /// The device's limits.
    fn limits(&self) -> Limits;

    /// Memory for `bytes` bytes, aligned to 256.
    fn allocate(&self, memory: Memory, bytes: usize) -> Result<u64, DeviceError>;

    /// Frees memory.
    ///
    /// # Safety
    /// `address` is one that `allocate` gave for this kind of memory, and no longer in use.
    unsafe fn free(&self, memory: Memory, address: u64);

    /// Copies to device memory, and waits for it.
    ///
    /// # Safety
    /// There is memory for `from` at `to`, and nothing in flight uses it.
    unsafe fn upload(&self, to: u64, from: &[f32]) -> Result<(), DeviceError>;

    /// Copies from device memory, and waits for it.
    ///
    /// # Safety
    /// There are as many values at `from`, and nothing in flight writes them.
    unsafe fn download(&self, from: u64, to: &mut [f32]) -> Result<(), DeviceError>;

    /// Starts a kernel; launches of the same kernel run in order.
    ///
    /// # Safety
    /// Everything that the jobs point to is valid, and used by nothing else, until [`Device::wait`] returns.
    unsafe fn launch(&self, launch: &Launch) -> Result<(), DeviceError>;

    /// Whether [`Device::wait`] returns at once; where that is not known, it is to be called.
    fn is_done(&self, kernel: Kernel, flight: usize) -> Result<bool, DeviceError> {
        let _ = (kernel, flight);
        Ok(true)
    }

    /// Waits for a launch.
    fn wait(&self, kernel: Kernel, flight: usize) -> Result<(), DeviceError>;
}
