//! Streams with several segments through the gate.

mod gated;

/// Five recordings, one after the other, as a stream with five segments.
fn recordings(frames: usize) -> String {
    let recording = format!(
        "videotestsrc num-buffers={frames} pattern=ball ! video/x-raw,format=I420,width=64,height=64,framerate=30/1 ! all. "
    );
    format!("{}concat name=all", recording.repeat(5))
}

/// The encoder forwards a new segment before the frames of the old one that it still holds.
#[test]
fn every_frame_of_every_segment_passes() {
    for settings in ["retain=all", "retain=event"] {
        let pipeline = gated::pipeline(&format!(
            "{} ! x264enc ! h264parse ! vaeanomalygate name=gate {settings} ! fakesink sync=false",
            recordings(156)
        ));
        let before = gated::watch_pad(&pipeline, "gate", "sink");
        let after = gated::watch_pad(&pipeline, "gate", "src");
        gated::play(&pipeline);
        assert_eq!(before.lock().unwrap().len(), 780);
        assert_eq!(*after.lock().unwrap(), *before.lock().unwrap(), "{settings}");
    }
}

/// A stream of which the first key frame is missing.
#[test]
fn retain_all_keeps_frames_that_cannot_be_decoded() {
    let mut harness = gated::harness::harness("retain=all", gated::harness::H264);
    gated::harness::feed(&mut harness, 0, "nnNnn");
    assert_eq!(gated::harness::passed(&mut harness), [0, 1, 2, 3, 4]);
    assert_eq!(gated::harness::stat(&harness, "frames-lost"), 0);
}

/// Time goes back in the middle of a group of pictures: its frames can still be decoded.
#[test]
fn a_jump_back_in_time_does_not_need_a_key_frame() {
    let mut harness = gated::harness::harness("keepalive-interval=0", gated::harness::H264);
    gated::harness::feed(&mut harness, 100, "Uuu");
    gated::harness::feed(&mut harness, 0, "uuuUu");
    harness.push_event(gst::event::Eos::new());
    assert_eq!(
        gated::harness::passed(&mut harness),
        [100, 101, 102, 0, 1, 2, 3, 4]
    );
}
