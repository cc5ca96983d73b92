//! What no implementation of the same step gets below: every launch costs, and every value crosses the memory bus.

use anyhow::Result;

use crate::gpu::Gpu;
use crate::nets::{COLOUR_HEIGHT, Costs, GREY_HEIGHT};
use crate::{Launches, part, row};

/// Values that a layer reads, its weights, values that it writes.
type Layer = (usize, usize, usize);

/// Layers of the motion net and of the appearance net.
fn layers() -> [Vec<Layer>; 2] {
    let conv = |inputs: usize, from: usize, kernel: usize, outputs: usize, to: usize| {
        (
            inputs * from,
            kernel * kernel * inputs * outputs + outputs,
            outputs * to,
        )
    };
    let (h, w) = (GREY_HEIGHT / 4, 45_usize);
    let (grid, half) = (h * w, h.div_ceil(2) * w.div_ceil(2));
    let motion = vec![
        conv(4, grid, 3, 16, grid),
        conv(16, grid, 3, 24, half),
        conv(24, half, 3, 24, half),
        conv(24, half, 1, 8, half),
        conv(4, half, 1, 24, half),
        (24 * half + 2 * grid, 9 * 26 * 16 + 16, 16 * grid),
        conv(16, grid, 3, 2, grid),
    ];
    let pixels = 64 * COLOUR_HEIGHT;
    let features = 32 * pixels / 64;
    let appearance = vec![
        conv(3, pixels, 3, 12, pixels / 4),
        conv(12, pixels / 4, 3, 24, pixels / 16),
        conv(24, pixels / 16, 3, 32, pixels / 64),
        (features, features * 32 + 32, 32),
        (16, 16 * features + features, features),
        conv(32, pixels / 64, 3, 24, pixels / 16),
        conv(24, pixels / 16, 3, 12, pixels / 4),
        conv(12, pixels / 4, 3, 3, pixels),
        // The learnt picture of the scene.
        (3 * pixels, 3 * pixels, 3 * pixels),
    ];
    [motion, appearance]
}

/// Bytes of a training step with `batch` pictures: forward, gradients of data and weights, each operand read once and
/// each result written once; the optimiser reads gradient, moments and weights, and writes all but the gradient.
fn train_bytes(layers: &[Layer], batch: usize) -> usize {
    let values = layers.iter().map(|&(from, weights, to)| {
        let forward = batch * (from + to) + weights;
        let data = batch * (to + from) + weights;
        let weight = batch * (from + to) + weights;
        forward + data + weight + 7 * weights
    });
    4 * values.sum::<usize>()
}

fn score_bytes(layers: &[Layer]) -> usize {
    4 * layers
        .iter()
        .map(|(from, weights, to)| from + weights + to)
        .sum::<usize>()
}

/// Prints the part.
pub fn measure(gpu: &Gpu, costs: &Costs, launches: Launches) -> Result<()> {
    let (launch, bandwidth) = (gpu.launch_us()?, gpu.bandwidth()?);
    let [motion, appearance] = layers();
    let train = train_bytes(&motion, 2) + train_bytes(&appearance, 4);
    let score = score_bytes(&motion) + score_bytes(&appearance);
    part("Floors");
    row("an empty launch, us", format!("{launch:.2}"));
    row(
        "copies inside the GPU's memory, GB/s",
        format!("{:.0}", bandwidth / 1e9),
    );
    for (name, measured, launches, bytes) in [
        ("a training step of both nets", costs.train, launches.train, train),
        ("scoring with both nets", costs.score, launches.score, score),
    ] {
        row(name, format!("{measured:.3} ms"));
        row(
            &format!("  its {launches:.0} launches alone"),
            format!("{:.3} ms", 1e-3 * launch * launches),
        );
        row(
            &format!("  its {:.1} MB alone", bytes as f64 / 1e6),
            format!("{:.4} ms", 1e3 * bytes as f64 / bandwidth),
        );
    }
    Ok(())
}
