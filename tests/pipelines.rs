//! Runs the recipes of `pipelines/` that need nothing but the element, on a short scene.

mod common;

use std::path::Path;

use common::recipe::{assert_thinned, file_source, finish, folder, played, recipe};
use common::short_scene;

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
    let pictures: Vec<_> = std::fs::read_dir(&folder).expect("the folder").collect();
    let seconds = labels.frames.len() / common::FPS as usize;
    assert!(
        // One at the start and one a second.
        (2..=seconds + 1).contains(&pictures.len()),
        "{} pictures in {seconds} s",
        pictures.len()
    );
    for picture in pictures {
        let path = picture.expect("the folder can be read").path();
        let picture = image::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!((picture.width(), picture.height()), (320, 180));
    }
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
    assert_eq!(times[0], times[1], "equal streams must be judged equally");
}
