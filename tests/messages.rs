//! Messages on the bus, events downstream, and metadata behind other elements.

mod common;

use common::rig::{self, Item, Rig};
use common::synthetic::{Happening, SIZE, Scene};
use gst::prelude::*;
use gstvaeanomaly::FrameResult;
use gstvaeanomaly::detector::Region;

const QUICK: [(&str, &str); 3] = [("warm-up", "100"), ("threshold", "4"), ("seed", "7")];

/// A runner for three seconds, then nothing.
fn runner() -> Scene {
    Scene::quiet().with(15.0..18.0, Happening::Runner)
}

fn names(messages: &[gst::Structure]) -> Vec<&str> {
    messages.iter().map(|s| s.get::<&str>("event").unwrap()).collect()
}

fn time(s: &gst::StructureRef, name: &str) -> gst::ClockTime {
    s.get::<gst::ClockTime>(name)
        .unwrap_or_else(|e| panic!("{name} of {s}: {e}"))
}

#[test]
fn an_event_begins_is_updated_and_ends() {
    let mut rig = Rig::grey(&QUICK, 10);
    // Position 10 s is running time 0 s and stream time 3 s.
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(10 * gst::ClockTime::SECOND);
    segment.set_time(3 * gst::ClockTime::SECOND);
    assert!(rig.harness.push_event(gst::event::Segment::new(&segment)));
    let scene = Scene::quiet().with(22.0..25.0, Happening::Runner);
    rig.push_scene(&scene, 10, 100..290);
    let messages = rig.take_messages();
    let reported: Vec<&str> = names(&messages)
        .into_iter()
        .filter(|name| name.starts_with("anomaly"))
        .collect();
    assert_eq!(reported.first(), Some(&"anomaly-begin"), "{reported:?}");
    assert_eq!(reported.last(), Some(&"anomaly-end"), "{reported:?}");
    assert_eq!(
        reported.iter().filter(|name| **name != "anomaly-update").count(),
        2,
        "{reported:?}"
    );
    assert!(reported.len() >= 5, "an update a second: {reported:?}");

    let begin = rig::of_kind(&messages, "anomaly-begin")[0];
    let start = time(begin, "timestamp");
    assert!(
        start >= 22 * gst::ClockTime::SECOND && start < 23 * gst::ClockTime::SECOND,
        "{start}"
    );
    for s in messages
        .iter()
        .filter(|s| s.get::<&str>("event").unwrap().starts_with("anomaly"))
    {
        assert_eq!(s.name(), "vaeanomaly");
        assert_eq!(s.get::<u64>("event-id"), Ok(1));
        assert_eq!(
            time(s, "timestamp"),
            start,
            "every message of an event has the time of its begin"
        );
        assert_eq!(time(s, "running-time"), start - 10 * gst::ClockTime::SECOND);
        assert_eq!(time(s, "stream-time"), start - 7 * gst::ClockTime::SECOND);
        for name in ["score", "peak-score", "raw-score", "threshold"] {
            assert!(s.get::<f64>(name).unwrap().is_finite(), "{name}");
        }
        assert!(s.get::<f64>("peak-score").unwrap() > 0.5);
        let place = ["x", "y", "width", "height"].map(|name| s.get::<u32>(name).unwrap() as usize);
        assert!(place[0] + place[2] <= SIZE.0 && place[1] + place[3] <= SIZE.1 && place[2] > 0);
        assert_eq!(s.get("state"), Ok("detecting"));
        // The launcher prints messages: what is printed can be read back.
        let printed: gst::Structure = s.to_string().parse().unwrap();
        for s in [s, &printed] {
            let regions = s.get::<gst::Array>("regions").unwrap();
            // Between two anomalies of an event a frame is normal.
            if regions.is_empty() && s.get("event") == Ok("anomaly-update") {
                continue;
            }
            let first = regions.first().expect("an event has a region");
            let first = first.get::<gst::Structure>().unwrap();
            let strongest =
                ["x", "y", "width", "height"].map(|name| first.get::<u32>(name).unwrap() as usize);
            assert_eq!(strongest, place);
            assert!(first.get::<u64>("id").unwrap() > 0 && first.get::<f64>("score").unwrap() > 0.0);
            assert!(["motion", "appearance"].contains(&first.get::<&str>("cue").unwrap()));
        }
    }
    let end = rig::of_kind(&messages, "anomaly-end")[0];
    let duration = time(end, "duration");
    assert!(
        duration >= 2 * gst::ClockTime::SECOND && duration <= 4 * gst::ClockTime::SECOND,
        "{duration}"
    );
    assert!(end.get::<u64>("anomalous-frames").unwrap() >= 20);
    assert!(end.get::<f64>("peak-score").unwrap() >= begin.get::<f64>("peak-score").unwrap());
    assert_eq!(end.get::<u64>("frames-in"), end.get::<u64>("frames-out"));
    // The frame whose metadata names the event for the last time lies within the merge gap.
    let last = rig
        .take_results()
        .iter()
        .rposition(|r| r.event_id.is_some())
        .unwrap();
    let closed = rig::frame_time(10, 100 + last as u64);
    assert!(closed < start + duration + 2 * gst::ClockTime::SECOND);
}

#[test]
fn the_end_of_the_stream_ends_the_event() {
    let mut rig = Rig::grey(&QUICK, 10);
    rig.push_scene(&runner(), 10, 0..170);
    rig.take_items();
    rig.take_messages();
    rig.harness.push_event(gst::event::Eos::new());
    let messages = rig.take_messages();
    assert_eq!(names(&messages), ["anomaly-end"]);
    assert_eq!(messages[0].get("event-id"), Ok(1u64));
    let kinds: Vec<gst::EventType> = rig
        .take_items()
        .iter()
        .filter_map(|item| match item {
            Item::Event(event) => Some(event.type_()),
            Item::Buffer(_) => None,
        })
        .collect();
    assert_eq!(kinds, [gst::EventType::CustomDownstream, gst::EventType::Eos]);
}

#[test]
fn post_messages_selects_the_messages() {
    for (post, wanted) in [
        ("none", [].as_slice()),
        ("events", &["anomaly-begin", "anomaly-update", "state-changed"]),
        (
            "all",
            &["anomaly-begin", "anomaly-update", "frame", "state-changed"],
        ),
    ] {
        let mut rig = Rig::grey(&QUICK, 10);
        rig.element.set_property_from_str("post-messages", post);
        rig.push_scene(&runner(), 10, 0..175);
        let messages = rig.take_messages();
        let mut reported = names(&messages);
        let frames = reported.iter().filter(|name| **name == "frame").count();
        assert_eq!(frames, if post == "all" { 175 } else { 0 });
        reported.sort_unstable();
        reported.dedup();
        assert_eq!(reported, wanted, "post-messages={post}");
        if post == "all" {
            let frame = rig::of_kind(&messages, "frame")[120];
            assert_eq!(frame.get("frame"), Ok(120u64));
            assert_eq!(time(frame, "timestamp"), 12 * gst::ClockTime::SECOND);
            assert_eq!(time(frame, "duration"), 100 * gst::ClockTime::MSECOND);
        }
    }
}

#[test]
fn events_go_downstream_before_their_frames() {
    let mut rig = Rig::grey(&QUICK, 10);
    rig.element.set_property_from_str("post-messages", "none");
    rig.push_scene(&runner(), 10, 0..230);
    let mut reported = Vec::new();
    let mut frames = 0u64;
    for item in rig.take_items() {
        match item {
            Item::Buffer(_) => frames += 1,
            Item::Event(event) => {
                let Some(s) = event.structure().filter(|s| s.name() == "vaeanomaly-event") else {
                    continue;
                };
                assert!(event.is_serialized() && event.is_downstream());
                reported.push((
                    s.get::<String>("event").unwrap(),
                    s.get::<u64>("event-id").unwrap(),
                    frames,
                ));
            }
        }
    }
    let events: Vec<&(String, u64, u64)> = reported.iter().filter(|t| t.0.starts_with("anomaly")).collect();
    let [(begin, 1, first), (end, 1, _)] = events.as_slice() else {
        panic!("{reported:?}");
    };
    assert_eq!((begin.as_str(), end.as_str()), ("anomaly-begin", "anomaly-end"));
    assert!((150..165).contains(first), "begins before frame {first}");
    assert_eq!(
        reported.iter().filter(|t| t.0 == "state-changed").count(),
        3,
        "{reported:?}"
    );
}

#[test]
fn what_stays_is_one_event_that_ends_when_it_is_absorbed() {
    let scene = Scene::quiet().with(30.0..1e9, Happening::Parcel);
    for (after, absorbed) in [("20000000000", true), ("0", false)] {
        let mut rig = Rig::grey(&[("cues", "appearance"), ("absorb-after", after)], 10);
        rig.push_scene(&scene, 10, 0..800);
        let messages = rig.take_messages();
        let begun = rig::of_kind(&messages, "anomaly-begin");
        let [begin] = begun.as_slice() else {
            panic!("absorb-after={after}: {} events", begun.len());
        };
        let begin = time(begin, "running-time");
        assert!(
            (300..320).contains(&(begin.mseconds() / 100)),
            "begins at {begin}"
        );
        let ended = rig::of_kind(&messages, "anomaly-end");
        let reasons: Vec<&str> = ended.iter().map(|end| end.get("reason").unwrap()).collect();
        assert_eq!(
            reasons,
            if absorbed { &["absorbed"][..] } else { &[] },
            "absorb-after={after}"
        );
        if let Some(end) = ended.first() {
            let lasted = time(end, "duration");
            assert!((5..40).contains(&lasted.seconds()), "absorbed after {lasted}");
        }
    }
}

#[test]
fn scene_changes_and_a_covered_lens_are_reported() {
    let scene = Scene::quiet()
        .with(12.0..15.0, Happening::Turned)
        .with(20.0..23.0, Happening::Covered);
    let mut rig = Rig::grey(&QUICK, 10);
    rig.push_scene(&scene, 10, 0..220);
    let messages = rig.take_messages();
    let change = rig::of_kind(&messages, "scene-change")[0];
    assert_eq!(change.get("change"), Ok("new-scene"));
    assert_eq!(time(change, "timestamp"), 12 * gst::ClockTime::SECOND);
    assert_eq!(change.get("state"), Ok("adapting"));
    let blocked = rig::of_kind(&messages, "view-blocked");
    assert_eq!(blocked.len(), 1, "reported once");
    assert!(time(blocked[0], "timestamp") >= 20 * gst::ClockTime::SECOND);
}

/// Metadata and region of interest of one frame, 80x60 with the region (20, 12, 16, 8), behind some elements.
type Placed = (FrameResult, Option<(u32, u32, u32, u32)>);

fn behind(elements: &str) -> Placed {
    rig::init();
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers=1 ! video/x-raw,format=I420,width=80,height=60 ! vaeanomaly name=eye ! {elements} \
         ! fakesink name=sink"
    ));
    let pipeline = pipeline
        .expect("the elements exist")
        .downcast::<gst::Pipeline>()
        .unwrap();
    let pad = |element: &str, pad: &str| pipeline.by_name(element).unwrap().static_pad(pad).unwrap();
    pad("eye", "src").add_probe(gst::PadProbeType::BUFFER, |_, info| {
        if let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data {
            let buffer = buffer.make_mut();
            let mut result = FrameResult::read(buffer).expect("every frame has metadata");
            result.prediction.region = Region {
                x: 20,
                y: 12,
                width: 16,
                height: 8,
            };
            result.write(buffer).expect("it is registered");
            gst_video::VideoRegionOfInterestMeta::add(buffer, "anomaly", (20, 12, 16, 8));
        }
        gst::PadProbeReturn::Ok
    });
    let (send, found) = std::sync::mpsc::channel();
    pad("sink", "sink").add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let buffer = info.buffer().expect("a buffer");
        let roi = buffer
            .iter_meta::<gst_video::VideoRegionOfInterestMeta>()
            .next()
            .map(|roi| roi.rect());
        send.send((FrameResult::read(buffer), roi))
            .expect("the test waits");
        gst::PadProbeReturn::Ok
    });
    rig::run_to_end(&pipeline);
    let (result, roi) = found.recv().expect("a frame");
    (result.expect("the metadata is still there"), roi)
}

/// The region of interest is moved by GStreamer, ours by its reader.
#[test]
fn behind_a_scaler_both_regions_agree() {
    for (elements, (width, height)) in [
        ("videoscale ! video/x-raw,width=40,height=30", (40, 30)),
        (
            "videoscale ! video/x-raw,width=160,height=30,pixel-aspect-ratio=1/1",
            (160, 30),
        ),
        (
            "videoscale ! video/x-raw,width=160,height=120 ! videoscale ! video/x-raw,width=20,height=15",
            (20, 15),
        ),
        ("videoconvert ! video/x-raw,format=RGB", (80, 60)),
        (
            "jpegenc ! jpegdec ! videoscale ! video/x-raw,width=40,height=30",
            (40, 30),
        ),
    ] {
        let (result, roi) = behind(elements);
        let region = result.region_in(width, height);
        let ours = (region.x, region.y, region.width, region.height);
        assert_eq!(Some(ours), roi, "{elements}");
    }
}

/// GStreamer reports neither to metadata: the region stays that of the analysed image, whose size is in the metadata.
#[test]
fn behind_elements_that_crop_or_flip_the_region_is_that_of_the_analysed_image() {
    for elements in [
        "videocrop left=10 top=6",
        "videobox left=10 top=6",
        "videoflip method=clockwise",
    ] {
        let (result, _) = behind(elements);
        assert_eq!(result.image_size, (80, 60), "{elements}");
        let Region { x, y, width, height } = result.prediction.region;
        assert_eq!((x, y, width, height), (20, 12, 16, 8), "{elements}");
    }
}
