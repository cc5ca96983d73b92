//! What a client waits for.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::arena::lock;

/// Jobs that were queued together. They are done when all are. One thread at a time waits for them.
#[derive(Clone, Debug)]
pub(super) struct Ticket(Arc<Jobs>);

#[derive(Debug)]
struct Jobs {
    created: Instant,
    /// Jobs to come.
    open: AtomicUsize,
    failure: OnceLock<String>,
    /// Who sleeps until they are done.
    waiter: Mutex<Option<Thread>>,
}

impl Ticket {
    pub(super) fn new(jobs: usize) -> Self {
        Self(Arc::new(Jobs {
            created: Instant::now(),
            open: AtomicUsize::new(jobs),
            failure: OnceLock::new(),
            waiter: Mutex::new(None),
        }))
    }

    /// One job is done.
    pub(super) fn complete(&self, result: Result<(), &str>) {
        if let Err(reason) = result {
            self.0.failure.get_or_init(|| reason.to_owned());
        }
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            // The waiter looks once more after it has put itself here.
            let waiter = lock(&self.0.waiter).take();
            if let Some(thread) = waiter {
                thread.unpark();
            }
        }
    }

    pub(super) fn created(&self) -> Instant {
        self.0.created
    }

    /// Whether a thread sleeps until all jobs are done.
    pub(super) fn is_awaited(&self) -> bool {
        lock(&self.0.waiter).is_some()
    }

    /// Whether all jobs are done, or have failed.
    pub(super) fn is_done(&self) -> bool {
        self.0.open.load(Ordering::Acquire) == 0
    }

    fn sleep_until(&self, end: Instant) {
        *lock(&self.0.waiter) = Some(thread::current());
        while !self.is_done() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::park_timeout(left);
        }
        lock(&self.0.waiter).take();
    }

    /// Waits until all jobs are done; `None` when that takes longer than `limit`. It sleeps for `quiet`, then looks again
    /// and again for `spin`, then sleeps.
    pub(super) fn wait(
        &self,
        quiet: Duration,
        spin: Duration,
        limit: Duration,
    ) -> Option<Result<(), String>> {
        let start = Instant::now();
        if !quiet.is_zero() {
            self.sleep_until(start + quiet);
        }
        while !self.is_done() && start.elapsed() < quiet + spin {
            spin_loop();
        }
        self.sleep_until(start + limit);
        let failure = || self.0.failure.get().cloned();
        self.is_done().then(|| failure().map_or(Ok(()), Err))
    }
}
