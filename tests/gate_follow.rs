//! `vaeanomalygate follow=NAME`: the camera's own stream, gated by the analysis of another branch.

use gst::prelude::*;

mod gated;
use gated::Label;

#[test]
fn following_a_missing_element_is_an_error_with_its_name() {
    let pipeline = gated::pipeline("videotestsrc ! vaeanomalygate follow=eye ! fakesink");
    assert!(pipeline.set_state(gst::State::Playing).is_err());
    let error = gated::wait(&pipeline).expect_err("an error");
    assert!(error.contains("eye"), "{error}");
    pipeline.set_state(gst::State::Null).expect("it stops");
}

/// One encoded stream to the gate, one decoded branch with the labels of an event from frame 60 to 79.
const FOLLOWED: &str = "videotestsrc num-buffers=150 pattern=ball ! video/x-raw,width=64,height=64,framerate=10/1 \
    ! x264enc key-int-max=10 bframes=2 tune=0 ! h264parse ! tee name=t \
    t. ! queue max-size-time=0 max-size-buffers=0 ! avdec_h264 ! identity name=eye ! fakesink sync=false \
    t. ! queue max-size-time=0 max-size-buffers=0 ! vaeanomalygate name=gate follow=eye pre-roll=1000000000 \
    post-roll=500000000 keepalive-interval=0 ! fakesink name=out sync=false async=false";

fn event_at_60(frame: u64) -> Label {
    if (60..80).contains(&frame) {
        Label::Anomaly(1)
    } else {
        Label::Normal
    }
}

#[test]
fn the_followed_branch_decides_and_access_units_stay_bit_exact() {
    let pipeline = gated::pipeline(FOLLOWED);
    gated::label_frames(&pipeline, "eye", event_at_60);
    let before = gated::watch_pad(&pipeline, "gate", "sink");
    let after = gated::watch_pad(&pipeline, "gate", "src");
    gated::play(&pipeline);
    let (before, after) = (before.lock().unwrap(), after.lock().unwrap());
    let start = before
        .iter()
        .position(|unit| unit.bytes == after[0].bytes)
        .expect("a unit of the input");
    let same = before[start..]
        .iter()
        .zip(after.iter())
        .all(|(old, new)| (old.pts, &old.bytes) == (new.pts, &new.bytes));
    assert!(
        same,
        "the access units of the clip are those of the input, without a gap"
    );
    assert!(after[0].key && after[0].discont);
    let first = before[0].pts.expect("a time");
    let presented: Vec<_> = after
        .iter()
        .map(|unit| (unit.pts.expect("a time") - first) / 100)
        .collect();
    assert_eq!(presented[0], 50, "the key frame at the pre-roll");
    assert!((50..85).all(|frame| presented.contains(&frame)), "{presented:?}");
    assert!(presented.iter().all(|frame| *frame < 90), "{presented:?}");
}

#[test]
fn a_full_gate_waits_for_a_slower_branch() {
    // Frames of about 700 bytes: a third of the stream fits, more than a pre-roll and two groups.
    let description = FOLLOWED
        .replace("follow=eye", "follow=eye max-pre-roll-bytes=30000")
        .replace("avdec_h264", "avdec_h264 ! identity sleep-time=3000");
    let pipeline = gated::pipeline(&description);
    gated::label_frames(&pipeline, "eye", event_at_60);
    let before = gated::watch_pad(&pipeline, "gate", "sink");
    let after = gated::watch_pad(&pipeline, "gate", "src");
    gated::play(&pipeline);
    let before = before.lock().unwrap();
    let first = before[0].pts.expect("a time");
    let presented: Vec<_> = after
        .lock()
        .unwrap()
        .iter()
        .map(|unit| (unit.pts.expect("a time") - first) / 100)
        .collect();
    assert!((50..85).all(|frame| presented.contains(&frame)), "{presented:?}");
}

#[test]
fn it_can_be_stopped_and_restarted_in_mid_stream() {
    let pipeline = gated::pipeline(&FOLLOWED.replace("num-buffers=150", "is-live=true"));
    gated::label_frames(&pipeline, "eye", |_| Label::Normal);
    let arrived = gated::watch_pad(&pipeline, "gate", "sink");
    for _ in 0..5 {
        arrived.lock().unwrap().clear();
        pipeline.set_state(gst::State::Playing).expect("it starts");
        while arrived.lock().unwrap().len() < 3 {
            std::thread::yield_now();
        }
        pipeline.set_state(gst::State::Null).expect("it stops");
    }
}

#[test]
fn a_viewer_beside_a_recording_is_not_delayed() {
    let pipeline = gated::pipeline(
        "videotestsrc is-live=true ! video/x-raw,width=64,height=64,framerate=10/1 ! identity name=eye ! tee name=t \
         t. ! queue ! fakesink name=viewer sync=true \
         t. ! queue ! x264enc tune=zerolatency key-int-max=10 ! vaeanomalygate name=gate pre-roll=30000000000 \
         ! fakesink name=record sync=false async=false",
    );
    gated::label_frames(&pipeline, "eye", |_| Label::Normal);
    pipeline.set_state(gst::State::Playing).expect("it starts");
    let arrived = gated::watch_pad(&pipeline, "gate", "sink");
    while arrived.lock().unwrap().len() < 3 {
        std::thread::yield_now();
    }
    let mut query = gst::query::Latency::new();
    assert!(pipeline.query(&mut query));
    let (live, min, _) = query.result();
    assert!(
        live && min < gst::ClockTime::from_seconds(1),
        "the pipeline's latency is {min}"
    );
    pipeline.set_state(gst::State::Null).expect("it stops");
}

/// The followed branch blocks in its sink until both sinks have a frame; the gate receives no more frames meanwhile.
#[test]
fn verdicts_that_arrive_after_the_frames_release_them() {
    let pipeline = gated::pipeline(
        "videotestsrc num-buffers=300 ! video/x-raw,width=64,height=64,framerate=30/1 ! tee name=t \
         t. ! queue ! identity name=eye sleep-time=20000 ! fakesink \
         t. ! queue ! jpegenc ! vaeanomalygate name=gate follow=eye keepalive-interval=0 ! fakesink",
    );
    gated::label_frames(&pipeline, "eye", |frame| match frame {
        0..10 => Label::Unknown,
        _ => Label::Normal,
    });
    let after = gated::watch_pad(&pipeline, "gate", "src");
    gated::play(&pipeline);
    assert_eq!(after.lock().unwrap().len(), 10);
}

/// The viewer behind the followed element waits for the pipeline's latency, and delays the verdicts by that.
#[test]
fn a_viewer_behind_the_followed_element_does_not_raise_the_latency() {
    let pipeline = gated::pipeline(
        "videotestsrc is-live=true ! video/x-raw,width=64,height=64,framerate=20/1 ! tee name=t \
         t. ! queue max-size-time=0 max-size-bytes=0 max-size-buffers=0 ! identity name=eye ! fakesink name=viewer sync=true \
         t. ! queue max-size-time=0 max-size-bytes=0 max-size-buffers=0 ! vaeanomalygate name=gate follow=eye \
         pre-roll=500000000 ! fakesink name=record sync=true",
    );
    gated::label_frames(&pipeline, "eye", |frame| match frame {
        0..20 => Label::Unknown,
        _ => Label::Normal,
    });
    let viewed = gated::watch_pad(&pipeline, "viewer", "sink");
    pipeline.set_state(gst::State::Playing).expect("it starts");
    let bus = pipeline.bus().expect("a bus");
    while viewed.lock().unwrap().len() < 120 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        // As applications do, such as gst-launch-1.0.
        if bus.pop_filtered(&[gst::MessageType::Latency]).is_some() {
            // Fails while the state changes.
            let _ = pipeline.recalculate_latency();
        }
        let mut query = gst::query::Latency::new();
        if pipeline.query(&mut query) {
            let latency = query.result().1;
            assert!(latency <= gst::ClockTime::from_mseconds(1100), "{latency}");
        }
    }
    pipeline.set_state(gst::State::Null).expect("it stops");
}

/// Time goes back in mid-stream, and the followed branch is ahead of the gate, or behind it.
#[test]
fn a_jump_back_in_time_ends_on_both_branches() {
    for (delay_eye, delay_gate) in [(0, 2000), (2000, 0)] {
        let pipeline = gated::pipeline(&format!(
            "appsrc name=camera format=time caps=video/x-raw,format=GRAY8,width=16,height=16,framerate=10/1 ! tee name=t \
             t. ! queue ! identity sleep-time={delay_eye} ! identity name=eye ! fakesink sync=false async=false \
             t. ! queue ! identity sleep-time={delay_gate} ! vaeanomalygate name=gate follow=eye pre-roll=500000000 \
             post-roll=0 keepalive-interval=0 ! fakesink sync=false async=false"
        ));
        gated::label_frames(&pipeline, "eye", |frame| match frame {
            20..30 | 80..90 => Label::Anomaly(1 + frame / 50),
            _ => Label::Normal,
        });
        let after = gated::watch_pad(&pipeline, "gate", "src");
        let camera = pipeline.by_name("camera").expect("the source");
        let camera = camera.downcast::<gst_app::AppSrc>().expect("an appsrc");
        for frame in 0..100u8 {
            let mut buffer = gst::Buffer::from_mut_slice([frame; 256]);
            let fields = buffer.get_mut().expect("a new buffer");
            fields.set_pts(gst::ClockTime::from_mseconds(100 * (u64::from(frame) % 50)));
            fields.set_duration(gst::ClockTime::from_mseconds(100));
            camera.push_buffer(buffer).expect("it is accepted");
        }
        camera.end_of_stream().expect("it ends");
        gated::play(&pipeline);
        let passed: Vec<u8> = after.lock().unwrap().iter().map(|frame| frame.bytes[0]).collect();
        for frame in (20..30).chain(80..90) {
            assert!(passed.contains(&frame), "{frame} is not in {passed:?}");
        }
    }
}
