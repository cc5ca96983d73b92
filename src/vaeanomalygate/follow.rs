//! Follows a `vaeanomaly` element on another branch of the pipeline.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use gst::prelude::*;

use super::imp::CAT;
use super::remote::read_verdict;
use crate::events::FrameVerdict;
use crate::gstutil::{BufferTimes, lock};

/// Time without an update in PLAYING after which the followed branch counts as gone.
const SILENCE: Duration = Duration::from_secs(5);

/// An update from the followed branch.
#[derive(Debug, Clone, Copy)]
pub(super) enum Update {
    /// The verdict on a frame, or on a gap.
    Verdict(FrameVerdict),
    /// The branch was flushed.
    Restart,
    /// The branch is at its end.
    End,
}

#[derive(Debug, Default)]
struct Shared {
    updates: Vec<Update>,
    /// Number of updates so far.
    count: u64,
    times: BufferTimes,
    writer: Option<ThreadId>,
    closed: bool,
    /// Time of the last update, or of the change to PLAYING; `None` in other states.
    last_sign: Option<Instant>,
    /// Since when the gate holds frames without a verdict.
    pending_since: Option<Instant>,
    /// The branch has reached its end.
    ended: bool,
}

/// Updates from the followed branch, until the gate takes them.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    shared: Mutex<Shared>,
    changed: Condvar,
}

impl Mailbox {
    /// Takes all updates.
    pub(super) fn take(&self) -> Vec<Update> {
        std::mem::take(&mut lock(&self.shared).updates)
    }

    /// Number of updates so far.
    pub(super) fn count(&self) -> u64 {
        lock(&self.shared).count
    }

    /// Waits for more updates than `count`. Returns `false` if there will be none: the mailbox is closed, the followed
    /// branch is gone or at its end, or it runs in this very thread.
    pub(super) fn wait(&self, count: u64) -> bool {
        let mut shared = lock(&self.shared);
        shared.pending_since.get_or_insert_with(Instant::now);
        while shared.count == count && !shared.closed {
            let same_thread = shared.writer == Some(std::thread::current().id());
            if same_thread || shared.ended || shared.is_silent() {
                return false;
            }
            let waited = self.changed.wait_timeout(shared, SILENCE);
            shared = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        !shared.closed
    }

    /// Sets whether the gate holds frames without a verdict.
    pub(super) fn set_pending(&self, pending: bool) {
        let mut shared = lock(&self.shared);
        if pending {
            shared.pending_since.get_or_insert_with(Instant::now);
        } else {
            shared.pending_since = None;
        }
    }

    /// Whether the followed branch has not sent an update for a time in which it should have.
    pub(super) fn is_silent(&self) -> bool {
        lock(&self.shared).is_silent()
    }

    /// Only in PLAYING the followed branch is expected to proceed.
    pub(super) fn set_playing(&self, playing: bool) {
        lock(&self.shared).last_sign = playing.then(Instant::now);
        self.changed.notify_all();
    }

    /// While closed, [`Mailbox::wait`] returns at once.
    pub(super) fn set_closed(&self, closed: bool) {
        lock(&self.shared).closed = closed;
        self.changed.notify_all();
    }

    fn receive(&self, data: &gst::PadProbeData) {
        let mut shared = lock(&self.shared);
        shared.writer = Some(std::thread::current().id());
        match data {
            gst::PadProbeData::Buffer(buffer) => shared.add_buffer(buffer),
            gst::PadProbeData::BufferList(list) => list.iter().for_each(|buffer| shared.add_buffer(buffer)),
            gst::PadProbeData::Event(event) => shared.add_event(event),
            _ => {}
        }
        shared.count += 1;
        shared.last_sign = shared.last_sign.map(|_| Instant::now());
        drop(shared);
        self.changed.notify_all();
    }
}

impl Shared {
    fn is_silent(&self) -> bool {
        let is_long_ago = |time: Option<Instant>| time.is_some_and(|time| time.elapsed() >= SILENCE);
        !self.ended && is_long_ago(self.last_sign) && is_long_ago(self.pending_since)
    }

    fn add_buffer(&mut self, buffer: &gst::BufferRef) {
        self.ended = false;
        let span = self.times.next(buffer).span;
        let verdict = read_verdict(buffer, span).unwrap_or(FrameVerdict::unknown(span));
        self.updates.push(Update::Verdict(verdict));
    }

    fn add_event(&mut self, event: &gst::EventRef) {
        match event.view() {
            gst::EventView::Segment(segment) => {
                self.times.set_segment(segment.segment());
            }
            gst::EventView::Caps(caps) => self.times.set_caps(caps.caps()),
            gst::EventView::Gap(gap) => {
                let (start, duration) = gap.get();
                let span = self.times.gap(start, duration);
                self.updates
                    .extend(span.map(|span| Update::Verdict(FrameVerdict::normal(span))));
            }
            gst::EventView::FlushStop(_) => {
                self.times.restart();
                self.ended = false;
                self.updates.push(Update::Restart);
            }
            gst::EventView::Eos(_) => {
                self.ended = true;
                self.updates.push(Update::End);
            }
            _ => {}
        }
    }
}

/// The connection to the followed element; ends when dropped.
#[derive(Debug)]
pub(super) struct Follower {
    pad: gst::Pad,
    probe: Option<gst::PadProbeId>,
    mailbox: Arc<Mailbox>,
    /// Runs after every update.
    task: gst::Task,
}

impl Follower {
    /// Finds the element `name` in the pipeline of `gate` and watches its source pad. After updates, `react` runs in a
    /// thread of its own with `lock` held: the gate may have to output frames while it receives none.
    pub(super) fn new(
        gate: &gst::Element,
        name: &str,
        lock: &gst::TaskLock,
        mut react: impl FnMut() + Send + 'static,
    ) -> Result<Self, gst::ErrorMessage> {
        let error = |what: &str| gst::error_msg!(gst::ResourceError::NotFound, ["follow: {what}"]);
        let element = pipeline_of(gate)
            .and_then(|pipeline| pipeline.by_name(name))
            .ok_or_else(|| error(&format!("no element named {name} in this pipeline")))?;
        let pad = element
            .static_pad("src")
            .ok_or_else(|| error(&format!("element {name} has no pad named src")))?;
        let mailbox = Arc::new(Mailbox::default());
        let mask = gst::PadProbeType::BUFFER
            | gst::PadProbeType::BUFFER_LIST
            | gst::PadProbeType::EVENT_DOWNSTREAM
            | gst::PadProbeType::EVENT_FLUSH;
        let task = gst::Task::builder(move |task: &gst::Task| {
            // An update from here on starts the task again.
            if task.pause().is_ok() {
                react();
            }
        })
        .lock(lock)
        .build();
        let receiver: Weak<Mailbox> = Arc::downgrade(&mailbox);
        let starter = task.downgrade();
        let probe = pad.add_probe(mask, move |pad, info| {
            if let Some(mailbox) = receiver.upgrade()
                && let Some(data) = &info.data
            {
                mailbox.receive(data);
                if let Some(task) = starter.upgrade()
                    && let Err(error) = task.start()
                {
                    gst::error!(CAT, obj = pad, "Cannot start the task: {error}");
                }
            }
            gst::PadProbeReturn::Ok
        });
        Ok(Follower {
            pad,
            probe,
            mailbox,
            task,
        })
    }

    /// Where the updates arrive.
    pub(super) fn mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(&self.mailbox)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(probe) = self.probe.take() {
            self.pad.remove_probe(probe);
        }
        // Both fail only if the thread could not be started.
        let _ = self.task.stop();
        let _ = self.task.join();
    }
}

fn pipeline_of(gate: &gst::Element) -> Option<gst::Bin> {
    let mut top: gst::Object = gate.parent()?;
    while let Some(parent) = top.parent() {
        top = parent;
    }
    top.downcast().ok()
}
