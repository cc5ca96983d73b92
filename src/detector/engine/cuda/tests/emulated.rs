//! A device in the host's memory that runs the kernels' C++ build, and can be made to fail.

use std::alloc::{self, Layout};
use std::collections::BTreeMap;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::super::arena::lock;
use super::super::descriptor::{Job, Net};
use super::super::device::{Device, DeviceError, Kernel, Launch, Limits, Memory};

/// Multiprocessors: few, so that launches have more jobs than blocks; and enough for teams on a camera's jobs.
const BLOCKS: usize = 3;
const MANY_BLOCKS: usize = 64;
const BYTES: usize = 256;

/// What a test sees and changes of a device that a server owns.
#[derive(Debug)]
pub(super) struct Controls {
    /// The tasks of every phase in the other order.
    pub(super) reverse: AtomicBool,
    /// Launches until one fails.
    pub(super) launches: AtomicUsize,
    /// Waits until one fails.
    pub(super) waits: AtomicUsize,
    /// Bytes that may be allocated in all.
    pub(super) memory: AtomicUsize,
    /// Microseconds that each launch takes longer.
    pub(super) delay: AtomicUsize,
    /// Jobs run so far, and the most of one launch.
    pub(super) jobs: AtomicUsize,
    pub(super) largest: AtomicUsize,
    /// Jobs that teams have run.
    pub(super) in_teams: AtomicUsize,
    /// For each kernel, whether waits do not return.
    hang: (Mutex<[bool; 2]>, Condvar),
    allocated: Mutex<BTreeMap<u64, usize>>,
}

impl Default for Controls {
    fn default() -> Self {
        Self {
            reverse: AtomicBool::new(false),
            launches: AtomicUsize::new(usize::MAX),
            waits: AtomicUsize::new(usize::MAX),
            memory: AtomicUsize::new(usize::MAX),
            delay: AtomicUsize::new(0),
            jobs: AtomicUsize::new(0),
            largest: AtomicUsize::new(0),
            in_teams: AtomicUsize::new(0),
            hang: Default::default(),
            allocated: Mutex::default(),
        }
    }
}

impl Controls {
    pub(super) fn allocated(&self) -> usize {
        lock(&self.allocated).values().sum()
    }

    pub(super) fn set_hang(&self, kernel: Kernel, hang: bool) {
        lock(&self.hang.0)[kernel as usize] = hang;
        self.hang.1.notify_all();
    }

    /// Counts down; fails at zero, and from then on.
    fn count_down(counter: &AtomicUsize, what: &str) -> Result<(), DeviceError> {
        let left = counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| match n {
            usize::MAX => Some(n),
            n => n.checked_sub(1),
        });
        left.map(drop)
            .map_err(|_| DeviceError::Lost(format!("injected fault in {what}")))
    }
}

/// Runs a launch when it is waited for, as late as possible: memory that is reused too early changes results.
#[derive(Debug)]
pub(super) struct Emulated {
    controls: Arc<Controls>,
    shared: usize,
    blocks: usize,
    team: usize,
    flights: [Mutex<[Option<Flight>; 2]>; 2],
}

#[derive(Debug)]
struct Flight(Launch);

impl Emulated {
    pub(super) fn new() -> (Self, Arc<Controls>) {
        Self::with_shared(28_000)
    }

    /// With many multiprocessors, and teams of blocks.
    pub(super) fn with_teams() -> (Self, Arc<Controls>) {
        let (device, controls) = Self::new();
        let device = Self {
            blocks: MANY_BLOCKS,
            team: emulated_kernels::team(),
            ..device
        };
        (device, controls)
    }

    /// With so many floats of shared memory.
    pub(super) fn with_shared(shared: usize) -> (Self, Arc<Controls>) {
        let controls = Arc::new(Controls::default());
        let device = Self {
            controls: controls.clone(),
            shared,
            blocks: BLOCKS,
            team: 1,
            flights: Default::default(),
        };
        (device, controls)
    }

    fn run(&self, launch: &Launch) {
        let reverse = self.controls.reverse.load(Ordering::Relaxed);
        // SAFETY: the server keeps the table until the launch has been waited for.
        let jobs = unsafe { std::slice::from_raw_parts(launch.jobs as *const Job, launch.count) };
        let pitch = launch.shared.next_multiple_of(4);
        let mut shared = Floats::new(launch.team * pitch + 4);
        if launch.team > 1 {
            assert!(
                launch.kernel == Kernel::Score && launch.team == self.team && launch.blocks == launch.count
            );
            self.controls.in_teams.fetch_add(launch.count, Ordering::Relaxed);
        }
        for (i, job) in jobs.iter().enumerate() {
            // SAFETY: the descriptor is valid as long as the table.
            let net = unsafe { &*(job.net as *const Net) };
            assert!(net.parameters > 0, "a descriptor");
            shared.poison();
            let work = launch.workspaces + 4 * (i % launch.blocks * launch.pitch) as u64;
            // SAFETY: every block has a workspace of `pitch` floats.
            let floats = unsafe { std::slice::from_raw_parts_mut(work as *mut f32, launch.pitch) };
            floats.fill(f32::NAN);
            let train = launch.kernel == Kernel::Step;
            let (job, shared, work) = (ptr::from_ref(job).cast(), shared.as_mut_ptr(), work as *mut f32);
            // SAFETY: the job's memory is this process's, and the descriptor has the sizes it needs.
            unsafe {
                match launch.team {
                    1 => emulated_kernels::run(train, reverse, job, shared, work),
                    _ => emulated_kernels::score_in_team(job, shared, pitch, work),
                }
            }
        }
        self.controls.jobs.fetch_add(launch.count, Ordering::Relaxed);
        self.controls.largest.fetch_max(launch.count, Ordering::Relaxed);
    }
}

/// Aligned values that are not numbers until they are written.
struct Floats {
    values: Vec<f32>,
    start: usize,
}

impl Floats {
    fn new(count: usize) -> Self {
        let values = vec![f32::NAN; count + 4];
        let start = values.as_ptr().align_offset(16);
        Self { values, start }
    }

    fn poison(&mut self) {
        self.values.fill(f32::NAN);
    }

    fn as_mut_ptr(&mut self) -> *mut f32 {
        self.values[self.start..].as_mut_ptr()
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, BYTES).unwrap()
}

impl Device for Emulated {
    fn limits(&self) -> Limits {
        Limits {
            shared: self.shared,
            blocks: self.blocks,
            team: self.team,
            memory: 1 << 30,
        }
    }

    fn allocate(&self, _: Memory, bytes: usize) -> Result<u64, DeviceError> {
        let mut allocated = lock(&self.controls.allocated);
        let used: usize = allocated.values().sum();
        if used.saturating_add(bytes) > self.controls.memory.load(Ordering::Relaxed) {
            return Err(DeviceError::OutOfMemory { bytes });
        }
        // SAFETY: no size is zero.
        let address = unsafe { alloc::alloc(layout(bytes)) };
        assert!(!address.is_null());
        // SAFETY: there are as many bytes; four of 0xff are not a number.
        unsafe { ptr::write_bytes(address, 0xff, bytes) };
        allocated.insert(address as u64, bytes);
        Ok(address as u64)
    }

    unsafe fn free(&self, _: Memory, address: u64) {
        let bytes = lock(&self.controls.allocated)
            .remove(&address)
            .expect("allocated here");
        // SAFETY: it was allocated with this layout.
        unsafe { alloc::dealloc(address as *mut u8, layout(bytes)) };
    }

    unsafe fn upload(&self, to: u64, from: &[f32]) -> Result<(), DeviceError> {
        // SAFETY: the caller's.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to as *mut f32, from.len()) };
        Ok(())
    }

    unsafe fn download(&self, from: u64, to: &mut [f32]) -> Result<(), DeviceError> {
        // SAFETY: the caller's.
        unsafe { ptr::copy_nonoverlapping(from as *const f32, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    unsafe fn launch(&self, launch: &Launch) -> Result<(), DeviceError> {
        Controls::count_down(&self.controls.launches, "a launch")?;
        // SAFETY: the server keeps the counters of the kernel.
        assert_eq!(unsafe { *(launch.queue as *const [f32; 4]) }, [0.0; 4]);
        // Scores that wait get a multiprocessor with every step that ends.
        assert!(launch.kernel == Kernel::Score || launch.count <= self.blocks);
        let flight = &mut lock(&self.flights[launch.kernel as usize])[launch.flight];
        assert!(flight.is_none(), "two launches of one flight");
        *flight = Some(Flight(*launch));
        Ok(())
    }

    fn wait(&self, kernel: Kernel, flight: usize) -> Result<(), DeviceError> {
        let (hang, changed) = &self.controls.hang;
        drop(changed.wait_while(lock(hang), |hang| hang[kernel as usize]));
        Controls::count_down(&self.controls.waits, "a kernel")?;
        let Some(Flight(launch)) = lock(&self.flights[kernel as usize])[flight].take() else {
            return Err(DeviceError::Lost("there is no such launch".to_owned()));
        };
        self.run(&launch);
        thread::sleep(Duration::from_micros(
            self.controls.delay.load(Ordering::Relaxed) as u64
        ));
        Ok(())
    }
}
