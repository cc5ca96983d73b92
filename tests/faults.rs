//! What fails around the elements: encoders, disks, sinks, applications, processes. Nothing hangs or crashes, errors reach the
//! application, what was learnt is kept, and of a recording as much can be read as its muxer allows.

mod common;
mod gated;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use gst::prelude::*;

use gated::Label;

/// A camera that needs no clock, 30 s at 10 frames a second.
const CAMERA: &str =
    "videotestsrc num-buffers=300 pattern=ball ! video/x-raw,format=I420,width=64,height=48,framerate=10/1";

/// Runs `work` in a thread; panics if it does not return within a minute.
fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, done) = mpsc::channel();
    std::thread::spawn(move || {
        // The receiver is gone when this came too late.
        let _ = send.send(work());
    });
    done.recv_timeout(Duration::from_secs(60))
        .unwrap_or_else(|_| panic!("{what} hangs"))
}

/// Plays until an error or the end, and stops; that is in time too.
fn play(pipeline: &gst::Pipeline) -> Result<(), String> {
    // A failure may come before the pipeline has started.
    let _ = pipeline.set_state(gst::State::Playing);
    let result = gated::wait(pipeline);
    stop(pipeline);
    result
}

fn stop(pipeline: &gst::Pipeline) {
    let pipeline = pipeline.clone();
    in_time("stopping", move || pipeline.set_state(gst::State::Null)).expect("it stops");
}

fn stats(pipeline: &gst::Pipeline, element: &str) -> gst::Structure {
    let element = pipeline.by_name(element).expect("that element");
    in_time("reading the statistics", move || element.property("stats"))
}

/// Every frame that the gate got is in one of its counts.
fn check_counts(stats: &gst::Structure, into: u64) {
    let count = |name: &str| -> u64 { stats.get(name).unwrap_or_else(|e| panic!("{name}: {e}")) };
    let decided = count("frames-out") + count("frames-dropped") + count("frames-discarded");
    assert_eq!(decided + count("frames-held"), into, "{stats}");
}

#[test]
fn an_encoder_that_fails_stops_the_pipeline_and_what_was_learnt_is_saved() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("model.safetensors");
    let pipeline = gated::pipeline(&format!(
        "{CAMERA} ! vaeanomaly name=eye warm-up=20 cues=motion save-interval=0 model-location={} \
         ! x264enc tune=zerolatency ! identity error-after=100 ! vaeanomalygate name=gate ! fakesink",
        model.display()
    ));
    let into = gated::watch_pad(&pipeline, "gate", "sink");
    let gate = pipeline.by_name("gate").expect("the gate");
    pipeline.set_state(gst::State::Playing).expect("it starts");
    let error = gated::wait(&pipeline).expect_err("the encoder fails");
    assert!(error.contains("identity"), "{error}");
    let counted: gst::Structure = gate.property("stats");
    check_counts(&counted, into.lock().unwrap().len() as u64);
    stop(&pipeline);
    let saved = gstvaeanomaly::detector::store::load(&model).model;
    let (saved, _) = saved.expect("the model is saved at the stop");
    assert!(saved.learnt.frames() >= 100, "{} frames", saved.learnt.frames());
}

/// Behind the gate, also where another thread outputs the frames.
#[test]
fn a_failure_behind_the_gate_reaches_the_application() {
    for follow in ["", "follow=eye"] {
        let pipeline = gated::pipeline(&format!(
            "{CAMERA} ! tee name=t t. ! queue ! identity name=eye sleep-time=2000 ! fakesink sync=false async=false \
             t. ! queue ! jpegenc ! vaeanomalygate name=gate {follow} pre-roll=500000000 ! identity name=broken error-after=40 \
             ! fakesink sync=false async=false"
        ));
        gated::label_frames(&pipeline, "eye", |_| Label::Unknown);
        let into = gated::watch_pad(&pipeline, "gate", "sink");
        pipeline.set_state(gst::State::Playing).expect("it starts");
        let error = gated::wait(&pipeline).expect_err("it fails");
        assert!(error.contains("broken"), "{error}");
        pipeline.set_state(gst::State::Paused).ok();
        stop_branches(&pipeline);
        check_counts(&stats(&pipeline, "gate"), into.lock().unwrap().len() as u64);
        stop(&pipeline);
    }
}

/// Flushes the gate, so that no frame is on its way through it.
fn stop_branches(pipeline: &gst::Pipeline) {
    let gate = pipeline.by_name("gate").expect("the gate");
    let sink = gate.static_pad("sink").expect("a sink pad");
    sink.send_event(gst::event::FlushStart::new());
    let _stopped = sink.stream_lock();
}

#[test]
fn a_full_disk_is_reported_and_the_pipeline_stops() {
    let pipeline = gated::pipeline(&format!(
        "{CAMERA} ! vaeanomaly cues=motion ! x264enc tune=zerolatency ! h264parse ! vaeanomalygate ! matroskamux \
         ! filesink location=/dev/full buffer-mode=unbuffered"
    ));
    let error = play(&pipeline).expect_err("nothing can be written");
    assert!(error.contains("No space left"), "{error}");
}

#[test]
fn a_sink_that_blocks_blocks_neither_properties_nor_the_stop() {
    for follow in ["", "follow=eye"] {
        let pipeline = gated::pipeline(&format!(
            "{CAMERA} ! tee name=t t. ! queue ! vaeanomaly name=eye cues=motion ! fakesink sync=false async=false \
             t. ! queue ! jpegenc ! vaeanomalygate name=gate {follow} ! fakesink name=blocked sync=false async=false"
        ));
        let sink = pipeline.by_name("blocked").expect("the sink");
        let pad = sink.static_pad("sink").expect("a sink pad");
        let (send, blocked) = mpsc::channel();
        let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::BLOCK;
        pad.add_probe(mask, move |_, _| {
            let _ = send.send(());
            gst::PadProbeReturn::Ok
        });
        pipeline.set_state(gst::State::Playing).expect("it starts");
        blocked
            .recv_timeout(Duration::from_secs(60))
            .expect("a frame arrives");
        // The followed branch must not wait for the blocked one.
        std::thread::sleep(Duration::from_millis(200));
        for element in ["eye", "gate"] {
            assert!(stats(&pipeline, element).n_fields() > 5);
        }
        let gate = pipeline.by_name("gate").expect("the gate");
        in_time("setting a property", move || gate.set_property("pre-roll", 7u64));
        stop(&pipeline);
    }
}

/// An application that posts a message a frame and never reads its bus.
#[test]
fn a_bus_that_is_not_read_stops_nothing() {
    let pipeline = gated::pipeline(&format!(
        "{CAMERA} ! vaeanomaly name=eye cues=motion post-messages=all ! vaeanomalygate name=gate ! fakesink name=sink"
    ));
    let ended = gated::watch_end(&pipeline, "sink");
    pipeline.set_state(gst::State::Playing).expect("it starts");
    ended
        .recv_timeout(Duration::from_secs(60))
        .expect("the stream ends");
    assert_eq!(stats(&pipeline, "eye").get("frames"), Ok(300u64));
    let eye = pipeline.by_name("eye").expect("the detector").downgrade();
    stop(&pipeline);
    drop(pipeline);
    assert!(eye.upgrade().is_none(), "unread messages keep the element");
}

#[test]
fn an_element_that_is_removed_while_it_trains_is_freed() {
    for moment in 0..12u64 {
        let pipeline = gated::pipeline(
            "videotestsrc is-live=true ! video/x-raw,format=I420,width=64,height=48,framerate=100/1 \
             ! vaeanomaly name=eye train-interval=1 ! vaeanomalygate name=gate ! fakesink sync=false",
        );
        let frames = gated::watch_pad(&pipeline, "eye", "sink");
        pipeline.set_state(gst::State::Playing).expect("it starts");
        while frames.lock().unwrap().len() < 3 {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(1700 * moment));
        let elements = ["eye", "gate"].map(|name| pipeline.by_name(name).expect("that element"));
        for element in &elements {
            pipeline.remove(element).expect("it is in the pipeline");
            let element = element.clone();
            in_time("stopping one element", move || {
                element.set_state(gst::State::Null)
            })
            .expect("it stops");
        }
        let weak = elements.each_ref().map(|element| element.downgrade());
        drop(elements);
        stop(&pipeline);
        drop(pipeline);
        assert!(weak.iter().all(|element| element.upgrade().is_none()), "{weak:?}");
    }
}

/// The child of a process that plays has no streaming threads: it can do its own work and end.
#[test]
fn a_process_that_forks_while_playing_continues_and_its_child_ends() {
    let Some(mut python) = common::python() else {
        return;
    };
    let script = r#"
import gi, os, signal, subprocess, sys, time
gi.require_version("Gst", "1.0")
from gi.repository import Gst
Gst.init(None)
pipeline = Gst.parse_launch(
    "videotestsrc num-buffers=200 ! video/x-raw,format=I420,width=64,height=48,framerate=50/1 ! identity sleep-time=5000"
    " ! vaeanomaly name=eye train-interval=1 ! vaeanomalygate name=gate ! fakesink sync=false")
eye = pipeline.get_by_name("eye")
pipeline.set_state(Gst.State.PLAYING)
pipeline.get_state(Gst.SECOND * 30)
for ending in [lambda: os._exit(7), lambda: sys.exit(7), lambda: os.execv("/bin/sh", ["sh", "-c", "exit 7"])] * 3:
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        bytes(50_000_000)
        ending()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7, status
    time.sleep(0.05)
assert subprocess.run(["sh", "-c", "exit 7"], preexec_fn=lambda: None).returncode == 7
message = pipeline.get_bus().timed_pop_filtered(Gst.SECOND * 60, Gst.MessageType.EOS | Gst.MessageType.ERROR)
assert message and message.type == Gst.MessageType.EOS, message
frames = eye.get_property("stats").get_value("frames")
assert frames == 200, frames
pipeline.set_state(Gst.State.NULL)
print("finished")
"#;
    let output = python.args(["-c", script]).output().expect("Python runs");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("finished"), "{text}");
}

/// A way to write a recording, what can be read of it after a crash, and the frames that may be missing at its end, of 20 a
/// second. The documentation of the gate has the first two.
struct Recording {
    file: &'static str,
    elements: &'static str,
    readable: &'static str,
    missing: Option<usize>,
}

const RECORDINGS: [Recording; 7] = [
    Recording {
        file: "unbuffered.mkv",
        elements: "matroskamux ! filesink buffer-mode=unbuffered",
        readable: "all",
        missing: Some(0),
    },
    Recording {
        file: "buffered.mkv",
        elements: "matroskamux ! filesink",
        readable: "all but up to 64 KiB",
        missing: Some(80),
    },
    Recording {
        file: "unbuffered.ts",
        elements: "mpegtsmux ! filesink buffer-mode=unbuffered",
        readable: "all",
        missing: Some(0),
    },
    Recording {
        file: "fragmented.mp4",
        elements: "mp4mux fragment-duration=1000 ! filesink buffer-mode=unbuffered",
        readable: "all but the last second",
        missing: Some(30),
    },
    Recording {
        file: "robust.mp4",
        elements: "mp4mux reserved-max-duration=3600000000000 reserved-moov-update-period=1000000000 \
                   ! filesink buffer-mode=unbuffered",
        readable: "all but the last second",
        missing: Some(30),
    },
    Recording {
        file: "plain.mp4",
        elements: "mp4mux ! filesink",
        readable: "nothing",
        missing: None,
    },
    Recording {
        file: "part-%02d.mp4",
        elements: "splitmuxsink max-size-time=2000000000",
        readable: "all files but the last",
        missing: Some(60),
    },
];

/// Frames before the kill, and those that may still be between the gate and the file on a slow machine.
const KILLED_AFTER: usize = 140;
const ON_THE_WAY: usize = 30;

const FOLDER: &str = "VAEANOMALY_TEST_FOLDER";

/// Not a test by itself: the child of the next one, which prints a line a frame.
#[test]
#[ignore = "runs until it is killed"]
fn records_until_killed() {
    let folder = std::env::var(FOLDER).expect("the parent sets it");
    let branches = RECORDINGS.iter().map(|recording| {
        let location = format!("{folder}/{}", recording.file);
        format!(
            "t. ! queue ! h264parse ! {} location={location}",
            recording.elements
        )
    });
    let pipeline = gated::pipeline(&format!(
        "videotestsrc is-live=true pattern=ball ! video/x-raw,width=160,height=120,framerate=20/1 \
         ! x264enc tune=zerolatency key-int-max=10 ! h264parse ! vaeanomalygate name=gate ! tee name=t {}",
        branches.collect::<Vec<_>>().join(" ")
    ));
    let gate = pipeline.by_name("gate").and_then(|gate| gate.static_pad("src"));
    gate.expect("a source pad")
        .add_probe(gst::PadProbeType::BUFFER, |_, _| {
            println!("frame");
            gst::PadProbeReturn::Ok
        });
    pipeline.set_state(gst::State::Playing).expect("it starts");
    std::thread::sleep(Duration::from_secs(300));
}

/// Frames that can be decoded from a file.
fn readable_frames(file: &Path) -> usize {
    let demuxer = match file.extension().and_then(|extension| extension.to_str()) {
        Some("mkv") => "matroskademux",
        Some("ts") => "tsdemux",
        _ => "qtdemux",
    };
    let pipeline = gated::pipeline(&format!(
        "filesrc location={} ! {demuxer} ! h264parse ! avdec_h264 ! fakesink name=out sync=false",
        file.display()
    ));
    let frames = gated::watch_pad(&pipeline, "out", "sink");
    // The end of the file is an error to some demuxers.
    let _ = play(&pipeline);
    let frames = frames.lock().unwrap();
    frames.len()
}

#[test]
fn what_can_be_read_of_a_recording_after_a_kill_depends_on_the_muxer() {
    let documentation = include_str!("../src/vaeanomalygate/mod.rs");
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = Command::new(std::env::current_exe().expect("the test knows its path"))
        .args([
            "--exact",
            "records_until_killed",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FOLDER, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let written = lines
        .map_while(Result::ok)
        .filter(|line| line.contains("frame"))
        .take(KILLED_AFTER)
        .count();
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert_eq!(written, KILLED_AFTER, "the recording ended by itself");
    let files: Vec<_> = std::fs::read_dir(folder.path())
        .expect("the folder")
        .map(|file| file.expect("a file").path())
        .collect();
    for Recording {
        file,
        elements,
        readable,
        missing,
    } in RECORDINGS
    {
        let name = file.split_once('%').map_or(file, |(name, _)| name);
        let parts = files.iter().filter(|path| {
            path.file_name()
                .and_then(|found| found.to_str())
                .is_some_and(|found| found.starts_with(name))
        });
        let frames: usize = parts.map(|path| readable_frames(path)).sum();
        println!("{file}: {frames} of {KILLED_AFTER} frames can be read");
        match missing {
            None => assert_eq!(frames, 0, "{file}"),
            Some(missing) => assert!(
                frames + missing + ON_THE_WAY >= KILLED_AFTER,
                "{file}: only {frames} frames"
            ),
        }
        let elements = elements.split_whitespace().collect::<Vec<_>>().join(" ");
        let row = format!("//! | `{elements}` | {readable} |");
        assert!(documentation.contains(&row), "not in the documentation: {row}");
    }
}
