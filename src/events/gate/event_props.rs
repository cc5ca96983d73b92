//! Begin and end of events carry as much information as a verdict on every frame.

use proptest::prelude::*;

use super::*;
use crate::events::{EventChange, EventPolicy, EventTracker, Observation, Tracked};

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

fn track(frames: &[(u64, bool)], policy: &EventPolicy) -> Vec<(Observation, Tracked)> {
    let mut tracker = EventTracker::new();
    let mut at = 0;
    let observe = |&(duration, anomalous): &(u64, bool)| {
        let observation = Observation {
            span: Span::new(ms(at), ms(duration)),
            anomalous,
            score: 0.5,
            raw_score: 1.0,
            absorbed: false,
        };
        at += duration;
        (observation, tracker.observe(policy, &observation))
    };
    frames.iter().map(observe).collect()
}

/// Which frames of raw video a gate keeps that knows events only by their begin and end (with this report delay), or only
/// verdicts.
fn passed(
    frames: &[(Observation, Tracked)],
    policy: &GatePolicy,
    report_delay: Option<Duration>,
) -> Vec<bool> {
    let mut gate = Gate::new();
    gate.timeline_mut()
        .set_report_delay(report_delay.unwrap_or_default());
    let mut outcomes = Vec::new();
    for (observation, tracked) in frames {
        let mut verdict = FrameVerdict {
            span: observation.span,
            anomalous: observation.anomalous,
            event: tracked.event_id,
            protected: false,
        };
        if report_delay.is_some() {
            tracked.changes().for_each(|change| match change {
                EventChange::Begin(event) => gate.timeline_mut().begin_event(event.start),
                EventChange::End(event) => gate.timeline_mut().end_event(event.end),
                EventChange::Update(_) => {}
            });
            verdict = FrameVerdict {
                span: observation.span,
                ..FrameVerdict::default()
            };
        }
        gate.add_verdict(&verdict);
        let info = FrameInfo {
            span: observation.span,
            decode: None,
            bytes: 1,
            key: true,
            intra: true,
        };
        gate.push(info, ());
        take(&mut gate, policy, &mut outcomes);
    }
    gate.finish();
    take(&mut gate, policy, &mut outcomes);
    outcomes
}

fn take(gate: &mut Gate<()>, policy: &GatePolicy, outcomes: &mut Vec<bool>) {
    while let Some(output) = gate.next(policy) {
        outcomes.push(matches!(output, Output::Keep { .. }));
    }
}

proptest! {
    #[test]
    fn events_keep_the_same_frames_as_verdicts(
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
        let by_verdicts = passed(&frames, &policy, None);
        prop_assert_eq!(by_verdicts.len(), frames.len());
        prop_assert_eq!(passed(&frames, &policy, Some(events.min_anomaly)), by_verdicts);
    }
}
