//! `drop-normal` works in running time: with another rate, an offset, a variable frame rate or none, and frames without
//! timestamps.

mod common;

use std::ops::Range;

use common::rig::{self, DROPPING, Item, Rig};
use common::synthetic::{Happening, SIZE, Scene};
use gstvaeanomaly::FrameResult;

const ROLLS: [(&str, &str); 3] = [
    ("post-roll", "700000000"),
    ("merge-gap", "0"),
    ("min-anomaly", "300000000"),
];
const KEEP_ALIVE: u64 = 1000;
const POST_ROLL: u64 = 700;
const FRAMES: u64 = 180;

/// A stream of the same frames, each a tenth of a second of the scene.
struct Stream {
    /// Frame rate in the caps.
    rate: &'static str,
    segment: gst::FormattedSegment<gst::ClockTime>,
    /// Timestamp and duration of a frame's buffer, in ms.
    stamp: fn(u64) -> (Option<u64>, Option<u64>),
    /// When a frame is presented, in ms of running time; empty if its duration is unknown.
    presented: fn(u64) -> Range<u64>,
    /// The position in the segment where a frame starts, in ms.
    position: fn(u64) -> u64,
}

fn plain(index: u64) -> Range<u64> {
    100 * index..100 * index + 100
}

fn segment(
    change: impl FnOnce(&mut gst::FormattedSegment<gst::ClockTime>),
) -> gst::FormattedSegment<gst::ClockTime> {
    rig::init();
    let mut segment = gst::FormattedSegment::new();
    change(&mut segment);
    segment
}

/// One frame, as the element reported it.
#[derive(Debug)]
struct Frame {
    presented: Range<u64>,
    unknown: bool,
    anomalous: bool,
    event: bool,
    kept: bool,
}

fn ms(time: gst::ClockTime) -> u64 {
    time.mseconds()
}

fn push(rig: &mut Rig, stream: &Stream) {
    let (width, height) = SIZE;
    rig.harness.set_src_caps_str(&format!(
        "video/x-raw,format=GRAY8,width={width},height={height},framerate={}",
        stream.rate
    ));
    assert!(rig.harness.push_event(gst::event::Segment::new(&stream.segment)));
    let scene = Scene::quiet().with(12.0..14.5, Happening::Runner);
    for index in 0..FRAMES {
        let mut buffer = gst::Buffer::from_mut_slice(scene.image(index as f64 / 10.0));
        let fields = buffer.get_mut().expect("a new buffer");
        let (pts, duration) = (stream.stamp)(index);
        fields.set_pts(pts.map(gst::ClockTime::from_mseconds));
        fields.set_duration(duration.map(gst::ClockTime::from_mseconds));
        rig.push(buffer);
    }
}

/// Plays the stream and checks every decision, every gap and every request for a key frame.
fn check(stream: &Stream) {
    let mut rig = Rig::new(&[&DROPPING[..], &ROLLS].concat());
    push(&mut rig, stream);
    let items = rig.take_items();
    let messages = rig.take_messages();
    let kept: Vec<u64> = items.iter().filter_map(frame_number).collect();
    let reported = rig::of_kind(&messages, "frame");
    assert_eq!(reported.len() as u64, FRAMES);
    let frames: Vec<Frame> = reported
        .iter()
        .zip(0..)
        .map(|(fields, index)| Frame {
            presented: (stream.presented)(index),
            unknown: fields.get("label") == Ok("unknown"),
            anomalous: fields.get("label") == Ok("anomaly"),
            event: fields.get::<u64>("event-id") != Ok(0),
            kept: kept.contains(&index),
        })
        .collect();
    check_decisions(&frames);
    check_gaps(stream, &frames, &items);
    check_key_frames(stream, &items);
    let begin = rig::of_kind(&messages, "anomaly-begin")[0];
    let first = frames
        .iter()
        .find(|frame| frame.anomalous)
        .expect("an anomalous frame");
    let start: gst::ClockTime = begin.get("running-time").expect("a time");
    assert_eq!(ms(start), first.presented.start);
}

fn frame_number(item: &Item) -> Option<u64> {
    match item {
        Item::Buffer(buffer) => Some(FrameResult::read(buffer).expect("metadata").prediction.frame),
        Item::Event(_) => None,
    }
}

fn check_decisions(frames: &[Frame]) {
    let (mut last, mut anomaly_end, mut dropped) = (0, None, 0);
    for (index, frame) in frames.iter().enumerate() {
        let Range { start, end } = frame.presented;
        if frame.event && frame.anomalous {
            anomaly_end = Some(end.max(start + 1));
        }
        let rolls = anomaly_end.is_some_and(|end| start < end + POST_ROLL);
        let wanted = frame.unknown || frame.anomalous || frame.event || rolls;
        let due = start - last >= KEEP_ALIVE || end.saturating_sub(last) > KEEP_ALIVE;
        assert_eq!(
            frame.kept,
            wanted || due,
            "frame {index}: {frame:?}, the last kept was at {last}"
        );
        if frame.kept {
            last = start;
        }
        dropped += usize::from(!frame.kept);
    }
    assert!(dropped > 30, "{dropped} dropped");
    assert!(anomaly_end.is_some(), "there was an event");
}

/// There is a GAP event in segment time for every dropped frame.
fn check_gaps(stream: &Stream, frames: &[Frame], items: &[Item]) {
    let gaps: Vec<_> = items
        .iter()
        .filter_map(|item| match item {
            Item::Event(event) => match event.view() {
                gst::EventView::Gap(gap) => Some(gap.get()),
                _ => None,
            },
            Item::Buffer(_) => None,
        })
        .collect();
    let dropped = frames.iter().zip(0..).filter(|(frame, _)| !frame.kept);
    let dropped: Vec<u64> = dropped.map(|(_, index)| (stream.position)(index)).collect();
    assert_eq!(gaps.iter().map(|gap| ms(gap.0)).collect::<Vec<_>>(), dropped);
}

/// A key frame is requested with the running time of the frame that follows.
fn check_key_frames(stream: &Stream, items: &[Item]) {
    let requests: Vec<_> = items
        .iter()
        .enumerate()
        .filter_map(|(at, item)| match item {
            Item::Event(event) => Some((at, gst_video::DownstreamForceKeyUnitEvent::parse(event).ok()?)),
            Item::Buffer(_) => None,
        })
        .collect();
    let [(at, request)] = requests.as_slice() else {
        panic!("{} requests for one clip", requests.len());
    };
    let next = items[*at..]
        .iter()
        .find_map(frame_number)
        .expect("a frame follows");
    assert_eq!(request.running_time.map(ms), Some((stream.presented)(next).start));
    assert_eq!(request.timestamp.map(ms), Some((stream.position)(next)));
}

#[test]
fn at_double_speed_with_an_offset() {
    check(&Stream {
        rate: "10/1",
        segment: segment(|segment| {
            segment.set_rate(2.0);
            segment.set_start(5 * gst::ClockTime::SECOND);
            segment.set_position(5 * gst::ClockTime::SECOND);
            segment.set_base(3 * gst::ClockTime::SECOND);
        }),
        stamp: |index| (Some(5000 + 100 * index), Some(100)),
        presented: |index| 3000 + 50 * index..3050 + 50 * index,
        position: |index| 5000 + 100 * index,
    });
}

#[test]
fn at_a_variable_frame_rate() {
    fn start(index: u64) -> u64 {
        100 * index + 35 * (index % 3)
    }
    check(&Stream {
        rate: "0/1",
        segment: segment(|_| ()),
        stamp: |index| (Some(start(index)), Some(start(index + 1) - start(index))),
        presented: |index| start(index)..start(index + 1),
        position: start,
    });
}

#[test]
fn without_durations_and_frame_rate() {
    check(&Stream {
        rate: "0/1",
        segment: segment(|_| ()),
        stamp: |index| (Some(100 * index), None),
        presented: |index| 100 * index..100 * index,
        position: |index| 100 * index,
    });
}

#[test]
fn without_timestamps() {
    check(&Stream {
        rate: "10/1",
        segment: segment(|_| ()),
        stamp: |_| (None, None),
        presented: plain,
        position: |index| 100 * index,
    });
}

#[test]
fn with_missing_timestamps() {
    check(&Stream {
        rate: "10/1",
        segment: segment(|segment| segment.set_base(2 * gst::ClockTime::SECOND)),
        stamp: |index| ((index % 4 == 0).then_some(100 * index), None),
        presented: |index| 2000 + 100 * index..2100 + 100 * index,
        position: |index| 100 * index,
    });
}
