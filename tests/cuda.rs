//! The detector on a CUDA device against the CPU. Without a usable device the tests say so and do nothing.

#![cfg(feature = "cuda")]

// Not all of `common`: these tests run where there is no GStreamer.
#[path = "common/synthetic.rs"]
#[allow(dead_code, reason = "these tests use their part")]
mod synthetic;

use std::io::Write;
use std::time::Duration;

use gstvaeanomaly::detector::{
    ColorModel, ColorRange, ComputeDevice, Config, Detector, DeviceChoice, ImageView, NetArch, PixelFormat,
    Prediction, Tuning,
};
use synthetic::{Happening, SIZE, Scene};

/// How near the scores must be: on the scale of 0..1, and in deviations from the camera's history, which are unbounded.
///
/// Training blows roundings up: on the CPU alone, a learning rate that is larger by 1e-7 of itself changes the scores of
/// three hundred frames of this scene by up to 8e-4, and raw ones by 4e-3.
const NEAR: f64 = 1e-3;
const NEAR_RAW: f64 = 1e-2;

/// A GPU; where there is none, why, past the test harness's capture.
fn gpu() -> Option<ComputeDevice> {
    match DeviceChoice::Cuda(None).open() {
        Ok(device) => Some(device),
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "skipped: {e}");
            None
        }
    }
}

fn see(detector: &mut Detector, picture: &[u8], i: u32, tuning: &Tuning) -> Prediction {
    let view = ImageView {
        format: PixelFormat::Gray8,
        width: SIZE.0,
        height: SIZE.1,
        planes: &[picture],
        strides: &[SIZE.0],
        color: ColorModel {
            range: ColorRange::Full,
            kr: 0.299,
            kb: 0.114,
        },
    };
    let time = Some(Duration::from_millis(u64::from(100 * i)));
    detector.process(&view, time, None, tuning).unwrap()
}

/// Shows both the same frames; all that is seen of them must be near.
fn assert_agree(mut a: Detector, mut b: Detector, frames: u32, tuning: &Tuning) {
    let scene = Scene::quiet().with(24.0..26.0, Happening::Runner);
    let (mut score, mut raw) = (0f64, 0f64);
    for i in 0..frames {
        let picture = scene.picture(0.1 * f64::from(i));
        let (p, q) = (see(&mut a, &picture, i, tuning), see(&mut b, &picture, i, tuning));
        assert_eq!(q.device_failure, None, "frame {i}");
        assert_eq!(p.state, q.state, "frame {i}");
        assert_eq!(p.lessons.len(), q.lessons.len(), "frame {i}");
        score = score.max((p.score - q.score).abs());
        raw = raw.max((p.raw_score - q.raw_score).abs() / p.raw_score.abs().max(1.0));
        if (i + 1) % 100 == 0 {
            let told = format!(
                "{} frames: scores at most {score:.1e} apart, raw ones {raw:.1e}",
                i + 1
            );
            let _ = writeln!(std::io::stderr(), "{told}");
        }
        assert!(score <= NEAR, "frame {i}: scores {} and {}", p.score, q.score);
        assert!(
            raw <= NEAR_RAW,
            "frame {i}: raw scores {} and {}",
            p.raw_score,
            q.raw_score
        );
    }
}

fn agree_with(config: &Config, frames: u32, tuning: &Tuning) {
    let Some(gpu) = gpu() else { return };
    let on = |device| Detector::on(device, config.clone(), SIZE).unwrap();
    let (cpu, gpu) = (on(ComputeDevice::cpu()), on(gpu));
    assert!(gpu.device().starts_with("cuda:"), "{}", gpu.device());
    assert_agree(cpu, gpu, frames, tuning);
}

#[test]
fn three_hundred_frames_get_the_same_scores_on_both_devices() {
    let config = Config {
        seed: 7,
        ..Config::default()
    };
    agree_with(&config, 300, &Tuning::default());
}

#[test]
fn nets_of_other_shapes_and_with_dropout_agree_too() {
    let config = Config {
        net_arch: "[(6,5,3),(4,3,1)]".parse::<NetArch>().unwrap(),
        latent_dim: 3,
        model_width: 48,
        ..Config::default()
    };
    let tuning = Tuning {
        dropout: 0.1,
        ..Tuning::default()
    };
    agree_with(&config, 100, &tuning);
}

#[test]
fn any_thread_may_show_the_next_frame() {
    let Some(gpu) = gpu() else { return };
    let config = Config {
        net_arch: "[(4,3,4)]".parse::<NetArch>().unwrap(),
        model_width: 16,
        ..Config::default()
    };
    let scene = Scene::quiet();
    let mut still = Detector::on(gpu, config.clone(), SIZE).unwrap();
    let device = DeviceChoice::Cuda(None).open().unwrap();
    let mut moving = Detector::on(device, config, SIZE).unwrap();
    for i in 0..12 {
        let picture = scene.picture(0.1 * f64::from(i));
        let want = see(&mut still, &picture, i, &Tuning::default());
        let got = std::thread::scope(|s| {
            s.spawn(|| see(&mut moving, &picture, i, &Tuning::default()))
                .join()
                .unwrap()
        });
        assert_eq!(got.raw_score, want.raw_score, "frame {i}");
        assert_eq!(got.device_failure, None, "frame {i}");
    }
}
