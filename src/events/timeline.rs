//! What is known about the stream by time: events, protected stretches, and up to where frames are labelled.

use std::{collections::VecDeque, num::NonZeroU64, time::Duration};

use super::{KeepReason, Span};

/// Gaps shorter than this between two frames come from rounding, not from a missing frame.
const SLIVER: Duration = Duration::from_millis(1);

/// Intervals are kept for this long behind the oldest frame of interest: encoded frames come in decoding order, so a later
/// query may be about an earlier time.
const HISTORY: Duration = Duration::from_secs(10);

/// What the detector decided about one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameVerdict {
    /// When the frame is presented.
    pub span: Span,
    /// It must not be dropped whatever it contains: the detector warms up, calibrates or adapts.
    pub protected: bool,
    /// Its label is `anomaly`.
    pub anomalous: bool,
    /// The open event it belongs to.
    pub event: Option<NonZeroU64>,
}

impl FrameVerdict {
    /// A normal frame outside any event.
    pub fn normal(span: Span) -> Self {
        Self {
            span,
            ..Self::default()
        }
    }

    /// A frame without a label: it must not be dropped.
    pub fn unknown(span: Span) -> Self {
        Self {
            protected: true,
            ..Self::normal(span)
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Interval {
    start: Duration,
    end: Duration,
}

impl Interval {
    fn of(span: Span) -> Self {
        // A frame of unknown duration still covers the moment it starts.
        Interval {
            start: span.start,
            end: span.end.max(span.start.saturating_add(Duration::from_nanos(1))),
        }
    }

    fn contains(&self, at: Duration) -> bool {
        self.start <= at && at < self.end
    }
}

/// Non-overlapping intervals in order.
#[derive(Debug, Clone, Default)]
struct Intervals(VecDeque<Interval>);

impl Intervals {
    /// Adds an interval and merges it with those that it touches.
    fn insert(&mut self, mut new: Interval) {
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

    fn any(&self, predicate: impl Fn(&Interval) -> bool) -> bool {
        self.0.iter().rev().any(predicate)
    }

    fn prune(&mut self, before: Duration) {
        while self.0.front().is_some_and(|oldest| oldest.end < before) {
            self.0.pop_front();
        }
    }
}

/// What is known about the stream by time.
///
/// Verdicts usually come in presentation order, one a frame. They may also be about other frames than those that are
/// queried (another branch of the pipeline, another frame rate).
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    protected: Intervals,
    /// Frames inside open events.
    inside: Intervals,
    /// Anomalous stretches of events: pre- and post-roll count from these.
    anomalies: Intervals,
    /// Consecutive anomalous frames before their event begins.
    pending: Option<Interval>,
    /// Start of an event whose end is not known yet.
    open_event: Option<Duration>,
    /// Start of a protected stretch whose end is not known yet.
    open_protection: Option<Duration>,
    /// The newest labelled frame.
    labelled: Option<Interval>,
    /// How long after its start an event may be reported.
    report_delay: Duration,
    /// End of the last labelled frame, if no verdict is expected after it.
    finished: Option<Duration>,
}

impl Timeline {
    /// An empty timeline.
    pub fn new() -> Self {
        Self::default()
    }

    /// Clears all times.
    pub fn restart(&mut self) {
        *self = Timeline {
            report_delay: self.report_delay,
            ..Self::default()
        };
    }

    /// Clears all times when time goes back; an open event and an open protection last on.
    pub fn start_over(&mut self) {
        let from_start = |open: Option<Duration>| open.map(|_| Duration::ZERO);
        *self = Timeline {
            open_event: from_start(self.open_event),
            open_protection: from_start(self.open_protection),
            report_delay: self.report_delay,
            ..Self::default()
        };
    }

    /// Adds the verdict on one frame.
    pub fn add_verdict(&mut self, verdict: &FrameVerdict) {
        if verdict.span.jump {
            self.start_over();
        }
        if let Some(end) = self.finished.take() {
            if end < verdict.span.start {
                let start = verdict.span.start;
                self.protected.insert(Interval {
                    start: end,
                    end: start,
                });
            }
            self.labelled = None;
        }
        let interval = Interval::of(verdict.span);
        if verdict.protected {
            self.protected.insert(interval);
        }
        if verdict.event.is_some() {
            self.inside.insert(interval);
        }
        if verdict.anomalous {
            let start = self
                .pending
                .map_or(interval.start, |pending| pending.start.min(interval.start));
            let run = Interval {
                start,
                end: interval.end,
            };
            self.pending = Some(run).filter(|_| verdict.event.is_none());
            if verdict.event.is_some() {
                self.anomalies.insert(run);
            }
        } else {
            self.pending = None;
        }
        if self
            .labelled
            .is_none_or(|labelled| labelled.start <= interval.start)
        {
            self.labelled = Some(interval);
        }
    }

    /// Sets how long after its start [`Timeline::begin_event`] may report an event, counted in labelled frames: it comes
    /// once an anomaly has lasted for [`EventPolicy::min_anomaly`](super::EventPolicy::min_anomaly), while verdicts
    /// name anomalous frames at once.
    pub fn set_report_delay(&mut self, delay: Duration) {
        self.report_delay = delay;
    }

    /// An event began at `start`; [`Timeline::end_event`] reports its end.
    pub fn begin_event(&mut self, start: Duration) {
        self.open_event.get_or_insert(start);
    }

    /// The last anomalous frame of the open event ended at `end`.
    pub fn end_event(&mut self, end: Duration) {
        if let Some(start) = self.open_event.take() {
            let event = Interval::of(Span::new(start, end.saturating_sub(start)));
            self.inside.insert(event);
            self.anomalies.insert(event);
        }
    }

    /// From `at` on nothing must be dropped; with `protected` false, that ends at `at`.
    pub fn set_protected(&mut self, at: Duration, protected: bool) {
        match self.open_protection {
            None if protected => self.open_protection = Some(at),
            Some(start) if !protected => {
                self.open_protection = None;
                self.protected
                    .insert(Interval::of(Span::new(start, at.saturating_sub(start))));
            }
            _ => {}
        }
    }

    /// Ends the open event and the open protection at `at`.
    pub fn close(&mut self, at: Duration) {
        self.end_event(at);
        self.set_protected(at, false);
    }

    /// No verdict is expected: frames after the last one are protected, until there is another.
    pub fn finish(&mut self) {
        let end = self.labelled.map_or(Duration::ZERO, |labelled| labelled.end);
        self.finished.get_or_insert(end);
        self.pending = None;
        self.labelled = Some(Interval {
            start: Duration::MAX,
            end: Duration::MAX,
        });
    }

    /// Why a frame that starts at `at` is to be kept, as far as known: it is inside an event, from `pre_roll` before
    /// an event's anomaly to `post_roll` after it, or protected. Anomalous frames before their event begins are no
    /// reason, but become part of the event.
    pub fn reason(&self, at: Duration, pre_roll: Duration, post_roll: Duration) -> Option<KeepReason> {
        let since = |start: Option<Duration>| start.is_some_and(|start| start <= at);
        let contains = |interval: &Interval| interval.contains(at);
        if since(self.open_event) || self.inside.any(contains) || self.anomalies.any(contains) {
            return Some(KeepReason::Event);
        }
        if since(self.open_protection) || since(self.finished) || self.protected.any(contains) {
            return Some(KeepReason::Protected);
        }
        let follows = |anomaly: &Interval| anomaly.start <= at && at < anomaly.end.saturating_add(post_roll);
        if self.anomalies.any(follows) {
            return Some(KeepReason::PostRoll);
        }
        let precedes = |start: Duration| start.saturating_sub(pre_roll) <= at && at < start;
        let in_pre_roll =
            self.open_event.is_some_and(precedes) || self.anomalies.any(|anomaly| precedes(anomaly.start));
        in_pre_roll.then_some(KeepReason::PreRoll)
    }

    /// Whether the newest labelled frame is to be kept: the best guess for frames without a label.
    pub fn is_keeping(&self) -> bool {
        let newest = self.labelled.map_or(Duration::ZERO, |labelled| labelled.start);
        self.reason(newest, Duration::ZERO, Duration::ZERO).is_some()
    }

    /// Whether a frame that starts at `at` is labelled: a verdict covers it or is about a later time.
    pub fn is_labelled(&self, at: Duration) -> bool {
        self.labelled
            .is_some_and(|labelled| at <= labelled.start || at < labelled.end)
    }

    /// The earliest possible start of an event that is not known yet.
    pub fn earliest_new_event(&self) -> Duration {
        let labelled = self.labelled.map_or(Duration::ZERO, |labelled| labelled.end);
        let reported = labelled.saturating_sub(self.report_delay);
        self.pending
            .map_or(reported, |pending| pending.start.min(reported))
    }

    /// Drops what cannot matter to any frame from `oldest` on.
    pub fn prune(&mut self, oldest: Duration, post_roll: Duration) {
        let before = oldest.saturating_sub(HISTORY);
        self.protected.prune(before);
        self.inside.prune(before);
        self.anomalies.prune(before.saturating_sub(post_roll));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn verdict(at: u64, anomalous: bool, event: u64) -> FrameVerdict {
        FrameVerdict {
            span: Span::new(ms(at), ms(100)),
            protected: false,
            anomalous,
            event: NonZeroU64::new(event),
        }
    }

    #[test]
    fn rolls_count_from_the_anomaly_not_from_the_merge_gap() {
        let mut timeline = Timeline::new();
        timeline.add_verdict(&verdict(1000, true, 1));
        timeline.add_verdict(&verdict(1100, false, 1));
        timeline.add_verdict(&verdict(1200, false, 0));
        let reason = |at| timeline.reason(ms(at), ms(300), ms(150));
        assert_eq!(reason(699), None);
        assert_eq!(reason(700), Some(KeepReason::PreRoll));
        assert_eq!(reason(1000), Some(KeepReason::Event));
        assert_eq!(reason(1150), Some(KeepReason::Event), "the merge gap is inside");
        assert_eq!(reason(1200), Some(KeepReason::PostRoll));
        assert_eq!(reason(1249), Some(KeepReason::PostRoll));
        assert_eq!(reason(1250), None);
    }

    #[test]
    fn pending_anomalous_frames_belong_to_the_event_that_begins() {
        let mut timeline = Timeline::new();
        timeline.add_verdict(&verdict(1000, true, 0));
        assert_eq!(timeline.reason(ms(1000), ms(300), ms(300)), None);
        assert_eq!(
            timeline.earliest_new_event(),
            ms(1000),
            "it may still become an event"
        );
        timeline.add_verdict(&verdict(1100, true, 1));
        assert_eq!(
            timeline.reason(ms(1000), ms(300), ms(300)),
            Some(KeepReason::Event)
        );
        assert_eq!(
            timeline.reason(ms(700), ms(300), ms(300)),
            Some(KeepReason::PreRoll)
        );
    }

    #[test]
    fn verdicts_out_of_order_form_one_interval() {
        let mut intervals = Intervals::default();
        for at in [0, 200, 100, 500, 300, 400] {
            intervals.insert(Interval {
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
    fn labels_reach_to_the_newest_verdict() {
        let mut timeline = Timeline::new();
        assert!(!timeline.is_labelled(ms(0)));
        timeline.add_verdict(&verdict(1000, false, 0));
        assert!(timeline.is_labelled(ms(1099)) && !timeline.is_labelled(ms(1100)));
        assert_eq!(timeline.earliest_new_event(), ms(1100));
    }

    #[test]
    fn begin_and_end_of_an_event_give_the_same_rolls() {
        let mut timeline = Timeline::new();
        let reason = |timeline: &Timeline, at| timeline.reason(ms(at), ms(300), ms(150));
        timeline.begin_event(ms(1000));
        assert_eq!(reason(&timeline, 700), Some(KeepReason::PreRoll));
        assert_eq!(
            reason(&timeline, 9000),
            Some(KeepReason::Event),
            "the end is not known"
        );
        timeline.end_event(ms(2000));
        assert_eq!(reason(&timeline, 1999), Some(KeepReason::Event));
        assert_eq!(reason(&timeline, 2149), Some(KeepReason::PostRoll));
        assert_eq!(reason(&timeline, 2150), None);
    }

    #[test]
    fn an_event_reported_late_reaches_back_to_its_start() {
        let mut timeline = Timeline::new();
        timeline.set_report_delay(ms(300));
        timeline.add_verdict(&verdict(1000, false, 0));
        assert_eq!(timeline.earliest_new_event(), ms(800));
        let jump = Span {
            jump: true,
            ..Span::new(ms(500), ms(100))
        };
        timeline.add_verdict(&FrameVerdict {
            span: jump,
            ..FrameVerdict::default()
        });
        assert_eq!(
            timeline.earliest_new_event(),
            ms(300),
            "the report delay survives a jump in time"
        );
    }

    #[test]
    fn frames_after_the_last_verdict_are_protected() {
        let mut timeline = Timeline::new();
        timeline.add_verdict(&verdict(1000, false, 0));
        timeline.finish();
        timeline.finish();
        let reason = |timeline: &Timeline, at| timeline.reason(ms(at), ms(0), ms(0));
        assert!(timeline.is_labelled(ms(90_000)), "nothing to wait for");
        assert_eq!(reason(&timeline, 1099), None);
        assert_eq!(reason(&timeline, 1100), Some(KeepReason::Protected));
        assert_eq!(reason(&timeline, 90_000), Some(KeepReason::Protected));
        timeline.add_verdict(&verdict(5000, false, 0));
        assert!(!timeline.is_labelled(ms(5100)));
        assert_eq!(reason(&timeline, 4999), Some(KeepReason::Protected));
        assert_eq!(reason(&timeline, 5000), None);
    }

    #[test]
    fn an_open_event_lasts_on_when_time_goes_back() {
        let mut timeline = Timeline::new();
        timeline.begin_event(ms(9000));
        timeline.add_verdict(&FrameVerdict::normal(Span {
            jump: true,
            ..Span::new(ms(500), ms(100))
        }));
        assert_eq!(timeline.reason(ms(500), ms(0), ms(0)), Some(KeepReason::Event));
        timeline.end_event(ms(700));
        assert_eq!(timeline.reason(ms(699), ms(0), ms(0)), Some(KeepReason::Event));
        assert_eq!(timeline.reason(ms(700), ms(0), ms(0)), None);
    }

    #[test]
    fn protection_ends_where_it_is_reset() {
        let mut timeline = Timeline::new();
        timeline.set_protected(ms(0), true);
        timeline.set_protected(ms(500), true);
        timeline.set_protected(ms(1000), false);
        assert_eq!(
            timeline.reason(ms(999), ms(0), ms(0)),
            Some(KeepReason::Protected)
        );
        assert_eq!(timeline.reason(ms(1000), ms(0), ms(0)), None);
    }

    #[test]
    fn memory_does_not_grow_with_the_number_of_events() {
        let mut timeline = Timeline::new();
        for at in 0..100_000 {
            timeline.add_verdict(&verdict(at * 1000, at % 2 == 0, at + 1));
            timeline.prune(ms(at * 1000), ms(2000));
        }
        assert!(timeline.anomalies.0.len() + timeline.inside.0.len() < 32);
    }
}
