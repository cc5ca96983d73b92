//! A training step and a prediction of each net, with criterion; `make bench` compares them with PyTorch.
//!
//! `cargo bench --bench nets`

use criterion::Criterion;
use gstvaeanomaly::detector::ComputeDevice;
use gstvaeanomaly::detector::bench_support::NetSteps;

/// Heights of the small images of a 4:3 camera.
const GREY_HEIGHT: usize = 132;
const COLOUR_HEIGHT: usize = 40;

fn nets() -> (NetSteps, NetSteps) {
    (
        NetSteps::motion(&ComputeDevice::cpu(), GREY_HEIGHT).expect("the sizes are valid"),
        NetSteps::appearance(&ComputeDevice::cpu(), COLOUR_HEIGHT).expect("the sizes are valid"),
    )
}

fn statistics(criterion: &mut Criterion) {
    let (mut motion, mut appearance) = nets();
    let mut group = criterion.benchmark_group("nets");
    group.bench_function("motion/train", |b| {
        b.iter(|| motion.train().expect("training succeeds"))
    });
    group.bench_function("motion/score", |b| {
        b.iter(|| motion.score().expect("scoring succeeds"))
    });
    group.bench_function("appearance/train", |b| {
        b.iter(|| appearance.train().expect("training succeeds"))
    });
    group.bench_function("appearance/score", |b| {
        b.iter(|| appearance.score().expect("scoring succeeds"))
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    statistics(&mut criterion);
    criterion.final_summary();
}
