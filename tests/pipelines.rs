//! Runs the scripts of `pipelines/` that need only the element, on a short scene.

mod common;

use std::path::Path;

use common::recipe::{assert_thinned, file_source, finish, folder, played, recipe};
use common::{played_into_sink, short_scene};
use gst::prelude::*;

#[test]
fn every_recipe_has_a_test() {
    let tests = [
        include_str!("pipelines.rs"),
        include_str!("pipelines_gate.rs"),
        include_str!("pipelines_rtsp.rs"),
    ];
    let readme = include_str!("../pipelines/README.md");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    for entry in std::fs::read_dir(folder).expect("pipelines/ is there") {
        let path = entry.expect("pipelines/ can be read").path();
        if path.extension().is_some_and(|e| e == "sh") {
            let name = path.file_stem().and_then(|n| n.to_str()).expect("a plain name");
            assert!(
                tests
                    .iter()
                    .any(|tests| tests.contains(&format!("recipe(\"{name}\")"))),
                "no test runs {name}.sh"
            );
            assert!(
                readme.contains(&format!("({name}.sh)")),
                "README.md does not list {name}.sh"
            );
        }
    }
}

#[test]
fn print_scores() {
    let (_, labels) = short_scene();
    let mut run = recipe("print-scores");
    run.env("SOURCE", file_source());
    let out = finish(run);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), labels.frames.len(), "{out}");
    assert!(
        lines
            .iter()
            .all(|line| line.starts_with("frame:") && line.contains("score=(double)")),
        "{out}"
    );
}

#[test]
fn keep_anomalies() {
    let (_, labels) = short_scene();
    let file = folder("keep").join("kept.mp4");
    let mut run = recipe("keep-anomalies");
    run.env("SOURCE", file_source()).env("OUT", &file);
    finish(run);
    assert_thinned(&played(&file), labels.frames.len());
}

#[test]
fn snapshots() {
    let (_, labels) = short_scene();
    let folder = folder("snapshots");
    let mut run = recipe("snapshots");
    run.env("SOURCE", file_source()).env("OUT", &folder);
    finish(run);
    let images: Vec<_> = std::fs::read_dir(&folder).expect("the folder").collect();
    let seconds = labels.frames.len() / common::FPS as usize;
    assert!(
        // One at the start and one a second.
        (2..=seconds + 1).contains(&images.len()),
        "{} images in {seconds} s",
        images.len()
    );
    for image in images {
        let path = image.expect("the folder is readable").path();
        assert_eq!(image_size(&path), (320, 180), "{}", path.display());
    }
}

#[test]
fn overlay() {
    let (_, labels) = short_scene();
    let file = folder("overlay").join("drawn.mkv");
    let mut run = recipe("overlay");
    let sink = format!(
        "videoconvert ! jpegenc ! matroskamux ! filesink location={}",
        file.display()
    );
    run.env("SOURCE", file_source()).env("SINK", sink);
    finish(run);
    assert_eq!(played(&file).len(), labels.frames.len());
}

#[test]
fn event_images() {
    let folder = folder("event-images");
    let mut run = recipe("event-images");
    run.env("SOURCE", file_source()).env("OUT", &folder);
    finish(run);
    let images: Vec<_> = std::fs::read_dir(&folder).expect("the folder").collect();
    assert!(images.len() >= 2, "{} images", images.len());
    for image in images {
        let path = image.expect("the folder is readable").path();
        assert_eq!(image_size(&path), (320, 180), "{}", path.display());
    }
}

/// Width and height of a JPEG file, decoded.
fn image_size(file: &Path) -> (i32, i32) {
    let line = format!(
        "filesrc location={} ! jpegdec ! appsink name=sink",
        file.display()
    );
    let (pipeline, sink) = played_into_sink(&line, |_| ());
    let sample = sink.pull_sample().expect("the file is a JPEG image");
    pipeline.set_state(gst::State::Null).expect("the pipeline stops");
    let caps = sample.caps_owned().expect("a decoded image has caps");
    let size = caps.structure(0).expect("its caps have a structure");
    (
        size.get("width").expect("width"),
        size.get("height").expect("height"),
    )
}

#[test]
fn webcam() {
    let mut run = recipe("webcam");
    run.env("SOURCE", file_source())
        .env("SINK", "fakesink sync=false");
    let out = finish(run);
    assert!(out.contains("state-changed:"), "{out}");
}

#[test]
fn two_cameras() {
    let (_, labels) = short_scene();
    let folder = folder("two");
    let files = ["a.mkv", "b.mkv"].map(|name| folder.join(name));
    let mut run = recipe("two-cameras");
    run.env("SOURCE_A", file_source()).env("SOURCE_B", file_source());
    run.env("OUT_A", &files[0]).env("OUT_B", &files[1]);
    let out = finish(run);
    assert!(
        out.contains("camera-a state-changed:") && out.contains("camera-b state-changed:"),
        "{out}"
    );
    let times = files.map(|file| played(&file));
    assert_thinned(&times[0], labels.frames.len());
    assert_eq!(times[0], times[1], "equal streams must have equal results");
}

#[test]
fn restart() {
    let models = folder("restart").join("models");
    let run = || {
        let mut run = recipe("restart");
        run.env("SOURCE", file_source())
            .env("NAME", "door")
            .env("MODELS", &models);
        finish(run)
    };
    // The message that the model was saved may come after the end of the stream, when gst-launch-1.0 reads no more.
    let first = run();
    assert!(!first.contains("model-loaded:"), "{first}");
    assert!(models.join("door.safetensors").exists(), "{first}");
    let second = run();
    assert!(second.contains("model-loaded:"), "{second}");
    assert!(!second.contains("warming-up"), "nothing is learnt anew: {second}");
}

#[test]
fn train_then_freeze() {
    let model = folder("freeze").join("model");
    let run = |learn: &str| {
        let mut run = recipe("train-then-freeze");
        run.env("SOURCE", file_source())
            .env("MODEL", &model)
            .env("LEARN", learn);
        finish(run)
    };
    assert!(run("true").contains("state=(string)detecting"));
    let before = std::fs::read(&model).expect("a model");
    let out = run("false");
    assert!(
        out.contains("model-loaded:") && out.contains("state=(string)frozen"),
        "{out}"
    );
    assert!(!out.contains("state=(string)detecting"), "{out}");
    assert!(
        std::fs::read(&model).expect("a model") == before,
        "the frozen model is as it was"
    );
}

#[test]
fn masks() {
    let (_, labels) = short_scene();
    let mask = folder("masks").join("mask.pgm");
    // The lower half is black.
    std::fs::write(&mask, "P2 1 2 255 255 0\n").expect("a file");
    let mut run = recipe("masks");
    run.env("SOURCE", file_source())
        .env("MASK", &mask)
        .env("REGIONS", "");
    let out = finish(run);
    let locations: Vec<u32> = out
        .lines()
        .filter(|line| line.starts_with("frame:"))
        .filter_map(|line| line.split("y=(uint)").nth(1)?.split(',').next()?.parse().ok())
        .collect();
    assert_eq!(locations.len(), labels.frames.len(), "{out}");
    // After the first frames, which have no location yet.
    assert!(locations.iter().skip(10).all(|&y| y < 95), "{locations:?}");
}
