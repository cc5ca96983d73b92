//! Runs the jobs of all cameras of a process on one device, those of many cameras in one launch.
//!
//! Each kernel has a *lane*: a queue, and a thread that takes what is queued, launches it, and waits. An idle lane launches
//! at once; while a launch is in flight, jobs collect for the next one. That is made when the first one ends, or before if
//! it fills the device: launches of a kernel run one after the other, and a job in a small one would keep those behind it
//! waiting. Scores and steps run beside each other on the device, and some multiprocessors are reserved for scores: a score
//! never waits for steps.
//!
//! A launch of few scores on a device that has little else to do is made in teams of blocks, where the device can: four
//! multiprocessors work on each job. So does nothing that others would wait for.
//!
//! Waking a client takes microseconds. So that launching goes on, the sleeping clients of a large launch are woken by other
//! threads.
//!
//! Inputs and results are in mapped host memory, which the kernels read and write themselves: a launch needs no copies.

use std::collections::VecDeque;
use std::hint::spin_loop;
use std::process;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::arena::{Arena, Block, lock};
use super::descriptor::{Job, Net, Plan, Purpose};
use super::device::{Device, DeviceError, Kernel, Launch, Memory};
use super::engine::CudaEngine;
use super::ticket::Ticket;
use crate::detector::vae::VaeConfig;

/// Launches of a lane at a time.
const FLIGHTS: usize = 2;
/// Jobs of a launch: of scores so many at most.
const SCORES: usize = 1024;
/// Words of a kernel's counters.
const QUEUE: usize = 4;
/// Floats of a slab of nets, and of one of inputs and results.
const SLOT_SLAB: usize = 2 << 20;
const STAGING_SLAB: usize = 2 << 20;
/// Empty slabs of the latter that are kept: memory of steps comes and goes, and the driver takes milliseconds for a slab.
const STAGING_KEPT: usize = 8;
/// Workspaces of a lane at first; with more jobs at a time there are more, up to one a block.
const FIRST_BLOCKS: usize = 16;
/// Bytes of a lane's workspaces, where a net needs no more for a single block; and a share of the device's memory.
const WORKSPACES: usize = 512 << 20;
const WORKSPACES_SHARE: usize = 16;
/// How long a thread looks again and again for what is about to come, before it sleeps: waking up takes as long.
const SPIN: Duration = Duration::from_micros(100);
/// The same for the end of a launch, from when it usually ends.
const LATE: Duration = Duration::from_micros(300);
/// So long before the usual end of a launch a thread stops sleeping.
const EARLY: Duration = Duration::from_micros(120);
/// How often a sleeping thread looks for the end of a launch that is late.
const INTERVAL: Duration = Duration::from_micros(100);
/// The blocks of teams are at most this part of all, and those of steps beside them that: a team needs multiprocessors that
/// are near each other.
const TEAMS_PART: usize = 8;
const STEPS_PART: usize = 4;
/// Sleeping calls of a launch that its lane's own thread completes, and those that a waker takes at a time.
const FEW_CALLS: usize = 6;
const WAKER_CALLS: usize = 12;
/// Threads that wake clients: one for so many processors, and at most.
const PROCESSORS_A_WAKER: usize = 4;
const WAKERS: usize = 4;
/// A device that does not answer for so long is considered lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client's way to the server, which ends with the last of them.
#[derive(Debug)]
pub(crate) struct ServerHandle<D: Device>(Arc<Server<D>>);

impl<D: Device> Clone for ServerHandle<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Ends the threads when it is dropped.
#[derive(Debug)]
pub(super) struct Server<D: Device> {
    shared: Arc<Shared<D>>,
    threads: Vec<JoinHandle<()>>,
    wakers: Vec<JoinHandle<()>>,
}

/// What clients and threads share.
#[derive(Debug)]
struct Shared<D: Device> {
    device: Arc<D>,
    slots: Arc<Arena<D>>,
    staging: Arc<Arena<D>>,
    /// Each kernel's counters.
    queues: [Block<D>; 2],
    plans: Mutex<Vec<CachedPlan<D>>>,
    lanes: [Lane<D>; 2],
    wakers: Wakers<D>,
    /// Blocks of a team, 1 for none.
    team: AtomicUsize,
    failure: OnceLock<String>,
    patience: Duration,
    /// Threads do not survive a fork.
    process: u32,
    processors: usize,
    engines: AtomicUsize,
    launches: AtomicUsize,
}

#[derive(Debug)]
struct CachedPlan<D: Device> {
    config: VaeConfig,
    purpose: Purpose,
    plan: Weak<LoadedPlan<D>>,
}

/// A plan whose descriptor is on the device.
#[derive(Debug)]
pub(super) struct LoadedPlan<D: Device> {
    pub(super) plan: Plan,
    descriptor: Block<D>,
}

/// A job with all that must outlast it.
#[derive(Debug)]
pub(super) struct QueuedJob<D: Device> {
    pub(super) job: Job,
    pub(super) plan: Arc<LoadedPlan<D>>,
    /// The net, its inputs, its results.
    pub(super) blocks: [Arc<Block<D>>; 3],
    pub(super) ticket: Ticket,
}

/// What a client queues in one call.
#[derive(Debug)]
enum Entry<D: Device> {
    Jobs(Vec<QueuedJob<D>>),
    /// Makes room for workspaces of so many floats.
    Reserve(usize, Ticket),
}

impl<D: Device> Entry<D> {
    fn jobs(&self) -> &[QueuedJob<D>] {
        match self {
            Self::Jobs(jobs) => jobs,
            Self::Reserve(..) => &[],
        }
    }

    /// Whether a thread sleeps until it is done.
    fn is_awaited(&self) -> bool {
        self.jobs().iter().any(|job| job.ticket.is_awaited())
    }

    fn complete(self, result: Result<(), &str>) {
        match self {
            Self::Reserve(_, ticket) => ticket.complete(result),
            Self::Jobs(jobs) => {
                for QueuedJob { ticket, blocks, .. } in jobs {
                    // Freed first: the client may ask for the same memory at once.
                    drop(blocks);
                    ticket.complete(result);
                }
            }
        }
    }
}

#[derive(Debug)]
struct Lane<D: Device> {
    queue: Mutex<Queue<D>>,
    arrived: Condvar,
    /// Entries in the queue, and their jobs, for a thread that looks without the lock.
    queued: AtomicUsize,
    queued_jobs: AtomicUsize,
    /// Launches and reservations that have ended.
    finished: AtomicUsize,
    /// Nanoseconds of a launch, of the short ones among the last.
    typical: AtomicU64,
    /// Blocks of a launch, and jobs at most.
    blocks: usize,
    most_jobs: usize,
    /// Blocks of the launches in flight.
    running: AtomicUsize,
    /// Bytes of the workspaces.
    workspaces: AtomicUsize,
}

#[derive(Debug)]
struct Queue<D: Device> {
    entries: VecDeque<Entry<D>>,
    /// Their jobs.
    jobs: usize,
    /// Whether the lane's thread sleeps until something is queued.
    sleeping: bool,
    closing: bool,
}

/// Threads that complete the jobs of large launches.
#[derive(Debug)]
struct Wakers<D: Device> {
    queue: Mutex<WakerQueue<D>>,
    arrived: Condvar,
}

#[derive(Debug)]
struct WakerQueue<D: Device> {
    parts: VecDeque<Vec<Entry<D>>>,
    threads: usize,
    sleeping: usize,
    closing: bool,
}

impl<D: Device> Default for Wakers<D> {
    fn default() -> Self {
        Self {
            queue: Mutex::new(WakerQueue {
                parts: VecDeque::new(),
                threads: 0,
                sleeping: 0,
                closing: false,
            }),
            arrived: Condvar::new(),
        }
    }
}

impl<D: Device> Wakers<D> {
    /// Completes entries; those that threads sleep for here or in other threads.
    fn complete(&self, entries: Vec<Entry<D>>) {
        let (mut asleep, awake): (Vec<_>, Vec<_>) = entries.into_iter().partition(Entry::is_awaited);
        if asleep.len() > FEW_CALLS {
            let mut queue = lock(&self.queue);
            if queue.threads > 0 && !queue.closing {
                let mut parts = 0;
                while !asleep.is_empty() {
                    let rest = asleep.split_off(asleep.len().min(WAKER_CALLS));
                    queue.parts.push_back(std::mem::replace(&mut asleep, rest));
                    parts += 1;
                }
                let wake = parts.min(queue.sleeping);
                drop(queue);
                (0..wake).for_each(|_| self.arrived.notify_one());
            }
        }
        let all = awake.into_iter().chain(asleep);
        all.for_each(|entry| entry.complete(Ok(())));
    }

    fn run(&self) {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(part) = queue.parts.pop_front() {
                drop(queue);
                part.into_iter().for_each(|entry| entry.complete(Ok(())));
                queue = lock(&self.queue);
            } else if queue.closing {
                return;
            } else {
                queue.sleeping += 1;
                queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
                queue.sleeping -= 1;
            }
        }
    }

    /// Ends the threads after what they have.
    fn close(&self) {
        lock(&self.queue).closing = true;
        self.arrived.notify_all();
    }
}

impl<D: Device> ServerHandle<D> {
    /// Starts a server on `device`.
    ///
    /// # Errors
    /// There is no memory for it, or no thread.
    pub(super) fn start(device: D) -> Result<Self, String> {
        Self::start_with(device, PATIENCE)
    }

    /// The same, with another patience.
    pub(super) fn start_with(device: D, patience: Duration) -> Result<Self, String> {
        let device = Arc::new(device);
        let slots = Arena::new(device.clone(), Memory::Device, SLOT_SLAB, 1);
        let queue = || -> Result<Block<D>, DeviceError> {
            let block = slots.allocate(QUEUE)?;
            // SAFETY: the block is new and has as many words.
            unsafe { device.upload(block.address(), &[0.0; QUEUE]) }?;
            Ok(block)
        };
        let queues = [
            queue().map_err(|e| e.to_string())?,
            queue().map_err(|e| e.to_string())?,
        ];
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let limits = device.limits();
        let step_blocks = limits.blocks - limits.blocks / 8;
        let shared = Arc::new(Shared {
            slots,
            queues,
            staging: Arena::new(device.clone(), Memory::Host, STAGING_SLAB, STAGING_KEPT),
            device,
            plans: Mutex::default(),
            // An eighth of the multiprocessors is reserved for scores. A launch has no more steps than blocks: every
            // multiprocessor that ends a step is free for the scores that wait, before further steps begin.
            lanes: [
                Lane::new(limits.blocks, SCORES),
                Lane::new(step_blocks, step_blocks.max(2)),
            ],
            team: AtomicUsize::new(limits.team),
            wakers: Wakers::default(),
            failure: OnceLock::new(),
            patience,
            process: process::id(),
            processors,
            engines: AtomicUsize::new(0),
            launches: AtomicUsize::new(0),
        });
        let mut server = Server {
            shared: shared.clone(),
            threads: Vec::new(),
            wakers: Vec::new(),
        };
        for number in 0..(processors / PROCESSORS_A_WAKER).min(WAKERS) {
            let shared = shared.clone();
            let thread = thread::Builder::new()
                .name(format!("vae-wake-{number}"))
                .spawn(move || shared.wakers.run());
            server
                .wakers
                .push(thread.map_err(|e| format!("there is no thread for the GPU: {e}"))?);
            lock(&server.shared.wakers.queue).threads += 1;
        }
        for kernel in Kernel::ALL {
            let mut runner = Runner::new(shared.clone(), kernel).map_err(|e| e.to_string())?;
            let name = match kernel {
                Kernel::Score => "vae-score",
                Kernel::Step => "vae-step",
            };
            let thread = thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || runner.run());
            server
                .threads
                .push(thread.map_err(|e| format!("there is no thread for the GPU: {e}"))?);
        }
        Ok(Self(Arc::new(server)))
    }

    /// An engine for the nets of one detector.
    pub(crate) fn engine(&self) -> CudaEngine<D> {
        self.0.shared.engines.fetch_add(1, Ordering::Relaxed);
        CudaEngine::new(self.clone())
    }

    pub(super) fn engine_dropped(&self) {
        self.0.shared.engines.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn downgrade(&self) -> Weak<Server<D>> {
        Arc::downgrade(&self.0)
    }

    pub(super) fn upgrade(server: &Weak<Server<D>>) -> Option<Self> {
        server.upgrade().map(Self)
    }

    pub(super) fn device(&self) -> &D {
        &self.0.shared.device
    }

    pub(super) fn slots(&self) -> &Arc<Arena<D>> {
        &self.0.shared.slots
    }

    pub(super) fn staging(&self) -> &Arc<Arena<D>> {
        &self.0.shared.staging
    }

    /// Whether few scores are launched in teams, where the device can.
    pub(super) fn allow_teams(&self, allow: bool) {
        let team = if allow { self.device().limits().team } else { 1 };
        self.0.shared.team.store(team, Ordering::Relaxed);
    }

    /// Launches of both kernels so far.
    pub(super) fn launches(&self) -> usize {
        self.0.shared.launches.load(Ordering::Acquire)
    }

    /// Bytes of device memory: of all slabs, and of them in workspaces.
    #[cfg(feature = "cuda")]
    pub(super) fn memory(&self) -> [usize; 2] {
        let shared = &self.0.shared;
        let workspaces = shared
            .lanes
            .iter()
            .map(|lane| lane.workspaces.load(Ordering::Relaxed));
        [shared.slots.bytes(), workspaces.sum()]
    }

    /// Time that the kernel's blocks have worked so far, over all of them.
    ///
    /// # Errors
    /// The device failed.
    #[cfg(feature = "cuda")]
    pub(super) fn busy(&self, kernel: Kernel) -> Result<Duration, String> {
        let mut words = [0.0f32; QUEUE];
        let queue = self.0.shared.queues[kernel as usize].address();
        // SAFETY: the counters have as many words. A launch in flight may add to them meanwhile.
        unsafe { self.device().download(queue, &mut words) }.map_err(|e| self.fail(&e))?;
        let [_, _, low, high] = words.map(f32::to_bits);
        Ok(Duration::from_nanos(u64::from(high) << 32 | u64::from(low)))
    }

    /// Fails where the server has, or where this is not its process.
    ///
    /// # Errors
    /// Why the server cannot be used.
    pub(super) fn check(&self) -> Result<(), String> {
        self.0.shared.check()
    }

    /// The plan for a net, on the device.
    ///
    /// # Errors
    /// The kernels cannot run the net, or there is no memory.
    pub(super) fn plan(&self, config: &VaeConfig, purpose: Purpose) -> Result<Arc<LoadedPlan<D>>, String> {
        let shared = &self.0.shared;
        let mut plans = lock(&shared.plans);
        plans.retain(|cached| cached.plan.strong_count() > 0);
        let same = |cached: &&CachedPlan<D>| cached.purpose == purpose && cached.config == *config;
        if let Some(plan) = plans.iter().find(same).and_then(|cached| cached.plan.upgrade()) {
            return Ok(plan);
        }
        let plan = Plan::new(config, purpose, shared.device.limits().shared)?;
        let words = plan.net.words();
        let descriptor = shared.slots.allocate(words.len()).map_err(|e| e.to_string())?;
        // SAFETY: the block is new and has room for all words.
        unsafe { shared.device.upload(descriptor.address(), words) }.map_err(|e| shared.fail(&e))?;
        let plan = Arc::new(LoadedPlan { plan, descriptor });
        plans.push(CachedPlan {
            config: config.clone(),
            purpose,
            plan: Arc::downgrade(&plan),
        });
        Ok(plan)
    }

    /// Makes room for the workspaces of a plan.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(super) fn reserve(&self, kernel: Kernel, plan: &LoadedPlan<D>) -> Result<(), String> {
        let ticket = Ticket::new(1);
        self.submit_entries(kernel, [Entry::Reserve(plan.plan.workspace, ticket.clone())])?;
        self.wait(kernel, &ticket)
    }

    /// Queues jobs; their tickets report when they are done.
    ///
    /// # Safety
    /// The addresses of each job are in its blocks and plan, and nothing else uses them until it is done.
    ///
    /// # Errors
    /// The server has failed; nothing was queued.
    pub(super) unsafe fn submit(
        &self,
        kernel: Kernel,
        jobs: impl IntoIterator<Item = QueuedJob<D>>,
    ) -> Result<(), String> {
        let mut jobs: Vec<QueuedJob<D>> = jobs.into_iter().collect();
        let most = self.0.shared.lanes[kernel as usize].most_jobs;
        let mut entries = Vec::new();
        while jobs.len() > most {
            let rest = jobs.split_off(most);
            entries.push(Entry::Jobs(std::mem::replace(&mut jobs, rest)));
        }
        if !jobs.is_empty() {
            entries.push(Entry::Jobs(jobs));
        }
        self.submit_entries(kernel, entries)
    }

    fn submit_entries(
        &self,
        kernel: Kernel,
        entries: impl IntoIterator<Item = Entry<D>>,
    ) -> Result<(), String> {
        self.check()?;
        let lane = &self.0.shared.lanes[kernel as usize];
        let mut queue = lock(&lane.queue);
        if queue.closing {
            // The reason was there before.
            self.check()?;
            return Err("the GPU's server is closing".to_owned());
        }
        for entry in entries {
            queue.jobs += entry.jobs().len();
            queue.entries.push_back(entry);
        }
        lane.count(&queue);
        let wake = std::mem::take(&mut queue.sleeping);
        drop(queue);
        if wake {
            lane.arrived.notify_one();
        }
        Ok(())
    }

    /// Waits for queued jobs of a kernel.
    ///
    /// # Errors
    /// They failed, or the device does not answer: a long queue is no failure as long as launches end.
    pub(super) fn wait(&self, kernel: Kernel, ticket: &Ticket) -> Result<(), String> {
        let shared = &self.0.shared;
        shared.check_process()?;
        let lane = &shared.lanes[kernel as usize];
        // Where clients are few, a processor each to wait on is cheaper than being late.
        let few = shared.engines.load(Ordering::Relaxed) <= shared.processors / 4;
        let spin = if few { 2 * LATE } else { Duration::ZERO };
        let finished = &lane.finished;
        loop {
            let before = finished.load(Ordering::Relaxed);
            let quiet = match few {
                true => lane.typical().saturating_sub(EARLY + ticket.created().elapsed()),
                false => Duration::ZERO,
            };
            let quiet = if quiet > INTERVAL / 2 {
                quiet
            } else {
                Duration::ZERO
            };
            match ticket.wait(quiet, spin, shared.patience) {
                Some(result) => return result,
                None if finished.load(Ordering::Relaxed) != before => {}
                None => break,
            }
        }
        let seconds = shared.patience.as_secs_f64();
        let reason = DeviceError::Lost(format!("the GPU has not answered for {seconds} s"));
        Err(shared.fail(&reason))
    }

    /// Reports that the device failed in a call of a client; the message.
    pub(super) fn fail(&self, error: &DeviceError) -> String {
        match error {
            DeviceError::OutOfMemory { .. } => error.to_string(),
            DeviceError::Lost(_) => self.0.shared.fail(error),
        }
    }
}

impl<D: Device> LoadedPlan<D> {
    /// Address of the descriptor.
    pub(super) fn address(&self) -> u64 {
        self.descriptor.address()
    }
}

impl Net {
    /// The descriptor, to be copied as it is.
    fn words(&self) -> &[f32] {
        let words = size_of::<Self>() / size_of::<f32>();
        // SAFETY: the structure is of 32-bit numbers without gaps; any bits are a float.
        unsafe { std::slice::from_raw_parts((&raw const *self).cast(), words) }
    }
}

impl<D: Device> Shared<D> {
    fn check_process(&self) -> Result<(), String> {
        match self.process == process::id() {
            true => Ok(()),
            false => Err("the process has forked since its GPU was opened".to_owned()),
        }
    }

    fn check(&self) -> Result<(), String> {
        self.check_process()?;
        match self.failure.get() {
            Some(reason) => Err(reason.clone()),
            None => Ok(()),
        }
    }

    /// Abandons the device and its memory: after a fault nothing on it can be freed or trusted. The first reason counts:
    /// queued jobs fail with it, and those in flight when their lane returns.
    fn fail(&self, error: &DeviceError) -> String {
        let reason = self.failure.get_or_init(|| error.to_string()).clone();
        self.slots.abandon();
        self.staging.abandon();
        for lane in &self.lanes {
            let queued = lane.close();
            queued.into_iter().for_each(|entry| entry.complete(Err(&reason)));
        }
        reason
    }
}

impl<D: Device> Lane<D> {
    fn new(blocks: usize, most_jobs: usize) -> Self {
        Self {
            queue: Mutex::new(Queue {
                entries: VecDeque::new(),
                jobs: 0,
                sleeping: false,
                closing: false,
            }),
            arrived: Condvar::new(),
            queued: AtomicUsize::new(0),
            queued_jobs: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
            typical: AtomicU64::new(0),
            blocks,
            most_jobs,
            running: AtomicUsize::new(0),
            workspaces: AtomicUsize::new(0),
        }
    }

    /// Publishes the length of the queue.
    fn count(&self, queue: &Queue<D>) {
        self.queued_jobs.store(queue.jobs, Ordering::Relaxed);
        self.queued.store(queue.entries.len(), Ordering::Release);
    }

    fn typical(&self) -> Duration {
        Duration::from_nanos(self.typical.load(Ordering::Relaxed))
    }

    /// A launch took so long. What is found out late looks longer than it was, so the estimate rises slowly.
    fn took(&self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let before = self.typical.load(Ordering::Relaxed);
        let most = if before == 0 {
            u64::MAX
        } else {
            before + before / 8
        };
        self.typical.store(time.min(most), Ordering::Relaxed);
    }

    /// Sleeps until something is queued, for `limit` at most.
    fn sleep(&self, limit: Duration) {
        let mut queue = lock(&self.queue);
        if queue.entries.is_empty() && !queue.closing {
            queue.sleeping = true;
            let waited = self.arrived.wait_timeout(queue, limit);
            (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
            queue.sleeping = false;
        }
    }

    /// Ends the lane after what is in flight; what was queued.
    fn close(&self) -> VecDeque<Entry<D>> {
        let mut queue = lock(&self.queue);
        queue.closing = true;
        queue.jobs = 0;
        self.queued.store(0, Ordering::Release);
        self.arrived.notify_all();
        std::mem::take(&mut queue.entries)
    }
}

impl<D: Device> Drop for Server<D> {
    fn drop(&mut self) {
        // In a forked process there are no threads to end, and locks may be held for ever.
        if self.shared.check_process().is_err() {
            return;
        }
        for lane in &self.shared.lanes {
            let queued = lane.close();
            queued
                .into_iter()
                .for_each(|entry| entry.complete(Err("the GPU's server has ended")));
        }
        // A thread of a device that does not answer never ends.
        if self.shared.failure.get().is_none() {
            for thread in self.threads.drain(..) {
                let _ = thread.join();
            }
        }
        self.shared.wakers.close();
        for thread in self.wakers.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A lane's thread.
struct Runner<D: Device> {
    shared: Arc<Shared<D>>,
    kernel: Kernel,
    /// Job tables.
    tables: [Block<D>; FLIGHTS],
    workspaces: Option<Workspaces<D>>,
    /// There was no memory for more of them.
    full: bool,
    /// Launches in flight, oldest first.
    flights: VecDeque<Flight<D>>,
    /// When the last launch ended.
    ended: Instant,
    /// Plans of the launch that is being made.
    kinds: Vec<Kind>,
}

struct Flight<D: Device> {
    /// Index of its table.
    index: usize,
    launched: Instant,
    blocks: usize,
    entries: Vec<Entry<D>>,
}

/// The jobs of one plan in a launch.
struct Kind {
    /// Address of the descriptor.
    descriptor: u64,
    cost: u64,
    jobs: usize,
    /// Where the next one goes in the table.
    next: usize,
}

struct Workspaces<D: Device> {
    memory: Block<D>,
    /// Floats of one.
    pitch: usize,
    blocks: usize,
}

/// What a lane does next.
enum Next<D: Device> {
    Start(Vec<Entry<D>>),
    Reserve(usize, Ticket),
    Finish,
    End,
}

impl<D: Device> Runner<D> {
    fn new(shared: Arc<Shared<D>>, kernel: Kernel) -> Result<Self, DeviceError> {
        const JOB: usize = size_of::<Job>() / size_of::<f32>();
        let most_jobs = shared.lanes[kernel as usize].most_jobs;
        let table = || shared.staging.allocate(JOB * most_jobs);
        Ok(Self {
            tables: [table()?, table()?],
            shared,
            kernel,
            workspaces: None,
            full: false,
            flights: VecDeque::new(),
            ended: Instant::now(),
            kinds: Vec::new(),
        })
    }

    fn run(&mut self) {
        loop {
            match self.next() {
                Next::Start(entries) => self.start(entries),
                Next::Reserve(pitch, ticket) => {
                    let result = self.grow(pitch, 1).map_err(|e| e.to_string());
                    ticket.complete(result.as_ref().map_or_else(|e| Err(e.as_str()), |&()| Ok(())));
                    // Those behind it in the queue see that it moves.
                    let lane = &self.shared.lanes[self.kernel as usize];
                    lane.finished.fetch_add(1, Ordering::Relaxed);
                }
                Next::Finish => self.finish_oldest(),
                Next::End => return,
            }
        }
    }

    /// Takes what is queued, waits for what is in flight, or sleeps.
    fn next(&mut self) -> Next<D> {
        let shared = self.shared.clone();
        let lane = &shared.lanes[self.kernel as usize];
        let idle = Instant::now();
        loop {
            let room = match self.flights.len() {
                0 => true,
                flights => flights < FLIGHTS && lane.queued_jobs.load(Ordering::Relaxed) >= lane.blocks,
            };
            if room
                && lane.queued.load(Ordering::Acquire) > 0
                && let Some(next) = self.take()
            {
                return next;
            }
            let Some(oldest) = self.flights.front() else {
                if idle.elapsed() < SPIN {
                    spin_loop();
                    continue;
                }
                lane.sleep(Duration::MAX);
                let queue = lock(&lane.queue);
                if queue.closing && queue.entries.is_empty() {
                    return Next::End;
                }
                continue;
            };
            // A device that is lost is waited for without looking: the call may not return.
            let lost = shared.failure.get().is_some();
            if lost || !matches!(shared.device.is_done(self.kernel, oldest.index), Ok(false)) {
                return Next::Finish;
            }
            let (elapsed, typical) = (oldest.launched.max(self.ended).elapsed(), lane.typical());
            let early = typical.saturating_sub(elapsed + EARLY);
            let late = elapsed > typical + LATE;
            match (early > INTERVAL / 2, late, room) {
                (true, _, true) => lane.sleep(early),
                (true, _, false) => thread::sleep(early),
                (false, false, _) => spin_loop(),
                (false, true, true) => lane.sleep(INTERVAL),
                (false, true, false) => return Next::Finish,
            }
        }
    }

    /// Takes entries for a launch, or one that reserves memory.
    fn take(&mut self) -> Option<Next<D>> {
        let entries = self.take_jobs();
        if !entries.is_empty() {
            return Some(Next::Start(entries));
        }
        let lane = &self.shared.lanes[self.kernel as usize];
        let mut queue = lock(&lane.queue);
        let entry = queue.entries.pop_front()?;
        queue.jobs -= entry.jobs().len();
        lane.count(&queue);
        Some(match entry {
            Entry::Reserve(pitch, ticket) => Next::Reserve(pitch, ticket),
            entry => Next::Start(vec![entry]),
        })
    }

    /// Takes the jobs at the head of the queue, as many as fit into a launch.
    fn take_jobs(&mut self) -> Vec<Entry<D>> {
        let lane = &self.shared.lanes[self.kernel as usize];
        let mut queue = lock(&lane.queue);
        let (mut jobs, mut taken) = (0, 0);
        for entry in &queue.entries {
            if matches!(entry, Entry::Reserve(..)) || jobs + entry.jobs().len() > lane.most_jobs {
                break;
            }
            (jobs, taken) = (jobs + entry.jobs().len(), taken + 1);
        }
        if taken == 0 {
            return Vec::new();
        }
        let rest = queue.entries.split_off(taken);
        let entries = std::mem::replace(&mut queue.entries, rest);
        queue.jobs -= jobs;
        lane.count(&queue);
        entries.into()
    }

    /// Launches jobs, the costliest first: the others then fill the gaps.
    fn start(&mut self, mut entries: Vec<Entry<D>>) {
        let need = |job: &QueuedJob<D>| job.plan.plan.workspace;
        let most = entries.iter().flat_map(Entry::jobs).map(need).max().unwrap_or(0);
        let jobs = entries.iter().map(|entry| entry.jobs().len()).sum();
        if let Err(error) = self.grow(most, jobs) {
            // Only the nets that it is too little for fail.
            let there = self.workspaces.as_ref().map_or(0, |w| w.pitch);
            let reason = error.to_string();
            for entry in &mut entries {
                let Entry::Jobs(jobs) = entry else { continue };
                let (fit, too_large) = std::mem::take(jobs)
                    .into_iter()
                    .partition(|job| need(job) <= there);
                *jobs = fit;
                Entry::Jobs(too_large).complete(Err(&reason));
            }
            entries.retain(|entry| !entry.jobs().is_empty());
        }
        let Some(workspaces) = &self.workspaces else {
            return;
        };
        let flight = match self.flights.front() {
            Some(other) => 1 - other.index,
            None => 0,
        };
        // Few plans make up a launch: their jobs go to the table in their order.
        let kinds = &mut self.kinds;
        kinds.clear();
        let (mut count, mut shared) = (0, 0);
        for queued in entries.iter().flat_map(Entry::jobs) {
            let plan = &queued.plan.plan;
            (count, shared) = (count + 1, shared.max(plan.shared));
            match kinds
                .iter_mut()
                .find(|kind| kind.descriptor == queued.plan.address())
            {
                Some(kind) => kind.jobs += 1,
                None => kinds.push(Kind {
                    descriptor: queued.plan.address(),
                    cost: plan.cost,
                    jobs: 1,
                    next: 0,
                }),
            }
        }
        if count == 0 {
            return;
        }
        kinds.sort_by_key(|kind| std::cmp::Reverse(kind.cost));
        let mut start = 0;
        for kind in kinds.iter_mut() {
            kind.next = start;
            start += kind.jobs;
        }
        let table = self.tables[flight].address() as *mut Job;
        for queued in entries.iter().flat_map(Entry::jobs) {
            let address = queued.plan.address();
            if let Some(kind) = kinds.iter_mut().find(|kind| kind.descriptor == address) {
                // SAFETY: the table has room for the most jobs of a launch, and the launch that used it is over.
                unsafe { table.add(kind.next).write(queued.job) };
                kind.next += 1;
            }
        }
        let blocks = workspaces.blocks.min(count);
        let team = if blocks == count { self.team(count) } else { 1 };
        let launch = Launch {
            kernel: self.kernel,
            jobs: self.tables[flight].address(),
            count,
            workspaces: workspaces.memory.address(),
            pitch: workspaces.pitch,
            blocks,
            team,
            shared,
            queue: self.shared.queues[self.kernel as usize].address(),
            flight,
        };
        let lane = &self.shared.lanes[self.kernel as usize];
        lane.running.fetch_add(blocks, Ordering::Relaxed);
        self.shared.launches.fetch_add(1, Ordering::Release);
        let launched = Instant::now();
        // SAFETY: the entries hold all that the jobs point to, and are dropped after the launch has been waited for.
        let result = unsafe { self.shared.device.launch(&launch) };
        self.flights.push_back(Flight {
            index: flight,
            launched,
            blocks,
            entries,
        });
        if let Err(error) = result {
            self.fail(&error);
        }
    }

    /// Blocks for each of `count` jobs of a launch that has not been made yet.
    fn team(&self, count: usize) -> usize {
        let team = self.shared.team.load(Ordering::Relaxed);
        let blocks = self.shared.device.limits().blocks;
        let steps = self.shared.lanes[Kernel::Step as usize]
            .running
            .load(Ordering::Relaxed);
        let idle = self.kernel == Kernel::Score && self.flights.is_empty();
        let fits = count * team <= blocks / TEAMS_PART && steps <= blocks / STEPS_PART;
        if idle && fits { team } else { 1 }
    }

    /// Waits for the oldest launch; its entries, which are to be completed.
    fn await_oldest(&mut self) -> Vec<Entry<D>> {
        let Some(oldest) = self.flights.front() else {
            return Vec::new();
        };
        if let Err(error) = self.shared.device.wait(self.kernel, oldest.index) {
            self.fail(&error);
            return Vec::new();
        }
        let lane = &self.shared.lanes[self.kernel as usize];
        lane.finished.fetch_add(1, Ordering::Relaxed);
        lane.took(oldest.launched.max(self.ended).elapsed());
        lane.running.fetch_sub(oldest.blocks, Ordering::Relaxed);
        self.ended = Instant::now();
        self.flights
            .pop_front()
            .map_or_else(Vec::new, |flight| flight.entries)
    }

    /// Waits for the oldest launch, makes the next one if the device would be idle, and completes the jobs.
    fn finish_oldest(&mut self) {
        let done = self.await_oldest();
        if self.flights.is_empty() {
            let entries = self.take_jobs();
            if !entries.is_empty() {
                self.start(entries);
            }
        }
        self.shared.wakers.complete(done);
    }

    fn fail(&mut self, error: &DeviceError) {
        let reason = self.shared.fail(error);
        let flights = self.flights.drain(..).flat_map(|flight| flight.entries);
        flights.for_each(|entry| entry.complete(Err(&reason)));
    }

    /// Makes every workspace at least `pitch` floats long, and enough of them for `jobs` jobs at a time. A very large net
    /// gets fewer of them, and fewer blocks at a time.
    fn grow(&mut self, pitch: usize, jobs: usize) -> Result<(), DeviceError> {
        let before = self.workspaces.as_ref().map_or((0, 0), |w| (w.pitch, w.blocks));
        let pitch = pitch.next_multiple_of(64).max(before.0);
        let budget = WORKSPACES.min(self.shared.device.limits().memory / WORKSPACES_SHARE);
        let most = (budget / 4 / pitch.max(1)).clamp(1, self.shared.lanes[self.kernel as usize].blocks);
        let blocks = jobs.next_power_of_two().max(FIRST_BLOCKS).max(before.1).min(most);
        let longer = pitch > before.0;
        if !longer && (blocks <= before.1 || self.full) {
            return Ok(());
        }
        while !self.flights.is_empty() {
            let done = self.await_oldest();
            self.shared.wakers.complete(done);
        }
        if longer {
            // Those before and the new ones do not fit at a time where memory is short.
            self.workspaces = None;
            if let Err(error) = self.allocate(pitch, blocks) {
                if before.1 > 0 {
                    let _ = self.allocate(before.0, before.1);
                }
                return Err(error);
            }
            return Ok(());
        }
        match self.allocate(pitch, blocks) {
            // The existing ones are enough to go on with.
            Err(DeviceError::OutOfMemory { .. }) => self.full = true,
            result => return result,
        }
        Ok(())
    }

    fn allocate(&mut self, pitch: usize, blocks: usize) -> Result<(), DeviceError> {
        let memory = self.shared.slots.allocate(blocks * pitch)?;
        let lane = &self.shared.lanes[self.kernel as usize];
        lane.workspaces.store(4 * blocks * pitch, Ordering::Relaxed);
        self.workspaces = Some(Workspaces {
            memory,
            pitch,
            blocks,
        });
        Ok(())
    }
}
