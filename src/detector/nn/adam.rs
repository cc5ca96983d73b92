//! Adam with owned moments and a bound on the gradient's norm.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, bail};

use super::cuda;
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

impl Losses {
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "the CUDA side reads it"))]
    pub(super) fn each(&self) -> [&Tensor; 3] {
        [&self.loss, &self.reconstruction, &self.kl]
    }
}

/// Values of what a step on a GPU tells: loss, reconstruction, KL, norm, whether it was made, and its scale.
pub(super) const REPORTED: usize = 6;

/// [`Losses`] as numbers, and what became of the step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    pub(crate) loss: f64,
    pub(crate) reconstruction: f64,
    pub(crate) kl: f64,
    pub(crate) outcome: StepOutcome,
}

impl Report {
    /// From what a step on a GPU told.
    fn new(told: &[f32]) -> Result<Self> {
        let &[loss, reconstruction, kl, grad_norm, made, _] = told else {
            bail!("a step told {} values, not {REPORTED}", told.len());
        };
        let grad_norm = f64::from(grad_norm);
        let [loss, reconstruction, kl] = [loss, reconstruction, kl].map(f64::from);
        Ok(Self {
            loss,
            reconstruction,
            kl,
            outcome: match made == 0.0 {
                true => StepOutcome::Refused,
                false => StepOutcome::Done { grad_norm },
            },
        })
    }

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
    /// With the pending one, as if it had been made; and so it counts where nobody asks.
    steps: u32,
    moments: Moments,
    pending: Option<Tensor>,
}

/// Running means of gradient and squared gradient, in the order of the parameters.
#[derive(Debug)]
enum Moments {
    Host(Vec<f32>, Vec<f32>),
    Gpu(Box<cuda::Moments>),
}

impl Adam {
    /// Moments of zero for every parameter.
    pub(crate) fn new(params: &Parameters, config: AdamConfig) -> Result<Self> {
        let moments = match params.device().is_cuda() {
            true => Moments::Gpu(Box::new(cuda::Moments::new(params)?)),
            false => {
                let zeros = vec![0.0; params.count()];
                Moments::Host(zeros.clone(), zeros)
            }
        };
        Ok(Self {
            config,
            steps: 0,
            moments,
            pending: None,
        })
    }

    /// Where it is.
    pub(crate) fn state(&self) -> Result<AdamState> {
        let (first, second) = match &self.moments {
            Moments::Host(first, second) => (first.clone(), second.clone()),
            Moments::Gpu(moments) => moments.read()?,
        };
        let refused = match &self.pending {
            Some(told) => Report::new(&told.to_vec1()?)?.is_refused(),
            None => false,
        };
        Ok(AdamState {
            steps: self.steps - u32::from(refused),
            first,
            second,
        })
    }

    /// Goes on from what [`Adam::state`] gave; `params` are the ones it was made for.
    ///
    /// # Errors
    /// The moments are not as many as the parameters.
    pub(crate) fn restore(&mut self, params: &Parameters, state: &AdamState) -> Result<()> {
        let (got, want) = ([state.first.len(), state.second.len()], params.count());
        if got != [want, want] {
            bail!("Adam has {want} moments of each kind, got {got:?}");
        }
        match &mut self.moments {
            Moments::Host(first, second) => {
                first.copy_from_slice(&state.first);
                second.copy_from_slice(&state.second);
            }
            Moments::Gpu(moments) => moments.write(&state.first, &state.second)?,
        }
        self.steps = state.steps;
        self.pending = None;
        Ok(())
    }

    /// Moves `params` one step down the loss, to which the operations on `tape` led. On a GPU nothing waits for that:
    /// what it tells is [`Adam::pending`].
    ///
    /// # Errors
    /// An operation between the parameters and the loss is not on the tape, or the device fails.
    pub(crate) fn learn(
        &mut self,
        params: &Parameters,
        tape: Tape,
        losses: &Losses,
        learning_rate: f64,
    ) -> Result<Option<Report>> {
        if params.device().is_cuda() {
            self.learn_on_gpu(params, tape, losses, learning_rate)?;
            return Ok(None);
        }
        let gradients = params.backward(tape, &losses.loss)?;
        let outcome = self.minimise(params, &losses.loss, &gradients, learning_rate)?;
        let number = |loss: &Tensor| Ok::<_, candle_core::Error>(f64::from(loss.to_scalar::<f32>()?));
        Ok(Some(Report {
            loss: number(&losses.loss)?,
            reconstruction: number(&losses.reconstruction)?,
            kl: number(&losses.kl)?,
            outcome,
        }))
    }

    fn learn_on_gpu(
        &mut self,
        params: &Parameters,
        tape: Tape,
        losses: &Losses,
        learning_rate: f64,
    ) -> Result<()> {
        params.backward_on_gpu(tape, &losses.loss)?;
        let steps = self.steps.saturating_add(1);
        let rates = self.rates(steps, 0.0, learning_rate);
        let Moments::Gpu(moments) = &mut self.moments else {
            bail!("Adam was made for parameters on the CPU");
        };
        self.pending = Some(moments.step(params, losses, self.config.max_norm, rates)?);
        self.steps = steps;
        Ok(())
    }

    /// What the last step on a GPU tells, until [`Adam::settle`] takes what was read of it.
    pub(crate) fn pending(&self) -> Option<&Tensor> {
        self.pending.as_ref()
    }

    /// Takes what was read of [`Adam::pending`].
    pub(crate) fn settle(&mut self, told: &[f32]) -> Result<Report> {
        let report = Report::new(told)?;
        if self.pending.take().is_some() && report.is_refused() {
            self.steps -= 1;
        }
        Ok(report)
    }

    /// Moves `params` on the CPU one step down the `gradients` of `loss`, which are in the order of the parameters.
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
        self.steps = self.steps.saturating_add(1);
        let rates = self.rates(self.steps, grad_norm, learning_rate);
        let Moments::Host(first, second) = &mut self.moments else {
            bail!("Adam was made for parameters on a GPU");
        };
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
pub(super) struct Rates {
    /// Of the CPU's step; the GPU finds its own.
    clip: f32,
    /// Shares of the old moments and of the new gradient.
    pub(super) keep: [f32; 2],
    pub(super) take: [f32; 2],
    /// Learning rate over the first moment's bias correction.
    pub(super) step: f32,
    /// One over the root of the second moment's bias correction.
    pub(super) root: f32,
    pub(super) eps: f32,
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
