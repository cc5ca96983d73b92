//! Frames that come late: which work is shed, what is reported, and the recovery. The test controls the clock.

mod common;

use common::rig::{self, Rig};
use common::synthetic::Scene;
use gst::prelude::*;
use gstvaeanomaly::FrameResult;
use gstvaeanomaly::detector::Prediction;

const FPS: u32 = 10;
/// The latency that the source upstream announces.
const LATENCY: gst::ClockTime = gst::ClockTime::from_mseconds(50);

/// A live camera with a test clock.
struct Camera {
    rig: Rig,
    next: u64,
}

impl Camera {
    fn new(properties: &[(&str, &str)]) -> Self {
        let mut rig = Rig::new(properties);
        rig.harness.use_testclock();
        rig.harness.set_upstream_latency(LATENCY);
        rig.harness.set_src_caps(rig::grey_caps(FPS));
        Self { rig, next: 0 }
    }

    /// Pushes frames that all have this age on arrival.
    fn push(&mut self, frames: u64, age: gst::ClockTime) -> Vec<FrameResult> {
        for _ in 0..frames {
            let now = rig::frame_time(FPS, self.next) + age;
            // The first frames after a delay would set the clock back: they are pushed at once.
            let clock = self.rig.harness.testclock().unwrap();
            self.rig.harness.set_time(now.max(clock.time())).unwrap();
            self.rig.push(rig::grey_frame(&Scene::quiet(), FPS, self.next));
            self.next += 1;
        }
        self.rig.take_results()
    }

    fn stat(&self, name: &str) -> u64 {
        self.rig.stats().get(name).unwrap()
    }

    fn effort(&self) -> String {
        self.rig.stats().get("effort").unwrap()
    }

    /// `old-effort` and `effort` of the messages since the last call.
    fn changes(&self) -> Vec<(String, String)> {
        let messages = self.rig.take_messages();
        let field = |s: &gst::StructureRef, name| s.get::<String>(name).unwrap();
        rig::of_kind(&messages, "effort-changed")
            .into_iter()
            .map(|s| (field(s, "old-effort"), field(s, "effort")))
            .collect()
    }
}

fn pair(from: &str, to: &str) -> (String, String) {
    (from.to_owned(), to.to_owned())
}

fn ms(ms: u64) -> gst::ClockTime {
    gst::ClockTime::from_mseconds(ms)
}

#[test]
fn training_is_shed_first_then_every_other_frame_and_both_recover() {
    let mut camera = Camera::new(&[("warm-up", "10"), ("cues", "motion")]);
    camera.push(5, LATENCY);
    camera.push(25, LATENCY + ms(100));
    assert_eq!(
        (camera.effort().as_str(), camera.stat("lateness")),
        ("full", 100_000_000)
    );
    assert_eq!(camera.changes(), []);
    let trained = camera.stat("trained");
    assert!(trained > 20, "{trained}");

    // Half a second at 10 frames/s: the sixth late frame is not trained on.
    let results = camera.push(6, LATENCY + ms(101));
    assert!(results.iter().all(|r| r.scored));
    assert_eq!(camera.changes(), [pair("full", "score-only")]);
    assert_eq!(camera.stat("trained"), trained + 5);

    // Another second.
    camera.push(9, LATENCY + ms(200));
    assert_eq!(camera.changes(), []);
    let results = camera.push(11, LATENCY + ms(200));
    assert_eq!(camera.changes(), [pair("score-only", "every-other-frame")]);
    assert_eq!(camera.stat("trained"), trained + 5);
    let scored: Vec<bool> = results.iter().map(|r| r.scored).collect();
    let want = (0..11).map(|i| i % 2 == 1);
    assert_eq!(scored, want.collect::<Vec<_>>(), "the first of these is skipped");
    assert_eq!(
        (camera.stat("skipped"), camera.stat("training-suspended")),
        (6, 21)
    );
    assert_eq!(camera.stat("frames"), 56);
    for (before, skipped) in results.iter().zip(&results[1..]).filter(|(_, r)| !r.scored) {
        let prediction = Prediction {
            frame: before.prediction.frame + 1,
            ..before.prediction.clone()
        };
        assert_eq!(
            skipped.prediction, prediction,
            "the prediction of the previous frame"
        );
    }

    let results = camera.push(60, LATENCY);
    let back = [
        pair("every-other-frame", "score-only"),
        pair("score-only", "full"),
    ];
    assert_eq!(camera.changes(), back);
    assert_eq!((camera.effort().as_str(), camera.stat("lateness")), ("full", 0));
    assert!(results[45..].iter().all(|r| r.scored));
    assert!(camera.stat("trained") > trained + 10, "trains again");
    let numbers: Vec<u64> = results.iter().map(|r| r.prediction.frame).collect();
    assert_eq!(
        numbers,
        (56..116).collect::<Vec<_>>(),
        "frame numbers have no gaps"
    );
}

#[test]
fn zero_disables_load_shedding_at_any_level() {
    let mut camera = Camera::new(&[("warm-up", "10"), ("cues", "motion")]);
    camera.push(5, LATENCY);
    camera.push(40, ms(900));
    assert_eq!(camera.effort(), "every-other-frame");
    camera.rig.element.set_property("max-lateness", 0u64);
    let results = camera.push(20, ms(900));
    assert!(results.iter().all(|r| r.scored));
    assert_eq!((camera.effort().as_str(), camera.stat("lateness")), ("full", 0));
}

#[test]
fn a_source_that_announces_too_little_latency_is_not_late() {
    let mut camera = Camera::new(&[("warm-up", "10"), ("cues", "motion")]);
    camera.push(60, ms(2000));
    assert_eq!((camera.effort().as_str(), camera.stat("lateness")), ("full", 0));
    camera.push(30, ms(2200));
    assert_eq!(camera.effort(), "every-other-frame", "later than before");
}

/// A sink that waits for the pipeline's latency keeps the element from processing the next frame.
#[test]
fn frames_within_the_configured_latency_are_not_late() {
    let mut camera = Camera::new(&[("warm-up", "10"), ("cues", "motion")]);
    let event = gst::event::Latency::new(ms(3000));
    assert!(camera.rig.harness.push_upstream_event(event));
    camera.push(5, LATENCY);
    camera.push(60, ms(3000));
    assert_eq!((camera.effort().as_str(), camera.stat("lateness")), ("full", 0));
    camera.push(40, ms(3200));
    assert_eq!(camera.effort(), "every-other-frame", "later than sinks wait");
}

#[test]
fn post_messages_none_suppresses_the_messages() {
    let mut camera = Camera::new(&[("warm-up", "10"), ("cues", "motion"), ("post-messages", "none")]);
    camera.push(5, LATENCY);
    camera.push(30, ms(900));
    assert_eq!(camera.effort(), "every-other-frame");
    assert!(camera.rig.take_messages().is_empty());
}

#[test]
fn a_file_is_late_only_by_the_qos_events_of_a_sink() {
    // One nanosecond: any measurement at all would be too late.
    let properties = [("warm-up", "10"), ("cues", "motion"), ("max-lateness", "1")];
    let mut rig = Rig::new(&properties);
    rig.harness.set_live(false);
    rig.harness.use_testclock();
    rig.harness.set_src_caps(rig::grey_caps(FPS));
    rig.harness.set_time(gst::ClockTime::from_seconds(1000)).unwrap();
    let effort = |rig: &Rig| rig.stats().get::<String>("effort").unwrap();
    rig.push_scene(&Scene::quiet(), FPS, 0..30);
    assert_eq!(effort(&rig), "full");

    let report = |rig: &mut Rig, kind, late: i64, frame| {
        let event = gst::event::Qos::builder(kind, 1.0, late)
            .timestamp(rig::frame_time(FPS, frame))
            .build();
        assert!(rig.harness.push_upstream_event(event));
    };
    report(&mut rig, gst::QOSType::Throttle, 500_000_000, 30);
    report(&mut rig, gst::QOSType::Overflow, -500_000_000, 30);
    rig.push_scene(&Scene::quiet(), FPS, 30..45);
    assert_eq!(effort(&rig), "full", "throttled or early is not late");

    report(&mut rig, gst::QOSType::Underflow, 500_000_000, 45);
    rig.push_scene(&Scene::quiet(), FPS, 45..55);
    assert_eq!(effort(&rig), "score-only");
    assert_eq!(rig.stats().get("lateness"), Ok(500_000_000u64));

    // The report is two seconds old at frame 65; two more seconds on time follow.
    rig.push_scene(&Scene::quiet(), FPS, 55..66);
    assert_ne!(effort(&rig), "full");
    rig.push_scene(&Scene::quiet(), FPS, 66..110);
    assert_eq!(effort(&rig), "full", "an old report does not count");
}
