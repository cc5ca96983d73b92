//! "This was normal": what was seen in an event no longer raises the score, other things still do.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::rig::{self, Rig};
use common::synthetic::{Happening, Scene};
use gst::prelude::*;
use gstvaeanomaly::ACCEPT_NAME;
use gstvaeanomaly::detector::{
    ColorModel, ColorRange, Config, Detector, ImageView, Label, PixelFormat, Prediction, Tuning,
};
use street_scene::scene::{self as street, Kind};

const SETTINGS: [(&str, &str); 4] = [
    ("warm-up", "80"),
    ("threshold", "4"),
    ("seed", "7"),
    ("cues", "motion"),
];

/// Runners at 10 s and at 20 s, and a parcel at 30 s.
fn scene() -> Scene {
    Scene::quiet()
        .with(10.0..12.0, Happening::Runner)
        .with(20.0..22.0, Happening::Runner)
}

/// The ids of the events that begin while these frames are pushed.
fn events(rig: &mut Rig, frames: std::ops::Range<u64>) -> Vec<u64> {
    rig.take_messages();
    rig.push_scene(&scene(), 10, frames);
    let messages = rig.take_messages();
    let begins = rig::of_kind(&messages, "anomaly-begin");
    begins.iter().map(|m| m.get("event-id").unwrap()).collect()
}

fn accept(rig: &Rig, id: u64) -> bool {
    rig.element.emit_by_name("accept-event", &[&id])
}

#[test]
fn an_accepted_event_is_no_event_when_it_comes_again() {
    let mut without = Rig::grey(&SETTINGS, 10);
    assert_eq!(events(&mut without, 0..150), [1]);
    assert_eq!(events(&mut without, 150..250), [2]);

    let mut with = Rig::grey(&SETTINGS, 10);
    assert_eq!(events(&mut with, 0..150), [1]);
    assert!(!accept(&with, 2), "there is none yet");
    assert!(accept(&with, 1));
    assert!(events(&mut with, 150..250).is_empty());
}

#[test]
fn what_was_accepted_is_saved_and_forgotten_by_a_reset() {
    let folder = tempfile::tempdir().unwrap();
    let location = folder.path().join("model").display().to_string();
    let mut first = Rig::grey(&SETTINGS, 10);
    assert_eq!(events(&mut first, 0..150), [1]);
    assert!(accept(&first, 1));
    assert!(first.element.emit_by_name::<bool>("save-model", &[&location]));

    let mut second = Rig::grey(&SETTINGS, 10);
    assert!(second.element.emit_by_name::<bool>("load-model", &[&location]));
    assert!(events(&mut second, 150..250).is_empty());

    let mut third = Rig::grey(&SETTINGS, 10);
    assert!(third.element.emit_by_name::<bool>("load-model", &[&location]));
    third.element.emit_by_name::<()>("reset-model", &[]);
    assert_eq!(events(&mut third, 0..250).len(), 2);
}

#[test]
fn an_upstream_event_accepts_too() {
    let mut rig = Rig::grey(&SETTINGS, 10);
    assert_eq!(events(&mut rig, 0..150), [1]);
    let fields = gst::Structure::builder(ACCEPT_NAME)
        .field("event-id", 1u64)
        .build();
    assert!(
        rig.harness
            .push_upstream_event(gst::event::CustomUpstream::new(fields))
    );
    assert!(events(&mut rig, 150..250).is_empty());
}

const SIZE: (u32, u32) = (320, 180);

/// The predictions of a street, of which the anomalies with these indices are accepted once they are over.
fn watch(config: &street::Config, accepted: &[usize]) -> (Vec<Prediction>, Vec<Option<(usize, Kind)>>) {
    let mut scene = street::Scene::new(config).unwrap();
    let size = (SIZE.0 as usize, SIZE.1 as usize);
    let mut detector = Detector::new(Config::default(), size).unwrap();
    let tuning = Tuning::default();
    let (mut predictions, mut truths) = (Vec::<Prediction>::new(), Vec::new());
    let mut open: Option<(usize, u64)> = None;
    for i in 0..(scene.duration() * 10.0) as u64 {
        let t = i as f64 / 10.0;
        let truth = scene.truth(t).map(|truth| (truth.event, truth.kind));
        let image = scene.render(t);
        let view = ImageView {
            format: PixelFormat::Rgba,
            width: size.0,
            height: size.1,
            planes: &[image],
            strides: &[4 * size.0],
            color: ColorModel {
                range: ColorRange::Full,
                kr: 0.299,
                kb: 0.114,
            },
        };
        let time = Some(Duration::from_millis(100 * i));
        predictions.push(detector.process(&view, time, None, &tuning).unwrap().0);
        truths.push(truth);
        // Two seconds after it was last seen, as an operator would at the earliest.
        match (truth, open) {
            (Some((event, _)), None) if accepted.contains(&event) => open = Some((event, i)),
            (None, Some((_, from))) if truths.iter().rev().take(20).all(Option::is_none) => {
                detector.accept(from..=i);
                open = None;
            }
            _ => {}
        }
    }
    (predictions, truths)
}

/// For each anomaly, its kind, its frames that were labelled as anomalous, and all its labelled frames.
fn flagged(
    predictions: &[Prediction],
    truths: &[Option<(usize, Kind)>],
) -> BTreeMap<usize, (Kind, usize, usize)> {
    let mut events = BTreeMap::new();
    for (p, truth) in predictions.iter().zip(truths) {
        if let (Some((event, kind)), Some(label)) = (truth, p.label) {
            let (_, flagged, labelled) = events.entry(*event).or_insert((*kind, 0, 0));
            *flagged += usize::from(label == Label::Anomaly);
            *labelled += 1;
        }
    }
    events
}

/// Prints how many frames of a kind of anomaly, and of another kind, are flagged with and without the first one of the kind
/// accepted.
#[test]
#[ignore = "a measurement of some minutes"]
fn recurrence_on_the_street() {
    let mut totals = [[0; 4]; 2];
    for kind in [Kind::Cyclist, Kind::WrongWayCar, Kind::Trespasser, Kind::Runner] {
        let other = match kind {
            Kind::WrongWayCar => Kind::Cyclist,
            _ => Kind::WrongWayCar,
        };
        let config = street::Config {
            width: SIZE.0,
            height: SIZE.1,
            seed: 1,
            lead_in: 40.0,
            events: 6,
            kinds: vec![kind, other],
            spacing: 8.0,
            ..street::Config::default()
        };
        let counts = [&[][..], &[0]].map(|accepted| {
            let (predictions, truths) = watch(&config, accepted);
            let flagged = flagged(&predictions, &truths);
            println!("{} {accepted:?}: {flagged:?}", kind.name());
            let sum = |wanted: Kind| {
                let later = flagged
                    .iter()
                    .filter(|(event, (kind, ..))| **event > 0 && *kind == wanted);
                later.fold([0, 0], |sum, (_, (_, flagged, labelled))| {
                    [sum[0] + flagged, sum[1] + labelled]
                })
            };
            [sum(kind), sum(other)].concat()
        });
        for (total, counts) in totals.iter_mut().zip(counts) {
            total.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
        }
    }
    for (name, [same, of, other, others]) in ["not accepted", "accepted"].into_iter().zip(totals) {
        println!("{name}: {same} of {of} frames of the same kind are flagged, {other} of {others} of others");
    }
}
