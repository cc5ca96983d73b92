//! What events tell is worth as much as what marks tell.

use proptest::prelude::*;

use super::*;
use crate::gate::{Change, EventPolicy, EventTracker, Sighting, Tracked};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Duration in ms and label of every frame.
fn any_frames() -> impl Strategy<Value = Vec<(u64, bool)>> {
    let stretch = (any::<bool>(), prop::collection::vec(10u64..60, 1..15));
    prop::collection::vec(stretch, 1..20).prop_map(|stretches| {
        let frames = |(anomalous, durations): (bool, Vec<u64>)| {
            durations.into_iter().map(move |duration| (duration, anomalous))
        };
        stretches.into_iter().flat_map(frames).collect()
    })
}

fn track(frames: &[(u64, bool)], policy: &EventPolicy) -> Vec<(Sighting, Tracked)> {
    let mut tracker = EventTracker::new();
    let mut at = 0;
    let sight = |&(duration, anomalous): &(u64, bool)| {
        let sighting = Sighting {
            span: Span::new(ms(at), ms(duration)),
            anomalous,
            score: 0.5,
            raw_score: 1.0,
        };
        at += duration;
        (sighting, tracker.observe(policy, &sighting))
    };
    frames.iter().map(sight).collect()
}

/// Which frames of raw video pass a gate that hears of events only by their begin and end, or by marks only.
fn passed(frames: &[(Sighting, Tracked)], policy: &GatePolicy, notice: Option<Duration>) -> Vec<bool> {
    let mut gate = Gate::new();
    gate.timeline_mut().set_notice(notice.unwrap_or_default());
    let mut fates = Vec::new();
    for (sighting, tracked) in frames {
        let mut mark = Mark {
            span: sighting.span,
            anomalous: sighting.anomalous,
            event: tracked.event_id,
            protected: false,
        };
        if notice.is_some() {
            tracked.changes().for_each(|change| match change {
                Change::Begin(event) => gate.timeline_mut().open_event(event.start),
                Change::End(event) => gate.timeline_mut().close_event(event.end),
                Change::Update(_) => {}
            });
            mark = Mark {
                span: sighting.span,
                ..Mark::default()
            };
        }
        gate.note(&mark);
        let info = FrameInfo {
            span: sighting.span,
            decode: None,
            bytes: 1,
            key: true,
            intra: true,
        };
        gate.push(info, ());
        take(&mut gate, policy, &mut fates);
    }
    gate.finish();
    take(&mut gate, policy, &mut fates);
    fates
}

fn take(gate: &mut Gate<()>, policy: &GatePolicy, fates: &mut Vec<bool>) {
    while let Some(output) = gate.next(policy) {
        fates.push(matches!(output, Output::Keep { .. }));
    }
}

proptest! {
    #[test]
    fn events_keep_the_frames_that_marks_keep(
        frames in any_frames(), min_anomaly in 0u64..300, merge_gap in 0u64..300, pre in 0u64..400, post in 0u64..400,
    ) {
        let events = EventPolicy { min_anomaly: ms(min_anomaly), merge_gap: ms(merge_gap), update_interval: ms(1000) };
        let policy = GatePolicy {
            pre_roll: ms(pre),
            post_roll: ms(post),
            keepalive_interval: ms(0),
            max_bytes: u64::MAX,
            keep_all: false,
        };
        let frames = track(&frames, &events);
        let by_marks = passed(&frames, &policy, None);
        prop_assert_eq!(by_marks.len(), frames.len());
        prop_assert_eq!(passed(&frames, &policy, Some(events.min_anomaly)), by_marks);
    }
}
