//! Random changes of properties while pipelines play.

use gst::prelude::*;
use rand::Rng;
use rand::seq::IndexedRandom;

use crate::camera::Random;

type Change = (&'static str, &'static [&'static str]);

/// Properties of `vaeanomaly` that can change while playing, and values.
const DETECTOR: &[Change] = &[
    ("threshold", &["1.2", "1.75", "2.5", "4"]),
    ("threshold-mode", &["calibrated", "sigma", "evt", "quantile"]),
    ("sigma", &["3", "5"]),
    ("false-alarm-rate", &["0.001", "0.05"]),
    ("window", &["50", "300"]),
    ("learn", &["true", "true", "false"]),
    ("learning-rate", &["0.0005", "0.002"]),
    ("train-interval", &["1", "5", "20"]),
    ("kl-weight", &["0.01", "0.1"]),
    ("dropout", &["0", "0.2"]),
    ("memory", &["60000000000", "604800000000000"]),
    ("absorb-after", &["0", "5000000000", "60000000000"]),
    ("stabilise", &["off", "auto"]),
    ("min-anomaly", &["0", "300000000", "800000000"]),
    ("merge-gap", &["0", "500000000", "2000000000"]),
    ("max-lateness", &["0", "100000000"]),
    ("post-messages", &["none", "events", "all"]),
    ("roi-meta", &["true", "false"]),
    ("ignore-regions", &["", "0,0 0.3,0 0.3,0.3; 0.5,0.5 1,0.5 1,1"]),
];

/// Those that decide what a detector drops.
const DROPPING: &[Change] = &[
    ("drop-normal", &["true", "false"]),
    ("keepalive-interval", &["300000000", "1000000000"]),
    ("post-roll", &["0", "500000000", "2000000000"]),
    ("gap-events", &["true", "false"]),
];

/// Properties of `vaeanomalygate` and values.
const GATE: &[Change] = &[
    ("pre-roll", &["0", "300000000", "1000000000", "2000000000"]),
    ("post-roll", &["0", "500000000", "2000000000"]),
    ("max-pre-roll-bytes", &["2000", "50000", "67108864"]),
    ("keepalive-interval", &["300000000", "1000000000", "5000000000"]),
    ("gap-events", &["true", "false"]),
    ("retain", &["event", "event", "event", "all"]),
];

/// Sets one property of the elements with these names; or, now and then, asks the detector for something.
pub fn change(pipeline: &gst::Pipeline, detector: &str, may_drop: bool, gates: &[&str], random: &mut Random) {
    let element = |name: &str| {
        pipeline
            .by_name(name)
            .unwrap_or_else(|| panic!("no element {name}"))
    };
    let eye = element(detector);
    match random.random_range(1..20) {
        1 | 2 => {
            let events: u64 = eye.property::<gst::Structure>("stats").get("events").unwrap_or(0);
            eye.emit_by_name::<bool>("accept-event", &[&events]);
        }
        3..9 => set(&eye, DETECTOR, random),
        9..12 if may_drop => set(&eye, DROPPING, random),
        _ => {
            if let Some(gate) = gates.choose(random) {
                set(&element(gate), GATE, random);
            }
        }
    }
}

fn set(element: &gst::Element, changes: &[Change], random: &mut Random) {
    if let Some((name, values)) = changes.choose(random)
        && let Some(value) = values.choose(random)
    {
        element.set_property_from_str(name, value);
    }
}

/// Lets the detector forget all that it has learnt.
pub fn reset_model(pipeline: &gst::Pipeline, detector: &str) {
    let eye = pipeline
        .by_name(detector)
        .unwrap_or_else(|| panic!("no element {detector}"));
    eye.emit_by_name::<()>("reset-model", &[]);
}

/// Asks an encoder for a key frame.
pub fn request_key_frame(encoder: &gst::Element) {
    let event = gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true);
    encoder.send_event(event.build());
}
