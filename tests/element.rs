//! Properties, invalid settings, states, metadata and statistics of the element.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::rig::{self, Rig};
use common::synthetic::{Happening, SIZE, Scene};
use gst::glib;
use gst::prelude::*;
use gstvaeanomaly::detector::Label;
use gstvaeanomaly::{Cues, FrameResult, Stabilise, State, Temporal};

/// Short warm-up and a high threshold: only planted anomalies are found.
const QUICK: [(&str, &str); 3] = [("warm-up", "100"), ("threshold", "4"), ("seed", "7")];

/// A runner for two seconds after 15 s of normal video.
fn runner() -> Scene {
    Scene::quiet().with(15.0..17.0, Happening::Runner)
}

/// The documented properties: name, whether mutable in PLAYING, default, another value.
fn contract() -> Vec<(&'static str, bool, glib::Value, glib::Value)> {
    let ready = false;
    let playing = true;
    let arch = "[(12,3,2),(24,3,2),(32,3,2)]";
    let second = 1_000_000_000u64;
    vec![
        ("device", ready, "auto".to_value(), "cpu".to_value()),
        ("cues", ready, Cues::all().to_value(), Cues::MOTION.to_value()),
        (
            "net-arch",
            ready,
            arch.to_value(),
            "[(32,5,2),(8,3,2)]".to_value(),
        ),
        ("latent-dim", ready, 16u32.to_value(), 512u32.to_value()),
        ("model-width", ready, 64u32.to_value(), 256u32.to_value()),
        (
            "temporal",
            ready,
            Temporal::None.to_value(),
            Temporal::ConvLstm.to_value(),
        ),
        ("seed", ready, 0u64.to_value(), u64::MAX.to_value()),
        ("warm-up", ready, 0u32.to_value(), 100u32.to_value()),
        ("learn", playing, true.to_value(), false.to_value()),
        ("learning-rate", playing, 5e-4.to_value(), 1e-3.to_value()),
        ("train-interval", playing, 5u32.to_value(), 1u32.to_value()),
        ("kl-weight", playing, 0.03.to_value(), 1.0.to_value()),
        ("dropout", playing, 0.0.to_value(), 0.9.to_value()),
        ("threshold", playing, 1.75.to_value(), (-2.5).to_value()),
        ("sigma", playing, 5.0.to_value(), 3.0.to_value()),
        ("false-alarm-rate", playing, 0.01.to_value(), 0.5.to_value()),
        ("window", playing, 300u32.to_value(), 10u32.to_value()),
        ("drop-normal", playing, false.to_value(), true.to_value()),
        ("keepalive-interval", playing, second.to_value(), 0u64.to_value()),
        ("gap-events", playing, true.to_value(), false.to_value()),
        ("post-roll", playing, (2 * second).to_value(), 0u64.to_value()),
        (
            "min-anomaly",
            playing,
            (second * 4 / 5).to_value(),
            second.to_value(),
        ),
        ("merge-gap", playing, (2 * second).to_value(), 5u64.to_value()),
        ("max-lateness", playing, (second / 10).to_value(), 0u64.to_value()),
        ("roi-meta", playing, true.to_value(), false.to_value()),
        ("attach-map", playing, false.to_value(), true.to_value()),
        (
            "attach-reconstruction",
            playing,
            false.to_value(),
            true.to_value(),
        ),
        (
            "memory",
            playing,
            (7 * 24 * 3600 * second).to_value(),
            second.to_value(),
        ),
        ("absorb-after", playing, (60 * second).to_value(), 0u64.to_value()),
        (
            "stabilise",
            playing,
            Stabilise::Auto.to_value(),
            Stabilise::Off.to_value(),
        ),
        ("model-location", ready, "".to_value(), "model-%s".to_value()),
        (
            "save-interval",
            playing,
            (60 * second).to_value(),
            0u64.to_value(),
        ),
        ("mask-location", playing, "".to_value(), "mask.png".to_value()),
        ("ignore-regions", playing, "".to_value(), "0,0 1,0 0,1".to_value()),
    ]
}

fn text(value: &glib::Value) -> String {
    value.serialize().unwrap().to_string()
}

/// The element's own properties, without those of its parents.
fn own_properties(element: &gst::Element) -> Vec<glib::ParamSpec> {
    let own = element.type_();
    element
        .list_properties()
        .iter()
        .filter(|p| p.owner_type() == own)
        .cloned()
        .collect()
}

#[test]
fn properties_have_the_documented_defaults_and_round_trip() {
    let element = rig::element(&[]);
    for (name, playing, default, other) in contract() {
        let spec = element
            .find_property(name)
            .unwrap_or_else(|| panic!("no property {name}"));
        assert_eq!(text(spec.default_value()), text(&default), "{name}");
        assert_eq!(text(&element.property_value(name)), text(&default), "{name}");
        let when = match playing {
            true => gst::PARAM_FLAG_MUTABLE_PLAYING,
            false => gst::PARAM_FLAG_MUTABLE_READY,
        };
        assert!(
            spec.flags().contains(when | glib::ParamFlags::READWRITE),
            "{name}"
        );
        assert!(spec.blurb().is_some_and(|b| b.len() > 10), "{name} has a blurb");
        assert_ne!(text(&default), text(&other), "{name}");
        element.set_property_from_value(name, &other);
        assert_eq!(text(&element.property_value(name)), text(&other), "{name}");
    }
    for (name, nicks) in [
        (
            "threshold-mode",
            ["calibrated", "sigma", "evt", "quantile"].as_slice(),
        ),
        ("post-messages", &["events", "none", "all"]),
    ] {
        let spec = element.find_property(name).unwrap();
        assert_eq!(text(spec.default_value()), nicks[0]);
        assert!(spec.flags().contains(gst::PARAM_FLAG_MUTABLE_PLAYING), "{name}");
        for nick in nicks {
            element.set_property_from_str(name, nick);
            assert_eq!(text(&element.property_value(name)), *nick);
        }
    }
}

#[test]
fn there_are_no_undocumented_properties() {
    let element = rig::element(&[]);
    let mut known: Vec<&str> = contract().iter().map(|row| row.0).collect();
    known.extend(["threshold-mode", "post-messages", "state", "stats"]);
    for spec in own_properties(&element) {
        assert!(
            known.contains(&spec.name()),
            "{} is not in this test",
            spec.name()
        );
    }
    for name in ["state", "stats"] {
        let flags = element.find_property(name).unwrap().flags();
        assert!(!flags.contains(glib::ParamFlags::WRITABLE), "{name} is read-only");
    }
}

#[test]
fn values_out_of_range_are_rejected_and_change_nothing() {
    let element = rig::element(&[]);
    for (name, value) in [
        ("dropout", 0.95.to_value()),
        ("dropout", (-0.1).to_value()),
        ("dropout", f64::NAN.to_value()),
        ("learning-rate", 0.2.to_value()),
        ("learning-rate", f64::INFINITY.to_value()),
        ("kl-weight", (-1.0).to_value()),
        ("threshold", 101.0.to_value()),
        ("threshold", f64::NAN.to_value()),
        ("sigma", (-1.0).to_value()),
        ("false-alarm-rate", 0.0.to_value()),
        ("false-alarm-rate", 0.6.to_value()),
        ("latent-dim", 0u32.to_value()),
        ("latent-dim", 513u32.to_value()),
        ("model-width", 15u32.to_value()),
        ("model-width", 257u32.to_value()),
        ("train-interval", 0u32.to_value()),
        ("window", 9u32.to_value()),
        ("post-roll", u64::MAX.to_value()),
        ("keepalive-interval", u64::MAX.to_value()),
    ] {
        let before = text(&element.property_value(name));
        let set = catch_unwind(AssertUnwindSafe(|| element.set_property_from_value(name, &value)));
        assert!(set.is_err(), "{name} accepts {}", text(&value));
        assert_eq!(text(&element.property_value(name)), before, "{name}");
    }
}

#[test]
fn invalid_settings_are_errors_with_value_and_range() {
    for (name, value, parts) in [
        (
            "net-arch",
            "[(12,3)]",
            ["net-arch", "\"[(12,3)]\"", "(filters,kernel,pooling)"],
        ),
        (
            "net-arch",
            "[(0,3,2)]",
            ["net-arch", "filters 0 in stage 1", "1..=256"],
        ),
        (
            "net-arch",
            "[(8,3,2),(8,3,3)]",
            ["net-arch", "pooling 3 of stage 2", "model-width 64"],
        ),
        (
            "device",
            "gpu",
            ["device", "\"gpu\"", "auto, cpu, cuda or cuda:N"],
        ),
        ("device", "cuda:99", ["device", "cuda:99", "CUDA"]),
        ("cues", "", ["cues", "one or more of motion, appearance", "none"]),
    ] {
        let element = rig::element(&[]);
        match name {
            "cues" => element.set_property(name, Cues::empty()),
            _ => element.set_property_from_str(name, value),
        }
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        assert!(element.set_state(gst::State::Paused).is_err(), "{name}={value}");
        let message = bus
            .pop_filtered(&[gst::MessageType::Error])
            .expect("an error message");
        let gst::MessageView::Error(error) = message.view() else {
            unreachable!()
        };
        let text = error.error().to_string();
        for part in parts {
            assert!(text.contains(part), "{name}={value}: {text:?} lacks {part:?}");
        }
        element.set_state(gst::State::Null).unwrap();

        // With a valid value the same element starts.
        match name {
            "cues" => element.set_property(name, Cues::all()),
            "device" => element.set_property(name, "cpu"),
            _ => element.set_property(name, "[(12,3,2)]"),
        }
        element.set_state(gst::State::Paused).unwrap();
        element.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn states_agree_in_metadata_property_and_messages() {
    let mut rig = Rig::grey(&QUICK, 10);
    assert_eq!(rig.element.property::<State>("state"), State::WarmingUp);
    let mut states: Vec<State> = Vec::new();
    for i in 0..110 {
        rig.push_scene(&Scene::quiet(), 10, i..i + 1);
        let state = State::from(rig.take_results()[0].prediction.state);
        assert_eq!(rig.element.property::<State>("state"), state, "frame {i}");
        if states.last() != Some(&state) {
            states.push(state);
        }
    }
    assert_eq!(states, [State::WarmingUp, State::Calibrating, State::Detecting]);
    let messages = rig.take_messages();
    let changes: Vec<(&str, &str)> = rig::of_kind(&messages, "state-changed")
        .iter()
        .map(|s| (s.get("old-state").unwrap(), s.get("state").unwrap()))
        .collect();
    assert_eq!(
        changes,
        [
            ("none", "warming-up"),
            ("warming-up", "calibrating"),
            ("calibrating", "detecting")
        ]
    );
    rig.element.set_property("learn", false);
    rig.push_scene(&Scene::quiet(), 10, 110..111);
    assert_eq!(rig.element.property::<State>("state"), State::Frozen);
    rig.element.set_property("learn", true);
    rig.push_scene(&Scene::quiet(), 10, 111..112);
    assert_eq!(rig.element.property::<State>("state"), State::Detecting);
}

#[test]
fn every_buffer_carries_every_field() {
    let mut rig = Rig::grey(&QUICK, 10);
    rig.push_scene(&runner(), 10, 0..160);
    let buffers = rig.take_buffers();
    assert_eq!(buffers.len(), 160);
    for (i, buffer) in buffers.iter().enumerate() {
        let meta = gst::meta::CustomMeta::from_buffer(buffer, gstvaeanomaly::META_NAME).unwrap();
        let s = meta.structure();
        assert_eq!((s.name().as_str(), s.n_fields()), ("VaeAnomalyMeta", 16));
        for name in ["score", "raw-score", "threshold"] {
            assert!(s.get::<f64>(name).unwrap().is_finite(), "{name} of frame {i}");
        }
        assert!((0.0..=1.0).contains(&s.get::<f64>("score").unwrap()));
        assert_eq!(s.get::<u64>("frame").unwrap(), i as u64);
        s.get::<u64>("event-id").unwrap();
        let region = ["x", "y", "width", "height"].map(|name| s.get::<u32>(name).unwrap() as usize);
        assert!(
            region[0] + region[2] <= SIZE.0 && region[1] + region[3] <= SIZE.1,
            "{region:?}"
        );
        let label = s.get::<&str>("label").unwrap();
        let cue = s.get::<&str>("cue").unwrap();
        let state = s.get::<&str>("state").unwrap();
        assert!(["appearance", "motion"].contains(&cue), "{cue}");
        assert_eq!(
            label == "unknown",
            ["warming-up", "calibrating", "adapting"].contains(&state),
            "{label} {state}"
        );

        let found = FrameResult::read(buffer).expect("the typed reader can read it");
        assert_eq!(found.prediction.score, s.get::<f64>("score").unwrap());
        assert!(found.scored && s.get::<bool>("scored").unwrap());
        assert_eq!(found.prediction.region.width as usize, region[2]);
        assert_eq!(found.image_size, (SIZE.0 as u32, SIZE.1 as u32));
        assert_eq!(found.prediction.label == Some(Label::Anomaly), label == "anomaly");
        assert_eq!(
            found.prediction.score > 0.5,
            found.prediction.raw_score > found.prediction.threshold
        );
    }
}

#[test]
fn anomalous_frames_carry_a_region_of_interest() {
    for wanted in [true, false] {
        let mut rig = Rig::grey(&QUICK, 10);
        rig.element.set_property("roi-meta", wanted);
        rig.push_scene(&runner(), 10, 0..170);
        let mut anomalous = 0;
        for buffer in rig.take_buffers() {
            let found = FrameResult::read(&buffer).unwrap();
            let regions: Vec<_> = buffer
                .iter_meta::<gst_video::VideoRegionOfInterestMeta>()
                .collect();
            if found.prediction.label != Some(Label::Anomaly) || !wanted {
                assert!(regions.is_empty(), "frame {}", found.prediction.frame);
                continue;
            }
            anomalous += 1;
            assert_eq!(regions.len(), found.prediction.regions.len());
            let roi = regions.first().expect("an anomaly has a region");
            assert_eq!(roi.roi_type(), "anomaly");
            let region = found.prediction.region;
            assert_eq!(roi.rect(), (region.x, region.y, region.width, region.height));
            let params = roi.param("vaeanomaly").expect("the parameters");
            assert_eq!(params.get("score"), Ok(found.prediction.score));
            assert_eq!(
                params.get("event-id"),
                Ok(found.event_id.map_or(0, |id| id.get()))
            );
        }
        assert_eq!(anomalous > 10, wanted, "{anomalous} regions");
    }
}

/// `videoscale` transforms the region of interest; the metadata states the size that its region refers to.
#[test]
fn metadata_and_region_of_interest_agree_behind_a_scaler() {
    let list = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let record = std::sync::Arc::clone(&list);
    let line = "appsrc name=source ! vaeanomaly warm-up=100 threshold=4 seed=7 ! videoscale \
        ! video/x-raw,width=192,height=24 ! fakesink name=sink";
    rig::play_watched(line, &runner(), 10, 0..170, move |pipeline| {
        let sink = pipeline.by_name("sink").unwrap().static_pad("sink").unwrap();
        sink.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            record.lock().unwrap().push(info.buffer().unwrap().clone());
            gst::PadProbeReturn::Ok
        });
    });
    let mut regions = 0;
    for buffer in list.lock().unwrap().iter() {
        let found = FrameResult::read(buffer).unwrap();
        for roi in buffer.iter_meta::<gst_video::VideoRegionOfInterestMeta>() {
            let region = found.region_in(192, 24);
            let (x, y, width, height) = roi.rect();
            let pairs = [
                (region.x, x),
                (region.y, y),
                (region.width, width),
                (region.height, height),
            ];
            assert!(pairs.iter().all(|(a, b)| a.abs_diff(*b) <= 1), "{pairs:?}");
            regions += 1;
        }
    }
    assert!(regions > 10, "{regions}");
}

#[test]
fn stats_count_what_happened() {
    let mut rig = Rig::grey(&QUICK, 10);
    rig.push_scene(&runner(), 10, 0..170);
    let buffers = rig.take_buffers();
    let found: Vec<FrameResult> = buffers.iter().filter_map(|b| FrameResult::read(b)).collect();
    let anomalous = found
        .iter()
        .filter(|f| f.prediction.label == Some(Label::Anomaly))
        .count() as u64;
    let s = rig.stats();
    let bytes = 170 * (SIZE.0 * SIZE.1) as u64;
    for (name, value) in [
        ("frames", 170),
        ("trained", 170),
        ("anomalous", anomalous),
        ("events", 1),
        ("dropped", 0),
        ("passed", 170),
        ("bytes-in", bytes),
        ("bytes-out", bytes),
        ("unscored", 0),
        ("skipped", 0),
        ("training-suspended", 0),
        ("lateness", 0),
        ("rejected-steps", 0),
    ] {
        assert_eq!(s.get::<u64>(name), Ok(value), "{name} of {s}");
    }
    for stage in ["preprocess", "score", "learn"] {
        let mean: f64 = s.get(format!("{stage}-ms-mean")).unwrap();
        let p95: f64 = s.get(format!("{stage}-ms-p95")).unwrap();
        assert!(mean > 0.0 && p95 > 0.0, "{stage}: {s}");
    }
    for name in [
        "loss",
        "reconstruction",
        "kl",
        "motion-loss",
        "motion-reconstruction",
        "motion-kl",
    ] {
        let value: f64 = s.get(name).unwrap();
        assert!(value.is_finite() && value >= 0.0, "{name} of {s}");
    }
    assert_eq!(s.get("threshold"), Ok(4.0));
    assert_eq!(s.get("device"), Ok("cpu"));
}

#[test]
fn factory_and_pads() {
    rig::init();
    let factory = gst::ElementFactory::find("vaeanomaly").unwrap();
    assert_eq!(factory.metadata("klass"), Some("Filter/Analyzer/Video"));
    assert_eq!(factory.rank(), gst::Rank::NONE);
    let element = rig::element(&[]);
    let pads: Vec<String> = element.pads().iter().map(|p| p.name().to_string()).collect();
    assert_eq!(pads, ["sink", "src"]);
    let parents = gst::glib::Type::from_name("GstBaseTransform").unwrap();
    assert!(element.type_().is_a(parents));
}
