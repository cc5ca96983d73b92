//! Recorders that stamp single frames hours off: neither events nor recordings nor latency suffer.

use gst::prelude::*;

mod common;
mod gated;
use common::rig::{self, Rig};
use common::synthetic::{Happening, Scene};
use gated::harness::{self, H264, MS, RAW};

const HOUR: gst::ClockTime = gst::ClockTime::from_seconds(3600);

/// Messages of an event from 15 s to 18 s, where every 20th frame is stamped `wrong(time)`.
fn event_messages(wrong: impl Fn(gst::ClockTime) -> gst::ClockTime) -> Vec<(String, u64)> {
    let settings = [
        ("warm-up", "100"),
        ("threshold", "4"),
        ("seed", "7"),
        ("drop-normal", "true"),
    ];
    let mut rig = Rig::grey(&settings, 10);
    let scene = Scene::quiet().with(15.0..18.0, Happening::Runner);
    for i in 0..230 {
        let mut buffer = rig::grey_frame(&scene, 10, i);
        if i % 20 == 10 {
            let fields = buffer.get_mut().expect("a new buffer");
            fields.set_pts(fields.pts().map(&wrong));
        }
        rig.push(buffer);
    }
    rig.take_messages()
        .iter()
        .filter(|s| {
            s.get::<&str>("event")
                .is_ok_and(|name| name.starts_with("anomaly"))
        })
        .map(|s| {
            let start: gst::ClockTime = s.get("running-time").expect("a time");
            (s.get("event").expect("a name"), start.mseconds())
        })
        .collect()
}

#[test]
fn events_are_the_same_with_single_wrong_timestamps() {
    let right = event_messages(|time| time);
    assert_eq!(
        right.iter().filter(|(name, _)| name == "anomaly-begin").count(),
        1,
        "{right:?}"
    );
    assert_eq!(event_messages(|time| time + 10 * HOUR), right);
    assert_eq!(event_messages(|_| gst::ClockTime::ZERO), right);
}

/// Frames 0 to 59 of groups of ten with an event in frames 40 to 44; frames `wrong` are stamped as given.
fn passed(settings: &str, caps: &str, wrong: &[(u64, gst::ClockTime)]) -> (gst_check::Harness, Vec<u64>) {
    let mut harness = harness::harness(settings, caps);
    for number in 0..60 {
        let label = match number {
            40..45 => gated::Label::Anomaly(1),
            _ => gated::Label::Normal,
        };
        let mut frame = harness::frame(number, number % 10 == 0, Some(label));
        if let Some((_, time)) = wrong.iter().find(|(wrong, _)| *wrong == number) {
            let fields = frame.get_mut().expect("a new buffer");
            fields.set_pts(*time);
            fields.set_dts(*time);
        }
        harness.push(frame).expect("the frame is accepted");
    }
    harness.push_event(gst::event::Eos::new());
    let passed = harness::passed(&mut harness);
    (harness, passed)
}

#[test]
fn the_gate_keeps_the_same_frames_with_single_wrong_timestamps() {
    let settings = "pre-roll=1000000000 post-roll=500000000 keepalive-interval=0";
    for caps in [RAW, H264] {
        let (_, right) = passed(settings, caps, &[]);
        assert!(right.len() > 15 && right.len() < 30, "{right:?}");
        for wrong in [10 * HOUR, gst::ClockTime::ZERO] {
            for frame in [5, 33, 38, 42, 47] {
                let (harness, with_wrong) = passed(settings, caps, &[(frame, wrong)]);
                assert_eq!(with_wrong, right, "frame {frame} at {wrong}");
                assert!(hold(&harness) <= 2500 * MS, "{}", hold(&harness));
            }
        }
    }
}

fn hold(harness: &gst_check::Harness) -> gst::ClockTime {
    let stats: gst::Structure = harness.element().expect("an element").property("stats");
    stats.get("longest-hold").expect("that statistic")
}

fn latency(harness: &gst_check::Harness) -> gst::ClockTime {
    let pad = harness.element().and_then(|element| element.static_pad("src"));
    let mut query = gst::query::Latency::new();
    assert!(pad.expect("a source pad").query(&mut query));
    query.result().1
}

#[test]
fn a_frame_from_the_future_does_not_delay_sinks() {
    let settings = "pre-roll=1000000000 keepalive-interval=0";
    let ahead = gst::ClockTime::from_seconds(23);
    for caps in [RAW, H264] {
        let (harness, _) = passed(settings, caps, &[(30, ahead)]);
        assert!(latency(&harness) <= 2500 * MS, "{}", latency(&harness));
    }
}

/// The camera is away for ten minutes: what it held was not held for so long by the gate.
#[test]
fn a_gap_in_the_stream_does_not_delay_sinks() {
    let mut harness = harness::harness("pre-roll=1000000000 keepalive-interval=0", RAW);
    harness::feed(&mut harness, 0, &"N".repeat(30));
    harness::feed(&mut harness, 6000, &"N".repeat(30));
    assert!(latency(&harness) <= 2500 * MS, "{}", latency(&harness));
}

/// An encoder without metadata behind a detector: time goes back while an event is open.
#[test]
fn an_open_event_survives_a_jump_back_in_time() {
    let event = |name: &str, at: u64| {
        let fields = gst::Structure::builder("vaeanomaly-event")
            .field("event", name)
            .field("state", "detecting")
            .field("running-time", at * MS)
            .field("duration", 300 * MS);
        gst::event::CustomDownstream::new(fields.build())
    };
    let mut harness = harness::harness("pre-roll=0 post-roll=0 keepalive-interval=0", RAW);
    harness.push_event(event("state-changed", 0));
    harness::feed(&mut harness, 100, "...");
    harness.push_event(event("anomaly-begin", 10_300));
    harness::feed(&mut harness, 103, "...");
    harness::feed(&mut harness, 0, "......");
    harness.push_event(event("anomaly-end", 500));
    harness::feed(&mut harness, 6, "......");
    harness.push_event(gst::event::Eos::new());
    let passed = harness::passed(&mut harness);
    assert_eq!(passed, [103, 104, 105, 0, 1, 2, 3, 4, 5, 6, 7]);
}
