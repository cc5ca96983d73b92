//! Adam with owned moments and a bound on the gradient's norm.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, bail};

use super::Parameters;
use super::simd::vectorized;
use super::storage::slice_mut;

/// Constants of [`Adam`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamConfig {
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) eps: f64,
    /// The gradient is scaled down to this Euclidean norm when it is longer.
    pub(crate) max_norm: f64,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum StepOutcome {
    /// The weights moved.
    Done {
        /// Norm of the gradient before clipping.
        grad_norm: f64,
    },
    /// A number was not finite: weights and moments are as before.
    Refused,
}

/// Adam (Kingma & Ba 2015, algorithm 1).
#[derive(Debug)]
pub(crate) struct Adam {
    config: AdamConfig,
    steps: u32,
    /// Running means of gradient and squared gradient, in the order of the parameters.
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Adam {
    /// Moments of zero for every parameter.
    pub(crate) fn new(params: &Parameters, config: AdamConfig) -> Result<Self> {
        let zeros = vec![0.0; params.count()];
        Ok(Self {
            config,
            steps: 0,
            first: zeros.clone(),
            second: zeros,
        })
    }

    /// Steps so far, and the running means of gradient and squared gradient in the order of the
    /// parameters: with the weights, all that a warm restart needs.
    #[cfg_attr(not(test), allow(dead_code, reason = "a saved model carries it"))]
    pub(crate) fn state(&self) -> (u32, &[f32], &[f32]) {
        (self.steps, &self.first, &self.second)
    }

    /// Goes on from what [`Adam::state`] gave.
    ///
    /// # Errors
    /// The moments are not as many as the parameters.
    #[cfg_attr(not(test), allow(dead_code, reason = "a saved model carries it"))]
    pub(crate) fn restore(&mut self, steps: u32, first: &[f32], second: &[f32]) -> Result<()> {
        if first.len() != self.first.len() || second.len() != self.second.len() {
            let (got, want) = ([first.len(), second.len()], self.first.len());
            bail!("Adam has {want} moments of each kind, got {got:?}");
        }
        self.steps = steps;
        self.first.copy_from_slice(first);
        self.second.copy_from_slice(second);
        Ok(())
    }

    /// Moves `params` one step down the `gradients` of `loss`, which are in the order of the parameters.
    pub(crate) fn minimise(
        &mut self,
        params: &Parameters,
        loss: &Tensor,
        gradients: &[f32],
        learning_rate: f64,
    ) -> Result<StepOutcome> {
        let grad_norm = norm(gradients);
        if !grad_norm.is_finite() || !loss.to_scalar::<f32>()?.is_finite() {
            return Ok(StepOutcome::Refused);
        }
        self.steps = self.steps.saturating_add(1);
        let rates = self.rates(grad_norm, learning_rate);
        let (mut first, mut second, mut gradient) = (&mut self.first[..], &mut self.second[..], gradients);
        for (_, var) in params.iter() {
            let count = var.elem_count();
            let moments = RefCell::new((split(&mut first, count), split(&mut second, count)));
            let (here, rest) = gradient.split_at(count);
            gradient = rest;
            var.inplace_op1(&AdamStep {
                rates,
                gradient: here,
                moments,
            })?;
        }
        Ok(StepOutcome::Done { grad_norm })
    }

    fn rates(&self, grad_norm: f64, learning_rate: f64) -> Rates {
        let AdamConfig {
            beta1,
            beta2,
            eps,
            max_norm,
        } = self.config;
        let steps = f64::from(self.steps);
        let correct1 = 1.0 - beta1.powf(steps);
        let correct2 = 1.0 - beta2.powf(steps);
        Rates {
            clip: (max_norm / (grad_norm + 1e-6)).min(1.0) as f32,
            keep: [beta1 as f32, beta2 as f32],
            take: [(1.0 - beta1) as f32, (1.0 - beta2) as f32],
            step: (learning_rate / correct1) as f32,
            root: (1.0 / correct2.sqrt()) as f32,
            eps: eps as f32,
        }
    }
}

/// Takes `count` values off the front.
fn split<'a>(rest: &mut &'a mut [f32], count: usize) -> &'a mut [f32] {
    let (front, back) = std::mem::take(rest).split_at_mut(count);
    *rest = back;
    front
}

vectorized! {
    /// Euclidean norm, in double precision: no finite gradient overflows.
    fn norm<'a>(values: &'a [f32]) -> f64 {
        let mut sums = [0.0f64; 16];
        let chunks = values.chunks_exact(sums.len());
        let tail: f64 = chunks.remainder().iter().map(|&v| f64::from(v).powi(2)).sum();
        for chunk in chunks {
            for (sum, &v) in sums.iter_mut().zip(chunk) {
                *sum += f64::from(v) * f64::from(v);
            }
        }
        (sums.iter().sum::<f64>() + tail).sqrt()
    }
}

/// Numbers that all values of a step share.
#[derive(Clone, Copy)]
struct Rates {
    clip: f32,
    /// Shares of the old moments and of the new gradient.
    keep: [f32; 2],
    take: [f32; 2],
    /// Learning rate over the first moment's bias correction.
    step: f32,
    /// One over the root of the second moment's bias correction.
    root: f32,
    eps: f32,
}

/// Moments smaller than this cannot move a weight; as denormals they would slow every later step down.
const NEGLIGIBLE: f32 = 1e-30;

/// One pass over one parameter, its gradient and its moments.
struct AdamStep<'a> {
    rates: Rates,
    gradient: &'a [f32],
    moments: RefCell<(&'a mut [f32], &'a mut [f32])>,
}

impl InplaceOp1 for AdamStep<'_> {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let values = slice_mut(storage, layout)?;
        let (first, second) = &mut *self.moments.borrow_mut();
        update(values, self.gradient, first, second, self.rates);
        Ok(())
    }
}

vectorized! {
    fn update<'a>(values: &'a mut [f32], gradient: &'a [f32], first: &'a mut [f32], second: &'a mut [f32], rates: Rates) -> () {
        let Rates {
            clip,
            keep,
            take,
            step,
            root,
            eps,
        } = rates;
        let flush = |x: f32| if x.abs() < NEGLIGIBLE { 0.0 } else { x };
        let moments = first.iter_mut().zip(second);
        for ((p, &g), (m, v)) in values.iter_mut().zip(gradient).zip(moments) {
            let g = g * clip;
            *m = flush(keep[0] * *m + take[0] * g);
            *v = flush(keep[1] * *v + take[1] * g * g);
            *p -= step * *m / (v.sqrt() * root + eps);
        }
    }
}
