//! The two nets alone, beside PyTorch and beside the machine's peak.

use std::process::Command;
use std::time::Duration;

use gemm::Parallelism;
use gstvaeanomaly::detector::ComputeDevice;
use gstvaeanomaly::detector::bench_support::NetSteps;
use serde_json::Value;

use crate::figures::Figures;
use crate::support::{median, milliseconds};

/// Heights of the small pictures of a 4:3 camera.
const GREY_HEIGHT: usize = 132;
const COLOUR_HEIGHT: usize = 40;
/// Rounds of ours and PyTorch's in turns.
const ROUNDS: usize = 3;
const TURN: Duration = Duration::from_millis(700);

/// Milliseconds of a training step and of scoring, both nets together.
#[derive(Clone, Copy)]
struct Cost {
    train: f64,
    score: f64,
}

fn ours(motion: &mut NetSteps, appearance: &mut NetSteps) -> Cost {
    let train = milliseconds(TURN, || motion.train().expect("trains"))
        + milliseconds(TURN, || appearance.train().expect("trains"));
    let score = milliseconds(TURN, || motion.score().expect("scores"))
        + milliseconds(TURN, || appearance.score().expect("scores"));
    Cost { train, score }
}

/// What the script prints, if there is a Python with PyTorch.
fn torch() -> Option<Cost> {
    let python = std::env::var("TORCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/torch_nets.py"))
        .args(["--height", &GREY_HEIGHT.to_string()])
        .args(["--picture-height", &COLOUR_HEIGHT.to_string()])
        .args(["--seconds", "1"])
        .output()
        .ok()?;
    let told: Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(Cost {
        train: told["train"].as_f64()?,
        score: told["score"].as_f64()?,
    })
}

/// Multiplications and additions of a training step of both nets by the textbook: forward, gradients of the weights,
/// gradients of the data but for the first layers.
fn step_flop() -> f64 {
    let (h, w) = (GREY_HEIGHT / 4, 45_usize);
    let (h2, w2) = (h.div_ceil(2), w.div_ceil(2));
    // Places, inputs of an output, outputs, passes.
    let motion = [
        (h * w, 9 * 4, 16, 2),
        (h2 * w2, 9 * 16, 24, 3),
        (h2 * w2, 9 * 24, 24, 3),
        (h2 * w2, 24, 8, 3),
        (h2 * w2, 4, 24, 3),
        (h * w, 9 * 26, 16, 3),
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
        (pixels / 16, 9 * 32, 24, 3),
        (pixels / 4, 9 * 24, 12, 3),
        (pixels, 9 * 12, 3, 3),
    ];
    let sum = |layers: &[(usize, usize, usize, usize)], batch: usize| {
        let each = layers
            .iter()
            .map(|(places, inputs, outputs, passes)| 2 * places * inputs * outputs * passes);
        (batch * each.sum::<usize>()) as f64
    };
    sum(&motion, 2) + sum(&appearance, 4)
}

/// Operations a second of a large matrix product, in one thread.
fn peak() -> f64 {
    const N: usize = 384;
    let (a, b) = (vec![0.5f32; N * N], vec![0.25f32; N * N]);
    let mut c = vec![0f32; N * N];
    let ms = milliseconds(Duration::from_millis(200), || {
        // SAFETY: three square matrices of N x N values, row by row.
        unsafe {
            let (row, column) = (N as isize, 1);
            gemm::gemm(
                N,
                N,
                N,
                c.as_mut_ptr(),
                column,
                row,
                false,
                a.as_ptr(),
                column,
                row,
                b.as_ptr(),
                column,
                row,
                0.0,
                1.0,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    });
    2.0 * (N * N * N) as f64 / (ms * 1e-3)
}

/// Fills in the part of the table.
pub fn measure(figures: &mut Figures) {
    let mut motion = NetSteps::motion(&ComputeDevice::cpu(), GREY_HEIGHT).expect("sizes fit");
    let mut appearance = NetSteps::appearance(&ComputeDevice::cpu(), COLOUR_HEIGHT).expect("sizes fit");
    ours(&mut motion, &mut appearance);
    let (mut mine, mut ratios, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        peaks.push(peak());
        let before = ours(&mut motion, &mut appearance);
        let theirs = torch();
        let after = ours(&mut motion, &mut appearance);
        let cost = Cost {
            train: 0.5 * (before.train + after.train),
            score: 0.5 * (before.score + after.score),
        };
        mine.push(cost);
        ratios.extend(theirs.map(|theirs| (theirs.train / cost.train, theirs.score / cost.score)));
    }
    let train = median(mine.iter().map(|c| c.train).collect());
    let score = median(mine.iter().map(|c| c.score).collect());
    figures.part("Both nets, one thread (CPU time)");
    figures.row("a training step", format!("{train:.2} ms"));
    figures.row("scoring", format!("{score:.2} ms"));
    let (mut train_ratio, mut score_ratio) = (None, None);
    if ratios.is_empty() {
        figures.row("PyTorch", "not found");
    } else {
        train_ratio = Some(median(ratios.iter().map(|r| r.0).collect()));
        score_ratio = Some(median(ratios.iter().map(|r| r.1).collect()));
    }
    for (name, key, ratio) in [
        (
            "a training step, times as fast as PyTorch",
            "train_vs_torch",
            train_ratio,
        ),
        ("scoring, times as fast as PyTorch", "score_vs_torch", score_ratio),
    ] {
        figures.field(key, ratio);
        figures.row(name, ratio.map_or("-".to_owned(), |r| format!("{r:.1}")));
    }
    let peak = median(peaks);
    let share = step_flop() / (train * 1e-3) / peak;
    figures.row("peak of a matrix product", format!("{:.0} GFLOP/s", peak / 1e9));
    figures.row(
        "a training step reaches of that",
        format!("{:.0} %", 100.0 * share),
    );
    figures.field("gemm_peak_share", Some(share));
}
