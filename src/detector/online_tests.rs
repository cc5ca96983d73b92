//! A detector whose GPU fails, with the CPU in its place.

use super::{
    ColorModel, ColorRange, Config, CueKind, Detector, Fault, FrameReport, ImageView, PixelFormat,
    Prediction, Timings, Tuning,
};

const SIZE: (usize, usize) = (96, 48);

/// Frame `i` of a pattern that moves; all of its prediction but the times that it took.
fn show(detector: &mut Detector, i: u64) -> (Prediction, FrameReport) {
    let place = |n: usize| ((n % SIZE.0) as f32 * 0.3 + (n / SIZE.0) as f32 * 0.2 + i as f32 * 0.5).sin();
    let picture: Vec<u8> = (0..SIZE.0 * SIZE.1)
        .map(|n| (128.0 + 100.0 * place(n)) as u8)
        .collect();
    let view = ImageView {
        format: PixelFormat::Gray8,
        width: SIZE.0,
        height: SIZE.1,
        planes: &[&picture],
        strides: &[SIZE.0],
        color: ColorModel {
            range: ColorRange::Full,
            kr: 0.299,
            kb: 0.114,
        },
    };
    let time = std::time::Duration::from_millis(100 * i);
    let (prediction, report) = detector
        .process(&view, Some(time), None, &Tuning::default())
        .unwrap();
    let timings = Timings::default();
    (prediction, FrameReport { timings, ..report })
}

#[test]
fn a_failure_is_told_once_and_costs_no_frame_and_no_bit() {
    let detector = || Detector::new(Config::default(), SIZE).unwrap();
    for (cue, after) in [(CueKind::Motion, 2), (CueKind::Appearance, 3)] {
        let (mut sound, mut failing) = (detector(), detector());
        for i in 0..24 {
            if i == 12 {
                let readable = true;
                failing.inject(cue, Fault { after, readable });
            }
            let (want, (prediction, report)) = (show(&mut sound, i), show(&mut failing, i));
            // Two runs a frame: the fault comes with the second frame from here.
            let failure = report.device_failure.as_deref();
            assert_eq!(
                failure,
                (i == 13).then_some("injected fault"),
                "{cue:?}, frame {i}"
            );
            let device_failure = None;
            let report = FrameReport {
                device_failure,
                ..report
            };
            assert_eq!((prediction, report), want, "{cue:?}, frame {i}");
        }
    }
}
