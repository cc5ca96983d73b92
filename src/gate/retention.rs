//! Frame by frame, without holding any back: what `drop-normal` of `vaeanomaly` does.

use std::time::Duration;

use super::{Mark, Outlet, Reason, Timeline, Verdict};

/// What goes on besides the events themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Drop frames that belong to no anomaly.
    pub drop_normal: bool,
    /// Frames that start less than this after the end of an event's last anomalous frame are kept.
    pub post_roll: Duration,
    /// While dropping, one frame passes this often; 0 = none. See [`Outlet::decide`].
    pub keepalive_interval: Duration,
}

/// Decides about every frame when it comes.
#[derive(Debug, Clone, Default)]
pub struct Retention {
    timeline: Timeline,
    outlet: Outlet,
}

impl Retention {
    /// Nothing seen, nothing dropped.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides about the frame that `mark` is about. A frame labelled anomalous is never dropped, even while
    /// no event has opened; post-roll follows events only.
    pub fn decide(&mut self, policy: &RetentionPolicy, mark: &Mark) -> Verdict {
        self.timeline.note(mark);
        self.timeline.forget(mark.span.start, policy.post_roll);
        let reason = self
            .timeline
            .reason(mark.span.start, Duration::ZERO, policy.post_roll);
        let reason = reason.or(mark.anomalous.then_some(Reason::Event));
        let reason = reason.or((!policy.drop_normal).then_some(Reason::NotDropping));
        self.outlet.decide(mark.span, reason, policy.keepalive_interval)
    }

    /// Forgets all times: after a flush, a seek or a stop.
    pub fn restart(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
