//! Which frames `drop-normal` keeps, and what it sends downstream.

mod common;

use common::rig::{self, DROPPING, Item, Rig, frame_time};
use common::synthetic::{Happening, Scene};
use gst::prelude::*;
use gstvaeanomaly::FrameResult;
use gstvaeanomaly::detector::Label;

const SECOND: u64 = 1_000_000_000;

/// A runner for two seconds after 12 s of normal video.
fn runner() -> Scene {
    Scene::quiet().with(12.0..14.0, Happening::Runner)
}

/// What the element reported about a frame, and whether it kept the frame.
#[derive(Debug)]
struct Frame {
    unknown: bool,
    anomalous: bool,
    event: u64,
    kept: bool,
}

/// All output of the element for a stream of 10 frames/s.
struct Seen {
    frames: Vec<Frame>,
    items: Vec<Item>,
    messages: Vec<gst::Structure>,
    stats: gst::Structure,
}

fn watch(properties: &[(&str, &str)], scene: &Scene, frames: u64) -> Seen {
    let mut rig = Rig::grey(&[&DROPPING, properties].concat(), 10);
    rig.push_scene(scene, 10, 0..frames);
    assert!(rig.harness.push_event(gst::event::Eos::new()));
    let items = rig.take_items();
    let kept = kept_frames(&items);
    let messages = rig.take_messages();
    let frames = rig::of_kind(&messages, "frame")
        .iter()
        .map(|s| Frame {
            unknown: s.get("label") == Ok("unknown"),
            anomalous: s.get("label") == Ok("anomaly"),
            event: s.get("event-id").unwrap(),
            kept: kept.contains(&s.get("frame").unwrap()),
        })
        .collect();
    let stats = rig.stats();
    Seen {
        frames,
        items,
        messages,
        stats,
    }
}

fn kept_frames(items: &[Item]) -> Vec<u64> {
    let numbers = items.iter().filter_map(|item| match item {
        Item::Buffer(buffer) => Some(FrameResult::read(buffer).unwrap().prediction.frame),
        Item::Event(_) => None,
    });
    numbers.collect()
}

fn events(items: &[Item], kind: gst::EventType) -> impl Iterator<Item = &gst::Event> {
    items.iter().filter_map(move |item| match item {
        Item::Event(event) if event.type_() == kind => Some(event),
        _ => None,
    })
}

#[test]
fn events_their_post_roll_and_keep_alive_frames_are_kept() {
    let seen = watch(&[], &runner(), 220);
    let end = seen.frames.iter().rposition(|f| f.anomalous).unwrap();
    let mut last = 0;
    let mut dropped = 0u64;
    assert!(seen.frames.iter().filter(|f| f.event == 1).count() > 20);
    for (i, frame) in seen.frames.iter().enumerate() {
        // Post-roll: two seconds from the end of the last anomalous frame.
        let post_roll = i > end && i - end <= 20;
        let wanted = frame.unknown || frame.anomalous || frame.event > 0 || post_roll;
        if wanted {
            assert!(frame.kept, "frame {i}: {frame:?}");
        } else if frame.kept {
            assert_eq!(i - last, 10, "frame {i}: one keep-alive a second");
        }
        if frame.kept {
            last = i;
        }
        dropped += u64::from(!frame.kept);
    }
    assert!(
        seen.frames[..80].iter().filter(|f| f.unknown && f.kept).count() >= 79,
        "nothing is dropped before the state detecting"
    );
    assert!(dropped > 60, "{dropped} dropped");
    assert_eq!(seen.stats.get("dropped"), Ok(dropped));
    assert_eq!(seen.stats.get("passed"), Ok(220 - dropped));
    let out: u64 = seen.stats.get("bytes-out").unwrap();
    let all: u64 = seen.stats.get("bytes-in").unwrap();
    assert_eq!(out * 220, all * (220 - dropped));
    let end = rig::of_kind(&seen.messages, "anomaly-end")[0];
    assert!(end.get::<u64>("frames-out").unwrap() < end.get::<u64>("frames-in").unwrap());
}

#[test]
fn every_frame_is_a_buffer_or_a_gap_with_discont_after_it() {
    let seen = watch(&[], &runner(), 220);
    let mut next = 0;
    let mut after_drop = false;
    for item in &seen.items {
        match item {
            Item::Buffer(buffer) => {
                assert_eq!(buffer.pts(), Some(frame_time(10, next)));
                assert_eq!(buffer.duration(), Some(100 * gst::ClockTime::MSECOND));
                let discont = buffer.flags().contains(gst::BufferFlags::DISCONT);
                assert_eq!(discont, after_drop, "frame {next}");
                (next, after_drop) = (next + 1, false);
            }
            Item::Event(event) => {
                if let gst::EventView::Gap(gap) = event.view() {
                    let (start, duration) = gap.get();
                    assert_eq!(start, frame_time(10, next));
                    assert_eq!(duration, Some(100 * gst::ClockTime::MSECOND));
                    (next, after_drop) = (next + 1, true);
                }
            }
        }
    }
    assert_eq!(next, 220, "every frame is a buffer or a gap");
}

#[test]
fn a_key_frame_is_requested_where_a_clip_starts() {
    let seen = watch(&[], &runner(), 220);
    let mut requests = Vec::new();
    let mut buffers = seen.items.iter().enumerate().filter_map(|(i, item)| match item {
        Item::Buffer(buffer) => Some((i, buffer)),
        Item::Event(_) => None,
    });
    for (i, item) in seen.items.iter().enumerate() {
        let Item::Event(event) = item else { continue };
        let Ok(request) = gst_video::DownstreamForceKeyUnitEvent::parse(event) else {
            continue;
        };
        let (_, next) = buffers.find(|(at, _)| *at > i).expect("a frame follows");
        assert_eq!(request.timestamp, next.pts());
        assert_eq!(request.running_time, next.pts());
        assert!(!request.all_headers);
        requests.push(FrameResult::read(next).unwrap());
    }
    let [first] = requests.as_slice() else {
        panic!("{} requests for one clip", requests.len());
    };
    assert_eq!(first.prediction.label, Some(Label::Anomaly));
    assert!(
        (120..130).contains(&first.prediction.frame),
        "{}",
        first.prediction.frame
    );
}

#[test]
fn segment_and_eos_are_forwarded_once() {
    let seen = watch(&[], &runner(), 160);
    for kind in [
        gst::EventType::StreamStart,
        gst::EventType::Caps,
        gst::EventType::Segment,
        gst::EventType::Eos,
    ] {
        assert_eq!(events(&seen.items, kind).count(), 1, "{kind:?}");
    }
    assert!(matches!(seen.items.last(), Some(Item::Event(e)) if e.type_() == gst::EventType::Eos));
}

#[test]
fn gap_events_can_be_switched_off() {
    let seen = watch(&[("gap-events", "false")], &runner(), 160);
    assert!(seen.stats.get::<u64>("dropped").unwrap() > 20);
    assert_eq!(events(&seen.items, gst::EventType::Gap).count(), 0);
}

#[test]
fn keep_alive_frames_come_at_the_interval() {
    for (interval, spacing) in [(0, None), (3 * SECOND / 10, Some(3)), (5 * SECOND / 2, Some(25))] {
        let interval = interval.to_string();
        let seen = watch(&[("keepalive-interval", &interval)], &Scene::quiet(), 160);
        let kept: Vec<usize> = (85..160).filter(|&i| seen.frames[i].kept).collect();
        match spacing {
            None => assert_eq!(kept, [0; 0], "keepalive-interval={interval}"),
            Some(frames) => {
                assert!(kept.len() >= 2, "keepalive-interval={interval}");
                assert!(kept.windows(2).all(|w| w[1] - w[0] == frames), "{kept:?}");
            }
        }
    }
}

#[test]
fn a_shorter_post_roll_keeps_less() {
    let settings = [
        ("post-roll", "500000000"),
        ("merge-gap", "0"),
        ("keepalive-interval", "0"),
    ];
    let seen = watch(&settings, &runner(), 180);
    let end = seen.frames.iter().rposition(|f| f.anomalous).unwrap();
    let last = seen.frames.iter().rposition(|f| f.kept).unwrap();
    assert_eq!(last, end + 5);
}

#[test]
fn short_anomalies_are_kept_without_an_event() {
    let long = (10 * SECOND).to_string();
    let seen = watch(
        &[("min-anomaly", &long), ("keepalive-interval", "0")],
        &runner(),
        160,
    );
    let anomalous: Vec<usize> = (0..160).filter(|&i| seen.frames[i].anomalous).collect();
    assert!(anomalous.len() > 10);
    assert!(anomalous.iter().all(|&i| seen.frames[i].kept));
    assert!(seen.frames.iter().all(|f| f.event == 0));
    assert!(rig::of_kind(&seen.messages, "anomaly-begin").is_empty());
    let last = anomalous.last().unwrap();
    assert!(
        seen.frames[last + 1..].iter().all(|f| !f.kept),
        "no post-roll without an event"
    );
}

#[test]
fn anomalies_within_the_merge_gap_are_one_event() {
    let scene = runner().with(16.5..18.5, Happening::Runner);
    for (gap, events) in [(4 * SECOND, 1), (SECOND / 5, 2)] {
        let gap = gap.to_string();
        let seen = watch(&[("merge-gap", &gap)], &scene, 200);
        let begun = rig::of_kind(&seen.messages, "anomaly-begin").len();
        assert_eq!(begun, events, "merge-gap={gap}");
        let ids: Vec<u64> = seen.frames.iter().map(|f| f.event).collect();
        assert_eq!(ids.iter().max(), Some(&(events as u64)), "merge-gap={gap}");
    }
}

#[test]
fn nothing_is_dropped_while_adapting() {
    let scene = Scene::quiet().with(12.0..1e9, Happening::Dusk);
    let seen = watch(&[("keepalive-interval", "0")], &scene, 180);
    assert!(!seen.frames[110].kept, "dropping had begun");
    let adapting: Vec<&Frame> = seen.frames[120..].iter().filter(|f| f.unknown).collect();
    assert!(adapting.len() >= 10, "{}", adapting.len());
    assert!(adapting.iter().all(|f| f.kept));
}

#[test]
fn dropping_can_be_switched_while_playing() {
    let mut rig = Rig::grey(&DROPPING, 10);
    rig.element.set_property("keepalive-interval", 0u64);
    rig.push_scene(&Scene::quiet(), 10, 0..90);
    rig.take_items();
    for (drop, kept) in [(true, 0), (false, 10), (true, 0)] {
        rig.element.set_property("drop-normal", drop);
        let from = rig.stats().get::<u64>("frames").unwrap();
        rig.push_scene(&Scene::quiet(), 10, from..from + 10);
        assert_eq!(rig.take_buffers().len(), kept, "drop-normal={drop}");
    }
}
