//! The way out: keep-alive frames, where frames went missing, and the counts of what came and went.

use std::time::Duration;

use super::Span;

/// Why a frame goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is anomalous or inside an open event.
    Event,
    /// It comes less than the pre-roll before an anomaly.
    PreRoll,
    /// It comes less than the post-roll after an anomaly.
    PostRoll,
    /// The detector warms up, calibrates or adapts: nothing is dropped.
    Protected,
    /// Frames to be kept cannot be decoded without it.
    Reference,
    /// Nothing passed for the keep-alive interval.
    KeepAlive,
    /// Dropping is switched off.
    NotDropping,
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Keep {
        /// Why.
        reason: Reason,
        /// Frames were dropped before it and more than a keep-alive follows: a clip starts here, with a key frame.
        resumes: bool,
    },
    /// It goes no further; its time is a gap.
    Drop,
}

impl Verdict {
    /// Whether the frame goes on.
    pub fn keeps(&self) -> bool {
        matches!(self, Verdict::Keep { .. })
    }
}

/// Frames and bytes that came and that went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Frames that came.
    pub frames_in: u64,
    /// Frames that went on.
    pub frames_out: u64,
    /// Bytes that came.
    pub bytes_in: u64,
    /// Bytes that went on.
    pub bytes_out: u64,
}

impl Tally {
    /// Counts one frame of `bytes` bytes.
    pub fn count(&mut self, bytes: u64, kept: bool) {
        self.frames_in += 1;
        self.bytes_in += bytes;
        if kept {
            self.frames_out += 1;
            self.bytes_out += bytes;
        }
    }
}

/// Decides frame by frame, in the order they leave, what goes on.
#[derive(Debug, Clone, Default)]
pub struct Outlet {
    last_kept: Option<Duration>,
    closed: bool,
}

impl Outlet {
    /// An outlet nothing went through yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides about a frame for which there is a `reason` to keep it, or none.
    ///
    /// A frame without a reason still passes as a keep-alive when the last frame that passed started at least
    /// `keepalive_interval` before it, or would start more than that before the next chance, which is at the end of `span`.
    /// So at a constant frame rate two passing frames never start further apart than the interval; at a varying
    /// one, by no more than the one frame nobody could foresee. The first frame of all passes too, so that
    /// what comes after can start. An interval of zero means no keep-alive.
    pub fn decide(&mut self, span: Span, reason: Option<Reason>, keepalive_interval: Duration) -> Verdict {
        if span.jump {
            self.last_kept = None;
        }
        let reason = reason.or_else(|| self.is_due(span, keepalive_interval).then_some(Reason::KeepAlive));
        let Some(reason) = reason else {
            self.closed = true;
            return Verdict::Drop;
        };
        self.last_kept = Some(self.last_kept.map_or(span.start, |last| last.max(span.start)));
        let resumes = self.closed && reason != Reason::KeepAlive;
        self.closed &= !resumes;
        Verdict::Keep { reason, resumes }
    }

    /// Whether a frame must pass for nothing but the keep-alive.
    pub fn is_due(&self, span: Span, keepalive_interval: Duration) -> bool {
        if keepalive_interval.is_zero() {
            return false;
        }
        let Some(last) = self.last_kept else { return true };
        span.start.saturating_sub(last) >= keepalive_interval
            || span.end.saturating_sub(last) > keepalive_interval
    }

    /// Forgets all times: after a flush or a stop.
    pub fn restart(&mut self) {
        *self = Self::default();
    }
}
