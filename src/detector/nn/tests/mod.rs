//! The layers against Candle's own operations and against finite differences.

mod adam;
mod conv;
mod conv_lstm;
mod loss;
mod parameters;
mod sizes;
mod tape;
mod upsample_conv;

use candle_core::{Device, Result, Tensor, Var};
use rand::{Rng as _, SeedableRng};

use super::{Activation, Conv, ConvSpec, Linear, Parameters, Rng, Tape, fan_in_uniform};

/// Uniform in ±1.
fn random(shape: &[usize], rng: &mut Rng) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| rng.random_range(-1.0..1.0))
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn random_var(shape: &[usize], rng: &mut Rng) -> Var {
    Var::from_tensor(&random(shape, rng)).unwrap()
}

fn rng(seed: u64) -> Rng {
    Rng::seed_from_u64(seed)
}

/// A convolution that is the only layer of `params`, all values uniform.
fn conv(spec: ConvSpec, params: &Parameters) -> Conv {
    let init = fan_in_uniform(spec.kernel * spec.kernel * spec.inputs);
    Conv::new(spec, init, init, params.var_builder().pp("conv")).unwrap()
}

/// A dense layer, all values uniform.
fn dense([inputs, outputs]: [usize; 2], activation: Activation, params: &Parameters, name: &str) -> Linear {
    let init = fan_in_uniform(inputs);
    Linear::new(
        inputs,
        outputs,
        activation,
        init,
        init,
        params.var_builder().pp(name),
    )
    .unwrap()
}

/// The result of `forward` with the graph that leads to it.
#[track_caller]
fn recorded(forward: impl FnOnce() -> Result<Tensor>) -> Tensor {
    Tape::record(forward).unwrap().0
}

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest difference, relative to the largest value that is wanted.
#[track_caller]
fn assert_close(got: &[f32], want: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    // Sums that cancel out keep the rounding of their terms.
    let scale = want.iter().fold(2e-2f32, |a, w| a.max(w.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!(
            (g - w).abs() <= tolerance * scale,
            "{what}: value {i} is {g}, not {w}"
        );
    }
}

/// Compares the gradient of `loss` for `var` with central differences at some indices.
///
/// `loss` must be close to linear in `var` within the step.
#[track_caller]
fn assert_gradients(var: &Var, gradient: &[f32], loss: impl Fn() -> Result<f64>, what: &str) {
    const STEP: f32 = 1e-2;
    let start = values(var);
    let shape = var.shape().clone();
    let scale = gradient.iter().fold(1e-3f32, |a, g| a.max(g.abs()));
    let stride = (start.len() / 23).max(1);
    for i in (0..start.len()).step_by(stride) {
        let at = |x: f32| {
            let mut moved = start.clone();
            moved[i] = x;
            var.set(&Tensor::from_vec(moved, &shape, &Device::Cpu).unwrap())
                .unwrap();
            loss().unwrap()
        };
        let difference = ((at(start[i] + STEP) - at(start[i] - STEP)) / f64::from(2.0 * STEP)) as f32;
        assert!(
            (difference - gradient[i]).abs() <= 0.02 * scale,
            "{what}: gradient {i} is {}, but the central difference is {difference}",
            gradient[i]
        );
    }
    var.set(&Tensor::from_vec(start, &shape, &Device::Cpu).unwrap())
        .unwrap();
}

/// `sum(x * weights)`, in double precision.
fn weighted(x: &Tensor, weights: &Tensor) -> f64 {
    let weights = values(weights);
    values(x)
        .iter()
        .zip(weights)
        .map(|(x, w)| f64::from(*x) * f64::from(w))
        .sum()
}
