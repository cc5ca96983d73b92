//! Actions that the state machine decides on and the element performs without a lock.

use std::time::Duration;

use crate::events::{KeepReason, Span};
use crate::gstutil::to_clock_time;

/// One action; they are performed in order.
#[derive(Debug)]
pub(super) enum Action {
    /// Push a frame.
    Frame(gst::Buffer),
    /// Push a stream header, which is not a frame.
    Header(gst::Buffer),
    /// Push a serialised event.
    Event(gst::Event),
    /// Push a GAP event with this start and duration.
    Gap(gst::ClockTime, gst::ClockTime),
    /// Request a key frame from an encoder downstream, at this running time.
    ForceKeyDownstream(gst::ClockTime),
    /// Request a key frame from upstream: an event began without one.
    ForceKeyUpstream,
    /// Post an element message about a clip.
    Clip(Clip),
    /// Post a warning that the pre-roll does not fit.
    Overflow {
        /// The bound that it exceeds.
        max_bytes: u64,
    },
    /// Post a message that the latency changed.
    Latency,
    /// In a live pipeline, post a warning that frames are held for longer than any latency that is announced.
    LongHold {
        /// For how long.
        hold: gst::ClockTime,
        /// The announced latency.
        latency: gst::ClockTime,
    },
}

/// A run of kept frames that is more than a keep-alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clip {
    /// It starts with the next frame.
    Begin {
        /// Start of that frame.
        at: Duration,
        /// Why the frame is kept.
        reason: KeepReason,
    },
    /// It ended with the previous frame.
    End {
        /// End of that frame.
        at: Duration,
    },
}

impl Clip {
    /// The structure of the element message.
    pub(super) fn structure(self) -> gst::Structure {
        let (name, at) = match self {
            Clip::Begin { at, .. } => ("clip-begin", at),
            Clip::End { at } => ("clip-end", at),
        };
        let message = gst::Structure::builder("vaeanomalygate")
            .field("event", name)
            .field("running-time", to_clock_time(at));
        match self {
            Clip::Begin { reason, .. } => message.field("reason", reason.as_str()).build(),
            Clip::End { .. } => message.build(),
        }
    }
}

/// Joins the gaps of consecutive dropped frames.
#[derive(Debug, Default)]
pub(super) struct Gaps(Option<Span>);

impl Gaps {
    /// Adds a gap. Returns the joined one so far if the new one does not touch it.
    pub(super) fn add(&mut self, gap: Span) -> Option<Span> {
        match &mut self.0 {
            Some(joined) if gap.start <= joined.end.saturating_add(gap.duration()) => {
                joined.start = joined.start.min(gap.start);
                joined.end = joined.end.max(gap.end);
                None
            }
            joined => joined.replace(gap),
        }
    }

    /// Takes the joined gap.
    pub(super) fn take(&mut self) -> Option<Span> {
        self.0.take()
    }
}
