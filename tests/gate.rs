//! Which frames pass `vaeanomalygate`, and when.

mod gated;
use gated::Label;
use gated::harness::*;

#[test]
fn raw_frames_pass_from_the_pre_roll_to_the_post_roll() {
    let mut harness = harness("pre-roll=200000000 post-roll=100000000 keepalive-interval=0", RAW);
    feed(&mut harness, 0, "NNNNNNAANNNN");
    harness.push_event(gst::event::Eos::new());
    assert_eq!(passed(&mut harness), [4, 5, 6, 7, 8]);
    assert_eq!(
        (stat(&harness, "frames-in"), stat(&harness, "frames-out")),
        (12, 5)
    );
    assert_eq!(
        (stat(&harness, "bytes-in"), stat(&harness, "bytes-out")),
        (96, 40)
    );
}

#[test]
fn encoded_frames_pass_from_the_key_frame_before_the_pre_roll() {
    let mut harness = harness(
        "pre-roll=200000000 post-roll=100000000 keepalive-interval=0",
        H264,
    );
    feed(&mut harness, 0, "NnnNnnNannNnnNnn");
    harness.push_event(gst::event::Eos::new());
    assert_eq!(passed(&mut harness), [3, 4, 5, 6, 7, 8]);
}

/// As encoders output them: decoding times before the segment, frames in decoding order.
#[test]
fn reordered_frames_pass_with_all_that_are_presented_between_them() {
    let mut harness = harness("pre-roll=0 post-roll=0 keepalive-interval=0", H264);
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(1000 * MS);
    harness.push_event(gst::event::Segment::new(&segment.upcast()));
    // Groups of I P B B in decoding order, as presentation numbers. The anomaly is the first B of the second group.
    let order = [0, 3, 1, 2, 4, 7, 5, 6, 8, 11, 9, 10];
    for (decode, number) in order.into_iter().enumerate() {
        let label = if number == 5 {
            Label::Anomaly(1)
        } else {
            Label::Normal
        };
        let mut frame = frame(number, number % 4 == 0, Some(label));
        let fields = frame.get_mut().expect("a new buffer");
        fields.set_pts((1000 + 100 * number) * MS);
        fields.set_dts((800 + 100 * decode as u64) * MS);
        harness.push(frame).expect("the frame is accepted");
    }
    harness.push_event(gst::event::Eos::new());
    assert_eq!(passed(&mut harness), [4, 7, 5, 6]);
}

#[test]
fn a_clip_starts_with_discont_and_a_key_frame_request() {
    let mut harness = harness("pre-roll=0 post-roll=0 keepalive-interval=0", RAW);
    feed(&mut harness, 0, "UNNNA");
    assert_eq!(number(&harness.pull().expect("the unknown frame")), 0);
    let first = harness.pull().expect("the anomaly");
    assert_eq!(number(&first), 4);
    assert!(first.flags().contains(gst::BufferFlags::DISCONT));
    let is_request = |event: &gst::Event| gst_video::ForceKeyUnitEvent::is(event);
    assert_eq!(
        events(&mut harness)
            .iter()
            .filter(|event| is_request(event))
            .count(),
        1
    );
}

#[test]
fn gap_events_cover_dropped_frames_without_overlap() {
    let mut harness = harness("pre-roll=0 post-roll=0 keepalive-interval=0", RAW);
    feed(&mut harness, 0, "UNNNANN");
    harness.push_event(gst::event::Eos::new());
    let gaps: Vec<_> = events(&mut harness)
        .iter()
        .filter_map(|event| match event.view() {
            gst::EventView::Gap(gap) => Some(gap.get()),
            _ => None,
        })
        .collect();
    let covered = |from: u64, to: u64| {
        gaps.iter()
            .filter(|(start, _)| (from * MS..to * MS).contains(start))
            .filter_map(|gap| gap.1)
            .sum::<gst::ClockTime>()
    };
    assert_eq!(covered(100, 400), 300 * MS, "{gaps:?}");
    assert_eq!(covered(500, 700), 200 * MS, "{gaps:?}");
    assert_eq!(covered(0, 700), 500 * MS, "{gaps:?}");
}

#[test]
fn gap_events_can_be_switched_off() {
    let mut harness = harness("pre-roll=0 gap-events=false", RAW);
    feed(&mut harness, 0, "NNN");
    harness.push_event(gst::event::Eos::new());
    assert!(
        !events(&mut harness)
            .iter()
            .any(|event| event.type_() == gst::EventType::Gap)
    );
}

#[test]
fn a_stream_without_labels_passes() {
    let mut harness = harness("", RAW);
    feed(&mut harness, 0, ".....");
    assert_eq!(passed(&mut harness), [0, 1, 2, 3, 4]);
}

#[test]
fn frames_with_unknown_label_pass_at_once() {
    let mut harness = harness("", H264);
    feed(&mut harness, 0, "UuuUu");
    assert_eq!(passed(&mut harness), [0, 1, 2, 3, 4]);
}

#[test]
fn anomalous_frames_pass_only_as_part_of_an_event() {
    let mut harness = harness("pre-roll=100000000 post-roll=0 keepalive-interval=0", RAW);
    let anomaly = |event| Some(Label::Anomaly(event));
    let labels = [0, 1, 0, 0, 1, 1, 2, 0].map(|kind| match kind {
        0 => Some(Label::Normal),
        1 => anomaly(0),
        _ => anomaly(1),
    });
    for (index, label) in labels.into_iter().enumerate() {
        harness
            .push(frame(index as u64, true, label))
            .expect("the frame is accepted");
    }
    harness.push_event(gst::event::Eos::new());
    assert_eq!(
        passed(&mut harness),
        [3, 4, 5, 6],
        "from the pre-roll of the frames that became an event"
    );
}

#[test]
fn retain_all_passes_everything_at_once() {
    let mut harness = harness("retain=all", H264);
    feed(&mut harness, 0, "NnnNn");
    assert_eq!(passed(&mut harness), [0, 1, 2, 3, 4]);
}

#[test]
fn key_frames_keep_the_stream_alive() {
    let mut harness = harness("pre-roll=0 keepalive-interval=600000000", H264);
    feed(&mut harness, 0, "NnnNnnNnnNnnNnn");
    assert_eq!(passed(&mut harness), [0, 6, 12]);
}

#[test]
fn an_event_without_a_key_frame_requests_one() {
    let mut harness = harness("pre-roll=0 keepalive-interval=0", H264);
    feed(&mut harness, 0, "nnaa");
    assert_eq!(stat(&harness, "frames-lost"), 2);
    let requests = std::iter::from_fn(|| harness.try_pull_upstream_event())
        .filter(|event| gst_video::ForceKeyUnitEvent::is(event))
        .count();
    assert_eq!(requests, 1);
}
