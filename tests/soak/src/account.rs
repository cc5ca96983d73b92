//! Where every frame went: the pads of an element against its own statistics.

use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use gst::prelude::*;

use crate::camera::pad;

/// Counts of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Frames that came into gates.
    pub into_gates: u64,
    /// Frames that gates passed on, dropped, and discarded in flushes.
    pub kept: u64,
    pub dropped: u64,
    pub discarded: u64,
    /// The part of the dropped ones that belonged to an event, but could not be decoded.
    pub lost: u64,
    /// Frames analysed by detectors, and their events.
    pub analysed: u64,
    pub events: u64,
    /// Frames in no count, or in two.
    pub unaccounted: u64,
}

impl AddAssign for Account {
    fn add_assign(&mut self, other: Self) {
        self.into_gates += other.into_gates;
        self.kept += other.kept;
        self.dropped += other.dropped;
        self.discarded += other.discarded;
        self.lost += other.lost;
        self.analysed += other.analysed;
        self.events += other.events;
        self.unaccounted += other.unaccounted;
    }
}

/// Counts the frames at both pads of an element.
#[derive(Debug)]
pub struct Counter {
    element: gst::Element,
    into: Arc<AtomicU64>,
    out: Arc<AtomicU64>,
    flushes: Arc<AtomicU64>,
}

impl Counter {
    /// Counts from now on.
    pub fn new(pipeline: &gst::Pipeline, element: &str) -> Self {
        let (into, out) = (Arc::default(), Arc::default());
        let flushes: Arc<AtomicU64> = Arc::default();
        let counter = Arc::clone(&flushes);
        pad(pipeline, element, "sink").add_probe(gst::PadProbeType::EVENT_FLUSH, move |_, _| {
            counter.fetch_add(1, Relaxed);
            gst::PadProbeReturn::Ok
        });
        count(&pad(pipeline, element, "sink"), &into);
        count(&pad(pipeline, element, "src"), &out);
        let element = pipeline.by_name(element);
        Counter {
            element: element.expect("it has pads"),
            into,
            out,
            flushes,
        }
    }

    /// Frames that came in so far.
    pub fn frames(&self) -> u64 {
        self.into.load(Relaxed)
    }

    /// The account of the element, a `vaeanomaly` or a `vaeanomalygate`, while no frame is on its way through it.
    pub fn account(&self) -> Account {
        let stats: gst::Structure = self.element.property("stats");
        let (into, out) = (self.into.load(Relaxed), self.out.load(Relaxed));
        let stat = |name: &str| -> u64 { stats.get(name).unwrap_or_else(|e| panic!("{name}: {e}")) };
        if !stats.has_field("frames-held") {
            let (passed, dropped) = (stat("passed"), stat("dropped"));
            // A flush ends the way of the frame that is in the element.
            let unseen = out.abs_diff(passed).saturating_sub(self.flushes.load(Relaxed));
            return Account {
                analysed: into,
                events: stat("events"),
                unaccounted: into.abs_diff(passed + dropped) + unseen,
                ..Account::default()
            };
        }
        let (kept, dropped, discarded) = (
            stat("frames-out"),
            stat("frames-dropped"),
            stat("frames-discarded"),
        );
        // A frame that downstream did not accept may have passed the pad or not.
        let unseen = kept.saturating_sub(out) + out.saturating_sub(kept + discarded);
        Account {
            into_gates: into,
            kept,
            dropped,
            discarded,
            lost: stat("frames-lost"),
            unaccounted: into.abs_diff(kept + dropped + discarded + stat("frames-held")) + unseen,
            ..Account::default()
        }
    }
}

fn count(pad: &gst::Pad, counter: &Arc<AtomicU64>) {
    let counter = Arc::clone(counter);
    let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
    pad.add_probe(mask, move |_, info| {
        let is_frame = |buffer: &gst::BufferRef| {
            !buffer.flags().contains(gst::BufferFlags::HEADER) || buffer.dts_or_pts().is_some()
        };
        let frames = match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => usize::from(is_frame(buffer)),
            Some(gst::PadProbeData::BufferList(list)) => {
                list.iter().filter(|buffer| is_frame(buffer)).count()
            }
            _ => 0,
        };
        counter.fetch_add(frames as u64, Relaxed);
        gst::PadProbeReturn::Ok
    });
}
