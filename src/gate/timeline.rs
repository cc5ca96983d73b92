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
    /// Frames inside open events.
    inside: Intervals,
    /// Anomalous stretches of events: pre- and post-roll count from these.
    anomalies: Intervals,
    /// Anomalous frames in a row that are no event yet.
    run: Option<Interval>,
    /// Start of an event whose end is not known yet.
    ongoing_event: Option<Duration>,
    /// Since when everything is protected, without a known end.
    ongoing_protection: Option<Duration>,
    judged: Option<Interval>,
    /// How long after its start an event may still be told.
    notice: Duration,
}

impl Timeline {
    /// A timeline that knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets all times.
    pub fn restart(&mut self) {
        *self = Timeline {
            notice: self.notice,
            ..Self::default()
        };
    }

    /// Takes what was found out about one frame.
    pub fn note(&mut self, mark: &Mark) {
        if mark.span.jump {
            self.restart();
        }
        let interval = Interval::of(mark.span);
        if mark.protected {
            self.protected.cover(interval);
        }
        if mark.event.is_some() {
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
        if self.judged.is_none_or(|judged| judged.start <= interval.start) {
            self.judged = Some(interval);
        }
    }

    /// Events are told at most this long after they started, as of the frames judged until then: marks say at once which
    /// frames are anomalous, [`Timeline::open_event`] comes when an anomaly has lasted for
    /// [`EventPolicy::min_anomaly`](super::EventPolicy::min_anomaly).
    pub fn set_notice(&mut self, notice: Duration) {
        self.notice = notice;
    }

    /// An event began at `start`; its end is told by [`Timeline::close_event`].
    pub fn open_event(&mut self, start: Duration) {
        self.ongoing_event.get_or_insert(start);
    }

    /// The last anomalous frame of the open event ended at `end`.
    pub fn close_event(&mut self, end: Duration) {
        if let Some(start) = self.ongoing_event.take() {
            let event = Interval::of(Span::new(start, end.saturating_sub(start)));
            self.inside.cover(event);
            self.anomalies.cover(event);
        }
    }

    /// From `at` on nothing must be dropped, or (`protected` is false) that ends at `at`.
    pub fn protect(&mut self, at: Duration, protected: bool) {
        match self.ongoing_protection {
            None if protected => self.ongoing_protection = Some(at),
            Some(start) if !protected => {
                self.ongoing_protection = None;
                self.protected
                    .cover(Interval::of(Span::new(start, at.saturating_sub(start))));
            }
            _ => {}
        }
    }

    /// Ends at `at` whatever has no known end.
    pub fn close(&mut self, at: Duration) {
        self.close_event(at);
        self.protect(at, false);
    }

    /// Nothing more will be found out: whatever was asked about counts as judged.
    pub fn finish(&mut self) {
        self.run = None;
        self.judged = Some(Interval {
            start: Duration::MAX,
            end: Duration::MAX,
        });
    }

    /// Why a frame that starts at `at` is to be kept, as far as known: it is inside an event, from `pre_roll` before
    /// an event's anomaly to `post_roll` after it, or protected. Anomalous frames that are no event yet are none, but
    /// become part of it when it opens.
    pub fn reason(&self, at: Duration, pre_roll: Duration, post_roll: Duration) -> Option<Reason> {
        let since = |start: Option<Duration>| start.is_some_and(|start| start <= at);
        let holds = |interval: &Interval| interval.holds(at);
        if since(self.ongoing_event) || self.inside.any(holds) || self.anomalies.any(holds) {
            return Some(Reason::Event);
        }
        if since(self.ongoing_protection) || self.protected.any(holds) {
            return Some(Reason::Protected);
        }
        let follows = |anomaly: &Interval| anomaly.start <= at && at < anomaly.end.saturating_add(post_roll);
        if self.anomalies.any(follows) {
            return Some(Reason::PostRoll);
        }
        let leads = |start: Duration| start.saturating_sub(pre_roll) <= at && at < start;
        let led = self.ongoing_event.is_some_and(leads) || self.anomalies.any(|anomaly| leads(anomaly.start));
        led.then_some(Reason::PreRoll)
    }

    /// Whether the newest mark was one to keep its frame: the best guess about frames nobody judged yet.
    pub fn is_keeping(&self) -> bool {
        let newest = self.judged.map_or(Duration::ZERO, |judged| judged.start);
        self.reason(newest, Duration::ZERO, Duration::ZERO).is_some()
    }

    /// Whether a frame that starts at `at` was judged: a mark covers it or lies behind it.
    pub fn is_judged(&self, at: Duration) -> bool {
        self.judged
            .is_some_and(|judged| at <= judged.start || at < judged.end)
    }

    /// The earliest start an event that is not known yet can have.
    pub fn frontier(&self) -> Duration {
        let judged = self.judged.map_or(Duration::ZERO, |judged| judged.end);
        let told = judged.saturating_sub(self.notice);
        self.run.map_or(told, |run| run.start.min(told))
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
    fn a_pending_run_belongs_to_the_event_that_opens() {
        let mut timeline = Timeline::new();
        timeline.note(&mark(1000, true, 0));
        assert_eq!(timeline.reason(ms(1000), ms(300), ms(300)), None);
        assert_eq!(timeline.frontier(), ms(1000), "it may still become one");
        timeline.note(&mark(1100, true, 1));
        assert_eq!(timeline.reason(ms(1000), ms(300), ms(300)), Some(Reason::Event));
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
        assert_eq!(timeline.frontier(), ms(1100));
    }

    #[test]
    fn an_event_told_by_begin_and_end_rolls_the_same_way() {
        let mut timeline = Timeline::new();
        let reason = |timeline: &Timeline, at| timeline.reason(ms(at), ms(300), ms(150));
        timeline.open_event(ms(1000));
        assert_eq!(reason(&timeline, 700), Some(Reason::PreRoll));
        assert_eq!(
            reason(&timeline, 9000),
            Some(Reason::Event),
            "the end is not known"
        );
        timeline.close_event(ms(2000));
        assert_eq!(reason(&timeline, 1999), Some(Reason::Event));
        assert_eq!(reason(&timeline, 2149), Some(Reason::PostRoll));
        assert_eq!(reason(&timeline, 2150), None);
    }

    #[test]
    fn an_event_told_late_reaches_back_to_its_start() {
        let mut timeline = Timeline::new();
        timeline.set_notice(ms(300));
        timeline.note(&mark(1000, false, 0));
        assert_eq!(timeline.frontier(), ms(800));
        let jump = Span {
            jump: true,
            ..Span::new(ms(500), ms(100))
        };
        timeline.note(&Mark {
            span: jump,
            ..Mark::default()
        });
        assert_eq!(timeline.frontier(), ms(300), "it stays so when time jumps");
    }

    #[test]
    fn protection_ends_when_told() {
        let mut timeline = Timeline::new();
        timeline.protect(ms(0), true);
        timeline.protect(ms(500), true);
        timeline.protect(ms(1000), false);
        assert_eq!(timeline.reason(ms(999), ms(0), ms(0)), Some(Reason::Protected));
        assert_eq!(timeline.reason(ms(1000), ms(0), ms(0)), None);
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
