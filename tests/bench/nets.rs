//! A training step and a prediction of each net, also with a temporal layer, with criterion; `make bench` compares those
//! without it with PyTorch.
//!
//! `cargo bench --bench nets`

use criterion::Criterion;
use gstvaeanomaly::detector::bench_support::NetSteps;
use gstvaeanomaly::detector::{ComputeDevice, Temporal};

/// Heights of the small images of a 4:3 camera.
const GREY_HEIGHT: usize = 132;
const COLOUR_HEIGHT: usize = 40;

fn statistics(criterion: &mut Criterion) {
    let cpu = ComputeDevice::cpu();
    for (title, temporal) in [("nets", Temporal::None), ("nets, conv-lstm", Temporal::ConvLstm)] {
        let mut group = criterion.benchmark_group(title);
        for (name, net) in [
            ("motion", NetSteps::motion(&cpu, GREY_HEIGHT, temporal)),
            ("appearance", NetSteps::appearance(&cpu, COLOUR_HEIGHT, temporal)),
        ] {
            let mut net = net.expect("the sizes are valid");
            group.bench_function(format!("{name}/train"), |b| {
                b.iter(|| net.train().expect("training succeeds"))
            });
            group.bench_function(format!("{name}/score"), |b| {
                b.iter(|| net.score().expect("scoring succeeds"))
            });
        }
        group.finish();
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    statistics(&mut criterion);
    criterion.final_summary();
}
