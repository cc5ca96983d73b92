//! Flush, seek, end of stream, restarts and threads.

mod common;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use common::rig::{self, Rig};
use common::synthetic::{Happening, Scene};
use gst::prelude::*;
use gstvaeanomaly::{FrameResult, State, detector};

#[test]
fn a_flush_clears_the_frames_but_keeps_the_learnt_state() {
    let mut rig = Rig::grey(&[("warm-up", "60"), ("cues", "motion")], 10);
    rig.push_scene(&Scene::quiet(), 10, 0..70);
    let trained: u64 = rig.stats().get("trained").unwrap();
    rig.harness.push_event(gst::event::FlushStart::new());
    rig.harness.push_event(gst::event::FlushStop::new(true));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    rig.harness.push_event(gst::event::Segment::new(&segment));
    rig.take_items();
    // Back to the start of the recording with another view: no scene change, no adaptation.
    rig.push_scene(&Scene::quiet().with(0.0..1.0, Happening::Turned), 10, 0..10);
    let results = rig.take_results();
    assert_eq!(results.len(), 10);
    assert!(
        results
            .iter()
            .all(|r| r.prediction.state == detector::State::Detecting),
        "{results:?}"
    );
    assert_eq!(results[0].prediction.frame, 70);
    assert!(rig.stats().get::<u64>("trained").unwrap() > trained);
}

#[test]
fn a_flush_ends_an_open_event() {
    let settings = [
        ("warm-up", "80"),
        ("cues", "motion"),
        ("threshold", "4"),
        ("seed", "7"),
    ];
    let mut rig = Rig::grey(&settings, 10);
    rig.push_scene(&Scene::quiet().with(10.0..12.0, Happening::Runner), 10, 0..118);
    rig.take_messages();
    rig.harness.push_event(gst::event::FlushStart::new());
    rig.harness.push_event(gst::event::FlushStop::new(true));
    let messages = rig.take_messages();
    assert_eq!(rig::of_kind(&messages, "anomaly-end").len(), 1, "{messages:?}");
}

/// A file to seek in.
fn recorded(folder: &tempfile::TempDir) -> String {
    let file = folder.path().join("scene.mkv").display().to_string();
    rig::play(
        &format!(
            "appsrc name=source ! videoconvert ! x264enc speed-preset=ultrafast key-int-max=10 ! matroskamux \
             ! filesink location={file}"
        ),
        &Scene::quiet(),
        10,
        0..60,
    );
    file
}

#[test]
fn seeks_in_a_real_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let file = recorded(&folder);
    let pipeline = gst::parse::launch(&format!(
        "filesrc location={file} ! matroskademux ! h264parse ! avdec_h264 ! vaeanomaly cues=motion ! fakesink name=sink"
    ))
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let sink = pipeline.by_name("sink").unwrap().static_pad("sink").unwrap();
    sink.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let buffer = info.buffer().unwrap();
        let found = FrameResult::read(buffer).unwrap();
        assert!(found.prediction.raw_score.is_finite());
        record
            .lock()
            .unwrap()
            .push((found.prediction.frame, buffer.pts().unwrap()));
        gst::PadProbeReturn::Ok
    });
    let bus = pipeline.bus().unwrap();
    let wait = |kind| {
        let message = bus.timed_pop_filtered(gst::ClockTime::NONE, &[kind, gst::MessageType::Error]);
        assert_eq!(message.unwrap().type_(), kind);
    };
    pipeline.set_state(gst::State::Paused).unwrap();
    wait(gst::MessageType::AsyncDone);
    for second in [3, 1, 4] {
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
        pipeline
            .seek_simple(flags, second * gst::ClockTime::SECOND)
            .unwrap();
        wait(gst::MessageType::AsyncDone);
    }
    pipeline.set_state(gst::State::Playing).unwrap();
    wait(gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
    let seen = seen.lock().unwrap();
    let after = seen
        .iter()
        .rposition(|(_, pts)| *pts < 4 * gst::ClockTime::SECOND)
        .unwrap();
    assert_eq!(
        seen.len() - after - 1,
        20,
        "from the fourth second to the sixth: {seen:?}"
    );
    assert!(
        seen.windows(2).all(|w| w[1].0 > w[0].0),
        "frame numbers continue: {seen:?}"
    );
}

#[test]
fn stops_after_any_number_of_frames() {
    rig::init();
    for frames in [0, 1, 3, 20] {
        let pipeline = gst::parse::launch(
            "videotestsrc pattern=snow ! video/x-raw,width=64,height=48,framerate=30/1 ! vaeanomaly ! fakesink \
             name=sink signal-handoffs=true",
        )
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
        let (send, receive) = std::sync::mpsc::channel();
        let sink = pipeline.by_name("sink").unwrap();
        sink.connect("handoff", false, move |_| {
            // The receiver may have gone: the pipeline runs on until it is stopped.
            let _ = send.send(());
            None
        });
        pipeline.set_state(gst::State::Playing).unwrap();
        for _ in 0..frames {
            receive.recv().unwrap();
        }
        pipeline.set_state(gst::State::Null).unwrap();
    }
}

/// Not a test of its own: [`fifty_restarts_leak_nothing`] runs it with the leaks tracer.
#[test]
#[ignore = "a part of fifty_restarts_leak_nothing"]
fn restarts() {
    let pipeline = {
        rig::init();
        gst::parse::launch(
            "videotestsrc num-buffers=4 pattern=ball ! video/x-raw,width=64,height=48,framerate=10/1 \
             ! vaeanomaly name=detector post-messages=all drop-normal=true warm-up=2 ! fakesink",
        )
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap()
    };
    for _ in 0..50 {
        rig::run_to_end(&pipeline);
        let detector = pipeline.by_name("detector").unwrap();
        assert_eq!(
            detector.property::<gst::Structure>("stats").get("frames"),
            Ok(4u64)
        );
    }
    if std::env::var_os(LEAK).is_some() {
        std::mem::forget(pipeline);
    } else {
        drop(pipeline);
    }
    // The tracer reports what is still alive when GStreamer ends.
    // SAFETY: nothing of GStreamer is used after this.
    #[allow(unsafe_code, reason = "there is no safe way to end GStreamer")]
    unsafe {
        gst::deinit()
    };
}

/// Set, it makes [`restarts`] leak its pipeline on purpose.
const LEAK: &str = "VAEANOMALY_TEST_LEAK";

/// The objects that the leaks tracer reports after [`restarts`].
fn leaks(set: Option<(&str, &str)>) -> Vec<String> {
    let run = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "restarts",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("GST_TRACERS", "leaks")
        .env("GST_DEBUG", "GST_TRACER:7")
        .env("GST_DEBUG_NO_COLOR", "1")
        .env_remove("G_DEBUG")
        .envs(set)
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{log}");
    let alive = |line: &&str| line.contains("object-alive, type-name=(string)Gst");
    log.lines().filter(alive).map(str::to_owned).collect()
}

#[test]
fn fifty_restarts_leak_nothing() {
    let found = leaks(None);
    assert!(
        found.is_empty(),
        "{} objects leak: {:#?}",
        found.len(),
        &found[..found.len().min(10)]
    );
    let on_purpose = leaks(Some((LEAK, "1")));
    assert!(
        on_purpose.iter().any(|line| line.contains("GstVaeAnomaly")),
        "the tracer reports leaks"
    );
}

#[test]
fn properties_change_while_frames_flow() {
    let mut rig = Rig::grey(&[("warm-up", "10"), ("cues", "motion")], 10);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let element = rig.element.clone();
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut rounds = 0u32;
            while !stop.load(Ordering::Relaxed) {
                let odd = rounds % 2 == 1;
                element.set_property("drop-normal", odd);
                element.set_property("learn", !odd);
                element.set_property("threshold", f64::from(rounds % 7) - 3.0);
                element.set_property("dropout", f64::from(rounds % 3) * 0.3);
                element.set_property("window", 10 + rounds % 90);
                element.set_property("train-interval", 1 + rounds % 5);
                let modes = ["calibrated", "sigma", "evt", "quantile"];
                element.set_property_from_str("threshold-mode", modes[rounds as usize % 4]);
                element.set_property_from_str("post-messages", ["all", "none"][rounds as usize % 2]);
                element.property::<gst::Structure>("stats");
                element.property::<State>("state");
                rounds += 1;
            }
            rounds
        })
    };
    rig.push_scene(&Scene::quiet(), 10, 0..150);
    stop.store(true, Ordering::Relaxed);
    assert!(writer.join().unwrap() > 0);
    assert_eq!(rig.stats().get("frames"), Ok(150u64));
    for found in rig.take_results() {
        assert!(
            found.prediction.raw_score.is_finite()
                && found.prediction.threshold.is_finite()
                && found.prediction.score.is_finite()
        );
    }
}

#[test]
fn two_elements_are_independent() {
    let scores = |seed: &str| -> Vec<u64> {
        let mut rig = Rig::grey(&[("seed", seed), ("warm-up", "20")], 10);
        rig.push_scene(&Scene::quiet(), 10, 0..40);
        rig.take_results()
            .iter()
            .map(|r| r.prediction.raw_score.to_bits())
            .collect()
    };
    let (one, two) = (scores("1"), scores("2"));
    assert_ne!(one, two);
    let together = std::thread::scope(|scope| {
        let first = scope.spawn(|| scores("1"));
        let second = scope.spawn(|| scores("2"));
        (first.join().unwrap(), second.join().unwrap())
    });
    assert!(together == (one, two), "two at once score as each alone");
}

#[test]
fn memory_shared_behind_a_tee_is_neither_copied_nor_modified() {
    let list = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&list);
    rig::play_watched(
        "appsrc name=source ! tee name=t ! queue ! vaeanomaly ! fakesink name=analysed t. ! queue ! fakesink name=plain",
        &Scene::quiet(),
        10,
        0..12,
        |pipeline| {
            for name in ["analysed", "plain"] {
                let record = Arc::clone(&record);
                let pad = pipeline.by_name(name).unwrap().static_pad("sink").unwrap();
                pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                    let buffer = info.buffer().unwrap().clone();
                    record.lock().unwrap().push((name, buffer));
                    gst::PadProbeReturn::Ok
                });
            }
        },
    );
    let list = list.lock().unwrap();
    let of = |name: &str| -> Vec<&gst::Buffer> {
        list.iter()
            .filter(|(n, _)| *n == name)
            .map(|(_, buffer)| buffer)
            .collect()
    };
    let (analysed, plain) = (of("analysed"), of("plain"));
    assert_eq!((analysed.len(), plain.len()), (12, 12));
    for (i, (analysed, plain)) in analysed.into_iter().zip(plain).enumerate() {
        assert!(FrameResult::read(analysed).is_some());
        assert!(
            FrameResult::read(plain).is_none(),
            "the other branch has no metadata"
        );
        let (a, b) = (analysed.map_readable().unwrap(), plain.map_readable().unwrap());
        assert_eq!(a.as_ptr(), b.as_ptr(), "frame {i} was copied");
        let original = rig::grey_frame(&Scene::quiet(), 10, i as u64);
        assert!(
            b.as_slice() == original.map_readable().unwrap().as_slice(),
            "frame {i} was written to"
        );
    }
}
