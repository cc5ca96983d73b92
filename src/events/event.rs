//! From labelled frames to events with a begin, updates and an end.

use std::{num::NonZeroU64, time::Duration};

use super::Span;

/// When anomalous frames form an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPolicy {
    /// An event begins once consecutive frames were anomalous for this long; 0 = with the first one.
    pub min_anomaly: Duration,
    /// An event ends once no frame was anomalous for this long; anomalies closer together are one event.
    pub merge_gap: Duration,
    /// Interval of [`EventChange::Update`] while an event is open; 0 = no updates.
    pub update_interval: Duration,
}

/// One scored frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// When the frame is presented.
    pub span: Span,
    /// Whether its label is `anomaly`.
    pub anomalous: bool,
    /// Score, 0..=1.
    pub score: f64,
    /// Score before it is mapped to 0..=1.
    pub raw_score: f64,
    /// Not anomalous only because what is unusual has stayed for long.
    pub absorbed: bool,
}

/// One event so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EventInfo {
    /// Number of the event, counted from 1.
    pub id: NonZeroU64,
    /// Start of its first anomalous frame, also when `min_anomaly` delayed its begin.
    pub start: Duration,
    /// End of its last anomalous frame.
    pub end: Duration,
    /// Number of its anomalous frames.
    pub frames: u64,
    /// Highest score.
    pub peak_score: f64,
    /// Raw score of the frame with the highest score.
    pub peak_raw_score: f64,
    /// Start of the frame with the highest score.
    pub peak_at: Duration,
    /// Whether its last frames are no longer anomalous only because what is unusual has stayed for long.
    pub absorbed: bool,
}

impl EventInfo {
    /// From the start of the first to the end of the last anomalous frame.
    pub fn duration(&self) -> Duration {
        self.end.saturating_sub(self.start)
    }

    fn first(id: NonZeroU64, observation: &Observation) -> Self {
        let span = observation.span;
        EventInfo {
            id,
            start: span.start,
            end: span.end,
            frames: 1,
            peak_score: observation.score,
            peak_raw_score: observation.raw_score,
            peak_at: span.start,
            absorbed: false,
        }
    }

    fn add(&mut self, observation: &Observation) {
        self.end = self.end.max(observation.span.end);
        self.frames += 1;
        self.absorbed = false;
        if observation.score > self.peak_score || self.peak_score.is_nan() {
            self.peak_score = observation.score;
            self.peak_raw_score = observation.raw_score;
            self.peak_at = observation.span.start;
        }
    }
}

/// A change of an event that is to be reported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EventChange {
    /// The event begins with this frame.
    Begin(EventInfo),
    /// The event is still open, and its last report is an update interval old.
    Update(EventInfo),
    /// The event is over.
    End(EventInfo),
}

/// What a frame means for events.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tracked {
    /// The open event that the frame belongs to: it is anomalous itself, or starts less than `merge_gap` after a frame
    /// that was.
    pub event_id: Option<NonZeroU64>,
    changes: [Option<EventChange>; 2],
}

impl Tracked {
    /// The changes to report, in order: one frame can end an event and begin another.
    pub fn changes(&self) -> impl Iterator<Item = EventChange> {
        self.changes.into_iter().flatten()
    }
}

/// A run of anomalous frames: pending until it is long enough, then an event.
#[derive(Debug, Clone, Copy)]
struct Run {
    info: EventInfo,
    /// Start of the frame with which the event was last reported; `None` while the run is pending.
    last_report: Option<Duration>,
    /// Whether the previous frame was anomalous too.
    unbroken: bool,
}

/// Turns labelled frames into events. One per stream; ids continue after [`EventTracker::finish`].
#[derive(Debug, Clone)]
pub struct EventTracker {
    next_id: NonZeroU64,
    run: Option<Run>,
}

impl Default for EventTracker {
    fn default() -> Self {
        EventTracker {
            next_id: NonZeroU64::MIN,
            run: None,
        }
    }
}

impl EventTracker {
    /// A tracker whose first event gets the id 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of the next event.
    pub fn next_id(&self) -> NonZeroU64 {
        self.next_id
    }

    /// Counts on from `next_id`, unless the numbers are larger already.
    pub fn continue_from(&mut self, next_id: NonZeroU64) {
        self.next_id = self.next_id.max(next_id);
    }

    /// Processes the next frame.
    pub fn observe(&mut self, policy: &EventPolicy, observation: &Observation) -> Tracked {
        if let (true, Some(run)) = (observation.absorbed, &mut self.run) {
            run.info.absorbed = true;
        }
        let ended = if self.is_over(policy, observation) {
            self.finish()
        } else {
            None
        };
        let begun = if observation.anomalous {
            self.extend(policy, observation)
        } else {
            None
        };
        if !observation.anomalous
            && let Some(run) = &mut self.run
        {
            run.unbroken = false;
        }
        let change = begun.or_else(|| self.update(policy, observation.span));
        Tracked {
            event_id: self.open_event().map(|event| event.id),
            changes: [ended.map(EventChange::End), change],
        }
    }

    /// Ends the open event, if there is one: at the end of the stream, at a stop, a flush or another jump in time.
    pub fn finish(&mut self) -> Option<EventInfo> {
        let open = self.open_event();
        self.run = None;
        open
    }

    /// The open event, if there is one.
    pub fn open_event(&self) -> Option<EventInfo> {
        self.run
            .filter(|run| run.last_report.is_some())
            .map(|run| run.info)
    }

    /// Whether the current run is over before or with this frame.
    fn is_over(&self, policy: &EventPolicy, observation: &Observation) -> bool {
        let Some(run) = &self.run else { return false };
        let span = observation.span;
        let pending = run.last_report.is_none();
        if span.jump || (pending && !observation.anomalous) {
            return true;
        }
        let gap = span.start.saturating_sub(run.info.end);
        if !observation.anomalous {
            return span.end.saturating_sub(run.info.end) >= policy.merge_gap;
        }
        if run.unbroken {
            // Rounded times leave slivers between frames. A frame without a duration lasts until the next one.
            let duration = span.duration();
            return !duration.is_zero() && gap >= policy.merge_gap.max(duration);
        }
        gap >= policy.merge_gap
    }

    fn extend(&mut self, policy: &EventPolicy, observation: &Observation) -> Option<EventChange> {
        let next_id = self.next_id;
        let run = match &mut self.run {
            Some(run) => {
                run.info.add(observation);
                run
            }
            none => none.insert(Run {
                info: EventInfo::first(next_id, observation),
                last_report: None,
                unbroken: true,
            }),
        };
        run.unbroken = true;
        if run.last_report.is_some() || run.info.duration() < policy.min_anomaly {
            return None;
        }
        run.last_report = Some(observation.span.start);
        // The numbers may have been continued from larger ones while the run was pending.
        run.info.id = next_id;
        self.next_id = next_id.saturating_add(1);
        Some(EventChange::Begin(run.info))
    }

    fn update(&mut self, policy: &EventPolicy, span: Span) -> Option<EventChange> {
        let run = self.run.as_mut()?;
        let last_report = run.last_report.as_mut()?;
        if span.start.saturating_sub(*last_report) < policy.update_interval
            || policy.update_interval.is_zero()
        {
            return None;
        }
        *last_report = span.start;
        Some(EventChange::Update(run.info))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const POLICY: EventPolicy = EventPolicy {
        min_anomaly: ms(0),
        merge_gap: ms(300),
        update_interval: ms(1000),
    };

    fn observation(at: u64, duration: u64, anomalous: bool, score: f64) -> Observation {
        Observation {
            span: Span::new(ms(at), ms(duration)),
            anomalous,
            score,
            raw_score: 10.0 * score,
            absorbed: false,
        }
    }

    /// Runs frames of 100 ms, `#` anomalous. Returns the event ids as digits, and the changes with their frame's start.
    fn run(policy: &EventPolicy, labels: &str) -> (String, Vec<(u64, EventChange)>) {
        let mut tracker = EventTracker::new();
        let mut ids = String::new();
        let mut changes = Vec::new();
        for (frame, label) in labels.chars().enumerate() {
            let at = 100 * frame as u64;
            let tracked = tracker.observe(policy, &observation(at, 100, label == '#', 0.5));
            ids.push_str(&tracked.event_id.map_or_else(|| ".".into(), |id| id.to_string()));
            changes.extend(tracked.changes().map(|change| (at, change)));
        }
        (ids, changes)
    }

    #[test]
    fn anomalies_closer_than_the_merge_gap_are_one_event() {
        let (ids, changes) = run(&POLICY, "..##..#......#...");
        //                                 frame 2 is the first; frame 9 ends 300 ms after frame 6 did.
        assert_eq!(ids, "..1111111....222.");
        let kinds: Vec<_> = changes
            .iter()
            .map(|(at, change)| (*at, std::mem::discriminant(change)))
            .collect();
        assert_eq!(kinds.len(), 4, "{changes:?}");
        let EventChange::End(first) = changes[1].1 else {
            panic!("{changes:?}")
        };
        assert_eq!((first.start, first.end, first.frames), (ms(200), ms(700), 3));
        assert_eq!(changes[1].0, 900);
    }

    #[test]
    fn an_event_begins_late_but_starts_at_its_first_frame() {
        let policy = EventPolicy {
            min_anomaly: ms(300),
            ..POLICY
        };
        let (ids, changes) = run(&policy, ".##..####");
        assert_eq!(ids, ".......11");
        let (at, EventChange::Begin(event)) = changes[0] else {
            panic!("{changes:?}")
        };
        assert_eq!(
            (at, event.start, event.end, event.frames),
            (700, ms(500), ms(800), 3)
        );
    }

    #[test]
    fn an_open_event_is_reported_once_an_interval() {
        let (_, changes) = run(&POLICY, &"#".repeat(35));
        let updates: Vec<_> = changes
            .iter()
            .filter(|(_, change)| matches!(change, EventChange::Update(_)))
            .map(|(at, _)| *at)
            .collect();
        assert_eq!(updates, [1000, 2000, 3000]);
    }

    #[test]
    fn the_peak_is_that_of_the_highest_score() {
        let mut tracker = EventTracker::new();
        for (frame, score) in [0.6, 0.9, 0.7].into_iter().enumerate() {
            tracker.observe(&POLICY, &observation(100 * frame as u64, 100, true, score));
        }
        let event = tracker.finish().expect("an open event");
        assert_eq!(
            (event.peak_score, event.peak_raw_score, event.peak_at),
            (0.9, 9.0, ms(100))
        );
        assert_eq!(tracker.finish(), None);
    }

    #[test]
    fn ids_continue_after_the_end_of_a_stream() {
        let mut tracker = EventTracker::new();
        let first = tracker
            .observe(&POLICY, &observation(5000, 100, true, 0.6))
            .event_id;
        assert!(tracker.finish().is_some());
        let second = tracker.observe(&POLICY, &observation(0, 100, true, 0.6)).event_id;
        assert_eq!((first, second), (NonZeroU64::new(1), NonZeroU64::new(2)));
    }

    #[test]
    fn a_gap_in_the_stream_separates_events_and_one_frame_can_end_and_begin() {
        let mut tracker = EventTracker::new();
        tracker.observe(&POLICY, &observation(0, 100, true, 0.6));
        let tracked = tracker.observe(&POLICY, &observation(10_000, 100, true, 0.6));
        let changes: Vec<_> = tracked.changes().collect();
        assert!(
            matches!(changes[..], [EventChange::End(_), EventChange::Begin(_)]),
            "{changes:?}"
        );
    }

    #[test]
    fn time_that_jumps_back_ends_the_event() {
        let mut tracker = EventTracker::new();
        tracker.observe(&POLICY, &observation(50_000, 100, true, 0.6));
        let mut back = observation(0, 100, true, 0.6);
        back.span.jump = true;
        let changes: Vec<_> = tracker.observe(&POLICY, &back).changes().collect();
        assert!(
            matches!(changes[..], [EventChange::End(_), EventChange::Begin(_)]),
            "{changes:?}"
        );
    }

    #[test]
    fn rounding_between_frames_does_not_split_an_event() {
        let policy = EventPolicy {
            merge_gap: ms(0),
            ..POLICY
        };
        let mut tracker = EventTracker::new();
        let frame = Duration::from_nanos(33_333_333);
        for index in 0..90u64 {
            let span = Span::new(Duration::from_nanos(index * 1_000_000_000 / 30), frame);
            let tracked = tracker.observe(
                &policy,
                &Observation {
                    span,
                    ..observation(0, 0, true, 0.6)
                },
            );
            assert_eq!(tracked.event_id, NonZeroU64::new(1), "frame {index}");
        }
        assert!(
            tracker
                .observe(&policy, &observation(3000, 33, false, 0.1))
                .event_id
                .is_none()
        );
    }

    #[test]
    fn frames_without_a_duration_last_until_the_next() {
        let mut tracker = EventTracker::new();
        for at in [0, 5000, 10_000] {
            let id = tracker.observe(&POLICY, &observation(at, 0, true, 0.6)).event_id;
            assert_eq!(id, NonZeroU64::new(1));
        }
        assert_eq!(tracker.finish().map(|event| event.duration()), Some(ms(10_000)));
    }

    #[test]
    fn nan_scores_do_not_become_the_peak() {
        let mut tracker = EventTracker::new();
        tracker.observe(&POLICY, &observation(0, 100, true, f64::NAN));
        tracker.observe(&POLICY, &observation(100, 100, true, 0.7));
        tracker.observe(&POLICY, &observation(200, 100, true, f64::NAN));
        assert_eq!(tracker.finish().map(|event| event.peak_score), Some(0.7));
    }

    /// Frames that follow one another, with pauses between them, and their labels.
    fn any_frames() -> impl Strategy<Value = Vec<(Span, bool)>> {
        prop::collection::vec((0u64..400, 0u64..200, prop::bool::weighted(0.3)), 1..200).prop_map(|frames| {
            let mut at = 0;
            let frame = |(pause, duration, anomalous): (u64, u64, bool)| {
                let span = Span::new(ms(at), ms(duration));
                at += duration + pause;
                (span, anomalous)
            };
            frames.into_iter().map(frame).collect()
        })
    }

    proptest! {
        #[test]
        fn events_are_balanced_ordered_and_contain_every_long_anomaly(
            frames in any_frames(), min_anomaly in 0u64..500, merge_gap in 0u64..1000,
        ) {
            let policy = EventPolicy { min_anomaly: ms(min_anomaly), merge_gap: ms(merge_gap), update_interval: ms(1000) };
            let mut tracker = EventTracker::new();
            let mut open: Option<EventInfo> = None;
            let mut ended: Vec<EventInfo> = Vec::new();
            for (span, anomalous) in frames {
                let tracked = tracker.observe(&policy, &Observation { span, anomalous, score: 0.5, raw_score: 1.0, absorbed: false });
                for change in tracked.changes() {
                    match change {
                        EventChange::Begin(event) => {
                            prop_assert!(open.replace(event).is_none(), "two events open");
                            prop_assert!(event.duration() >= policy.min_anomaly);
                        }
                        EventChange::Update(event) => prop_assert_eq!(open.map(|open| open.id), Some(event.id)),
                        EventChange::End(event) => {
                            prop_assert_eq!(open.take().map(|open| open.id), Some(event.id));
                            ended.push(event);
                        }
                    }
                }
                prop_assert_eq!(tracked.event_id, open.map(|open| open.id));
                prop_assert!(!anomalous || min_anomaly > 0 || tracked.event_id.is_some());
            }
            ended.extend(tracker.finish());
            for (index, event) in ended.iter().enumerate() {
                prop_assert_eq!(event.id.get(), index as u64 + 1);
                prop_assert!(event.start <= event.peak_at && event.peak_at <= event.end);
            }
            for pair in ended.windows(2) {
                prop_assert!(pair[1].start >= pair[0].end + policy.merge_gap);
            }
        }
    }
}
