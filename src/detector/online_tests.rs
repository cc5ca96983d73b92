//! Detectors whose GPU fails, and detectors that continue from what was learnt.

use super::engine::WithFallback;
use super::engine::tests::FailsAfter;
use super::store::{self, Model};
use super::{
    ColorModel, ColorRange, ComputeDevice, Config, Detector, Error, FrameReport, ImageView, PixelFormat,
    Prediction, Temporal, Timings, Tuning,
};

pub(crate) const SIZE: (usize, usize) = (96, 48);

/// Processes frame `i` of a moving pattern, at `time` tenths of a second. Without the times that it took.
fn process_at(detector: &mut Detector, i: u64, time: u64) -> (Prediction, FrameReport) {
    let value = |n: usize| ((n % SIZE.0) as f32 * 0.3 + (n / SIZE.0) as f32 * 0.2 + i as f32 * 0.5).sin();
    let image: Vec<u8> = (0..SIZE.0 * SIZE.1)
        .map(|n| (128.0 + 100.0 * value(n)) as u8)
        .collect();
    let view = ImageView {
        format: PixelFormat::Gray8,
        width: SIZE.0,
        height: SIZE.1,
        planes: &[&image],
        strides: &[SIZE.0],
        color: ColorModel {
            range: ColorRange::Full,
            kr: 0.299,
            kb: 0.114,
        },
    };
    let time = std::time::Duration::from_millis(100 * time);
    let (prediction, report) = detector
        .process(&view, Some(time), None, &Tuning::default())
        .unwrap();
    let timings = Timings::default();
    (prediction, FrameReport { timings, ..report })
}

pub(crate) fn process(detector: &mut Detector, i: u64) -> (Prediction, FrameReport) {
    process_at(detector, i, i)
}

/// A detector on a stand-in for a GPU that fails after so many calls.
pub(crate) fn failing(calls: u32, readable: bool, config: Config, size: (usize, usize)) -> Detector {
    let engine = Box::new(WithFallback::new(FailsAfter::new(calls, readable)));
    Detector::with_engine(engine, ComputeDevice::cpu(), config, size).unwrap()
}

#[test]
fn a_device_failure_is_reported_once_and_costs_no_frame_and_no_bit() {
    // Two calls a frame.
    for calls in [22, 23] {
        let mut sound = Detector::new(Config::default(), SIZE).unwrap();
        let mut failing = failing(calls, true, Config::default(), SIZE);
        for i in 0..24 {
            let (want, (prediction, report)) = (process(&mut sound, i), process(&mut failing, i));
            let failure = report.device_failure.as_deref();
            assert_eq!(failure, (i == 11).then_some("injected fault"), "frame {i}");
            let report = FrameReport {
                device_failure: None,
                ..report
            };
            assert_eq!((prediction, report), want, "frame {i}");
        }
    }
}

#[test]
fn a_detector_that_continues_from_what_was_learnt_is_the_same_detector() {
    for &temporal in Temporal::ALL {
        let config = Config {
            temporal,
            ..Config::default()
        };
        continues(&config);
    }
}

fn continues(config: &Config) {
    let mut stayed = Detector::new(config.clone(), SIZE).unwrap();
    (0..120).for_each(|i| drop(process(&mut stayed, i)));
    let model = Model {
        learnt: stayed.learnt().unwrap(),
        next_event: std::num::NonZeroU64::MIN,
        began: 0,
        saved: 0,
    };
    let learnt = store::read(&store::write(model).unwrap()).unwrap().learnt;

    let mut moved = Detector::new(config.clone(), SIZE).unwrap();
    moved.restore(learnt).unwrap();
    // Without printing megabytes where it fails.
    assert!(
        moved.learnt().unwrap() == stayed.learnt().unwrap(),
        "what is stored is not what was learnt"
    );
    // A new stream lacks the previous frames; the same holds for a stream that was interrupted.
    stayed.restart();
    for i in 120..180 {
        let ((mut got, report), want) = (process(&mut moved, i), process(&mut stayed, i));
        if i < 122 {
            // Motion needs two previous frames. Until then the location is that of the last frame that had them.
            got.region = want.0.region;
        }
        assert_eq!((got, report), want, "frame {i}");
    }
    assert!(moved.learnt().unwrap() == stayed.learnt().unwrap());
}

#[test]
fn what_was_learnt_by_another_detector_is_rejected_with_the_reason() {
    let config = |cues: &[super::CueKind]| Config {
        cues: cues.to_vec(),
        ..Config::default()
    };
    let mut motion = Detector::new(config(&[super::CueKind::Motion]), SIZE).unwrap();
    process(&mut motion, 0);
    let learnt = motion.learnt().unwrap();
    let reason = |detector: &mut Detector, learnt| match detector.restore(learnt) {
        Err(Error::Learnt(reason)) => reason,
        other => panic!("expected a reason, got {other:?}"),
    };
    let both = &mut Detector::new(Config::default(), SIZE).unwrap();
    assert_eq!(
        reason(both, learnt.clone()),
        "cues: expected motion+appearance, got motion"
    );
    let appearance = &mut Detector::new(config(&[super::CueKind::Appearance]), SIZE).unwrap();
    assert_eq!(
        reason(appearance, learnt.clone()),
        "cues: expected appearance, got motion"
    );
    assert!(reason(&mut motion, learnt).contains("before its first frame"));
}
