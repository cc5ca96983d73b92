//! The core learns: losses fall, planted anomalies stand out, and nothing looks ahead.

mod common;

use std::ops::Range;

use common::synthetic::{Happening, PARCEL, Processed, SIZE, Scene, see};
use gstvaeanomaly::detector::{
    Config, CueKind, Detector, Label, NetArch, Networks, SceneChange, State, Temporal, ThresholdMode, Tuning,
};

const APPEARANCE: &[CueKind] = &[CueKind::Appearance];
const MOTION: &[CueKind] = &[CueKind::Motion];
const BOTH: &[CueKind] = &[CueKind::Motion, CueKind::Appearance];

fn config(cues: &[CueKind]) -> Config {
    Config {
        cues: cues.to_vec(),
        seed: 7,
        ..Config::default()
    }
}

/// A small appearance net alone, for tests that need many frames.
fn tiny() -> Config {
    Config {
        net_arch: "[(4,3,4)]".parse::<NetArch>().unwrap(),
        latent_dim: 4,
        model_width: 16,
        ..config(APPEARANCE)
    }
}

fn detector(config: Config) -> Detector {
    Detector::new(config, SIZE).unwrap()
}

/// Shows a detector the scene at `fps`, from and to these frames.
fn watch(
    detector: &mut Detector,
    scene: &Scene,
    fps: f64,
    frames: Range<u32>,
    tuning: &Tuning,
) -> Vec<Processed> {
    frames
        .map(|i| {
            let t = f64::from(i) / fps;
            see(detector, &scene.image(t), t, tuning)
        })
        .collect()
}

/// A fresh detector on the scene's first `frames` frames at ten a second.
fn learn(config: Config, scene: &Scene, frames: u32) -> Vec<Processed> {
    watch(&mut detector(config), scene, 10.0, 0..frames, &Tuning::default())
}

fn raw(predictions: &[Processed]) -> Vec<f64> {
    predictions.iter().map(|p| p.raw_score).collect()
}

fn flagged(seen: &[Processed]) -> usize {
    seen.iter().filter(|p| p.label == Some(Label::Anomaly)).count()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn the_losses_fall() {
    // The appearance net's first guess is the first frame: a covered lens leaves it everything to learn.
    let scene = Scene::quiet().with(0.0..0.05, Happening::Covered);
    let seen = learn(config(BOTH), &scene, 300);
    for cue in [CueKind::Appearance, CueKind::Motion] {
        let losses: Vec<f64> = seen
            .iter()
            .flat_map(|p| &p.report.steps)
            .filter(|(kind, _)| *kind == cue)
            .map(|(_, step)| {
                assert!(!step.rejected);
                step.reconstruction
            })
            .collect();
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        let (first, last) = (mean(&losses[..20]), mean(&losses[losses.len() - 20..]));
        println!("{cue:?}: reconstruction loss {first:.4} -> {last:.4}");
        assert!(last < 0.8 * first, "{cue:?}: {first} -> {last}");
    }
}

/// Calibrated on the whole of the nets' first progress.
#[test]
fn the_reconstruction_is_told_as_its_part_of_the_loss() {
    let tuning = Tuning {
        kl_weight: 0.0,
        ..Tuning::default()
    };
    let seen = watch(&mut detector(config(BOTH)), &Scene::quiet(), 10.0, 0..10, &tuning);
    for cue in [CueKind::Appearance, CueKind::Motion] {
        let steps = seen.iter().flat_map(|p| &p.report.steps);
        let of_cue: Vec<_> = steps.filter(|(kind, _)| *kind == cue).collect();
        assert!(!of_cue.is_empty(), "{cue:?}");
        for (_, step) in of_cue {
            let gap = (step.loss - step.reconstruction).abs();
            assert!(gap < 1e-6 * step.loss.abs().max(1.0), "{cue:?}: {step:?}");
        }
    }
}

fn calibrated(cues: &[CueKind]) -> Config {
    Config {
        warm_up: 200,
        ..config(cues)
    }
}

/// The predictions on normal frames, and on the anomaly's but for the first half second, in which the
/// smoothed score rises.
fn planted(cues: &[CueKind], what: Happening) -> (Vec<Processed>, Vec<Processed>) {
    let scene = Scene::quiet().with(40.0..44.0, what);
    let mut seen = learn(calibrated(cues), &scene, 440);
    let planted = seen.split_off(405);
    (seen[250..400].to_vec(), planted)
}

#[test]
fn a_planted_anomaly_outranks_normal_frames() {
    for (cues, what, name) in [
        (APPEARANCE, Happening::Parcel, CueKind::Appearance),
        (MOTION, Happening::Runner, CueKind::Motion),
        (BOTH, Happening::Parcel, CueKind::Appearance),
        (BOTH, Happening::Runner, CueKind::Motion),
    ] {
        let (normal, planted) = planted(cues, what);
        let worst = raw(&normal).into_iter().fold(f64::NEG_INFINITY, f64::max);
        let peak = median(raw(&planted));
        let flagged = normal.iter().filter(|p| p.label == Some(Label::Anomaly)).count();
        println!(
            "{what:?} with {cues:?}: normal at most {worst:.2}, {flagged} flagged; planted median {peak:.2}"
        );
        assert!(
            peak > worst + 2.0,
            "{what:?} with {cues:?}: {peak} against {worst}"
        );
        assert!(
            planted.iter().all(|p| p.label == Some(Label::Anomaly)),
            "{what:?} with {cues:?}"
        );
        assert!(
            flagged * 20 <= normal.len(),
            "{what:?} with {cues:?}: {flagged} false alarms"
        );
        if cues != BOTH || what == Happening::Parcel {
            assert!(planted.iter().all(|p| p.cue == name), "{what:?} with {cues:?}");
        }
    }
}

#[test]
fn the_motion_score_does_not_grow_with_what_the_net_has_learnt() {
    // Early, the net predicts little; later its prediction is part of the score, of the same street.
    let scores = raw(&learn(config(MOTION), &Scene::quiet(), 400));
    let late = &scores[100..];
    let mean = late.iter().sum::<f64>() / late.len() as f64;
    println!("motion: mean raw score {mean:.3}");
    assert!(mean.abs() < 0.6, "{mean}");
}

#[test]
fn the_place_of_a_planted_anomaly_is_found() {
    let (_, planted) = planted(APPEARANCE, Happening::Parcel);
    for p in planted {
        let (x, y) = (p.region.x + p.region.width / 2, p.region.y + p.region.height / 2);
        let (left, top, width, height) = PARCEL;
        assert!(
            (left..left + width).contains(&(x as usize)) && (top..top + height).contains(&(y as usize)),
            "{:?}",
            p.region
        );
    }
}

/// An image of the scene that is displaced by some columns.
fn displaced(image: &[u8], columns: isize) -> Vec<u8> {
    let displaced = |row: &[u8]| -> Vec<u8> {
        let from = |x: usize| x.saturating_add_signed(-columns).min(SIZE.0 - 1);
        (0..SIZE.0).map(|x| row[from(x)]).collect()
    };
    image.chunks_exact(SIZE.0).flat_map(displaced).collect()
}

#[test]
fn regions_and_maps_of_a_shaking_camera_are_where_things_are_in_the_frame() {
    const SWING: isize = 3;
    let scene = Scene::quiet().with(40.0..44.0, Happening::Runner);
    let mut detector = detector(calibrated(MOTION));
    // Where region and map are beside the runner, in columns, in frames that are displaced to the right and to the left.
    let mut beside = [[0.0, 0.0, 0.0]; 2];
    for i in 0..440 {
        let t = f64::from(i) / 10.0;
        let swing = match i {
            0..50 => 0,
            i if i % 2 == 0 => SWING,
            _ => -SWING,
        };
        let image = displaced(&scene.image(t), swing);
        let p = see(&mut detector, &image, t, &Tuning::default());
        // The runner is brighter than anything else.
        let bright: Vec<f64> = (0..SIZE.0)
            .filter(|&x| image[22 * SIZE.0 + x] > 195)
            .map(|x| x as f64 + 0.5)
            .collect();
        if p.label != Some(Label::Anomaly) || !(8..=10).contains(&bright.len()) {
            continue;
        }
        let runner = bright.iter().sum::<f64>() / bright.len() as f64;
        let region = f64::from(p.region.x) + 0.5 * f64::from(p.region.width);
        let map = detector.anomaly_map(p.threshold);
        let over = map.values.iter().enumerate().filter(|(_, score)| **score > 0.5);
        let columns: Vec<f64> = over.map(|(i, _)| (i % map.width) as f64 + 0.5).collect();
        if columns.is_empty() {
            continue;
        }
        let mean = columns.iter().sum::<f64>() / columns.len() as f64 * SIZE.0 as f64 / map.width as f64;
        let sums = &mut beside[(i % 2) as usize];
        *sums = [sums[0] + 1.0, sums[1] + region - runner, sums[2] + mean - runner];
    }
    let [right, left] = beside.map(|[frames, region, map]| (frames, region / frames, map / frames));
    println!("beside the runner, by region and map: {right:?}, {left:?}");
    assert!(right.0 > 5.0 && left.0 > 5.0);
    assert!((right.1 - left.1).abs() < 2.0, "regions follow the background");
    // A cell is two columns wide.
    assert!((right.2 - left.2).abs() < 4.5, "maps follow the background");
}

/// What of a prediction must not depend on anything but the past.
fn decision(p: &Processed) -> (u64, u64, u64, Option<Label>, State) {
    (
        p.frame,
        p.raw_score.to_bits(),
        p.threshold.to_bits(),
        p.label,
        p.state,
    )
}

#[test]
fn a_score_does_not_depend_on_later_frames() {
    let ends = 150;
    let one = learn(config(BOTH), &Scene::quiet(), ends + 10);
    let other = Scene::quiet().with(f64::from(ends) / 10.0..1e9, Happening::Covered);
    let other = learn(config(BOTH), &other, ends + 10);
    for (a, b) in one.iter().zip(&other).take(ends as usize) {
        assert_eq!(decision(a), decision(b));
        assert_eq!(a.report.steps, b.report.steps);
    }
    assert_ne!(raw(&one), raw(&other), "the later frames do differ");
}

#[test]
fn the_seed_decides() {
    let run = |seed| {
        let config = Config { seed, ..config(BOTH) };
        learn(config, &Scene::quiet(), 120)
    };
    let (one, again, other) = (run(1), run(1), run(2));
    assert!(one.iter().zip(&again).all(|(a, b)| decision(a) == decision(b)));
    assert_ne!(
        one[2].report.steps, other[2].report.steps,
        "other weights, other losses"
    );
    assert_ne!(raw(&one), raw(&other));
}

/// With a convolutional LSTM in both nets.
fn recurrent(cues: &[CueKind]) -> Config {
    Config {
        temporal: Temporal::ConvLstm,
        ..config(cues)
    }
}

#[test]
fn recurrent_nets_learn_and_their_seed_decides() {
    let scene = Scene::quiet().with(0.0..0.05, Happening::Covered);
    let (one, again) = (
        learn(recurrent(BOTH), &scene, 100),
        learn(recurrent(BOTH), &scene, 100),
    );
    assert!(one.iter().zip(&again).all(|(a, b)| decision(a) == decision(b)));
    for cue in [CueKind::Appearance, CueKind::Motion] {
        let steps = one.iter().flat_map(|p| &p.report.steps);
        let losses: Vec<f64> = steps
            .filter(|(kind, step)| *kind == cue && !step.rejected)
            .map(|(_, step)| step.reconstruction)
            .collect();
        // Without the first frames, which make no clip.
        assert!(
            (85..100).contains(&losses.len()),
            "{cue:?}: {} steps",
            losses.len()
        );
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        let (first, last) = (mean(&losses[..20]), mean(&losses[losses.len() - 20..]));
        assert!(last < 0.9 * first, "{cue:?}: {first} -> {last}");
    }
    let without = learn(config(BOTH), &scene, 100);
    assert_ne!(raw(&one), raw(&without), "other nets, other scores");
}

#[test]
fn a_recurrent_net_remembers_the_frames_before_until_the_next_restart() {
    let frozen = Tuning {
        learn: false,
        ..Tuning::default()
    };
    let scene = Scene::quiet();
    let image = |i: u32| scene.image(10.0 + 2.5 * f64::from(i));
    let map_of_last = |detector: &mut Detector, from: u32, images: &[u32]| {
        let mut threshold = 0.0;
        for (n, &i) in images.iter().enumerate() {
            let time = f64::from(from) / 10.0 + n as f64 / 10.0;
            threshold = see(detector, &image(i), time, &frozen).threshold;
        }
        detector.anomaly_map(threshold).values
    };
    for (temporal, remembers) in [(Temporal::ConvLstm, true), (Temporal::None, false)] {
        let config = Config {
            temporal,
            ..config(APPEARANCE)
        };
        let mut detector = detector(config);
        watch(&mut detector, &scene, 10.0, 0..50, &Tuning::default());
        let mut after = |images: &[u32]| {
            detector.restart();
            map_of_last(&mut detector, 200, images)
        };
        let (one, other, again) = (after(&[1, 2, 3, 4]), after(&[2, 3, 1, 4]), after(&[1, 2, 3, 4]));
        assert_eq!(one, again, "{temporal}: a restart forgets the frames");
        assert_eq!(one != other, remembers, "{temporal}");
    }
}

#[test]
fn without_learning_nothing_changes() {
    let mut detector = detector(config(BOTH));
    let scene = Scene::quiet().with(60.0..1e9, Happening::Parcel);
    watch(&mut detector, &scene, 10.0, 0..250, &Tuning::default());
    let frozen = Tuning {
        learn: false,
        ..Tuning::default()
    };
    // The smoothed score comes to rest on a picture that stands still.
    let mut rest = |shown: f64, from: u32| {
        let picture = scene.image(shown);
        let seen: Vec<Processed> = (from..from + 120)
            .map(|i| see(&mut detector, &picture, f64::from(i) / 10.0, &frozen))
            .collect();
        assert!(seen.iter().all(|p| p.report.steps.is_empty()));
        let last = &seen[seen.len() - 1];
        assert_eq!(last.state, State::Frozen);
        assert!((last.raw_score - seen[seen.len() - 2].raw_score).abs() < 1e-9);
        last.raw_score
    };
    let before = rest(5.0, 250);
    let parcel = rest(65.0, 370);
    let after = rest(5.0, 490);
    assert!((before - after).abs() < 1e-6, "{before} and {after}");
    assert!(parcel > before + 1.0, "{parcel} against {before}");
}

#[test]
fn a_still_picture_is_normal_in_every_threshold_mode() {
    for mode in ThresholdMode::ALL {
        let tuning = Tuning {
            threshold_mode: *mode,
            ..Tuning::default()
        };
        for level in [0, 16, 128] {
            let mut detector = detector(config(BOTH));
            let still = vec![level; SIZE.0 * SIZE.1];
            let flagged = (0..600)
                .map(|i| see(&mut detector, &still, f64::from(i) / 10.0, &tuning))
                .filter(|seen| seen.label == Some(Label::Anomaly))
                .count();
            assert_eq!(flagged, 0, "threshold-mode {mode}, grey {level}");
        }
    }
}

#[test]
fn every_threshold_mode_labels() {
    let scene = Scene::quiet().with(60.0..62.0, Happening::Runner);
    for mode in [
        ThresholdMode::Calibrated,
        ThresholdMode::Sigma,
        ThresholdMode::Evt,
        ThresholdMode::Quantile,
    ] {
        let tuning = Tuning {
            threshold_mode: mode,
            sigma: 3.0,
            false_alarm_rate: 0.05,
            ..Tuning::default()
        };
        let seen = watch(&mut detector(calibrated(MOTION)), &scene, 10.0, 0..620, &tuning);
        let flagged = |part: &[Processed]| part.iter().filter(|p| p.label == Some(Label::Anomaly)).count();
        let (normal, event) = (flagged(&seen[450..600]), flagged(&seen[600..]));
        println!("{mode:?}: {normal} of 150 normal frames flagged, {event} of 20 of the event");
        assert!(event >= 10, "{mode:?}: {event} of 20 frames of the event flagged");
        // Three times the rate: the 300 scores of the window depend on each other.
        assert!(normal <= 22, "{mode:?}: {normal} of 150 normal frames flagged");
        if mode != ThresholdMode::Calibrated {
            assert_ne!(seen[599].threshold, tuning.threshold, "{mode:?}");
        }
    }
}

#[test]
fn trains_ten_times_a_second_and_then_at_the_interval() {
    let count_steps = |seen: &[Processed]| seen.iter().filter(|p| !p.report.steps.is_empty()).count();
    let quiet = Scene::quiet();
    let tuning = Tuning {
        train_interval: 10,
        ..Tuning::default()
    };
    let mut at_ten = detector(tiny());
    let eager = watch(&mut at_ten, &quiet, 10.0, 0..1500, &tuning);
    assert_eq!(count_steps(&eager), 1500);
    let calm = watch(&mut at_ten, &quiet, 10.0, 1500..1600, &tuning);
    assert_eq!(count_steps(&calm), 10);
    let at_thirty = watch(&mut detector(tiny()), &quiet, 30.0, 0..300, &tuning);
    assert!(
        (99..=101).contains(&count_steps(&at_thirty)),
        "{}",
        count_steps(&at_thirty)
    );
}

#[test]
fn motion_counts_more_where_nothing_usually_moves() {
    // Walkers all over the image, or only in its upper half for the first ten minutes; then all over it.
    let score = |upper_only: bool| {
        let config = Config {
            networks: Networks::Off,
            ..config(MOTION)
        };
        let mut detector = detector(config);
        let scene = Scene::quiet();
        let still = scene.image(0.0);
        let half = SIZE.0 * (SIZE.1 / 2);
        let seen = (0..6020).map(|i| {
            let t = f64::from(i) / 10.0;
            let mut image = scene.image(t);
            if upper_only && i < 6000 {
                image[half..].copy_from_slice(&still[half..]);
            }
            see(&mut detector, &image, t, &Tuning::default()).raw_score
        });
        seen.skip(6005).fold(f64::NEG_INFINITY, f64::max)
    };
    let (usual, unusual) = (score(false), score(true));
    println!("raw scores: {usual:.2} where walkers are usual, {unusual:.2} where they are not");
    assert!(usual < 1.5, "{usual}");
    assert!(unusual > usual + 0.7, "{unusual} and {usual}");
}

#[test]
fn the_frame_rate_changes_little() {
    let scene = Scene::quiet().with(36.0..38.0, Happening::Runner);
    let run = |fps: f64| {
        let frames = (40.0 * fps) as u32;
        watch(
            &mut detector(config(BOTH)),
            &scene,
            fps,
            0..frames,
            &Tuning::default(),
        )
    };
    let (ten, thirty) = (run(10.0), run(30.0));
    let pairs: Vec<(&Processed, &Processed)> = (260..400).map(|i| (&ten[i], &thirty[3 * i])).collect();
    let (quiet, event) = pairs.split_at(100);
    let mean = quiet
        .iter()
        .map(|(a, b)| (a.raw_score - b.raw_score).abs())
        .sum::<f64>()
        / quiet.len() as f64;
    println!("10 and 30 frames/s: raw scores of normal frames differ by {mean:.3} in the mean");
    assert!(mean < 0.25, "raw scores differ by {mean} in the mean");
    // The event's scores are far beyond the scale's end, and the smoothing sees three times as many of them.
    let agree = event.iter().filter(|(a, b)| a.label == b.label).count();
    assert!(
        agree * 10 >= event.len() * 9,
        "{agree} of {} labels agree",
        event.len()
    );
}

#[test]
fn a_falling_frame_rate_is_no_anomaly() {
    let scene = Scene::quiet().with(96.0..98.0, Happening::Runner);
    for (fps, found) in [(5.0, 0.5), (2.0, 0.2)] {
        let frame = |seconds: f64| (seconds * fps) as u32;
        let mut detector = detector(config(BOTH));
        watch(&mut detector, &scene, 10.0, 0..600, &Tuning::default());
        let mut share = |from: f64, to: f64| {
            let frames = frame(from)..frame(to);
            let seen = watch(&mut detector, &scene, fps, frames, &Tuning::default());
            flagged(&seen) as f64 / seen.len() as f64
        };
        let (quiet, runner) = (share(60.0, 96.0), share(96.0, 98.0));
        println!("{fps} frames/s: {quiet:.3} of the normal frames flagged, {runner:.3} of the runner's");
        assert!(quiet < 0.05, "{fps} frames/s: {quiet} of the normal frames");
        assert!(runner > found, "{fps} frames/s: {runner} of the runner's frames");
    }
}

#[test]
fn slow_cameras_have_labels_within_seconds_and_find_an_event() {
    let scene = Scene::quiet().with(66.0..69.0, Happening::Runner);
    for fps in [1.0, 2.0] {
        let frames = |seconds: f64| (seconds * fps) as usize;
        let seen = watch(
            &mut detector(config(BOTH)),
            &scene,
            fps,
            0..frames(69.0) as u32,
            &Tuning::default(),
        );
        let first = seen.iter().position(|p| p.label.is_some());
        assert!(first.is_some_and(|frame| frame <= frames(15.0)), "{first:?}");
        let (quiet, runner) = seen.split_at(frames(66.0));
        let (quiet, runner) = (flagged(quiet), flagged(runner));
        println!("{fps} frames/s: {quiet} normal frames flagged, {runner} of the runner's");
        assert!(quiet < frames(66.0) / 20 && runner > 0, "{quiet} and {runner}");
    }
}

#[test]
fn fading_light_is_adapted_to() {
    let scene = Scene::quiet().with(30.0..1e9, Happening::Dusk);
    let seen = learn(config(BOTH), &scene, 600);
    assert_eq!(seen[299].state, State::Detecting);
    let begin = seen.iter().skip(300).position(|p| p.state == State::Adapting);
    assert!(begin.is_some_and(|frames| frames <= 10), "after {begin:?} frames");
    let adapting = seen[300..].iter().filter(|p| p.state == State::Adapting).count();
    println!("adapted to half the light after {adapting} frames");
    assert!((10..=50).contains(&adapting), "{adapting} frames");
    assert_eq!(seen[599].state, State::Detecting);
    assert_eq!(flagged(&seen[300..]), 0);
}

/// What a detector makes of the scene at ten frames a second, each changed by `change`.
fn learn_changed(scene: &Scene, frames: u32, change: impl Fn(u32, Vec<u8>) -> Vec<u8>) -> Vec<Processed> {
    let mut detector = detector(config(BOTH));
    let frames = (0..frames).map(|i| {
        let t = f64::from(i) / 10.0;
        see(&mut detector, &change(i, scene.image(t)), t, &Tuning::default())
    });
    frames.collect()
}

#[test]
fn a_turned_camera_is_learnt_in_seconds() {
    // By a sixth of the width within a second.
    let turn = |i: u32, image: Vec<u8>| displaced(&image, (i.saturating_sub(300).min(10) * 8 / 5) as isize);
    let seen = learn_changed(&Scene::quiet(), 600, turn);
    let flagged = flagged(&seen[300..]);
    println!("{flagged} of 300 frames flagged after the camera was turned");
    assert!(flagged < 100, "{flagged} of 300 frames");
}

#[test]
fn a_clock_in_the_image_is_normal_and_does_not_lengthen_an_event() {
    // Five digits; the last one changes every second.
    let clock = |i: u32, mut image: Vec<u8>| {
        for digit in 0..5 {
            let segments = (1 + i / 10 / 10u32.pow(digit) % 10).wrapping_mul(0x9e37_79b9) >> 8;
            for pixel in 0..15 {
                let (x, y) = (20 - 4 * digit as usize + pixel % 3, 1 + pixel / 3);
                image[y * SIZE.0 + x] = if segments >> pixel & 1 == 1 { 250 } else { 10 };
            }
        }
        image
    };
    let scene = Scene::quiet().with(40.0..42.0, Happening::Runner);
    let seen = learn_changed(&scene, 500, clock);
    let before = flagged(&seen[300..400]);
    let after = flagged(&seen[430..]);
    println!("{before} of 100 frames flagged before the event, {after} of 70 from a second after it on");
    assert!(flagged(&seen[400..420]) > 10, "the event is found");
    assert!(
        before < 5 && after < 20,
        "{before} before the event, {after} after it"
    );
}

#[test]
fn a_switch_of_the_light_is_reported_and_changes_no_score() {
    let scene = Scene::quiet().with(30.0..1e9, Happening::Dark);
    let (light, dark) = (
        learn(config(BOTH), &Scene::quiet(), 500),
        learn(config(BOTH), &scene, 500),
    );
    assert_eq!(dark[300].report.scene_change, Some(SceneChange::NewScene));
    assert_eq!(dark.iter().filter(|p| p.report.scene_change.is_some()).count(), 1);
    let unlabelled = dark[300..].iter().filter(|p| p.label.is_none()).count();
    assert!(
        unlabelled <= 3,
        "{unlabelled} frames: only those that motion lacks after the cut"
    );
    let anomalous = dark[300..]
        .iter()
        .filter(|p| p.label == Some(Label::Anomaly))
        .count();
    assert_eq!(anomalous, 0);
    let scores = |seen: &[Processed]| median(raw(&seen[320..]));
    let (light, dark) = (scores(&light), scores(&dark));
    println!("median score {light:.2} in the light, {dark:.2} in the dark");
    assert!(
        (light - dark).abs() < 0.5,
        "{light} in the light, {dark} in the dark"
    );
}

#[test]
fn another_light_changes_nothing_without_learning() {
    let scene = Scene::quiet().with(30.0..1e9, Happening::Dusk);
    let mut detector = detector(config(BOTH));
    watch(&mut detector, &scene, 10.0, 0..290, &Tuning::default());
    let frozen = Tuning {
        learn: false,
        ..Tuning::default()
    };
    let seen = watch(&mut detector, &scene, 10.0, 290..330, &frozen);
    assert_eq!(seen[39].state, State::Frozen);
    let adapting = seen.iter().filter(|p| p.state == State::Adapting).count();
    assert!(
        adapting <= 3,
        "{adapting} frames: only those that motion lacks after the cut"
    );
}

#[test]
fn a_covered_lens_is_reported() {
    let scene = Scene::quiet().with(20.0..25.0, Happening::Covered);
    let seen = learn(tiny(), &scene, 300);
    let blocked: Vec<usize> = (0..seen.len()).filter(|&i| seen[i].report.view_blocked).collect();
    assert!((205..=212).contains(&blocked[0]), "{blocked:?}");
    assert!(*blocked.last().unwrap() < 252, "{blocked:?}");
}
