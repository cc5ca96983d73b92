//! Properties that hold for every stream, label sequence and policy.

use std::num::NonZeroU64;

use proptest::prelude::*;

use super::*;
use crate::events::{EventPolicy, EventTracker, Observation};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const POLICY: GatePolicy = GatePolicy {
    pre_roll: ms(200),
    post_roll: ms(100),
    keepalive_interval: ms(0),
    max_bytes: u64::MAX,
    keep_all: false,
};

/// One coded frame of a synthetic stream.
#[derive(Debug, Clone, Copy)]
struct CodedFrame {
    span: Span,
    key: bool,
    group: usize,
    leads: bool,
    anomalous: bool,
    event: Option<NonZeroU64>,
}

/// Frames in decoding order: groups of any length, with or without reordered and leading frames, at a varying rate.
fn any_stream(intra: bool) -> impl Strategy<Value = Vec<CodedFrame>> {
    let groups = prop::collection::vec((1usize..12, 0usize..3, any::<bool>()), 1..12);
    let frames = prop::collection::vec((10u64..60, prop::bool::weighted(0.04)), 200);
    (groups, frames, 0u64..300).prop_map(move |(groups, frames, merge_gap)| {
        let mut order = Vec::new();
        let mut position = 0;
        for (group, (length, between, open)) in groups.into_iter().enumerate() {
            let (length, between) = if intra { (1, 0) } else { (length, between) };
            let leading = if open && group > 0 { between } else { 0 };
            order.push((position + leading, true, group, false));
            order.extend((0..leading).map(|index| (position + index, false, group, true)));
            position += leading + 1;
            let mut left = length - 1;
            while left > 0 {
                let bidirectional = between.min(left - 1);
                order.push((position + bidirectional, false, group, false));
                order.extend((0..bidirectional).map(|index| (position + index, false, group, false)));
                position += bidirectional + 1;
                left -= bidirectional + 1;
            }
        }
        let labelled = label(&frames[..position], merge_gap);
        let frame = |(position, key, group, leads): (usize, bool, usize, bool)| {
            let (span, anomalous, event) = labelled[position];
            CodedFrame {
                span,
                key,
                group,
                leads,
                anomalous,
                event,
            }
        };
        order.into_iter().map(frame).collect()
    })
}

fn label(frames: &[(u64, bool)], merge_gap: u64) -> Vec<(Span, bool, Option<NonZeroU64>)> {
    let policy = EventPolicy {
        min_anomaly: ms(0),
        merge_gap: ms(merge_gap),
        update_interval: ms(1000),
    };
    let mut tracker = EventTracker::new();
    let mut at = 0;
    let label = |&(duration, anomalous): &(u64, bool)| {
        let span = Span::new(ms(at), ms(duration));
        at += duration;
        let observation = Observation {
            span,
            anomalous,
            score: 0.5,
            raw_score: 1.0,
            absorbed: false,
        };
        (span, anomalous, tracker.observe(&policy, &observation).event_id)
    };
    frames.iter().map(label).collect()
}

/// Feeds a stream; verdicts come with the frames, or `lag` frames later in presentation order.
fn feed(
    stream: &[CodedFrame],
    policy: &GatePolicy,
    intra: bool,
    lag: Option<usize>,
) -> Vec<Option<KeepReason>> {
    let verdict = |frame: &CodedFrame| FrameVerdict {
        span: frame.span,
        protected: false,
        anomalous: frame.anomalous,
        event: frame.event,
    };
    let mut presented = stream.to_vec();
    presented.sort_by_key(|frame| frame.span.start);
    let first_presented = |index: usize| stream[index..].iter().map(|frame| frame.span.start).min();
    let decode = |index| first_presented(index).filter(|_| !intra);
    let mut gate = Gate::new();
    let mut outcomes = Vec::new();
    let mut take = |gate: &mut Gate<usize>| {
        while let Some(output) = gate.next(policy) {
            let (index, reason) = match output {
                Output::Keep { item, reason, .. } => (item, Some(reason)),
                Output::Drop { item, .. } | Output::Pass(item) => (item, None),
            };
            assert_eq!(index, outcomes.len(), "outputs come in input order, each once");
            outcomes.push(reason);
        }
        assert!(gate.bytes() <= policy.max_bytes, "{} bytes held", gate.bytes());
    };
    for (index, frame) in stream.iter().enumerate() {
        match lag {
            None => gate.add_verdict(&verdict(frame)),
            Some(lag) if index >= lag => gate.add_verdict(&verdict(&presented[index - lag])),
            Some(_) => {}
        }
        gate.push(
            FrameInfo {
                span: frame.span,
                decode: decode(index),
                bytes: 10,
                key: frame.key,
                intra,
            },
            index,
        );
        take(&mut gate);
    }
    if let Some(lag) = lag {
        presented
            .iter()
            .rev()
            .take(lag)
            .rev()
            .for_each(|frame| gate.add_verdict(&verdict(frame)));
    }
    gate.finish();
    take(&mut gate);
    outcomes
}

fn is_wanted(frame: &CodedFrame, stream: &[CodedFrame], policy: &GatePolicy) -> bool {
    let at = frame.span.start;
    let rolls_to = |other: &CodedFrame| {
        other.anomalous
            && other.event.is_some()
            && other.span.start.saturating_sub(policy.pre_roll) <= at
            && at < other.span.end + policy.post_roll
    };
    frame.event.is_some() || stream.iter().any(rolls_to)
}

/// Whether anything that is kept needs frame `index`.
fn is_needed(index: usize, stream: &[CodedFrame], policy: &GatePolicy) -> bool {
    let frame = stream[index];
    let depends = |other: &&CodedFrame| {
        other.group == frame.group && (!frame.leads || other.leads)
            || other.leads && other.group == frame.group + 1
    };
    stream[index..]
        .iter()
        .filter(depends)
        .any(|other| is_wanted(other, stream, policy))
}

/// Whether a kept frame of its group is decoded before it and presented after it.
fn fills_hole(index: usize, stream: &[CodedFrame], outcomes: &[Option<KeepReason>]) -> bool {
    let frame = stream[index];
    let kept = stream[..index]
        .iter()
        .zip(outcomes)
        .filter(|(_, outcome)| outcome.is_some());
    !frame.key
        && kept
            .into_iter()
            .any(|(other, _)| other.group == frame.group && other.span.start > frame.span.start)
}

fn check_decodable(stream: &[CodedFrame], outcomes: &[Option<KeepReason>]) -> Result<(), TestCaseError> {
    for (index, frame) in stream
        .iter()
        .enumerate()
        .filter(|(index, _)| outcomes[*index].is_some())
    {
        let reference = stream[..index].iter().rposition(|other| !other.leads);
        if let Some(reference) = reference.filter(|_| !frame.key) {
            prop_assert!(outcomes[reference].is_some(), "frame {index} lacks its reference");
        }
        if frame.leads {
            let before = stream
                .iter()
                .rposition(|other| !other.leads && other.group + 1 == frame.group);
            prop_assert!(
                before.is_some_and(|before| outcomes[before].is_some()),
                "frame {index} lacks the previous group"
            );
        }
    }
    Ok(())
}

/// One word a frame for failure messages: start, kind, label and outcome.
fn describe(stream: &[CodedFrame], outcomes: &[Option<KeepReason>]) -> String {
    let word = |(frame, outcome): (&CodedFrame, &Option<KeepReason>)| {
        let kind = if frame.key { "K" } else { "" };
        let label = if frame.anomalous { "!" } else { "" };
        let inside = if frame.event.is_some() { "e" } else { "" };
        format!(
            "{}{kind}{label}{inside}{}",
            frame.span.start.as_millis(),
            if outcome.is_some() { "#" } else { "" }
        )
    };
    stream
        .iter()
        .zip(outcomes)
        .map(word)
        .collect::<Vec<_>>()
        .join(" ")
}

proptest! {
    #[test]
    fn exactly_the_frames_that_events_need_are_kept(
        stream in any_stream(false), lag in prop::option::of(0usize..20), pre in 0u64..400, post in 0u64..400,
    ) {
        let policy = GatePolicy { pre_roll: ms(pre), post_roll: ms(post), ..POLICY };
        let outcomes = feed(&stream, &policy, false, lag);
        for (index, outcome) in outcomes.iter().enumerate() {
            if stream[index].leads && !is_wanted(&stream[index], &stream, &policy) {
                continue; // Not a reference: it may be kept where the previous group is.
            }
            let expected = is_needed(index, &stream, &policy) || fills_hole(index, &stream, &outcomes);
            prop_assert_eq!(outcome.is_some(), expected, "frame {} of {}", index, describe(&stream, &outcomes));
        }
        check_decodable(&stream, &outcomes)?;
    }

    #[test]
    fn raw_pre_and_post_roll_are_exact(
        stream in any_stream(true), lag in prop::option::of(0usize..20), pre in 0u64..400, post in 0u64..400,
    ) {
        let policy = GatePolicy { pre_roll: ms(pre), post_roll: ms(post), ..POLICY };
        let outcomes = feed(&stream, &policy, true, lag);
        for (frame, outcome) in stream.iter().zip(outcomes) {
            prop_assert_eq!(outcome.is_some(), is_wanted(frame, &stream, &policy), "{:?}", frame);
        }
    }

    #[test]
    fn gaps_are_never_longer_than_the_keep_alive_interval(
        stream in any_stream(true), lag in prop::option::of(0usize..20), interval in 1u64..800,
    ) {
        let policy = GatePolicy { keepalive_interval: ms(interval), ..POLICY };
        let outcomes = feed(&stream, &policy, true, lag);
        let mut last = stream[0].span.start;
        for (frame, outcome) in stream.iter().zip(outcomes) {
            if outcome.is_some() {
                last = frame.span.start;
            }
            prop_assert!(frame.span.end - last <= ms(interval).max(frame.span.duration()));
        }
    }

    #[test]
    fn encoded_gaps_are_at_most_the_keep_alive_interval_or_a_group(stream in any_stream(false), interval in 1u64..800) {
        let policy = GatePolicy { keepalive_interval: ms(interval), ..POLICY };
        let outcomes = feed(&stream, &policy, false, None);
        let mut last = Duration::ZERO;
        for (index, frame) in stream.iter().enumerate() {
            let next_key = stream[index + 1..].iter().find(|other| other.key);
            if outcomes[index].is_some() {
                last = last.max(frame.span.start);
            } else if let Some(next_key) = next_key.filter(|_| frame.key) {
                prop_assert!(next_key.span.start <= last + ms(interval), "{frame:?}");
            }
        }
        check_decodable(&stream, &outcomes)?;
    }

    #[test]
    fn the_memory_bound_holds_and_kept_frames_can_be_decoded(
        stream in any_stream(false), lag in prop::option::of(0usize..20), max_bytes in 0u64..200, pre in 0u64..800,
    ) {
        let policy = GatePolicy { max_bytes, pre_roll: ms(pre), keepalive_interval: ms(300), ..POLICY };
        let outcomes = feed(&stream, &policy, false, lag);
        prop_assert_eq!(outcomes.len(), stream.len());
        check_decodable(&stream, &outcomes)?;
    }
}
