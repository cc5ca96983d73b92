//! The program end to end, on a rendered street.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gstvaeanomaly::detector::store;
use street_scene::record::{Recorder, Settings};
use street_scene::scene::{Config, Scene};

/// Renders a normal street of so many seconds.
fn render(file: &Path, seed: u64, seconds: f64) {
    gst::init().unwrap();
    let config = Config {
        width: 160,
        height: 96,
        events: 0,
        lead_in: seconds,
        duration: Some(seconds),
        seed,
        ..Config::default()
    };
    let mut scene = Scene::new(&config).unwrap();
    let settings = Settings {
        file: file.to_owned(),
        width: config.width,
        height: config.height,
        fps: gst::Fraction::new(10, 1),
        bitrate: 300,
    };
    let mut recorder = Recorder::new(&settings).unwrap();
    for frame in 0..(seconds * 10.0) as u32 {
        recorder.push(scene.render(f64::from(frame) / 10.0)).unwrap();
    }
    recorder.finish().unwrap();
}

fn videos(folder: &Path, seconds: &[f64]) -> Vec<PathBuf> {
    let videos = seconds.iter().enumerate().map(|(i, &seconds)| {
        let file = folder.join(format!("{i}.mp4"));
        render(&file, i as u64 + 1, seconds);
        file
    });
    videos.collect()
}

fn train(out: &Path, videos: &[PathBuf], options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    command.env("RUST_BACKTRACE", "0").arg("--out").arg(out);
    command.args(videos).args(options).output().unwrap()
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn trains_scores_what_is_held_out_and_suggests_a_threshold() {
    let folder = tempfile::tempdir().unwrap();
    let videos = videos(folder.path(), &[12.0, 12.0, 6.0]);
    let model = folder.path().join("model.safetensors");
    let options = ["--hold-out", "1", "--rate", "0.1", "--detector", "cues=motion"];
    let output = train(&model, &videos, &options);
    let (out, err) = text(&output);
    assert!(output.status.success(), "{out}{err}");
    assert!(
        err.contains("trained on 2 of 2") && err.contains("detecting"),
        "{err}"
    );
    assert!(
        out.contains("held-out videos: ") && out.contains(" of 60 labelled frames are false alarms"),
        "{out}"
    );
    assert!(out.contains("would flag 10.00 % of them"), "{out}");
    let (model, _) = store::open(&model).unwrap();
    assert_eq!(model.learnt.frames(), 240, "scoring left the model as it was");
}

#[test]
fn cross_validation_holds_every_video_out_once() {
    let folder = tempfile::tempdir().unwrap();
    let videos = videos(folder.path(), &[10.0, 10.0]);
    let model = folder.path().join("model.safetensors");
    let output = train(&model, &videos, &["--folds", "2", "--detector", "cues=motion"]);
    let (out, err) = text(&output);
    assert!(output.status.success(), "{out}{err}");
    assert!(
        out.contains("cross-validation: ") && out.contains(" of 200 labelled frames"),
        "{out}"
    );
    assert_eq!(store::open(&model).unwrap().0.learnt.frames(), 200);
}

#[test]
fn mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("video.mp4");
    std::fs::write(&video, "no video").unwrap();
    let model = folder.path().join("model");
    let failure = |videos: &[PathBuf], options: &[&str]| {
        let output = train(&model, videos, options);
        assert!(!output.status.success());
        text(&output).1
    };
    assert!(failure(&[], &[]).contains("there is no VIDEO to train on"));
    assert!(failure(&["missing.mp4".into()], &[]).contains("missing.mp4 is not a file"));
    let one = std::slice::from_ref(&video);
    assert!(failure(one, &["--folds", "2"]).contains("--folds must be 2 to 1"));
    assert!(failure(one, &["--rate", "1"]).contains("--rate must be above 0 and below 1"));
    assert!(failure(one, &[]).contains("video.mp4"));
    assert!(failure(one, &["--detector", "cues=sound"]).contains("sound"));
}
