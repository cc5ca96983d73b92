//! Adam, with a bound on the norm of the gradient.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::simd::vectorized;
use super::tensor::slice_mut;
use super::{Parameters, Tape};

/// Constants of [`Adam`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamConfig {
    /// Decay of the running mean of the gradient.
    pub(crate) beta1: f64,
    /// Decay of the running mean of the squared gradient.
    pub(crate) beta2: f64,
    /// Keeps the denominator away from zero.
    pub(crate) eps: f64,
    /// A gradient with a larger Euclidean norm is scaled down to this one.
    pub(crate) max_norm: f64,
}

impl Default for AdamConfig {
    /// The constants that the nets train with.
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            max_norm: 1.0,
        }
    }
}

/// Result of a training step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum StepOutcome {
    /// The parameters were updated.
    Done {
        /// Norm of the gradient before clipping.
        grad_norm: f64,
    },
    /// Loss or gradient was not finite: parameters and moments are unchanged.
    Rejected,
}

/// The loss of a training step and the parts of it that are reported; single values.
#[derive(Clone, Debug)]
pub(crate) struct Losses {
    /// What the step minimises.
    pub(crate) loss: Tensor,
    /// Reconstruction loss, before its weight.
    pub(crate) reconstruction: Tensor,
    /// KL divergence in nats, before its weight.
    pub(crate) kl: Tensor,
}

/// [`Losses`] as numbers, and the result of the step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    /// What the step minimises.
    pub(crate) loss: f64,
    /// Reconstruction loss, before its weight.
    pub(crate) reconstruction: f64,
    /// KL divergence in nats, before its weight.
    pub(crate) kl: f64,
    /// Result of the step.
    pub(crate) outcome: StepOutcome,
}

impl Report {
    /// Whether the step left the parameters as they were.
    pub(crate) fn is_rejected(&self) -> bool {
        self.outcome == StepOutcome::Rejected
    }
}

/// The learnt state of [`Adam`]. With the values of the parameters it is all that training needs to continue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct AdamState {
    /// Steps so far.
    pub(crate) steps: u32,
    /// Running means of the gradient, in the order of the parameters.
    pub(crate) first: Vec<f32>,
    /// Running means of the squared gradient, in the order of the parameters.
    pub(crate) second: Vec<f32>,
}

/// Adam (Kingma & Ba 2015, algorithm 1).
#[derive(Debug)]
pub(crate) struct Adam {
    config: AdamConfig,
    state: AdamState,
}

impl Adam {
    /// Moments of zero for every parameter.
    pub(crate) fn new(params: &Parameters, config: AdamConfig) -> Self {
        let zeros = vec![0.0; params.count()];
        let state = AdamState {
            steps: 0,
            first: zeros.clone(),
            second: zeros,
        };
        Self { config, state }
    }

    /// The learnt state.
    pub(crate) fn state(&self) -> &AdamState {
        &self.state
    }

    /// Replaces the learnt state.
    ///
    /// # Errors
    /// The state belongs to another number of parameters.
    pub(crate) fn restore(&mut self, state: &AdamState) -> Result<()> {
        let (want, got) = (self.state.first.len(), [state.first.len(), state.second.len()]);
        if got != [want, want] {
            bail!("Adam has {want} moments of each kind, got {got:?}");
        }
        self.state.clone_from(state);
        Ok(())
    }

    /// Updates the parameters by one step that minimises the loss, to which the operations on `tape` led.
    ///
    /// # Errors
    /// An operation between the parameters and the loss is not on the tape.
    pub(crate) fn learn(
        &mut self,
        params: &Parameters,
        tape: Tape,
        losses: &Losses,
        learning_rate: f64,
    ) -> Result<Report> {
        let grads = params.backward(tape, &losses.loss)?;
        let outcome = self.minimise(params, &losses.loss, &grads, learning_rate)?;
        let number = |loss: &Tensor| Ok::<_, candle_core::Error>(f64::from(loss.to_scalar::<f32>()?));
        Ok(Report {
            loss: number(&losses.loss)?,
            reconstruction: number(&losses.reconstruction)?,
            kl: number(&losses.kl)?,
            outcome,
        })
    }

    /// Updates the parameters by one step against the gradients of `loss`, which are in the order of the parameters.
    pub(super) fn minimise(
        &mut self,
        params: &Parameters,
        loss: &Tensor,
        grads: &[f32],
        learning_rate: f64,
    ) -> Result<StepOutcome> {
        let grad_norm = norm(grads);
        if !grad_norm.is_finite() || !loss.to_scalar::<f32>()?.is_finite() {
            return Ok(StepOutcome::Rejected);
        }
        self.state.steps = self.state.steps.saturating_add(1);
        let rates = self.rates(grad_norm, learning_rate);
        let AdamState { first, second, .. } = &mut self.state;
        let (mut first, mut second, mut rest) = (&mut first[..], &mut second[..], grads);
        for (_, var) in params.iter() {
            let count = var.elem_count();
            let moments = RefCell::new((split_off(&mut first, count), split_off(&mut second, count)));
            let (grad, others) = rest.split_at(count);
            rest = others;
            var.inplace_op1(&Update { rates, grad, moments })?;
        }
        Ok(StepOutcome::Done { grad_norm })
    }

    /// The factors of the step that [`AdamState::steps`] has just counted.
    fn rates(&self, grad_norm: f64, learning_rate: f64) -> Rates {
        let AdamConfig {
            beta1,
            beta2,
            eps,
            max_norm,
        } = self.config;
        let steps = f64::from(self.state.steps);
        let bias1 = 1.0 - beta1.powf(steps);
        let bias2 = 1.0 - beta2.powf(steps);
        Rates {
            clip: (max_norm / (grad_norm + 1e-6)).min(1.0) as f32,
            beta: [beta1 as f32, beta2 as f32],
            one_minus_beta: [(1.0 - beta1) as f32, (1.0 - beta2) as f32],
            step: (learning_rate / bias1) as f32,
            inv_sqrt_bias2: (1.0 / bias2.sqrt()) as f32,
            eps: eps as f32,
        }
    }
}

/// Splits `count` values off the front.
fn split_off<'a>(rest: &mut &'a mut [f32], count: usize) -> &'a mut [f32] {
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

/// Factors that all values of a step share.
#[derive(Clone, Copy)]
struct Rates {
    /// Scales the gradient down to the largest norm.
    clip: f32,
    /// Decay of both moments.
    beta: [f32; 2],
    one_minus_beta: [f32; 2],
    /// Learning rate over the first moment's bias correction.
    step: f32,
    /// One over the square root of the second moment's bias correction.
    inv_sqrt_bias2: f32,
    eps: f32,
}

/// Moments smaller than this cannot change a parameter; as denormals they would slow every later step down.
const NEGLIGIBLE: f32 = 1e-30;

/// One pass over one parameter, its gradient and its moments.
struct Update<'a> {
    rates: Rates,
    grad: &'a [f32],
    /// Candle calls the operation by shared reference.
    moments: RefCell<(&'a mut [f32], &'a mut [f32])>,
}

impl InplaceOp1 for Update<'_> {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let values = slice_mut(storage, layout)?;
        let (first, second) = &mut *self.moments.borrow_mut();
        update(values, self.grad, first, second, self.rates);
        Ok(())
    }
}

vectorized! {
    fn update<'a>(values: &'a mut [f32], grad: &'a [f32], first: &'a mut [f32], second: &'a mut [f32], rates: Rates) -> () {
        let Rates {
            clip,
            beta,
            one_minus_beta,
            step,
            inv_sqrt_bias2,
            eps,
        } = rates;
        let flush = |x: f32| if x.abs() < NEGLIGIBLE { 0.0 } else { x };
        let moments = first.iter_mut().zip(second);
        for ((p, &g), (m, v)) in values.iter_mut().zip(grad).zip(moments) {
            let g = g * clip;
            *m = flush(beta[0] * *m + one_minus_beta[0] * g);
            *v = flush(beta[1] * *v + one_minus_beta[1] * g * g);
            *p -= step * *m / (v.sqrt() * inv_sqrt_bias2 + eps);
        }
    }
}
