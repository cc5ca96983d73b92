//! Runs the scripts of `pipelines/` that record through `vaeanomalygate`, on a short scene.

mod common;

use std::path::Path;
use std::process::Command;

use common::recipe::{file_source, finish, folder, played, recipe};
use common::{played_into_sink, short_scene};
use gst::prelude::*;

/// The access units of an H.264 file, unchanged.
fn access_units(file: &Path, demuxer: &str) -> Vec<Vec<u8>> {
    let line = format!(
        "filesrc location={} ! {demuxer} ! h264parse ! video/x-h264,stream-format=avc,alignment=au \
         ! appsink name=sink sync=false",
        file.display()
    );
    let (pipeline, sink) = played_into_sink(&line, |_| ());
    let samples = std::iter::from_fn(|| sink.pull_sample().ok());
    let bytes = |sample: gst::Sample| {
        let buffer = sample.buffer().expect("a sample has a buffer");
        buffer.map_readable().expect("it can be read").to_vec()
    };
    let units = samples.map(bytes).collect();
    pipeline.set_state(gst::State::Null).expect("the pipeline stops");
    units
}

#[test]
fn gate_after_encoder() {
    let (_, labels) = short_scene();
    let file = folder("gate-after").join("events.mkv");
    let mut run = recipe("gate-after-encoder");
    run.env("SOURCE", file_source())
        .env("OUT", &file)
        .env("PRE_ROLL", "500000000");
    finish(run);
    // Key frames every 2 s are the only keep-alive here.
    let times = played(&file);
    assert!(
        (30..labels.frames.len()).contains(&times.len()),
        "{} frames",
        times.len()
    );
}

/// Runs a recipe that copies the camera's stream; what it keeps is a part of that, unchanged.
fn assert_copies_events(mut run: Command, name: &str) {
    let (scene, labels) = short_scene();
    let file = folder(name).join("events.mkv");
    run.env(
        "SOURCE",
        format!("filesrc location={} ! matroskademux", scene.display()),
    );
    run.env("OUT", &file).env("PRE_ROLL", "500000000");
    finish(run);
    let camera = access_units(scene, "matroskademux");
    let kept = access_units(&file, "matroskademux");
    assert_eq!(camera.len(), labels.frames.len());
    assert!(
        (30..camera.len()).contains(&kept.len()),
        "{} of {} units",
        kept.len(),
        camera.len()
    );
    assert_eq!(played(&file).len(), kept.len());
    let mut originals = camera.iter();
    assert!(
        kept.iter().all(|unit| originals.any(|original| original == unit)),
        "an access unit is altered or out of order"
    );
}

#[test]
fn gate_camera_copy() {
    assert_copies_events(recipe("gate-camera-copy"), "gate-copy");
}

/// Without a GPU another decoder stands in: what follows is the same.
#[test]
fn gpu_camera_copy() {
    let mut run = recipe("gpu-camera-copy");
    run.env("DEVICE", "cpu")
        .env("DECODER", "avdec_h264 ! videoconvert ! video/x-raw,format=NV12");
    assert_copies_events(run, "gpu-copy");
}

#[test]
fn gate_event_files() {
    let program = std::env::current_exe().expect("the test knows its path");
    let examples = program
        .ancestors()
        .nth(2)
        .expect("tests lie in deps/")
        .join("examples");
    assert!(
        examples.join("event_files").exists(),
        "cargo test builds the examples"
    );
    let folder = folder("gate-files");
    let mut run = recipe("gate-event-files");
    run.env("SOURCE", file_source())
        .env("OUT", &folder)
        .env("BIN", examples);
    let out = finish(run);
    let files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder")
        .map(|file| file.expect("a file").path())
        .collect();
    assert_eq!(out.lines().count(), files.len(), "{out}");
    assert!(!files.is_empty(), "no event was recorded");
    for file in files {
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a plain name");
        assert!(name.starts_with("00-00-") && name.ends_with(".mp4"), "{name}");
        // 5 s before, 2 s after, less where the video starts or ends.
        let times = played(&file);
        assert!(times.len() > 20, "{name}: {} frames", times.len());
        assert!(
            times.windows(2).all(|pair| pair[1] - pair[0] < 0.2),
            "{name} has a hole"
        );
    }
}

#[test]
fn gate_beside_viewer() {
    let (_, labels) = short_scene();
    let file = folder("gate-beside").join("events.mkv");
    let mut run = recipe("gate-beside-viewer");
    let displayed = folder("gate-beside-displayed").join("displayed.mkv");
    run.env("SOURCE", file_source())
        .env("OUT", &file)
        .env("PRE_ROLL", "500000000");
    run.env(
        "SINK",
        format!(
            "jpegenc ! matroskamux ! filesink location={}",
            displayed.display()
        ),
    );
    finish(run);
    assert_eq!(
        played(&displayed).len(),
        labels.frames.len(),
        "the display gets every frame"
    );
    let recorded = played(&file).len();
    assert!((30..labels.frames.len()).contains(&recorded), "{recorded} frames");
}
