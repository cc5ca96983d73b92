//! The gate behind an encoder that loses metadata: it relies on `vaeanomaly-event`.

use gst::prelude::*;

mod common;
mod gated;
use common::rig;
use common::synthetic::{Happening, Scene};
use gated::harness::*;

fn remote_event(event: &str, fields: &[(&str, u64)]) -> gst::Event {
    let mut structure = gst::Structure::builder("vaeanomaly-event")
        .field("event", event)
        .build();
    for (name, value) in fields {
        structure.set(*name, value * MS.nseconds());
    }
    gst::event::CustomDownstream::new(structure)
}

fn state_event(state: &str) -> gst::Event {
    let structure = gst::Structure::builder("vaeanomaly-event")
        .field("event", "state-changed")
        .field("state", state);
    gst::event::CustomDownstream::new(structure.build())
}

#[test]
fn events_in_the_stream_replace_lost_metadata() {
    let mut harness = harness("pre-roll=200000000 post-roll=200000000 keepalive-interval=0", RAW);
    harness.push_event(state_event("warming-up"));
    feed(&mut harness, 0, "...");
    harness.push_event(state_event("detecting"));
    feed(&mut harness, 3, ".....");
    harness.push_event(remote_event("anomaly-begin", &[("running-time", 800)]));
    feed(&mut harness, 8, "..");
    harness.push_event(remote_event(
        "anomaly-end",
        &[("running-time", 800), ("duration", 200)],
    ));
    feed(&mut harness, 10, ".....");
    harness.push_event(gst::event::Eos::new());
    assert_eq!(passed(&mut harness), [0, 1, 2, 6, 7, 8, 9, 10, 11]);
}

#[test]
fn metadata_takes_precedence_over_events() {
    let mut harness = harness("pre-roll=0 post-roll=0 keepalive-interval=0", RAW);
    harness.push_event(state_event("warming-up"));
    feed(&mut harness, 0, "UU");
    harness.push_event(state_event("detecting"));
    feed(&mut harness, 2, "NN");
    harness.push_event(remote_event("anomaly-begin", &[("running-time", 400)]));
    feed(&mut harness, 4, "ANN");
    harness.push_event(gst::event::Eos::new());
    assert_eq!(passed(&mut harness), [0, 1, 4]);
}

/// The detector announces how late it reports events, so the pre-roll is still held then.
#[test]
fn an_event_reported_late_has_its_whole_pre_roll() {
    let mut harness = harness("pre-roll=200000000 post-roll=0 keepalive-interval=0", RAW);
    let mut state = state_event("detecting");
    let fields = state.make_mut().structure_mut();
    fields.set("min-anomaly", 300 * MS);
    harness.push_event(state);
    feed(&mut harness, 0, "..........");
    // Anomalous since 800 ms: with the frame at 1000 ms that lasts for 300 ms.
    harness.push_event(remote_event("anomaly-begin", &[("running-time", 800)]));
    feed(&mut harness, 10, "...");
    harness.push_event(remote_event(
        "anomaly-end",
        &[("running-time", 800), ("duration", 300)],
    ));
    feed(&mut harness, 13, "..");
    harness.push_event(gst::event::Eos::new());
    assert_eq!(passed(&mut harness), [6, 7, 8, 9, 10, 11, 12]);
}

/// Timestamps of the frames that pass a gate behind the detector; `strip` removes the metadata before it, as encoders do.
fn behind_detector(strip: bool) -> Vec<Option<u64>> {
    let scene = Scene::quiet()
        .with(12.0..13.5, Happening::Runner)
        .with(17.0..17.2, Happening::Runner)
        .with(19.0..20.0, Happening::Runner);
    let line = "appsrc name=source ! vaeanomaly cues=motion warm-up=80 threshold=4 seed=7 min-anomaly=600000000 merge-gap=1000000000 \
        ! identity name=between ! vaeanomalygate name=gate pre-roll=1000000000 post-roll=500000000 keepalive-interval=0 \
        ! fakesink sync=false async=false";
    let list = std::sync::Arc::default();
    let passed = std::sync::Arc::clone(&list);
    rig::play_watched(line, &scene, 10, 0..240, move |pipeline| {
        let pad = |name: &str| {
            let element = pipeline.by_name(name).expect("it is in the line");
            element.static_pad("src").expect("a source pad")
        };
        gated::watch_into(&pad("gate"), &passed);
        pad("between").add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(gst::PadProbeData::Buffer(buffer)) = info.data.as_mut().filter(|_| strip) {
                let meta = gst::meta::CustomMeta::from_mut_buffer(buffer.make_mut(), gated::META);
                meta.expect("every frame has it")
                    .remove()
                    .expect("it can be removed");
            }
            gst::PadProbeReturn::Ok
        });
    });
    let passed = list.lock().unwrap();
    passed.iter().map(|frame: &gated::Seen| frame.pts).collect()
}

#[test]
fn events_carry_as_much_information_as_metadata() {
    let (with_metadata, without) = (behind_detector(false), behind_detector(true));
    assert_eq!(with_metadata, without);
    assert!(
        (120..200).contains(&with_metadata.len()),
        "{} of 240 frames passed",
        with_metadata.len()
    );
}
