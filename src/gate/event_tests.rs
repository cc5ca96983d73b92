use std::time::Duration;

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

fn sighting(at: u64, duration: u64, anomalous: bool, score: f64) -> Sighting {
    Sighting {
        span: Span::new(ms(at), ms(duration)),
        anomalous,
        score,
        raw_score: 10.0 * score,
    }
}

/// Runs frames of 100 ms, `#` anomalous, and tells ids (as digits) and changes.
fn run(policy: &EventPolicy, labels: &str) -> (String, Vec<(u64, Change)>) {
    let mut tracker = EventTracker::new();
    let mut ids = String::new();
    let mut changes = Vec::new();
    for (frame, label) in labels.chars().enumerate() {
        let at = 100 * frame as u64;
        let tracked = tracker.observe(policy, &sighting(at, 100, label == '#', 0.5));
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
    let Change::End(first) = changes[1].1 else {
        panic!("{changes:?}")
    };
    assert_eq!((first.start, first.end, first.frames), (ms(200), ms(700), 3));
    assert_eq!(changes[1].0, 900);
}

#[test]
fn an_event_opens_late_but_starts_early() {
    let policy = EventPolicy {
        min_anomaly: ms(300),
        ..POLICY
    };
    let (ids, changes) = run(&policy, ".##..####");
    assert_eq!(ids, ".......11");
    let (at, Change::Begin(event)) = changes[0] else {
        panic!("{changes:?}")
    };
    assert_eq!(
        (at, event.start, event.end, event.frames),
        (700, ms(500), ms(800), 3)
    );
}

#[test]
fn an_open_event_is_told_of_once_an_interval() {
    let (_, changes) = run(&POLICY, &"#".repeat(35));
    let updates: Vec<_> = changes
        .iter()
        .filter(|(_, change)| matches!(change, Change::Update(_)))
        .map(|(at, _)| *at)
        .collect();
    assert_eq!(updates, [1000, 2000, 3000]);
}

#[test]
fn the_peak_is_that_of_the_highest_score() {
    let mut tracker = EventTracker::new();
    for (frame, score) in [0.6, 0.9, 0.7].into_iter().enumerate() {
        tracker.observe(&POLICY, &sighting(100 * frame as u64, 100, true, score));
    }
    let event = tracker.finish().expect("an open event");
    assert_eq!(
        (event.peak_score, event.peak_raw_score, event.peak_at),
        (0.9, 9.0, ms(100))
    );
    assert_eq!(tracker.finish(), None);
}

#[test]
fn ids_go_on_after_the_end_of_a_stream() {
    let mut tracker = EventTracker::new();
    let first = tracker.observe(&POLICY, &sighting(5000, 100, true, 0.6)).event_id;
    assert!(tracker.finish().is_some());
    let second = tracker.observe(&POLICY, &sighting(0, 100, true, 0.6)).event_id;
    assert_eq!((first, second), (NonZeroU64::new(1), NonZeroU64::new(2)));
}

#[test]
fn a_hole_in_the_stream_separates_and_one_frame_can_end_and_begin() {
    let mut tracker = EventTracker::new();
    tracker.observe(&POLICY, &sighting(0, 100, true, 0.6));
    let tracked = tracker.observe(&POLICY, &sighting(10_000, 100, true, 0.6));
    let changes: Vec<_> = tracked.changes().collect();
    assert!(
        matches!(changes[..], [Change::End(_), Change::Begin(_)]),
        "{changes:?}"
    );
}

#[test]
fn time_that_jumps_back_ends_the_event() {
    let mut tracker = EventTracker::new();
    tracker.observe(&POLICY, &sighting(50_000, 100, true, 0.6));
    let mut back = sighting(0, 100, true, 0.6);
    back.span.jump = true;
    let changes: Vec<_> = tracker.observe(&POLICY, &back).changes().collect();
    assert!(
        matches!(changes[..], [Change::End(_), Change::Begin(_)]),
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
            &Sighting {
                span,
                ..sighting(0, 0, true, 0.6)
            },
        );
        assert_eq!(tracked.event_id, NonZeroU64::new(1), "frame {index}");
    }
    assert!(
        tracker
            .observe(&policy, &sighting(3000, 33, false, 0.1))
            .event_id
            .is_none()
    );
}

#[test]
fn frames_without_a_duration_last_until_the_next() {
    let mut tracker = EventTracker::new();
    for at in [0, 5000, 10_000] {
        let id = tracker.observe(&POLICY, &sighting(at, 0, true, 0.6)).event_id;
        assert_eq!(id, NonZeroU64::new(1));
    }
    assert_eq!(tracker.finish().map(|event| event.duration()), Some(ms(10_000)));
}

#[test]
fn scores_that_are_no_numbers_do_not_stick_as_peak() {
    let mut tracker = EventTracker::new();
    tracker.observe(&POLICY, &sighting(0, 100, true, f64::NAN));
    tracker.observe(&POLICY, &sighting(100, 100, true, 0.7));
    tracker.observe(&POLICY, &sighting(200, 100, true, f64::NAN));
    assert_eq!(tracker.finish().map(|event| event.peak_score), Some(0.7));
}

/// Frames that follow one another, with pauses between them, and their labels.
fn any_frames() -> impl Strategy<Value = Vec<(Span, bool)>> {
    prop::collection::vec((0u64..400, 0u64..200, prop::bool::weighted(0.3)), 1..200).prop_map(|frames| {
        let mut at = 0;
        let place = |(pause, duration, anomalous): (u64, u64, bool)| {
            let span = Span::new(ms(at), ms(duration));
            at += duration + pause;
            (span, anomalous)
        };
        frames.into_iter().map(place).collect()
    })
}

proptest! {
    #[test]
    fn events_are_balanced_in_order_and_hold_every_long_anomaly(
        frames in any_frames(), min_anomaly in 0u64..500, merge_gap in 0u64..1000,
    ) {
        let policy = EventPolicy { min_anomaly: ms(min_anomaly), merge_gap: ms(merge_gap), update_interval: ms(1000) };
        let mut tracker = EventTracker::new();
        let mut open: Option<EventInfo> = None;
        let mut ended: Vec<EventInfo> = Vec::new();
        for (span, anomalous) in frames {
            let tracked = tracker.observe(&policy, &Sighting { span, anomalous, score: 0.5, raw_score: 1.0 });
            for change in tracked.changes() {
                match change {
                    Change::Begin(event) => {
                        prop_assert!(open.replace(event).is_none(), "two events open");
                        prop_assert!(event.duration() >= policy.min_anomaly);
                    }
                    Change::Update(event) => prop_assert_eq!(open.map(|open| open.id), Some(event.id)),
                    Change::End(event) => {
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
