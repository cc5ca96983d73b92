//! Adam with owned moments and a bound on the gradient's norm.

use candle_core::{Result, Tensor};

use super::Parameters;

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
    moments: Vec<(Tensor, Tensor)>,
}

impl Adam {
    /// Moments of zero for every parameter.
    pub(crate) fn new(params: &Parameters, config: AdamConfig) -> Result<Self> {
        let moments = params
            .iter()
            .map(|(_, v)| Ok((v.zeros_like()?, v.zeros_like()?)))
            .collect::<Result<_>>()?;
        Ok(Self {
            config,
            steps: 0,
            moments,
        })
    }

    /// Differentiates `loss` and moves `params` one step.
    pub(crate) fn minimise(
        &mut self,
        params: &Parameters,
        loss: &Tensor,
        learning_rate: f64,
    ) -> Result<StepOutcome> {
        let grads = loss.backward()?;
        let mut square = 0.0f64;
        for (_, var) in params.iter() {
            if let Some(g) = grads.get(var) {
                square += f64::from(g.sqr()?.sum_all()?.to_scalar::<f32>()?);
            }
        }
        let grad_norm = square.sqrt();
        let finite = grad_norm.is_finite() && loss.to_scalar::<f32>()?.is_finite();
        if !finite {
            return Ok(StepOutcome::Refused);
        }
        let AdamConfig {
            beta1,
            beta2,
            eps,
            max_norm,
        } = self.config;
        let scale = (max_norm / (grad_norm + 1e-6)).min(1.0);
        self.steps += 1;
        let correct1 = 1.0 - beta1.powi(self.steps as i32);
        let correct2 = 1.0 - beta2.powi(self.steps as i32);
        for ((_, var), (m, v)) in params.iter().zip(&mut self.moments) {
            let Some(g) = grads.get(var) else { continue };
            let g = (g * scale)?.detach();
            *m = ((&*m * beta1)? + (&g * (1.0 - beta1))?)?.detach();
            *v = ((&*v * beta2)? + (g.sqr()? * (1.0 - beta2))?)?.detach();
            let step = ((&*m / correct1)? / ((&*v / correct2)?.sqrt()? + eps)?)?;
            var.set(&(var.as_tensor() - (step * learning_rate)?)?.detach())?;
        }
        Ok(StepOutcome::Done { grad_norm })
    }
}
