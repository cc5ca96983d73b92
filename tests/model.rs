//! What was learnt outlives the element: saved, loaded, continued bit for bit, refused with the reason.

mod common;

use std::path::{Path, PathBuf};

use common::rig::{self, Rig};
use common::synthetic::{Happening, Scene};
use gst::prelude::*;
use gstvaeanomaly::FrameResult;
use gstvaeanomaly::detector::{self, State, store};

/// Settings whose events begin soon.
const SETTINGS: [(&str, &str); 4] = [
    ("warm-up", "80"),
    ("threshold", "4"),
    ("seed", "7"),
    ("post-messages", "events"),
];

fn rig(location: &Path, more: &[(&str, &str)]) -> Rig {
    let location = location.display().to_string();
    let mut settings = SETTINGS.to_vec();
    settings.push(("model-location", &location));
    settings.extend(more);
    Rig::grey(&settings, 10)
}

/// Stops the element, which saves, and gives its messages.
fn stop(rig: Rig) -> Vec<gst::Structure> {
    rig.element.set_state(gst::State::Null).unwrap();
    rig.take_messages()
}

fn location(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("model.safetensors")
}

fn field<'a, T: gst::glib::value::FromValue<'a>>(message: &'a gst::Structure, name: &str) -> T {
    message.get(name).unwrap_or_else(|e| panic!("{message}: {e}"))
}

/// A flush between frames, as a stream that is interrupted lacks the previous frames too.
fn flush(rig: &mut Rig) {
    rig.harness.push_event(gst::event::FlushStart::new());
    rig.harness.push_event(gst::event::FlushStop::new(true));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    rig.harness.push_event(gst::event::Segment::new(&segment));
}

fn bits(results: &[FrameResult]) -> Vec<(u64, u64, u64, State)> {
    let bits = |r: &FrameResult| {
        let p = &r.prediction;
        (p.frame, p.raw_score.to_bits(), p.threshold.to_bits(), p.state)
    };
    results.iter().map(bits).collect()
}

#[test]
fn a_stream_that_continues_from_the_file_is_the_same_stream() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::quiet()
        .with(10.0..12.0, Happening::Runner)
        .with(16.0..18.0, Happening::Runner);
    let mut uninterrupted = rig(&folder.path().join("other"), &[]);
    uninterrupted.push_scene(&scene, 10, 0..140);
    uninterrupted.take_items();
    flush(&mut uninterrupted);
    uninterrupted.push_scene(&scene, 10, 140..200);
    let want = uninterrupted.take_results();

    let mut first = rig(&location(&folder), &[]);
    first.push_scene(&scene, 10, 0..140);
    let messages = stop(first);
    let saved = rig::of_kind(&messages, "model-saved");
    assert_eq!(field::<u64>(saved.last().unwrap(), "model-frames"), 140);
    assert!(rig::of_kind(&messages, "model-loaded").is_empty());

    let mut second = rig(&location(&folder), &[]);
    second.push_scene(&scene, 10, 140..200);
    let got = second.take_results();
    assert_eq!(bits(&got), bits(&want));
    assert_eq!(
        got[0].prediction.state,
        State::Detecting,
        "from the first frame on"
    );
    let ids = |results: &[FrameResult]| -> Vec<_> { results.iter().map(|r| r.event_id).collect() };
    assert_eq!(ids(&got), ids(&want));
    assert!(
        ids(&got).iter().flatten().any(|id| id.get() == 2),
        "the numbering continues"
    );
    let messages = second.take_messages();
    let loaded = rig::of_kind(&messages, "model-loaded");
    assert_eq!(loaded.len(), 1);
    assert_eq!(field::<u64>(loaded[0], "model-frames"), 140);
    let stats = second.stats();
    assert_eq!(stats.get::<u64>("model-frames"), Ok(200));
    assert_eq!(stats.get::<u64>("frames"), Ok(60));
    assert!(field::<u64>(&stats, "model-size") > 100_000);
    assert!(field::<u64>(&stats, "model-saved-at") > 1_700_000_000);
}

#[test]
fn a_loaded_model_is_frozen_from_the_first_frame_without_learning() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = rig(&location(&folder), &[]);
    first.push_scene(&Scene::quiet(), 10, 0..100);
    stop(first);
    let mut frozen = rig(&location(&folder), &[("learn", "false")]);
    frozen.push_scene(&Scene::quiet(), 10, 0..20);
    let results = frozen.take_results();
    assert!(
        results
            .iter()
            .all(|r| r.prediction.state == State::Frozen && r.prediction.label.is_some()),
        "{results:?}"
    );
    assert_eq!(frozen.stats().get::<u64>("trained"), Ok(0));
}

#[test]
fn the_model_is_saved_at_every_interval_at_eos_and_not_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = rig(
        &location(&folder),
        &[("save-interval", "1000000"), ("cues", "motion")],
    );
    let mut frame = 0;
    let mut saved = || {
        rig.push_scene(&Scene::quiet(), 10, frame..frame + 1);
        frame += 1;
        !rig::of_kind(&rig.take_messages(), "model-saved").is_empty()
    };
    let patience = std::time::Instant::now();
    while !saved() {
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert!(patience.elapsed().as_secs() < 60, "never saved while playing");
    }
    rig.element.set_property("save-interval", 0u64);
    // One that is not in the file yet.
    rig.push_scene(&Scene::quiet(), 10, frame..frame + 1);
    frame += 1;
    rig.harness.push_event(gst::event::Eos::new());
    let messages = stop(rig);
    let frames: Vec<u64> = rig::of_kind(&messages, "model-saved")
        .iter()
        .map(|m| field(m, "model-frames"))
        .collect();
    assert_eq!(frames.last(), Some(&frame), "at EOS, with all frames");
    assert!(
        frames.windows(2).all(|w| w[0] < w[1]),
        "at stop nothing had changed: {frames:?}"
    );
    assert_eq!(store::open(&location(&folder)).unwrap().0.learnt.frames(), frame);
    assert!(store::backup(&location(&folder)).exists());
}

#[test]
fn what_cannot_be_loaded_is_refused_with_the_reason_and_kept_aside() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = rig(&location(&folder), &[("cues", "motion")]);
    first.push_scene(&Scene::quiet(), 10, 0..20);
    stop(first);
    let good = std::fs::read(location(&folder)).unwrap();

    let start = |content: &[u8], settings: &[(&str, &str)]| {
        let _ = std::fs::remove_file(store::backup(&location(&folder)));
        std::fs::write(location(&folder), content).unwrap();
        let mut rig = rig(&location(&folder), settings);
        rig.push_scene(&Scene::quiet(), 10, 0..5);
        let first = rig.take_results()[0].prediction.clone();
        let messages = stop(rig);
        let refused = rig::of_kind(&messages, "model-refused");
        assert_eq!(refused.len(), 1, "{messages:?}");
        assert_eq!((first.frame, first.state), (0, State::WarmingUp), "a fresh model");
        let kept: String = field(refused[0], "kept-as");
        assert_eq!(std::fs::read(kept).unwrap(), content);
        // The new model has its name.
        assert_eq!(store::open(&location(&folder)).unwrap().0.learnt.frames(), 5);
        field::<String>(refused[0], "reason")
    };
    assert!(start(b"nonsense", &[("cues", "motion")]).contains("file: expected a safetensors file"));
    assert!(start(&good[..good.len() / 2], &[("cues", "motion")]).contains("file: expected"));
    assert!(start(&good, &[]).contains("cues: expected motion+appearance, got motion"));
}

#[test]
fn the_backup_is_loaded_where_the_file_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    for frames in [0..20, 20..30] {
        let mut rig = rig(&location(&folder), &[("cues", "motion")]);
        rig.push_scene(&Scene::quiet(), 10, frames);
        stop(rig);
    }
    let content = std::fs::read(location(&folder)).unwrap();
    std::fs::write(location(&folder), &content[..1000]).unwrap();
    let mut rig = rig(&location(&folder), &[("cues", "motion")]);
    rig.push_scene(&Scene::quiet(), 10, 0..1);
    assert_eq!(rig.take_results()[0].prediction.frame, 20);
    let messages = rig.take_messages();
    assert_eq!(rig::of_kind(&messages, "model-refused").len(), 1);
    assert_eq!(rig::of_kind(&messages, "model-loaded").len(), 1);
}

#[test]
fn another_aspect_ratio_keeps_the_old_model_aside() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = rig(&location(&folder), &[("cues", "motion")]);
    rig.push_scene(&Scene::quiet(), 10, 0..20);
    rig.harness
        .set_src_caps_str("video/x-raw,format=GRAY8,width=48,height=96,framerate=10/1");
    for i in 20..23 {
        rig.push(rig::grey_frame(&Scene::quiet(), 10, i));
    }
    let messages = stop(rig);
    let refused = rig::of_kind(&messages, "model-refused");
    assert_eq!(refused.len(), 1, "{messages:?}");
    let kept: String = field(refused[0], "kept-as");
    assert_eq!(store::open(Path::new(&kept)).unwrap().0.learnt.frames(), 20);
    assert_eq!(store::open(&location(&folder)).unwrap().0.learnt.frames(), 23);
}

#[test]
fn one_warning_for_each_kind_of_failure_and_then_it_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let location = missing.join("model");
    let mut rig = rig(&location, &[("save-interval", "1"), ("cues", "motion")]);
    let warnings = |rig: &Rig| rig.bus.iter_filtered(&[gst::MessageType::Warning]).count();
    let mut frame = 0;
    let mut push = |rig: &mut Rig, frames| {
        for _ in 0..frames {
            rig.push_scene(&Scene::quiet(), 10, frame..frame + 1);
            frame += 1;
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    push(&mut rig, 20);
    let patience = std::time::Instant::now();
    let mut posted = 0;
    while posted == 0 {
        push(&mut rig, 5);
        posted += warnings(&rig);
        assert!(patience.elapsed().as_secs() < 60, "no warning");
    }
    push(&mut rig, 20);
    assert_eq!(posted + warnings(&rig), 1);
    std::fs::create_dir(&missing).unwrap();
    while !location.exists() {
        push(&mut rig, 5);
        assert!(patience.elapsed().as_secs() < 120, "not tried again");
    }
}

#[test]
fn models_are_saved_loaded_and_reset_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::new(&SETTINGS);
    let emit = |rig: &Rig, signal: &str, location: &Path| {
        rig.element
            .emit_by_name::<bool>(signal, &[&location.display().to_string()])
    };
    let named = folder.path().join("%s.model");
    assert!(!emit(&rig, "save-model", &named), "before there are caps");
    rig.harness.set_src_caps(rig::grey_caps(10));
    let scene = Scene::quiet().with(9.0..12.0, Happening::Runner);
    rig.push_scene(&scene, 10, 0..85);
    assert!(emit(&rig, "save-model", &named));
    let file = folder.path().join(format!("{}.model", rig.element.name()));
    assert_eq!(store::open(&file).unwrap().0.learnt.frames(), 85);
    assert!(!emit(&rig, "save-model", Path::new("/no/such/folder/model")));
    assert!(
        !emit(&rig, "save-model", Path::new("")),
        "there is no model-location"
    );

    // An event is open when the model changes.
    rig.push_scene(&scene, 10, 85..110);
    rig.take_messages();
    rig.element.emit_by_name::<()>("reset-model", &[]);
    let messages = rig.take_messages();
    assert_eq!(rig::of_kind(&messages, "anomaly-end").len(), 1, "{messages:?}");
    rig.take_items();
    rig.push_scene(&Scene::quiet(), 10, 110..112);
    let p = rig.take_results()[1].prediction.clone();
    assert_eq!((p.state, p.frame), (State::WarmingUp, 111));

    assert!(!emit(&rig, "load-model", &folder.path().join("missing")));
    assert!(emit(&rig, "load-model", &file));
    rig.push_scene(&Scene::quiet(), 10, 112..113);
    let p = rig.take_results()[0].prediction.clone();
    assert_eq!((p.state, p.frame), (detector::State::Detecting, 112));
    let messages = rig.take_messages();
    assert_eq!(rig::of_kind(&messages, "model-loaded").len(), 1, "{messages:?}");
    assert_eq!(rig::of_kind(&messages, "model-refused").len(), 1);
}

#[test]
fn two_elements_with_one_file_do_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let _first = rig(&location(&folder), &[]);
    let second = rig::element(&[("model-location", &location(&folder).display().to_string())]);
    let bus = gst::Bus::new();
    second.set_bus(Some(&bus));
    assert!(second.set_state(gst::State::Paused).is_err());
    let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
    let gst::MessageView::Error(error) = message.view() else {
        unreachable!()
    };
    assert!(
        error
            .error()
            .to_string()
            .contains("model-location must be a file of its own"),
        "{error:?}"
    );
    second.set_state(gst::State::Null).unwrap();
    bus.set_flushing(true);
}

/// A program that learns and saves without end, for [`a_killed_process_leaves_a_whole_model`].
#[test]
#[ignore = "a part of a_killed_process_leaves_a_whole_model"]
fn learns_and_saves_until_killed() {
    let Some(location) = std::env::var_os(LOCATION) else {
        return;
    };
    let scene = Scene::quiet();
    let mut rig = rig(
        Path::new(&location),
        &[("save-interval", "1"), ("cues", "motion")],
    );
    for i in 0.. {
        rig.push_scene(&scene, 10, i..i + 1);
        rig.take_messages();
        rig.take_items();
    }
}

const LOCATION: &str = "VAEANOMALY_TEST_LOCATION";

/// How often the process is killed; `KILLS` in the environment makes it more.
const KILLS: u64 = 200;

#[test]
fn a_killed_process_leaves_a_whole_model() {
    let folder = tempfile::tempdir().unwrap();
    let location = location(&folder);
    let kills = std::env::var("KILLS").map_or(KILLS, |n| n.parse().expect("KILLS is a number"));
    let (mut frames, mut loaded) = (0, 0);
    for kill in 0..kills {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "learns_and_saves_until_killed",
                "--ignored",
                "--test-threads=1",
            ])
            .env(LOCATION, &location)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Anywhere between the start and some saves later.
        let moment = kill.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        std::thread::sleep(std::time::Duration::from_micros(moment % 250_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let file = store::load(&location);
        assert!(file.refused.is_empty(), "kill {kill}: {:?}", file.refused);
        match file.model {
            Some((model, _)) => {
                assert!(model.learnt.frames() >= frames, "kill {kill}: an older model");
                frames = model.learnt.frames();
                loaded += 1;
            }
            None => assert_eq!(loaded, 0, "kill {kill}: the model is gone"),
        }
    }
    assert!(loaded > kills / 4, "only {loaded} of {kills} kills found a model");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.len() <= 3, "{left:?}");
}

/// What saving costs with all replay buffers full: the copy, which the streaming thread waits for, and the rest.
#[test]
#[ignore = "a measurement of some minutes"]
fn saving_costs() {
    use gstvaeanomaly::detector::{ColorModel, ColorRange, Config, Detector, ImageView, PixelFormat, Tuning};
    use std::time::{Duration, Instant};

    const SIZE: (usize, usize) = (320, 180);
    let config = street_scene::scene::Config {
        width: 320,
        height: 180,
        events: 0,
        duration: Some(600.0),
        ..Default::default()
    };
    let mut scene = street_scene::scene::Scene::new(&config).unwrap();
    let mut detector = Detector::new(Config::default(), SIZE).unwrap();
    let frames = 4200;
    for i in 0..frames {
        let view = ImageView {
            format: PixelFormat::Rgba,
            width: SIZE.0,
            height: SIZE.1,
            planes: &[scene.render(i as f64 / 10.0)],
            strides: &[4 * SIZE.0],
            color: ColorModel {
                range: ColorRange::Full,
                kr: 0.299,
                kb: 0.114,
            },
        };
        let time = Some(Duration::from_millis(100 * i));
        detector.process(&view, time, None, &Tuning::default()).unwrap();
    }
    let mut copies = Vec::new();
    for _ in 0..101 {
        let start = Instant::now();
        let learnt = detector.learnt().unwrap();
        copies.push(start.elapsed());
        drop(learnt);
    }
    copies.sort();
    let model = store::Model {
        learnt: detector.learnt().unwrap(),
        next_event: std::num::NonZeroU64::MIN,
        began: 0,
        saved: 0,
    };
    let start = Instant::now();
    let content = store::write(model).unwrap();
    let written = start.elapsed();
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    store::save(&location(&folder), &content).unwrap();
    let synced = start.elapsed();
    let start = Instant::now();
    store::open(&location(&folder)).unwrap();
    println!(
        "copy {:?} (median), {:?} (95 %), {:?} (largest); encode {written:?}; write and sync {synced:?}; read {:?}; {} bytes",
        copies[50],
        copies[95],
        copies[100],
        start.elapsed(),
        content.len()
    );
    assert!(content.len() < 20_000_000);
    assert!(copies[50] < Duration::from_millis(2), "{:?}", copies[50]);
}
