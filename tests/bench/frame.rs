//! A whole frame in the core, with criterion: 1080p I420 at the default cadence, training on every frame, scoring only.
//!
//! `cargo bench --bench frame`

mod support;

use std::time::Duration;

use criterion::{Criterion, Throughput};
use gstvaeanomaly::detector::{Config, Detector, State, Tuning};
use support::images::Images;

/// Frames, at ten per second, until the cadence is the default one: 1500 training steps of each net.
const WARM_UP: usize = 1600;

/// A detector after its warm-up.
fn warm(images: &Images) -> Detector {
    let mut detector =
        Detector::new(Config::default(), (images.width, images.height)).expect("the defaults are valid");
    for i in 0..WARM_UP {
        process(&mut detector, images, i, 10.0, &Tuning::default());
    }
    assert_eq!(detector.state(), State::Detecting);
    detector
}

fn process(detector: &mut Detector, images: &Images, i: usize, fps: f64, tuning: &Tuning) {
    let time = Duration::from_secs_f64(i as f64 / fps);
    images
        .with_view(i, |view| detector.process(view, Some(time), None, tuning))
        .expect("the frame is valid");
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut detector = warm(&Images::new(320, 180, 0));
    let images = Images::new(1920, 1080, 0);
    let mut frame = WARM_UP * 3;
    let mut group = criterion.benchmark_group("frame/1080p");
    group.throughput(Throughput::Elements(1));
    let default = Tuning::default();
    let every = Tuning {
        train_interval: 1,
        ..default
    };
    let never = Tuning {
        learn: false,
        ..default
    };
    for (name, tuning) in [("default", default), ("train", every), ("score", never)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                process(&mut detector, &images, frame, 30.0, &tuning);
                frame += 1;
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
