//! A net, its optimiser, and the weights that score.

use std::collections::VecDeque;

use candle_core::{Device, Result, Tensor, bail};
use rand::SeedableRng;

use super::config::{ScoringWeights, VaeConfig};
use super::{Checkpoint, Vae};
use crate::detector::StepReport;
use crate::detector::engine::{Inputs, StateUpdate, TrainingBatch};
use crate::detector::nn::{
    Adam, AdamConfig, AdamState, ConvLstmState, Losses, Parameters, Rng, Tape, student_t_loss, weighted_sum,
};

/// Trains one net on the CPU and scores with it.
#[derive(Debug)]
pub(crate) struct Learner {
    config: VaeConfig,
    parameters: Parameters,
    vae: Vae,
    /// The moving average of the weights, where the net scores with that.
    average: Option<(Parameters, Vae)>,
    adam: Adam,
    states: States,
    /// The prediction of the last scored image.
    reconstruction: Option<Vec<f32>>,
}

/// The state of a temporal layer along the stream.
#[derive(Debug, Default)]
struct States {
    /// Before the last steps and the current image, as many as a clip has images; the last one is the current image's.
    before: VecDeque<ConvLstmState>,
    /// After the current image, where it is a step.
    after: Option<ConvLstmState>,
}

impl States {
    /// The state before the next image; `None` = zero.
    fn next(&mut self, update: StateUpdate, clip: usize) -> Option<&ConvLstmState> {
        if update.restart {
            *self = Self::default();
        }
        if let Some(state) = self.after.take() {
            self.before.push_back(state);
            if self.before.len() > clip {
                self.before.pop_front();
            }
        }
        self.before.back()
    }

    /// The state before a clip that ends with the current image; `None` = zero.
    fn before_clip(&self, clip: usize) -> Option<&ConvLstmState> {
        // The state before the first step after a restart is zero and not kept.
        self.before.front().filter(|_| self.before.len() == clip)
    }
}

impl Checkpoint {
    /// A net before its first training step: random weights from `seed`, and `base_image` `[H, W, C]` where the net has
    /// one.
    pub(crate) fn initial(config: &VaeConfig, seed: u64, base_image: Option<&[f32]>) -> Result<Self> {
        let (parameters, _) = make(config, seed)?;
        let mut weights = parameters.values()?;
        if let (true, Some(image)) = (config.base_image, base_image) {
            let values = weights.len();
            let Some(slot) = values
                .checked_sub(image.len())
                .filter(|_| image.len() == config.target_values())
            else {
                bail!(
                    "a base image of {} values is not {:?} x {}",
                    image.len(),
                    config.size,
                    config.channels
                );
            };
            weights[slot..].copy_from_slice(image);
        }
        let zeros = vec![0.0; weights.len()];
        Ok(Self {
            average: match config.scoring_weights {
                ScoringWeights::MovingAverage => weights.clone(),
                ScoringWeights::Trained => Vec::new(),
            },
            weights,
            first_moment: zeros.clone(),
            second_moment: zeros,
            steps: 0,
        })
    }
}

fn make(config: &VaeConfig, seed: u64) -> Result<(Parameters, Vae)> {
    let parameters = Parameters::new(Rng::seed_from_u64(seed));
    let vae = Vae::new(config, &parameters)?;
    Ok((parameters, vae))
}

/// A batch as tensors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch<'a> {
    /// `[B, H, W, C]`
    pub(super) target: &'a Tensor,
    /// `[B, H, W, D]`
    pub(super) condition: Option<&'a Tensor>,
    /// Of the temporal layer before each clip.
    pub(super) state: Option<&'a ConvLstmState>,
    /// Standard normal samples, as many as latent values.
    pub(super) noise: &'a Tensor,
    /// Factors of the features at the bottleneck.
    pub(super) dropout_mask: Option<&'a Tensor>,
}

/// The negative evidence lower bound with weights (Kingma & Welling 2014, eq. 10): `reconstruction_weight` times the mean
/// Student t term plus `kl_weight` times the mean divergence.
pub(super) fn losses(config: &VaeConfig, vae: &Vae, batch: Batch<'_>, kl_weight: f64) -> Result<Losses> {
    let (posterior, _) = vae.encode(batch.target, batch.condition, batch.state, batch.dropout_mask)?;
    let prediction = vae.decode(&posterior.reparameterize(batch.noise)?, batch.condition)?;
    let reconstruction = student_t_loss(&prediction, batch.target, config.residual_scale)?;
    let kl = posterior.kl_loss()?;
    Ok(Losses {
        loss: weighted_sum([(&reconstruction, config.reconstruction_weight), (&kl, kl_weight)])?,
        reconstruction,
        kl,
    })
}

impl Learner {
    /// A net that continues from `checkpoint`.
    ///
    /// # Errors
    /// The checkpoint's sizes are not those of `config`.
    pub(crate) fn new(config: &VaeConfig, checkpoint: &Checkpoint) -> Result<Self> {
        checkpoint.validate(config)?;
        let (parameters, vae) = make(config, 0)?;
        parameters.set_values(&checkpoint.weights)?;
        let average = match config.scoring_weights {
            ScoringWeights::MovingAverage => {
                let (parameters, vae) = make(config, 0)?;
                parameters.set_values(&checkpoint.average)?;
                Some((parameters, vae))
            }
            ScoringWeights::Trained => None,
        };
        let mut adam = Adam::new(&parameters, AdamConfig::default());
        adam.restore(&AdamState {
            steps: checkpoint.steps,
            first: checkpoint.first_moment.clone(),
            second: checkpoint.second_moment.clone(),
        })?;
        Ok(Self {
            config: config.clone(),
            parameters,
            vae,
            average,
            adam,
            states: States::default(),
            reconstruction: None,
        })
    }

    /// All that was learnt.
    pub(crate) fn checkpoint(&self) -> Result<Checkpoint> {
        let AdamState { steps, first, second } = self.adam.state().clone();
        Ok(Checkpoint {
            weights: self.parameters.values()?,
            average: match &self.average {
                Some((parameters, _)) => parameters.values()?,
                None => Vec::new(),
            },
            first_moment: first,
            second_moment: second,
            steps,
        })
    }

    /// The anomaly map `[H, W]` of one image, from the posterior mean.
    pub(crate) fn infer(&mut self, inputs: Inputs<'_>, update: StateUpdate) -> Result<Vec<f32>> {
        let vae = self.average.as_ref().map_or(&self.vae, |(_, vae)| vae);
        let target = self.images(self.config.channels, &[inputs.target])?;
        let condition = self.condition(&[inputs.condition])?;
        let before = self.states.next(update, self.config.clip());
        let (posterior, after) = vae.encode(&target, condition.as_ref(), before, None)?;
        self.states.after = after.filter(|_| update.advance);
        let prediction = vae.decode(&posterior.mean, condition.as_ref())?;
        let prediction: Vec<f32> = prediction.flatten_all()?.to_vec1()?;
        let kl: Vec<f32> = posterior.kl()?.flatten_all()?.to_vec1()?;
        let map = self.config.anomaly_map(inputs.target, &prediction, &kl);
        self.reconstruction = Some(prediction);
        Ok(map)
    }

    /// The prediction `[H, W, C]` of the image that was scored last.
    pub(crate) fn reconstruction(&self) -> Option<&[f32]> {
        self.reconstruction.as_deref()
    }

    /// One step of the optimiser on the clip that ends with the current image and the replayed ones of `batch`. The loss is
    /// the weighted mean of the Student t reconstruction terms plus the weighted mean of the KL divergences.
    ///
    /// With a temporal layer, this is truncated back-propagation through time: the current clip continues from the state
    /// that the stream had before it, replayed ones begin with a state of zero.
    pub(crate) fn step(&mut self, inputs: Inputs<'_>, batch: &TrainingBatch) -> Result<StepReport> {
        let target = [&batch.previous_target, inputs.target, &batch.replayed_target];
        let target = self.images(self.config.channels, &target)?;
        let condition = [
            &batch.previous_condition,
            inputs.condition,
            &batch.replayed_condition,
        ];
        let condition = self.condition(&condition)?;
        let clip = self.config.clip();
        let clips = target.dim(0)? / clip;
        if target.dim(0)? != clips * clip {
            bail!("{} images are no clips of {clip}", target.dim(0)?);
        }
        let state = match self.states.before_clip(clip) {
            Some(state) => Some(state.padded(clips)?),
            None => self.vae.zero_state(clips)?,
        };
        let noise = Tensor::from_slice(&batch.noise, batch.noise.len(), &Device::Cpu)?;
        let mask = match batch.dropout_mask.as_slice() {
            [] => None,
            mask => Some(Tensor::from_slice(mask, mask.len(), &Device::Cpu)?),
        };
        let (losses, tape) = Tape::record(|| {
            let images = Batch {
                target: &target,
                condition: condition.as_ref(),
                state: state.as_ref(),
                noise: &noise,
                dropout_mask: mask.as_ref(),
            };
            losses(&self.config, &self.vae, images, batch.kl_weight)
        })?;
        let report = self
            .adam
            .learn(&self.parameters, tape, &losses, batch.learning_rate)?;
        if let (false, Some((average, _))) = (report.is_rejected(), &self.average) {
            average.lerp_from(&self.parameters, batch.average_rate)?;
        }
        Ok(StepReport {
            loss: report.loss,
            reconstruction: self.config.reconstruction_weight * report.reconstruction,
            kl: report.kl,
            rejected: report.is_rejected(),
        })
    }

    /// # Shapes
    /// `B` times `[H, W, channels]` in all -> `[B, H, W, channels]`
    fn images(&self, channels: usize, parts: &[&[f32]]) -> Result<Tensor> {
        let [height, width] = self.config.size;
        let values = parts.concat();
        let batch = values.len() / (height * width * channels);
        Tensor::from_vec(values, (batch, height, width, channels), &Device::Cpu)
    }

    fn condition(&self, parts: &[&[f32]]) -> Result<Option<Tensor>> {
        match self.config.condition {
            0 => Ok(None),
            channels => self.images(channels, parts).map(Some),
        }
    }
}
