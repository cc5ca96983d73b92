//! The two nets alone, beside PyTorch and beside the arithmetic peak of a core.

use std::process::Command;
use std::time::Duration;

use gstvaeanomaly::detector::bench_support::NetSteps;
use gstvaeanomaly::detector::{ComputeDevice, Temporal};
use serde_json::Value;

use crate::peak::Peak;
use crate::summary::Summary;
use crate::support::{median, milliseconds};

/// Heights of the small images of a 4:3 camera.
const GREY_HEIGHT: usize = 132;
const COLOUR_HEIGHT: usize = 40;
/// Rounds in which this code and PyTorch alternate.
const ROUNDS: usize = 3;
const BLOCK: Duration = Duration::from_millis(700);

/// Milliseconds of a training step and of scoring, both nets together.
#[derive(Clone, Copy)]
struct Cost {
    train: f64,
    score: f64,
}

fn ours(motion: &mut NetSteps, appearance: &mut NetSteps) -> Cost {
    let train = milliseconds(BLOCK, || motion.train().expect("training succeeds"))
        + milliseconds(BLOCK, || appearance.train().expect("training succeeds"));
    let score = milliseconds(BLOCK, || motion.score().expect("scoring succeeds"))
        + milliseconds(BLOCK, || appearance.score().expect("scoring succeeds"));
    Cost { train, score }
}

/// Runs `torch_nets.py`; `None` without a Python that has PyTorch.
fn torch() -> Option<Cost> {
    let python = std::env::var("TORCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/torch_nets.py"))
        .args(["--height", &GREY_HEIGHT.to_string()])
        .args(["--image-height", &COLOUR_HEIGHT.to_string()])
        .args(["--seconds", "1"])
        .output()
        .ok()?;
    let times: Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(Cost {
        train: times["train"].as_f64()?,
        score: times["score"].as_f64()?,
    })
}

/// Operations of the products in a training step of both nets, as the kernels compute them: forward, gradients of the
/// weights, and gradients of the data except for the first layers. A multiply-add counts as two. After an upsampling by
/// two, four taps replace the nine of a 3x3 kernel (`nn/upsample_conv.rs`).
fn step_flop() -> f64 {
    let (h, w) = (GREY_HEIGHT / 4, 45_usize);
    let (h2, w2) = (h.div_ceil(2), w.div_ceil(2));
    // Output cells, products per output, output channels, passes.
    let motion = [
        (h * w, 9 * 4, 16, 2),
        (h2 * w2, 9 * 16, 24, 3),
        (h2 * w2, 9 * 24, 24, 3),
        (h2 * w2, 24, 8, 3),
        (h2 * w2, 4, 24, 3),
        // The upsampled features, and the condition in full size.
        (h * w, 4 * 24 + 9 * 2, 16, 3),
        (h * w, 9 * 16, 2, 3),
    ];
    let pixels = 64 * COLOUR_HEIGHT;
    let features = 32 * pixels / 64;
    let appearance = [
        (pixels / 4, 9 * 3, 12, 2),
        (pixels / 16, 9 * 12, 24, 3),
        (pixels / 64, 9 * 24, 32, 3),
        (1, features, 32, 3),
        (1, 16, features, 3),
        (pixels / 16, 4 * 32, 24, 3),
        (pixels / 4, 4 * 24, 12, 3),
        (pixels, 4 * 12, 3, 3),
    ];
    let sum = |layers: &[(usize, usize, usize, usize)], batch: usize| {
        let each = layers
            .iter()
            .map(|(cells, products, outputs, passes)| 2 * cells * products * outputs * passes);
        (batch * each.sum::<usize>()) as f64
    };
    sum(&motion, 2) + sum(&appearance, 4)
}

/// Fills in the part of the table.
pub fn measure(summary: &mut Summary) {
    let mut motion =
        NetSteps::motion(&ComputeDevice::cpu(), GREY_HEIGHT, Temporal::None).expect("the sizes are valid");
    let mut appearance = NetSteps::appearance(&ComputeDevice::cpu(), COLOUR_HEIGHT, Temporal::None)
        .expect("the sizes are valid");
    ours(&mut motion, &mut appearance);
    let (mut costs, mut ratios, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        peaks.push(Peak::measure());
        let before = ours(&mut motion, &mut appearance);
        let theirs = torch();
        peaks.push(Peak::measure());
        let after = ours(&mut motion, &mut appearance);
        let cost = Cost {
            train: 0.5 * (before.train + after.train),
            score: 0.5 * (before.score + after.score),
        };
        costs.push(cost);
        ratios.extend(theirs.map(|theirs| (theirs.train / cost.train, theirs.score / cost.score)));
    }
    let train = median(costs.iter().map(|c| c.train).collect());
    let score = median(costs.iter().map(|c| c.score).collect());
    summary.heading("Both nets, one thread (CPU time)");
    summary.row("a training step", format!("{train:.2} ms"));
    summary.row("scoring", format!("{score:.2} ms"));
    let (mut train_ratio, mut score_ratio) = (None, None);
    if !ratios.is_empty() {
        train_ratio = Some(median(ratios.iter().map(|r| r.0).collect()));
        score_ratio = Some(median(ratios.iter().map(|r| r.1).collect()));
    }
    for (name, key, ratio) in [
        (
            "a training step, PyTorch's time relative to it",
            "train_vs_torch",
            train_ratio,
        ),
        (
            "scoring, PyTorch's time relative to it",
            "score_vs_torch",
            score_ratio,
        ),
    ] {
        summary.field(key, ratio);
        summary.row(
            name,
            ratio.map_or("not measured".to_owned(), |r| format!("{r:.1}")),
        );
    }
    // The fastest of all: the peak is what the core can do, not what it did beside other load.
    let peak = peaks.into_iter().max_by(|a, b| a.flops.total_cmp(&b.flops));
    let peak = peak.expect("at least one round");
    let share = step_flop() / (train * 1e-3) / peak.flops;
    summary.row(
        format!("arithmetic peak of a core, {}", peak.instructions),
        format!("{:.0} GFLOP/s", peak.flops / 1e9),
    );
    summary.row(
        "a training step, share of the peak",
        format!("{:.0} %", 100.0 * share),
    );
    summary.field("peak_gflops", Some(peak.flops / 1e9));
    summary.field("train_peak_share", Some(share));
}
