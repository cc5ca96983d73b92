//! The two nets alone, beside the same nets and step in PyTorch.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gstvaeanomaly::detector::bench_support::NetSteps;
use gstvaeanomaly::detector::{DeviceChoice, Error};
use serde_json::Value;

use crate::gpu::Gpu;
use crate::{part, row};

/// Heights of the small pictures of a 4:3 camera, as `torch_cuda.py` has them.
pub const GREY_HEIGHT: usize = 132;
pub const COLOUR_HEIGHT: usize = 40;
const TURN: Duration = Duration::from_secs(2);

/// Milliseconds of both nets together.
pub struct Costs {
    pub train: f64,
    pub score: f64,
}

/// Milliseconds of one call, called one behind the other.
fn milliseconds(gpu: &Gpu, mut work: impl FnMut() -> Result<(), Error>) -> Result<f64> {
    for _ in 0..20 {
        work()?;
    }
    gpu.wait()?;
    let (mut calls, started) = (0u32, Instant::now());
    while started.elapsed() < TURN {
        work()?;
        calls += 1;
    }
    gpu.wait()?;
    Ok(1e3 * started.elapsed().as_secs_f64() / f64::from(calls))
}

/// Prints the part; `torch` is the file that `torch_cuda.py` wrote.
pub fn measure(gpu: &Gpu, torch: Option<&str>) -> Result<Costs> {
    let device = DeviceChoice::Cuda(Some(0)).open()?;
    let mut motion = NetSteps::motion(&device, GREY_HEIGHT)?;
    let mut appearance = NetSteps::appearance(&device, COLOUR_HEIGHT)?;
    let nets = [
        [
            milliseconds(gpu, || motion.train())?,
            milliseconds(gpu, || motion.score())?,
        ],
        [
            milliseconds(gpu, || appearance.train())?,
            milliseconds(gpu, || appearance.score())?,
        ],
    ];
    part("The nets alone: milliseconds of a training step, of scoring");
    for (name, [train, score]) in ["motion", "appearance"].iter().zip(nets) {
        row(name, format!("{train:.3}  {score:.3}"));
    }
    let costs = Costs {
        train: nets[0][0] + nets[1][0],
        score: nets[0][1] + nets[1][1],
    };
    row("both", format!("{:.3}  {:.3}", costs.train, costs.score));
    match torch {
        Some(file) => compare(&costs, file)?,
        None => row("PyTorch", "not found"),
    }
    Ok(costs)
}

fn compare(ours: &Costs, file: &str) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| file.to_owned())?;
    let told: Value = serde_json::from_str(&text).with_context(|| file.to_owned())?;
    for (key, name) in [("eager", "PyTorch, eager"), ("graphs", "PyTorch, CUDA graphs")] {
        let both = &told[key];
        let (Some(train), Some(score)) = (both["train"].as_f64(), both["score"].as_f64()) else {
            row(name, "not measured");
            continue;
        };
        row(name, format!("{train:.3}  {score:.3}"));
        row(
            "  times as fast as that",
            format!("{:.2}  {:.2}", train / ours.train, score / ours.score),
        );
    }
    Ok(())
}
