//! What is to be done once no lock is held any more.

use std::time::Duration;

use crate::gate::{Reason, Span};

/// One thing to do, in order.
#[derive(Debug)]
pub(super) enum Action {
    /// Push a frame.
    Frame(gst::Buffer),
    /// Push a serialised event.
    Event(gst::Event),
    /// Announce that nothing comes for a time.
    Gap(gst::ClockTime, gst::ClockTime),
    /// Ask an encoder downstream for a key frame with the next frame.
    ForceKeyDownstream(gst::ClockTime),
    /// Ask upstream for a key frame: an event began without one.
    ForceKeyUpstream,
    /// Tell the application about a clip.
    Clip(Clip),
    /// Tell the application that the pre-roll does not fit.
    Overflow {
        /// The bound it does not fit in.
        max_bytes: u64,
    },
    /// The latency changed.
    Latency,
}

/// A stretch of frames that pass for more than the keep-alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clip {
    /// It starts with the next frame.
    Begin {
        /// When that frame is shown.
        at: Duration,
        /// Why it passes.
        reason: Reason,
    },
    /// The frame before was its last.
    End {
        /// When that frame was over.
        at: Duration,
    },
}

impl Clip {
    /// The element message about it.
    pub fn to_structure(self) -> gst::Structure {
        let (name, at) = match self {
            Clip::Begin { at, .. } => ("clip-begin", at),
            Clip::End { at } => ("clip-end", at),
        };
        let at = gst::ClockTime::try_from(at).unwrap_or(gst::ClockTime::ZERO);
        let message = gst::Structure::builder("vaeanomalygate")
            .field("event", name)
            .field("running-time", at);
        match self {
            Clip::Begin { reason, .. } => message.field("reason", nick(reason)).build(),
            Clip::End { .. } => message.build(),
        }
    }
}

fn nick(reason: Reason) -> &'static str {
    match reason {
        Reason::Event => "event",
        Reason::PreRoll => "pre-roll",
        Reason::PostRoll => "post-roll",
        Reason::Protected => "protected",
        Reason::Reference => "reference",
        Reason::KeepAlive => "keep-alive",
        Reason::NotDropping => "not-dropping",
    }
}

/// Joins the gaps of frames dropped one after the other.
#[derive(Debug, Default)]
pub(super) struct Gaps(Option<Span>);

impl Gaps {
    /// Takes one more; gives back what was gathered where this one does not touch it.
    pub fn add(&mut self, gap: Span) -> Option<Span> {
        match &mut self.0 {
            Some(gathered) if gap.start <= gathered.end.saturating_add(gap.duration()) => {
                gathered.start = gathered.start.min(gap.start);
                gathered.end = gathered.end.max(gap.end);
                None
            }
            gathered => gathered.replace(gap),
        }
    }

    /// Gives out what was gathered.
    pub fn take(&mut self) -> Option<Span> {
        self.0.take()
    }
}
