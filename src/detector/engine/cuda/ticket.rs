//! What a client waits for.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::arena::lock;

/// Jobs that were queued together. They are done when all are.
#[derive(Clone, Debug)]
pub(super) struct Ticket(Arc<Jobs>);

#[derive(Debug)]
struct Jobs {
    /// Jobs to come, for those that look without a lock.
    open: AtomicUsize,
    failure: Mutex<Option<String>>,
    done: Condvar,
}

impl Ticket {
    pub(super) fn new(jobs: usize) -> Self {
        Self(Arc::new(Jobs {
            open: AtomicUsize::new(jobs),
            failure: Mutex::new(None),
            done: Condvar::new(),
        }))
    }

    /// One job is done.
    pub(super) fn complete(&self, result: Result<(), &str>) {
        let mut failure = lock(&self.0.failure);
        if let Err(reason) = result {
            failure.get_or_insert_with(|| reason.to_owned());
        }
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.done.notify_all();
        }
    }

    fn is_done(&self) -> bool {
        self.0.open.load(Ordering::Acquire) == 0
    }

    /// Waits until all jobs are done, at first without sleeping; `None` when that takes longer than `limit`.
    pub(super) fn wait(&self, spin: Duration, limit: Duration) -> Option<Result<(), String>> {
        let start = Instant::now();
        while !self.is_done() && start.elapsed() < spin {
            spin_loop();
        }
        let waiting = |_: &mut Option<String>| !self.is_done();
        let (failure, _) = self
            .0
            .done
            .wait_timeout_while(lock(&self.0.failure), limit, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        self.is_done().then(|| failure.clone().map_or(Ok(()), Err))
    }
}
