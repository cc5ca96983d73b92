//! Parts of the frame that are ignored.

mod common;

use common::rig::Rig;
use common::synthetic::{Happening, PARCEL, Processed, SIZE, Scene, see};
use gst::prelude::*;
use gstvaeanomaly::detector::{Config, CueKind, Detector, IgnoredRegions, Label, State, Tuning};

/// The left 30 % of the image.
const LEFT: &str = "0,0 0.3,0 0.3,1 0,1";
/// All but a window of a tenth of the image, around the parcel.
const ALL_BUT_A_WINDOW: &str = "0,0 1,0 1,1 0,1 0,0 0.55,0.0 0.55,0.4 0.82,0.4 0.82,0.0 0.55,0.0";

fn detector(regions: &str) -> Detector {
    let config = Config {
        seed: 7,
        warm_up: 80,
        ..Config::default()
    };
    let mut detector = Detector::new(config, SIZE).unwrap();
    detector.ignore(&IgnoredRegions::from_polygons(regions).unwrap());
    detector
}

/// Frames of ten a second, changed by `change`.
fn run(
    detector: &mut Detector,
    frames: std::ops::Range<u32>,
    image: impl Fn(f64) -> Vec<u8>,
) -> Vec<Processed> {
    run_at(4.0, detector, frames, image)
}

/// The same with another threshold.
fn run_at(
    threshold: f64,
    detector: &mut Detector,
    frames: std::ops::Range<u32>,
    image: impl Fn(f64) -> Vec<u8>,
) -> Vec<Processed> {
    let tuning = Tuning {
        threshold,
        ..Tuning::default()
    };
    frames
        .map(|i| {
            see(
                detector,
                &image(f64::from(i) / 10.0),
                f64::from(i) / 10.0,
                &tuning,
            )
        })
        .collect()
}

/// Whether a pixel is well inside what is ignored.
fn is_inside(regions: &str, x: usize, y: usize) -> bool {
    let (x, y) = (x as f64 / SIZE.0 as f64, y as f64 / SIZE.1 as f64);
    match regions {
        LEFT => x < 0.29,
        ALL_BUT_A_WINDOW => !(0.53..0.83).contains(&x) || y > 0.41,
        _ => unreachable!(),
    }
}

fn assert_same(a: &[Processed], b: &[Processed]) {
    for (a, b) in a.iter().zip(b) {
        assert_eq!(a.prediction, b.prediction);
        assert_eq!(
            (a.report.scene_change, a.report.view_blocked, &a.report.steps),
            (b.report.scene_change, b.report.view_blocked, &b.report.steps)
        );
    }
}

#[test]
fn what_is_ignored_changes_no_bit_of_any_result() {
    for regions in [LEFT, ALL_BUT_A_WINDOW] {
        let scene = Scene::quiet();
        // Noise, darkness, brightness and a test card, inside only.
        let disturbed = |t: f64| {
            let mut image = scene.image(t);
            for (i, pixel) in image.iter_mut().enumerate() {
                let (x, y) = (i % SIZE.0, i / SIZE.0);
                if is_inside(regions, x, y) {
                    *pixel = match (t * 10.0) as usize % 40 {
                        0..10 => (i * 7919 + (t * 10.0) as usize * 104_729) as u8,
                        10..20 => 0,
                        20..30 => 255,
                        _ => (x * 16 + y * 3) as u8,
                    };
                }
            }
            image
        };
        let plain = run(&mut detector(regions), 0..130, |t| scene.image(t));
        let disturbed = run(&mut detector(regions), 0..130, disturbed);
        assert_same(&plain, &disturbed);
        assert_eq!(plain.last().unwrap().state, State::Detecting, "{regions}");
    }
}

#[test]
fn ignoring_nothing_is_the_same_as_no_mask() {
    let mut masked = detector("");
    masked.ignore(&IgnoredRegions::from_image(b"P2 2 2 255 255 255 255 255").unwrap());
    let scene = Scene::quiet().with(9.0..11.0, Happening::Runner);
    let config = Config {
        seed: 7,
        warm_up: 80,
        ..Config::default()
    };
    let mut plain = Detector::new(config, SIZE).unwrap();
    assert_same(
        &run(&mut plain, 0..120, |t| scene.image(t)),
        &run(&mut masked, 0..120, |t| scene.image(t)),
    );
}

#[test]
fn what_is_not_ignored_is_still_found_and_located_outside() {
    for regions in [LEFT, ALL_BUT_A_WINDOW] {
        let scene = Scene::quiet().with(15.0..20.0, Happening::Parcel);
        let results = run_at(2.5, &mut detector(regions), 0..200, |t| scene.image(t));
        let flagged = results[100..150]
            .iter()
            .filter(|p| p.label == Some(Label::Anomaly));
        let flagged = flagged.count();
        assert!(
            flagged <= 10,
            "{regions}: {flagged} of 50 frames flagged after a history of some seconds"
        );
        // In the window it is large enough for a change of scene, during which there are no labels.
        let peak = |range: std::ops::Range<usize>| {
            results[range]
                .iter()
                .map(|p| p.raw_score)
                .fold(f64::MIN, f64::max)
        };
        let (before, then) = (peak(100..150), peak(150..200));
        assert!(then > before + 1.0, "{regions}: {before} before, {then} then");
        for p in results.iter().skip(100) {
            let r = p.region;
            let centre = ((r.x + r.width / 2) as usize, (r.y + r.height / 2) as usize);
            assert!(!is_inside(regions, centre.0, centre.1), "{regions}: {r:?}");
        }
        let peak = results[150..200]
            .iter()
            .max_by(|a, b| a.raw_score.total_cmp(&b.raw_score))
            .unwrap();
        let (x, y, w, h) = PARCEL;
        let r = peak.region;
        let centre = ((r.x + r.width / 2) as usize, (r.y + r.height / 2) as usize);
        assert!(
            (x..x + w).contains(&centre.0) && (y..y + h).contains(&centre.1),
            "{regions}: {r:?}"
        );
    }
}

#[test]
fn cuts_and_a_blocked_view_are_those_of_what_is_seen() {
    for regions in [LEFT, ALL_BUT_A_WINDOW] {
        let turned = Scene::quiet().with(12.0..14.0, Happening::Turned);
        let results = run(&mut detector(regions), 0..140, |t| turned.image(t));
        assert!(results[120].report.scene_change.is_some(), "{regions}");
        let covered = Scene::quiet().with(12.0..15.0, Happening::Covered);
        let results = run(&mut detector(regions), 0..150, |t| covered.image(t));
        assert!(results[135].report.view_blocked, "{regions}");
    }
}

#[test]
fn regions_change_while_frames_are_processed() {
    let mut detector = detector("");
    let scene = Scene::quiet();
    run(&mut detector, 0..200, |t| scene.image(t));
    for (start, regions) in [(200, LEFT), (260, ALL_BUT_A_WINDOW), (320, LEFT), (380, "")] {
        detector.ignore(&IgnoredRegions::from_polygons(regions).unwrap());
        let results = run(&mut detector, start..start + 60, |t| scene.image(t));
        let flagged = results.iter().filter(|p| p.label == Some(Label::Anomaly)).count();
        assert_eq!(flagged, 0, "{regions}");
        assert!(
            results.iter().all(|p| p.report.scene_change.is_none()),
            "{regions}"
        );
    }
}

#[test]
fn where_all_is_ignored_nothing_is_anomalous() {
    for cues in [vec![CueKind::Motion], CueKind::ALL.to_vec()] {
        let mut detector = Detector::new(
            Config {
                cues,
                warm_up: 40,
                ..Config::default()
            },
            SIZE,
        )
        .unwrap();
        detector.ignore(&IgnoredRegions::from_polygons("0,0 1,0 1,1 0,1").unwrap());
        let scene = Scene::quiet().with(6.0..8.0, Happening::Runner);
        let results = run(&mut detector, 0..80, |t| scene.image(t));
        assert!(results.iter().all(|p| p.label != Some(Label::Anomaly)));
    }
}

#[test]
fn the_element_reads_masks_at_start_and_while_playing() {
    let folder = tempfile::tempdir().unwrap();
    let mask = folder.path().join("mask.pgm");
    std::fs::write(&mask, "P2 10 1 1  0 0 0 1 1 1 1 1 1 1").unwrap();
    let mask = mask.display().to_string();
    const SOON: (&str, &str) = ("warm-up", "10");
    let scores = |prepare: &dyn Fn(&Rig), settings: &[(&str, &str)]| {
        let mut rig = Rig::grey(settings, 10);
        prepare(&rig);
        rig.push_scene(&Scene::quiet(), 10, 0..30);
        let scores = rig
            .take_results()
            .iter()
            .map(|r| r.prediction.raw_score.to_bits())
            .collect::<Vec<_>>();
        (scores, rig)
    };
    let (plain, rig) = scores(&|_| (), &[SOON]);
    let (masked, _) = scores(&|_| (), &[SOON, ("mask-location", &mask)]);
    let (polygon, _) = scores(&|_| (), &[SOON, ("ignore-regions", LEFT)]);
    let (set_later, _) = scores(&|rig| rig.element.set_property("mask-location", &mask), &[SOON]);
    assert_ne!(plain, masked);
    assert_eq!(masked, polygon);
    assert_eq!(masked, set_later);

    // What cannot be read is reported, and changes nothing.
    let warnings = || rig.bus.iter_filtered(&[gst::MessageType::Warning]).count();
    rig.element.set_property("ignore-regions", "0,0 1,0");
    assert_eq!(warnings(), 1);
    rig.element.set_property("ignore-regions", None::<String>);
    for file in ["/no/such/mask.png", "/dev/zero"] {
        rig.element.set_property("mask-location", file);
        assert_eq!(warnings(), 1, "{file}");
    }
    let element = common::rig::element(&[("mask-location", "/no/such/mask.png")]);
    assert!(element.set_state(gst::State::Paused).is_err());
    element.set_state(gst::State::Null).unwrap();
}
