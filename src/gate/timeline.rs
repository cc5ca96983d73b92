//! What is known about the stream, by time: where events are, what must not be dropped, up to where it was judged.

use std::{collections::VecDeque, num::NonZeroU64, time::Duration};

use super::{Reason, Span};

/// Slivers shorter than this between two frames come from rounding, not from a missing frame.
const SLIVER: Duration = Duration::from_millis(1);

/// How far back intervals are remembered behind the oldest frame anybody asks about: encoded frames come in
/// decoding order, so a later question may be about an earlier time.
const MEMORY: Duration = Duration::from_secs(10);

/// What was found out about one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// When the frame is on the screen.
    pub span: Span,
    /// It must not be dropped whatever it shows: the detector warms up, calibrates or adapts.
    pub protected: bool,
    /// Its label is `anomaly`.
    pub anomalous: bool,
    /// The open event it belongs to.
    pub event: Option<NonZeroU64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Interval {
    start: Duration,
    end: Duration,
}

impl Interval {
    fn of(span: Span) -> Self {
        // A frame that lasts no known time still covers the moment it starts.
        Interval {
            start: span.start,
            end: span.end.max(span.start.saturating_add(Duration::from_nanos(1))),
        }
    }

    fn holds(&self, at: Duration) -> bool {
        self.start <= at && at < self.end
    }
}

/// Non-overlapping intervals in order.
#[derive(Debug, Clone, Default)]
struct Intervals(VecDeque<Interval>);

impl Intervals {
    fn cover(&mut self, mut new: Interval) {
        let touches = |old: &Interval| old.end.saturating_add(SLIVER) >= new.start;
        let from = self
            .0
            .iter()
            .rposition(|old| !touches(old))
            .map_or(0, |before| before + 1);
        let reach = new.end.saturating_add(SLIVER);
        let to = from + self.0.range(from..).take_while(|old| old.start <= reach).count();
        for old in self.0.drain(from..to) {
            new = Interval {
                start: new.start.min(old.start),
                end: new.end.max(old.end),
            };
        }
        self.0.insert(from, new);
    }

    fn any(&self, holds: impl Fn(&Interval) -> bool) -> bool {
        self.0.iter().rev().any(holds)
    }

    fn forget(&mut self, before: Duration) {
        while self.0.front().is_some_and(|oldest| oldest.end < before) {
            self.0.pop_front();
        }
    }
}

/// What is known about the stream, by time.
///
/// Marks usually come in the order of presentation, one a frame; they may also come for other frames than those asked about
/// (another branch of the pipeline, another frame rate).
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    protected: Intervals,
    /// Frames that are kept for what they are: anomalous, or inside an open event.
    inside: Intervals,
    /// Anomalous stretches of events: pre- and post-roll count from these.
    anomalies: Intervals,
    /// Anomalous frames in a row that are no event yet.
    run: Option<Interval>,
    judged: Option<Span>,
}

impl Timeline {
    /// A timeline that knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what was found out about one frame.
    pub fn note(&mut self, mark: &Mark) {
        if mark.span.jump {
            *self = Self::default();
        }
        let interval = Interval::of(mark.span);
        if mark.protected {
            self.protected.cover(interval);
        }
        if mark.anomalous || mark.event.is_some() {
            self.inside.cover(interval);
        }
        if mark.anomalous {
            let start = self
                .run
                .map_or(interval.start, |run| run.start.min(interval.start));
            let run = Interval {
                start,
                end: interval.end,
            };
            self.run = Some(run).filter(|_| mark.event.is_none());
            if mark.event.is_some() {
                self.anomalies.cover(run);
            }
        } else {
            self.run = None;
        }
        if self.judged.is_none_or(|judged| judged.start <= mark.span.start) {
            self.judged = Some(mark.span);
        }
    }

    /// Why a frame that starts at `at` is to be kept, as far as known: from `pre_roll` before an anomaly of an event
    /// until `post_roll` after it, while an event is open, when it is anomalous itself, and when it is protected.
    pub fn reason(&self, at: Duration, pre_roll: Duration, post_roll: Duration) -> Option<Reason> {
        if self.inside.any(|interval| interval.holds(at)) {
            return Some(Reason::Event);
        }
        if self.protected.any(|interval| interval.holds(at)) {
            return Some(Reason::Protected);
        }
        if self
            .anomalies
            .any(|anomaly| anomaly.start <= at && at < anomaly.end.saturating_add(post_roll))
        {
            return Some(Reason::PostRoll);
        }
        let leads = |anomaly: &Interval| anomaly.start.saturating_sub(pre_roll) <= at && at < anomaly.start;
        self.anomalies.any(leads).then_some(Reason::PreRoll)
    }

    /// Whether a frame that starts at `at` was judged: a mark covers it or lies behind it.
    pub fn is_judged(&self, at: Duration) -> bool {
        self.judged
            .is_some_and(|judged| at <= judged.start || at < judged.end)
    }

    /// The earliest start an event that is not known yet can have; `None` before the first mark.
    pub fn frontier(&self) -> Option<Duration> {
        let judged = self.judged?;
        Some(self.run.map_or(judged.end, |run| run.start.min(judged.end)))
    }

    /// Forgets what can matter to no frame from `oldest` on.
    pub fn forget(&mut self, oldest: Duration, post_roll: Duration) {
        let before = oldest.saturating_sub(MEMORY);
        self.protected.forget(before);
        self.inside.forget(before);
        self.anomalies.forget(before.saturating_sub(post_roll));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn mark(at: u64, anomalous: bool, event: u64) -> Mark {
        Mark {
            span: Span::new(ms(at), ms(100)),
            protected: false,
            anomalous,
            event: NonZeroU64::new(event),
        }
    }

    #[test]
    fn rolls_count_from_the_anomaly_not_from_the_merge_gap() {
        let mut timeline = Timeline::new();
        timeline.note(&mark(1000, true, 1));
        timeline.note(&mark(1100, false, 1));
        timeline.note(&mark(1200, false, 0));
        let reason = |at| timeline.reason(ms(at), ms(300), ms(150));
        assert_eq!(reason(699), None);
        assert_eq!(reason(700), Some(Reason::PreRoll));
        assert_eq!(reason(1000), Some(Reason::Event));
        assert_eq!(reason(1150), Some(Reason::Event), "the merge gap is inside");
        assert_eq!(reason(1200), Some(Reason::PostRoll));
        assert_eq!(reason(1249), Some(Reason::PostRoll));
        assert_eq!(reason(1250), None);
    }

    #[test]
    fn a_pending_run_is_kept_but_rolls_only_as_an_event() {
        let mut timeline = Timeline::new();
        timeline.note(&mark(1000, true, 0));
        assert_eq!(timeline.reason(ms(1000), ms(300), ms(300)), Some(Reason::Event));
        assert_eq!(timeline.reason(ms(900), ms(300), ms(300)), None);
        assert_eq!(timeline.frontier(), Some(ms(1000)), "it may still become one");
        timeline.note(&mark(1100, true, 1));
        assert_eq!(timeline.reason(ms(700), ms(300), ms(300)), Some(Reason::PreRoll));
    }

    #[test]
    fn marks_out_of_order_make_one_interval() {
        let mut intervals = Intervals::default();
        for at in [0, 200, 100, 500, 300, 400] {
            intervals.cover(Interval {
                start: ms(at),
                end: ms(at + 100),
            });
        }
        assert_eq!(
            intervals.0,
            [Interval {
                start: ms(0),
                end: ms(600)
            }]
        );
    }

    #[test]
    fn what_is_judged_reaches_to_the_newest_mark() {
        let mut timeline = Timeline::new();
        assert!(!timeline.is_judged(ms(0)));
        timeline.note(&mark(1000, false, 0));
        assert!(timeline.is_judged(ms(1099)) && !timeline.is_judged(ms(1100)));
        assert_eq!(timeline.frontier(), Some(ms(1100)));
    }

    #[test]
    fn memory_does_not_grow_with_events() {
        let mut timeline = Timeline::new();
        for at in 0..100_000 {
            timeline.note(&mark(at * 1000, at % 2 == 0, at + 1));
            timeline.forget(ms(at * 1000), ms(2000));
        }
        assert!(timeline.anomalies.0.len() + timeline.inside.0.len() < 32);
    }
}
