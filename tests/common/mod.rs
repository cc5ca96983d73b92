//! What several test files share: where the plugin is, and a short labelled scene.
#![allow(dead_code, reason = "each test file uses its part")]

/// Running the recipes of `pipelines/`.
pub mod recipe;
/// A harness around the element, and what came out of it.
pub mod rig;
/// A tiny synthetic camera for tests that need no street.
pub mod synthetic;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use street_scene::record::{self, Recorder};
use street_scene::scene::{Config, Labels, Scene};

/// Frames a second of the shared scene.
pub const FPS: i32 = 10;

/// The scene of [`short_scene`]: small, a few seconds of normal life, then a cyclist.
pub fn short_config() -> Config {
    Config {
        width: 320,
        height: 180,
        seed: 9,
        lead_in: 12.0,
        events: 1,
        ..Config::default()
    }
}

/// A short scene as a Matroska file with its ground truth, recorded once a build and kept under `target/`.
pub fn short_scene() -> &'static (PathBuf, Labels) {
    static SCENE: OnceLock<(PathBuf, Labels)> = OnceLock::new();
    SCENE.get_or_init(|| {
        let mut scene = Scene::new(&short_config()).expect("the configuration is good");
        let labels = Labels::new(&scene, f64::from(FPS));
        let file = scratch("scenes").join("short.mkv");
        // A file of an earlier build may show another scene.
        let test = std::env::current_exe().expect("the test knows its path");
        let modified = |file: &Path| file.metadata().and_then(|found| found.modified());
        let built = modified(&test).expect("the test has a time");
        if !modified(&file).is_ok_and(|recorded| recorded > built) {
            record_to(&mut scene, labels.frames.len(), &file);
        }
        (file, labels)
    })
}

/// Records under a name of this process first: another test binary may do the same at the same time.
fn record_to(scene: &mut Scene, frames: usize, file: &Path) {
    gst::init().expect("GStreamer starts");
    let (width, height) = scene.size();
    let part = file.with_extension(format!("{}.mkv", std::process::id()));
    let settings = record::Settings {
        file: part.clone(),
        width,
        height,
        fps: gst::Fraction::new(FPS, 1),
        bitrate: 300,
    };
    let mut recorder = Recorder::new(&settings).expect("the encoder starts");
    for frame in 0..frames {
        let image = scene.render(frame as f64 / f64::from(FPS));
        recorder.push(image).expect("the encoder accepts a frame");
    }
    recorder.finish().expect("the file is closed");
    std::fs::rename(part, file).expect("the finished file gets its name");
}

/// A folder under `target/` for what tests write.
pub fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("a folder under target/ can be made");
    folder
}

/// The plugin that cargo built with this test, or the one that `VAEANOMALY_PLUGIN` names.
pub fn plugin_file() -> PathBuf {
    if let Some(file) = std::env::var_os("VAEANOMALY_PLUGIN") {
        return file.into();
    }
    let test = std::env::current_exe().expect("the test knows its path");
    let deps = test.parent().expect("tests lie in deps/");
    // Cargo builds the library next to this test; its copy one level up may be older.
    let built = [
        deps.join("libgstvaeanomaly.so"),
        deps.join("../libgstvaeanomaly.so"),
    ];
    let modified = |file: &PathBuf| file.metadata().and_then(|found| found.modified()).ok();
    let newest = built
        .into_iter()
        .filter(|file| file.exists())
        .max_by_key(modified);
    newest.expect("cargo builds the cdylib with the tests")
}

/// The folder that holds the plugin of [`plugin_file`] and nothing else, for `GST_PLUGIN_PATH`.
pub fn plugin_folder() -> PathBuf {
    let plugin = plugin_file();
    let plugin = plugin
        .canonicalize()
        .unwrap_or_else(|e| panic!("{}: {e}; run cargo build --lib", plugin.display()));
    let folder = scratch(&format!("plugin-{}", std::process::id()));
    let link = folder.join("libgstvaeanomaly.so");
    if !link.exists() {
        std::os::unix::fs::symlink(&plugin, &link).expect("a link can be made");
    }
    folder
}

/// A command that finds the plugin of this build.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let mut command = Command::new(program);
    command
        .env("GST_PLUGIN_PATH", FOLDER.get_or_init(plugin_folder))
        .env(
            "GST_REGISTRY",
            scratch("plugin").join(format!("registry-{}.bin", std::process::id())),
        )
        .env("LC_ALL", "C");
    command
}

/// Debian's Python, which finds the plugin of this build; another Python may come first in `PATH`. `None`, with a message, where
/// it lacks GStreamer's bindings.
pub fn python() -> Option<Command> {
    let python = "/usr/bin/python3";
    let bindings = Command::new(python)
        .args(["-c", "import gi; gi.require_version('Gst', '1.0')"])
        .output();
    if !bindings.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: python3-gi with gir1.2-gstreamer-1.0 is not installed");
        return None;
    }
    Some(command(python))
}

/// A pipeline that plays, and its `appsink name=sink`.
pub fn played_into_sink(
    description: &str,
    prepare: impl FnOnce(&gst::Bin),
) -> (gst::Pipeline, gst_app::AppSink) {
    use gst::prelude::*;
    gst::init().expect("GStreamer starts");
    let pipeline = gst::parse::launch(description)
        .expect("the pipeline is built")
        .downcast::<gst::Pipeline>()
        .expect("a pipeline");
    let sink = pipeline
        .by_name("sink")
        .and_downcast::<gst_app::AppSink>()
        .expect("the sink");
    prepare(pipeline.upcast_ref());
    pipeline
        .set_state(gst::State::Playing)
        .expect("the pipeline plays");
    (pipeline, sink)
}

/// Decodes a video to its end; gives the presentation times of its frames in seconds.
pub fn frame_times(uri: &str) -> Vec<f64> {
    use gst::prelude::*;
    let description = "uridecodebin name=source ! videoconvert ! appsink name=sink sync=false";
    let (pipeline, sink) = played_into_sink(description, |bin| {
        let source = bin.by_name("source").expect("the source");
        source.set_property("uri", uri);
    });
    let mut times = Vec::new();
    let bus = pipeline.bus().expect("the pipeline has a bus");
    while !sink.is_eos() {
        if let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(100)) {
            let time = sample
                .buffer()
                .and_then(|buffer| buffer.pts())
                .expect("frames have times");
            times.push(time.nseconds() as f64 / 1e9);
        }
        let error = bus.pop_filtered(&[gst::MessageType::Error]);
        assert!(error.is_none(), "{uri} after {} frames: {error:?}", times.len());
    }
    pipeline.set_state(gst::State::Null).expect("the pipeline stops");
    times
}

/// A file's path as a URI.
pub fn uri(path: &Path) -> String {
    let path = path
        .canonicalize()
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    gst::glib::filename_to_uri(path, None)
        .expect("an absolute path")
        .to_string()
}
