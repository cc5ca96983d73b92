//! Adam with owned moments and a bound on the gradient's norm.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, bail};

use super::simd::vectorized;
use super::storage::slice_mut;
use super::{Parameters, Tape};

/// Constants of [`Adam`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamConfig {
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) eps: f64,
    /// The gradient is scaled down to this Euclidean norm when it is longer.
    pub(crate) max_norm: f64,
}

impl Default for AdamConfig {
    /// What both nets train with.
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            max_norm: 1.0,
        }
    }
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

/// What a step goes down, and the parts of it that are told beside it; single values.
#[derive(Clone, Debug)]
pub(crate) struct Losses {
    pub(crate) loss: Tensor,
    pub(crate) reconstruction: Tensor,
    pub(crate) kl: Tensor,
}

/// [`Losses`] as numbers, and what became of the step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    pub(crate) loss: f64,
    pub(crate) reconstruction: f64,
    pub(crate) kl: f64,
    pub(crate) outcome: StepOutcome,
}

impl Report {
    pub(crate) fn is_refused(&self) -> bool {
        self.outcome == StepOutcome::Refused
    }
}

/// With the weights, all that a warm restart needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct AdamState {
    /// Steps so far.
    pub(crate) steps: u32,
    /// Running means of gradient and squared gradient, in the order of the parameters.
    pub(crate) first: Vec<f32>,
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
    pub(crate) fn new(params: &Parameters, config: AdamConfig) -> Result<Self> {
        let zeros = vec![0.0; params.count()];
        let state = AdamState {
            steps: 0,
            first: zeros.clone(),
            second: zeros,
        };
        Ok(Self { config, state })
    }

    /// The learnt state.
    pub(crate) fn state(&self) -> Result<AdamState> {
        Ok(self.state.clone())
    }

    /// Continues from what [`Adam::state`] returned; `params` are the ones it was made for.
    ///
    /// # Errors
    /// The moments are not as many as the parameters.
    pub(crate) fn restore(&mut self, params: &Parameters, state: &AdamState) -> Result<()> {
        let (got, want) = ([state.first.len(), state.second.len()], params.count());
        if got != [want, want] {
            bail!("Adam has {want} moments of each kind, got {got:?}");
        }
        self.state = state.clone();
        Ok(())
    }

    /// Moves `params` one step down the loss, to which the operations on `tape` led.
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
        let gradients = params.backward(tape, &losses.loss)?;
        let outcome = self.minimise(params, &losses.loss, &gradients, learning_rate)?;
        let number = |loss: &Tensor| Ok::<_, candle_core::Error>(f64::from(loss.to_scalar::<f32>()?));
        Ok(Report {
            loss: number(&losses.loss)?,
            reconstruction: number(&losses.reconstruction)?,
            kl: number(&losses.kl)?,
            outcome,
        })
    }

    /// Moves `params` one step down the `gradients` of `loss`, which are in the order of the parameters.
    pub(super) fn minimise(
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
        self.state.steps = self.state.steps.saturating_add(1);
        let rates = self.rates(self.state.steps, grad_norm, learning_rate);
        let AdamState { first, second, .. } = &mut self.state;
        let (mut first, mut second, mut gradient) = (&mut first[..], &mut second[..], gradients);
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

    fn rates(&self, steps: u32, grad_norm: f64, learning_rate: f64) -> Rates {
        let AdamConfig {
            beta1,
            beta2,
            eps,
            max_norm,
        } = self.config;
        let steps = f64::from(steps);
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
    /// Factor that bounds the gradient's norm.
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
