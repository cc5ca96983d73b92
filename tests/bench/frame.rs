//! What a whole frame costs in the core: 1080p I420 at the default cadence, training on every frame, scoring only.
//!
//! `cargo bench --bench frame`

mod support;

use std::time::Duration;

use criterion::{Criterion, Throughput};
use gstvaeanomaly::detector::{Config, Detector, State, Tuning};
use support::pictures::Pictures;

/// Ten frames a second until the cadence is the default one: 1500 training steps of each net.
const WARM_UP: usize = 1600;

/// A detector beyond its start.
fn warm(pictures: &Pictures) -> Detector {
    let mut detector =
        Detector::new(Config::default(), (pictures.width, pictures.height)).expect("defaults fit");
    for i in 0..WARM_UP {
        show(&mut detector, pictures, i, 10.0, &Tuning::default());
    }
    assert_eq!(detector.state(), State::Detecting);
    detector
}

fn show(detector: &mut Detector, pictures: &Pictures, i: usize, fps: f64, tuning: &Tuning) {
    let time = Duration::from_secs_f64(i as f64 / fps);
    pictures
        .with_view(i, |view| detector.process(view, Some(time), None, tuning))
        .expect("the frame is good");
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut detector = warm(&Pictures::new(320, 180, 0));
    let pictures = Pictures::new(1920, 1080, 0);
    let mut frame = WARM_UP * 3;
    let mut group = criterion.benchmark_group("frame/1080p");
    group.throughput(Throughput::Elements(1));
    let usual = Tuning::default();
    let every = Tuning {
        train_interval: 1,
        ..usual
    };
    let never = Tuning {
        learn: false,
        ..usual
    };
    for (name, tuning) in [("default", usual), ("train", every), ("score", never)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                show(&mut detector, &pictures, frame, 30.0, &tuning);
                frame += 1;
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
