//! The detector on a CUDA device against the CPU. Without a usable device the tests say so and do nothing.

#![cfg(feature = "cuda")]

// Not all of `common`: these tests run where there is no GStreamer.
#[path = "bench/support/images.rs"]
#[allow(dead_code, reason = "views of the images only")]
mod images;
#[path = "common/synthetic.rs"]
#[allow(dead_code, reason = "these tests use their part")]
mod synthetic;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use gstvaeanomaly::detector::bench_support::{DeviceFrames, DeviceReader};
use gstvaeanomaly::detector::{ComputeDevice, Config, Detector, DeviceChoice, NetArch, Tuning};
use synthetic::{Happening, Processed, SIZE, Scene, see};

/// How near scores are wherever training is calm: on the scale of 0..1, and raw.
const NEAR: f64 = 1e-3;
/// How much further apart they may be than those of two detectors on the CPU, one of which has a [`NUDGE`]d learning
/// rate. Training blows any difference up: three hundred frames make thousandths of a millionth.
const MORE: f64 = 4.0;
const NUDGE: f64 = 1e-6;

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

/// The largest differences so far of score and of raw score.
#[derive(Clone, Copy, Debug, Default)]
struct Apart([f64; 2]);

impl std::fmt::Display for Apart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1e} (raw {:.1e})", self.0[0], self.0[1])
    }
}

impl Apart {
    fn observe(&mut self, p: &Processed, q: &Processed) {
        let score = (p.score - q.score).abs();
        let raw = (p.raw_score - q.raw_score).abs() / p.raw_score.abs().max(1.0);
        self.0 = [self.0[0].max(score), self.0[1].max(raw)];
    }
}

/// Shows a detector on each device the same frames, and two nudged ones on the CPU: scores may be [`NEAR`] each other, or
/// `more` times as far apart as theirs.
fn agree_with(config: &Config, frames: u32, tuning: &Tuning, more: f64) {
    let Some(gpu) = gpu() else { return };
    let on = |device| Detector::on(device, config.clone(), SIZE).unwrap();
    let cpu = || on(ComputeDevice::cpu());
    let (mut here, mut there) = (cpu(), on(gpu));
    assert!(there.device().starts_with("cuda:"), "{}", there.device());
    let mut nudged = [1.0 + NUDGE, 1.0 - NUDGE].map(|factor| {
        let learning_rate = factor * tuning.learning_rate;
        let tuning = Tuning {
            learning_rate,
            ..*tuning
        };
        (cpu(), tuning)
    });
    let (mut apart, mut alike) = (Apart::default(), Apart::default());
    let scene = Scene::quiet().with(24.0..26.0, Happening::Runner);
    for i in 0..frames {
        let at = 0.1 * f64::from(i);
        let picture = scene.image(at);
        let p = see(&mut here, &picture, at, tuning);
        let q = see(&mut there, &picture, at, tuning);
        for (detector, tuning) in &mut nudged {
            alike.observe(&p, &see(detector, &picture, at, tuning));
        }
        apart.observe(&p, &q);
        assert_eq!(q.report.device_failure, None, "frame {i}");
        assert_eq!(p.report.steps.len(), q.report.steps.len(), "frame {i}");
        if (i + 1) % 50 == 0 {
            let _ = writeln!(
                std::io::stderr(),
                "{} frames: devices {apart}, nudged {alike}",
                i + 1
            );
        }
        for (apart, alike) in apart.0.iter().zip(alike.0) {
            let bound = NEAR.max(more * alike);
            assert!(
                *apart <= bound,
                "frame {i}: {apart} apart, not {bound}: {p:?} and {q:?}"
            );
        }
    }
}

fn seeded() -> Config {
    Config {
        seed: 7,
        ..Config::default()
    }
}

#[test]
fn three_hundred_frames_get_the_same_scores_on_both_devices_where_training_is_calm() {
    let learning_rate = Tuning::default().learning_rate / 5.0;
    let tuning = Tuning {
        learning_rate,
        ..Tuning::default()
    };
    agree_with(&seeded(), 300, &tuning, 0.0);
}

#[test]
fn three_hundred_frames_get_the_same_scores_on_both_devices_as_far_as_training_lets_them() {
    agree_with(&seeded(), 300, &Tuning::default(), MORE);
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
    agree_with(&config, 100, &tuning, MORE);
}

#[test]
fn frames_in_cuda_memory_get_the_bits_of_downloaded_ones_while_learning() {
    let Some(gpu) = gpu() else { return };
    const SIZE: (usize, usize) = (636, 478);
    const FRAMES: usize = 150;
    let images = images::Images::new(SIZE.0, SIZE.1, 3);
    let mut frames = DeviceFrames::new().unwrap();
    for i in 0..images::LOOP {
        images.with_view(i, |view| frames.push(view)).unwrap();
    }
    let frames = Arc::new(frames);
    for device in [gpu, ComputeDevice::cpu()] {
        let on = || Detector::on(device.clone(), seeded(), SIZE).unwrap();
        let (mut downloaded, mut on_gpu) = (on(), on());
        let mut reader = DeviceReader::new(&frames).unwrap();
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for i in 0..FRAMES {
            let (time, tuning) = (Some(i as u32 * Duration::from_millis(100)), Tuning::default());
            let want = images.with_view(i, |view| downloaded.process(view, time, None, &tuning));
            let (want, report) = want.unwrap();
            let (got, _) = reader.process(&mut on_gpu, i, time, &tuning).unwrap();
            assert_eq!(report.device_failure, None);
            assert_eq!(
                got.raw_score,
                want.raw_score,
                "frame {i} on {}",
                downloaded.device()
            );
            assert_eq!(got.score, want.score, "frame {i} on {}", downloaded.device());
            (low, high) = (low.min(want.raw_score), high.max(want.raw_score));
        }
        let _ = writeln!(
            std::io::stderr(),
            "{FRAMES} frames in CUDA memory, nets on {}: raw scores {low:.3} .. {high:.3} equal to the last bit",
            downloaded.device()
        );
        assert!(high > low);
    }
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
        let at = 0.1 * f64::from(i);
        let picture = scene.image(at);
        let want = see(&mut still, &picture, at, &Tuning::default());
        let got = std::thread::scope(|s| {
            s.spawn(|| see(&mut moving, &picture, at, &Tuning::default()))
                .join()
                .unwrap()
        });
        assert_eq!(got.raw_score, want.raw_score, "frame {i}");
        assert_eq!(got.report.device_failure, None, "frame {i}");
    }
}
