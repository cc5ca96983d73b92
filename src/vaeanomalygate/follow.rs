//! Listens to a `vaeanomaly` element on another branch of the pipeline.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::ThreadId;

use gst::prelude::*;

use super::findings::Finding;
use crate::{buffer_times::BufferTimes, gate::Mark};

/// What the other branch tells.
#[derive(Debug, Clone, Copy)]
pub(super) enum News {
    /// A frame was judged, or will not come.
    Mark(Mark),
    /// The branch was flushed.
    Restart,
    /// The branch is at its end.
    End,
}

#[derive(Debug, Default)]
struct Letters {
    news: Vec<News>,
    times: BufferTimes,
    writer: Option<ThreadId>,
    closed: bool,
}

/// Where the other branch leaves its news.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    letters: Mutex<Letters>,
    changed: Condvar,
}

impl Inbox {
    /// Takes all news.
    pub fn take(&self) -> Vec<News> {
        std::mem::take(&mut self.lock().news)
    }

    /// Waits for news; `false` when there will be none: the gate stops, or the branch is driven by this very thread.
    pub fn wait(&self) -> bool {
        let mut letters = self.lock();
        while letters.news.is_empty() && !letters.closed {
            if letters.writer == Some(std::thread::current().id()) {
                return false;
            }
            letters = self.changed.wait(letters).unwrap_or_else(PoisonError::into_inner);
        }
        !letters.closed
    }

    /// Wakes and refuses all who wait, until opened again.
    pub fn close(&self, closed: bool) {
        self.lock().closed = closed;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, data: &gst::PadProbeData) {
        let mut letters = self.lock();
        letters.writer = Some(std::thread::current().id());
        match data {
            gst::PadProbeData::Buffer(buffer) => letters.hear_buffer(buffer),
            gst::PadProbeData::BufferList(list) => list.iter().for_each(|buffer| letters.hear_buffer(buffer)),
            gst::PadProbeData::Event(event) => letters.hear_event(event),
            _ => {}
        }
        drop(letters);
        self.changed.notify_all();
    }
}

impl Letters {
    fn hear_buffer(&mut self, buffer: &gst::BufferRef) {
        let span = self.times.span(buffer);
        let finding = Finding::read(buffer).unwrap_or(Finding::UNKNOWN);
        self.news.push(News::Mark(finding.mark(span)));
    }

    fn hear_event(&mut self, event: &gst::EventRef) {
        match event.view() {
            gst::EventView::Segment(segment) => {
                self.times.set_segment(segment.segment());
            }
            gst::EventView::Caps(caps) => self.times.set_caps(caps.caps()),
            gst::EventView::Gap(gap) => {
                let (start, duration) = gap.get();
                let span = self.times.gap(start, duration);
                self.news.extend(span.map(|span| {
                    News::Mark(Mark {
                        span,
                        ..Mark::default()
                    })
                }));
            }
            gst::EventView::FlushStop(_) => {
                self.times.restart();
                self.news.push(News::Restart);
            }
            gst::EventView::Eos(_) => self.news.push(News::End),
            _ => {}
        }
    }
}

/// The thread between a gate and the element it follows; cut when dropped.
#[derive(Debug)]
pub(super) struct Follower {
    pad: gst::Pad,
    probe: Option<gst::PadProbeId>,
    inbox: Arc<Inbox>,
}

impl Follower {
    /// Finds the element called `name` in the pipeline that `gate` is in, and listens at its source pad.
    pub fn new(gate: &gst::Element, name: &str) -> Result<Self, gst::ErrorMessage> {
        let fail = |what: &str| gst::error_msg!(gst::ResourceError::NotFound, ["follow: {what}"]);
        let element = pipeline_of(gate)
            .and_then(|pipeline| pipeline.by_name(name))
            .ok_or_else(|| fail(&format!("no element named {name} in this pipeline")))?;
        let pad = element
            .static_pad("src")
            .ok_or_else(|| fail(&format!("element {name} has no pad named src")))?;
        let inbox = Arc::new(Inbox::default());
        let mask = gst::PadProbeType::BUFFER
            | gst::PadProbeType::BUFFER_LIST
            | gst::PadProbeType::EVENT_DOWNSTREAM
            | gst::PadProbeType::EVENT_FLUSH;
        let listener: Weak<Inbox> = Arc::downgrade(&inbox);
        let probe = pad.add_probe(mask, move |_, info| {
            if let Some(inbox) = listener.upgrade()
                && let Some(data) = &info.data
            {
                inbox.hear(data);
            }
            gst::PadProbeReturn::Ok
        });
        Ok(Follower { pad, probe, inbox })
    }

    /// Where the news are.
    pub fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.inbox)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(probe) = self.probe.take() {
            self.pad.remove_probe(probe);
        }
    }
}

fn pipeline_of(gate: &gst::Element) -> Option<gst::Bin> {
    let mut top: gst::Object = gate.parent()?;
    while let Some(parent) = top.parent() {
        top = parent;
    }
    top.downcast().ok()
}
