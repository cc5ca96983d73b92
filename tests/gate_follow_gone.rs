//! The element that a gate follows goes away: everything is kept, and the recording ends well.

use std::time::Duration;

use gst::prelude::*;

mod gated;
use gated::Label;

/// A live camera of 10 s, recorded through a gate that follows a branch without any anomaly.
const CAMERA: &str = "videotestsrc is-live=true num-buffers=200 ! video/x-raw,width=64,height=64,framerate=20/1 ! tee name=t \
    t. ! queue name=branch ! valve name=valve ! identity name=eye ! fakesink name=end sync=false async=false \
    t. ! queue ! jpegenc ! vaeanomalygate name=gate follow=eye pre-roll=500000000 keepalive-interval=0 \
    ! matroskamux ! filesink name=file async=false location=";

/// Times in tenths of a second of the frames that pass, when `cut` happens after two seconds; and the warnings.
fn passed_after(cut: impl FnOnce(&gst::Pipeline)) -> (Vec<u64>, usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("clips.mkv");
    let pipeline = gated::pipeline(&format!("{CAMERA}{}", file.display()));
    gated::label_frames(&pipeline, "eye", |_| Label::Normal);
    let arrived = gated::watch_pad(&pipeline, "gate", "sink");
    let after = gated::watch_pad(&pipeline, "gate", "src");
    let ended = gated::watch_end(&pipeline, "file");
    pipeline.set_state(gst::State::Playing).expect("it starts");
    while arrived.lock().unwrap().len() < 40 {
        std::thread::sleep(Duration::from_millis(10));
    }
    cut(&pipeline);
    assert!(
        ended.recv_timeout(Duration::from_secs(60)).is_ok(),
        "the file ends"
    );
    let bus = pipeline.bus().expect("a bus");
    let kinds: Vec<_> = std::iter::from_fn(|| bus.pop())
        .map(|message| message.type_())
        .collect();
    let warnings = kinds
        .iter()
        .filter(|kind| **kind == gst::MessageType::Warning)
        .count();
    assert!(!kinds.contains(&gst::MessageType::Error), "an error was posted");
    pipeline.set_state(gst::State::Null).expect("it stops");
    let after = after.lock().unwrap();
    let written = gated::pipeline(&format!(
        "filesrc location={} ! matroskademux ! fakesink name=out",
        file.display()
    ));
    let read = gated::watch_pad(&written, "out", "sink");
    gated::play(&written);
    assert_eq!(read.lock().unwrap().len(), after.len(), "the file is complete");
    let first = arrived.lock().unwrap()[0].pts.expect("a time");
    let times = after
        .iter()
        .map(|frame| (frame.pts.expect("a time") - first) / 100);
    (times.collect(), warnings)
}

/// All frames from 3 s on are kept, and none before 1 s: those have labels.
fn check_kept(times: &[u64]) {
    assert!(times.iter().all(|time| *time > 10), "{times:?}");
    assert!((30..99).all(|time| times.contains(&time)), "{times:?}");
}

#[test]
fn an_unlinked_branch_keeps_everything() {
    let (times, warnings) = passed_after(|pipeline| {
        let queue = pipeline.by_name("branch").expect("the queue");
        let sink = queue.static_pad("sink").expect("a sink pad");
        let tee = sink.peer().expect("it is linked");
        tee.unlink(&sink).expect("it was linked");
        // The tee must not return not-linked for it.
        pipeline.by_name("t").expect("the tee").release_request_pad(&tee);
    });
    check_kept(&times);
    assert_eq!(warnings, 1);
}

#[test]
fn a_closed_valve_keeps_everything() {
    let (times, warnings) = passed_after(|pipeline| {
        pipeline
            .by_name("valve")
            .expect("the valve")
            .set_property("drop", true);
    });
    check_kept(&times);
    assert_eq!(warnings, 1);
}

#[test]
fn the_end_of_the_branch_keeps_everything() {
    let (times, _) = passed_after(|pipeline| {
        let eye = pipeline.by_name("eye").expect("the followed element");
        let sink = eye.static_pad("sink").expect("a sink pad");
        sink.send_event(gst::event::Eos::new());
        pipeline
            .by_name("valve")
            .expect("the valve")
            .set_property("drop", true);
    });
    check_kept(&times);
}

/// A source that pauses, and with it both branches: nothing is missing.
#[test]
fn a_pause_of_the_source_is_no_loss() {
    let pipeline = gated::pipeline(
        "appsrc name=camera is-live=true format=time caps=video/x-raw,format=GRAY8,width=16,height=16,framerate=10/1 \
         ! tee name=t t. ! queue ! identity name=eye sleep-time=20000 ! fakesink sync=false async=false \
         t. ! queue ! vaeanomalygate name=gate follow=eye pre-roll=0 post-roll=0 keepalive-interval=0 \
         ! fakesink sync=false async=false",
    );
    gated::label_frames(&pipeline, "eye", |_| Label::Normal);
    let camera = pipeline.by_name("camera").expect("the source");
    let camera = camera.downcast::<gst_app::AppSrc>().expect("an appsrc");
    let push = |frames: std::ops::Range<u64>| {
        for frame in frames {
            let mut buffer = gst::Buffer::from_mut_slice([0u8; 256]);
            let fields = buffer.get_mut().expect("a new buffer");
            fields.set_pts(gst::ClockTime::from_mseconds(100 * frame));
            fields.set_duration(gst::ClockTime::from_mseconds(100));
            camera.push_buffer(buffer).expect("it is accepted");
        }
    };
    pipeline.set_state(gst::State::Playing).expect("it starts");
    std::thread::sleep(Duration::from_millis(5500));
    push(0..10);
    std::thread::sleep(Duration::from_millis(5500));
    push(10..20);
    camera.end_of_stream().expect("it ends");
    let kinds = [
        gst::MessageType::Eos,
        gst::MessageType::Error,
        gst::MessageType::Warning,
    ];
    let bus = pipeline.bus().expect("a bus");
    let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &kinds);
    let kind = message.map(|message| message.type_());
    assert_eq!(kind, Some(gst::MessageType::Eos));
    let gate = pipeline.by_name("gate").expect("the gate");
    let stats: gst::Structure = gate.property("stats");
    assert_eq!(stats.get("frames-dropped"), Ok(20u64), "{stats}");
    pipeline.set_state(gst::State::Null).expect("it stops");
}
