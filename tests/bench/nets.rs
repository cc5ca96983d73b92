//! What a training step and a prediction of the two nets cost, beside the same in PyTorch.
//!
//! `cargo bench --bench nets` runs criterion's statistics. `cargo bench --bench nets -- ratios` prints one
//! JSON object instead: CPU milliseconds as `torch_nets.py` gives them, that script's own in `torch`, and the
//! ratios. `TORCH_PYTHON` names a Python that has PyTorch; without one there are no ratios.

use std::process::Command;
use std::time::{Duration, Instant};

use criterion::Criterion;
use gstvaeanomaly::detector::bench_support::{AppearanceNetSteps, MotionNetSteps};
use serde_json::{Value, json};

/// Heights of the small pictures of a 4:3 camera.
const GREY_HEIGHT: usize = 132;
const COLOUR_HEIGHT: usize = 40;

fn nets() -> (MotionNetSteps, AppearanceNetSteps) {
    (
        MotionNetSteps::new(GREY_HEIGHT).expect("sizes fit"),
        AppearanceNetSteps::new(COLOUR_HEIGHT).expect("sizes fit"),
    )
}

fn statistics(criterion: &mut Criterion) {
    let (mut motion, mut appearance) = nets();
    let mut group = criterion.benchmark_group("nets");
    group.bench_function("motion/train", |b| b.iter(|| motion.train().expect("trains")));
    group.bench_function("motion/score", |b| b.iter(|| motion.score().expect("scores")));
    group.bench_function("appearance/train", |b| {
        b.iter(|| appearance.train().expect("trains"))
    });
    group.bench_function("appearance/score", |b| {
        b.iter(|| appearance.score().expect("scores"))
    });
    group.finish();
}

/// Time that this thread has spent on a processor; elsewhere than on Linux, time that went by.
fn cpu_time(start: Instant) -> Duration {
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = spent.and_then(|text| text.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

/// Median CPU milliseconds of one call, over long batches of calls.
fn milliseconds(mut work: impl FnMut()) -> f64 {
    const BATCHES: usize = 9;
    const BATCH: Duration = Duration::from_millis(300);
    let start = Instant::now();
    let mut batch = || {
        let (mut calls, from) = (0, cpu_time(start));
        loop {
            (0..20).for_each(|_| work());
            calls += 20;
            let spent = cpu_time(start) - from;
            if spent > BATCH {
                return 1e3 * spent.as_secs_f64() / f64::from(calls);
            }
        }
    };
    batch();
    let mut times: Vec<f64> = (0..BATCHES).map(|_| batch()).collect();
    times.sort_by(f64::total_cmp);
    times[BATCHES / 2]
}

/// What the script prints, if it runs.
fn torch() -> Option<Value> {
    let python = std::env::var("TORCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/torch_nets.py"))
        .args(["--height", &GREY_HEIGHT.to_string()])
        .args(["--picture-height", &COLOUR_HEIGHT.to_string()])
        .output()
        .ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

fn ratios() {
    let (mut motion, mut appearance) = nets();
    let motion = (
        milliseconds(|| motion.train().expect("trains")),
        milliseconds(|| motion.score().expect("scores")),
    );
    let appearance = (
        milliseconds(|| appearance.train().expect("trains")),
        milliseconds(|| appearance.score().expect("scores")),
    );
    let (train, score) = (motion.0 + appearance.0, motion.1 + appearance.1);
    let mut result = json!({
        "motion": {"train": motion.0, "score": motion.1},
        "appearance": {"train": appearance.0, "score": appearance.1},
        "train": train,
        "score": score,
    });
    if let Some(torch) = torch() {
        let ratio = |key: &str, ours: f64| torch[key].as_f64().map(|theirs| theirs / ours);
        result["train_vs_torch"] = json!(ratio("train", train));
        result["score_vs_torch"] = json!(ratio("score", score));
        result["torch"] = torch;
    }
    println!("{result}");
}

fn main() {
    if std::env::args().any(|argument| argument == "ratios") {
        ratios();
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    statistics(&mut criterion);
    criterion.final_summary();
}
