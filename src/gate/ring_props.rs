//! Properties that hold for every stream, label sequence and setting.

use std::num::NonZeroU64;

use proptest::prelude::*;

use super::*;
use crate::gate::{EventPolicy, EventTracker, Sighting};

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

/// One coded picture of a made-up stream.
#[derive(Debug, Clone, Copy)]
struct Picture {
    span: Span,
    key: bool,
    group: usize,
    leads: bool,
    anomalous: bool,
    event: Option<NonZeroU64>,
}

/// Pictures in decoding order: groups of any length, with or without reordered and leading pictures, at a varying rate.
fn any_stream(intra: bool) -> impl Strategy<Value = Vec<Picture>> {
    let groups = prop::collection::vec((1usize..12, 0usize..3, any::<bool>()), 1..12);
    let frames = prop::collection::vec((10u64..60, prop::bool::weighted(0.04)), 200);
    (groups, frames, 0u64..300).prop_map(move |(groups, frames, merge_gap)| {
        let mut order = Vec::new();
        let mut shown = 0;
        for (group, (length, between, open)) in groups.into_iter().enumerate() {
            let (length, between) = if intra { (1, 0) } else { (length, between) };
            let leading = if open && group > 0 { between } else { 0 };
            order.push((shown + leading, true, group, false));
            order.extend((0..leading).map(|index| (shown + index, false, group, true)));
            shown += leading + 1;
            let mut left = length - 1;
            while left > 0 {
                let bidirectional = between.min(left - 1);
                order.push((shown + bidirectional, false, group, false));
                order.extend((0..bidirectional).map(|index| (shown + index, false, group, false)));
                shown += bidirectional + 1;
                left -= bidirectional + 1;
            }
        }
        let labelled = label(&frames[..shown], merge_gap);
        let picture = |(shown, key, group, leads): (usize, bool, usize, bool)| {
            let (span, anomalous, event) = labelled[shown];
            Picture {
                span,
                key,
                group,
                leads,
                anomalous,
                event,
            }
        };
        order.into_iter().map(picture).collect()
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
        let sighting = Sighting {
            span,
            anomalous,
            score: 0.5,
            raw_score: 1.0,
        };
        (span, anomalous, tracker.observe(&policy, &sighting).event_id)
    };
    frames.iter().map(label).collect()
}

/// Feeds a stream; marks come with the pictures, or `lag` pictures later in order of presentation.
fn feed(stream: &[Picture], policy: &GatePolicy, intra: bool, lag: Option<usize>) -> Vec<Option<Reason>> {
    let mark = |picture: &Picture| Mark {
        span: picture.span,
        protected: false,
        anomalous: picture.anomalous,
        event: picture.event,
    };
    let mut presented = stream.to_vec();
    presented.sort_by_key(|picture| picture.span.start);
    let first_shown = |index: usize| stream[index..].iter().map(|picture| picture.span.start).min();
    let decode = |index| first_shown(index).filter(|_| !intra);
    let mut gate = Gate::new();
    let mut fates = Vec::new();
    let mut take = |gate: &mut Gate<usize>| {
        while let Some(output) = gate.next(policy) {
            let (index, reason) = match output {
                Output::Keep { item, reason, .. } => (item, Some(reason)),
                Output::Drop { item, .. } | Output::Pass(item) => (item, None),
            };
            assert_eq!(index, fates.len(), "in order, each once");
            fates.push(reason);
        }
        assert!(gate.bytes() <= policy.max_bytes, "{} bytes held", gate.bytes());
    };
    for (index, picture) in stream.iter().enumerate() {
        match lag {
            None => gate.note(&mark(picture)),
            Some(lag) if index >= lag => gate.note(&mark(&presented[index - lag])),
            Some(_) => {}
        }
        gate.push(
            FrameInfo {
                span: picture.span,
                decode: decode(index),
                bytes: 10,
                key: picture.key,
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
            .for_each(|picture| gate.note(&mark(picture)));
    }
    gate.finish();
    take(&mut gate);
    fates
}

fn is_wanted(picture: &Picture, stream: &[Picture], policy: &GatePolicy) -> bool {
    let at = picture.span.start;
    let rolls_to = |other: &Picture| {
        other.anomalous
            && other.event.is_some()
            && other.span.start.saturating_sub(policy.pre_roll) <= at
            && at < other.span.end + policy.post_roll
    };
    picture.event.is_some() || stream.iter().any(rolls_to)
}

/// Whether anything that is kept needs picture `index`.
fn is_needed(index: usize, stream: &[Picture], policy: &GatePolicy) -> bool {
    let picture = stream[index];
    let depends = |other: &&Picture| {
        other.group == picture.group && (!picture.leads || other.leads)
            || other.leads && other.group == picture.group + 1
    };
    stream[index..]
        .iter()
        .filter(depends)
        .any(|other| is_wanted(other, stream, policy))
}

/// Whether a kept picture of its group was sent before it and is shown after it.
fn fills_hole(index: usize, stream: &[Picture], fates: &[Option<Reason>]) -> bool {
    let picture = stream[index];
    let kept = stream[..index]
        .iter()
        .zip(fates)
        .filter(|(_, fate)| fate.is_some());
    !picture.key
        && kept
            .into_iter()
            .any(|(other, _)| other.group == picture.group && other.span.start > picture.span.start)
}

fn check_decodable(stream: &[Picture], fates: &[Option<Reason>]) -> Result<(), TestCaseError> {
    for (index, picture) in stream
        .iter()
        .enumerate()
        .filter(|(index, _)| fates[*index].is_some())
    {
        let reference = stream[..index].iter().rposition(|other| !other.leads);
        if let Some(reference) = reference.filter(|_| !picture.key) {
            prop_assert!(
                fates[reference].is_some(),
                "picture {index} has lost the one before it"
            );
        }
        if picture.leads {
            let before = stream
                .iter()
                .rposition(|other| !other.leads && other.group + 1 == picture.group);
            prop_assert!(
                before.is_some_and(|before| fates[before].is_some()),
                "picture {index} leads into nothing"
            );
        }
    }
    Ok(())
}

/// One word a picture, to read a failure by: start, kind, label and fate.
fn tell(stream: &[Picture], fates: &[Option<Reason>]) -> String {
    let word = |(picture, fate): (&Picture, &Option<Reason>)| {
        let kind = if picture.key { "K" } else { "" };
        let label = if picture.anomalous { "!" } else { "" };
        let inside = if picture.event.is_some() { "e" } else { "" };
        format!(
            "{}{kind}{label}{inside}{}",
            picture.span.start.as_millis(),
            if fate.is_some() { "#" } else { "" }
        )
    };
    stream.iter().zip(fates).map(word).collect::<Vec<_>>().join(" ")
}

proptest! {
    #[test]
    fn kept_is_exactly_what_events_need(
        stream in any_stream(false), lag in prop::option::of(0usize..20), pre in 0u64..400, post in 0u64..400,
    ) {
        let policy = GatePolicy { pre_roll: ms(pre), post_roll: ms(post), ..POLICY };
        let fates = feed(&stream, &policy, false, lag);
        for (index, fate) in fates.iter().enumerate() {
            if stream[index].leads && !is_wanted(&stream[index], &stream, &policy) {
                continue; // No reference for anything: it may pass where the group before it did.
            }
            let expected = is_needed(index, &stream, &policy) || fills_hole(index, &stream, &fates);
            prop_assert_eq!(fate.is_some(), expected, "picture {} of {}", index, tell(&stream, &fates));
        }
        check_decodable(&stream, &fates)?;
    }

    #[test]
    fn raw_pre_and_post_roll_are_exact(
        stream in any_stream(true), lag in prop::option::of(0usize..20), pre in 0u64..400, post in 0u64..400,
    ) {
        let policy = GatePolicy { pre_roll: ms(pre), post_roll: ms(post), ..POLICY };
        let fates = feed(&stream, &policy, true, lag);
        for (picture, fate) in stream.iter().zip(fates) {
            prop_assert_eq!(fate.is_some(), is_wanted(picture, &stream, &policy), "{:?}", picture);
        }
    }

    #[test]
    fn silence_is_never_longer_than_the_keep_alive(
        stream in any_stream(true), lag in prop::option::of(0usize..20), interval in 1u64..800,
    ) {
        let policy = GatePolicy { keepalive_interval: ms(interval), ..POLICY };
        let fates = feed(&stream, &policy, true, lag);
        let mut last = stream[0].span.start;
        for (picture, fate) in stream.iter().zip(fates) {
            if fate.is_some() {
                last = picture.span.start;
            }
            prop_assert!(picture.span.end - last <= ms(interval).max(picture.span.duration()));
        }
    }

    #[test]
    fn encoded_silence_is_at_most_the_keep_alive_or_a_group(stream in any_stream(false), interval in 1u64..800) {
        let policy = GatePolicy { keepalive_interval: ms(interval), ..POLICY };
        let fates = feed(&stream, &policy, false, None);
        let mut last = Duration::ZERO;
        for (index, picture) in stream.iter().enumerate() {
            let next_key = stream[index + 1..].iter().find(|other| other.key);
            if fates[index].is_some() {
                last = last.max(picture.span.start);
            } else if let Some(next_key) = next_key.filter(|_| picture.key) {
                prop_assert!(next_key.span.start <= last + ms(interval), "{picture:?}");
            }
        }
        check_decodable(&stream, &fates)?;
    }

    #[test]
    fn the_memory_bound_holds_and_what_passes_can_be_decoded(
        stream in any_stream(false), lag in prop::option::of(0usize..20), max_bytes in 0u64..200, pre in 0u64..800,
    ) {
        let policy = GatePolicy { max_bytes, pre_roll: ms(pre), keepalive_interval: ms(300), ..POLICY };
        let fates = feed(&stream, &policy, false, lag);
        prop_assert_eq!(fates.len(), stream.len());
        check_decodable(&stream, &fates)?;
    }
}
