//! The appearance net and what trains it.

use candle_core::{Device, Result, Tensor};
use rand::SeedableRng;

use super::net::AppearanceNet;
use super::{AppearanceConfig, CHANNELS, RESIDUAL_SCALE, SIDE};
use crate::detector::cue::placed::{Learner, Memory};
use crate::detector::cue::{Lecture, StepReport};
use crate::detector::nn::{
    Adam, AdamConfig, Losses, Parameters, Rng, Tape, append, box_mean, squared_error, student_t_loss,
    weighted_sum,
};

/// Made from the first frame, which is its first guess of the scene.
#[derive(Debug)]
pub(super) struct AppearanceLearner {
    /// Width and height.
    size: (usize, usize),
    params: Parameters,
    net: AppearanceNet,
    /// The same weights without a graph.
    scorer: AppearanceNet,
    adam: Adam,
    lesson: StepReport,
    /// What the net expected of the last frame.
    expected: Option<Tensor>,
}

impl AppearanceLearner {
    /// Values that the encoder hands to the latent heads.
    pub(super) fn features(&self) -> usize {
        self.net.features()
    }

    /// # Shapes
    /// `[B * H * W * 3]` -> `[B, H, W, 3]`
    fn pictures(&self, values: &Tensor) -> Result<Tensor> {
        values.reshape(((), self.size.1, self.size.0, CHANNELS))
    }

    /// How far the picture is from the net's reconstruction, smoothed, for every pixel.
    pub(super) fn predict(&mut self, picture: &Tensor) -> Result<Tensor> {
        let picture = self.pictures(picture)?;
        let posterior = self.scorer.encode(&picture, None)?;
        let expected = self.scorer.decode(&posterior.mean)?;
        let map = box_mean(&squared_error(&picture, &expected)?, SIDE)?;
        self.expected = Some(expected);
        Ok(map)
    }

    /// The net's reconstruction of the last picture, from the posterior mean.
    pub(super) fn expected(&self) -> Option<Vec<f32>> {
        self.expected.as_ref()?.flatten_all().ok()?.to_vec1().ok()
    }

    /// One step of the optimiser: on the frame's `shown` picture and on `given`, the arrays of `lecture`. The loss: mean
    /// over batch, channels and pixels of the likelihood terms, and mean over the batch of the KL.
    pub(super) fn step(
        &mut self,
        shown: &[Tensor],
        lecture: &Lecture,
        given: &[Tensor],
    ) -> Result<StepReport> {
        let ([picture], [past, noise, mask]) = (shown, given) else {
            candle_core::bail!(
                "appearance learns from 1 and 3 arrays, got {} and {}",
                shown.len(),
                given.len()
            );
        };
        let x = self.pictures(&append(picture, past)?)?;
        let mask = (mask.elem_count() > 0).then_some(mask);
        let (losses, tape) = Tape::record(|| -> Result<_> {
            let posterior = self.net.encode(&x, mask)?;
            let picture = self.net.decode(&posterior.reparameterize(noise)?)?;
            let reconstruction = student_t_loss(&picture, &x, RESIDUAL_SCALE)?;
            let kl = posterior.kl_loss()?;
            let [first, second] = lecture.weights;
            Ok(Losses {
                loss: weighted_sum([(&reconstruction, first), (&kl, second)])?,
                reconstruction,
                kl,
            })
        })?;
        let report = self
            .adam
            .learn(&self.params, tape, &losses, lecture.learning_rate)?;
        self.lesson = report.into();
        Ok(self.lesson)
    }
}

impl Learner for AppearanceLearner {
    /// Configuration, and the first guess of the scene `[H, W, 3]`.
    type Plan = (AppearanceConfig, Vec<f32>);

    fn make((config, picture): &Self::Plan, device: &Device) -> Result<Self> {
        let mut params = Parameters::new(device);
        let mut rng = Rng::seed_from_u64(config.seed);
        let net = AppearanceNet::new(&mut params, config, picture, &mut rng)?;
        let adam = Adam::new(&params, AdamConfig::default())?;
        Ok(Self {
            size: config.size,
            scorer: net.detached(),
            params,
            net,
            adam,
            lesson: StepReport::default(),
            expected: None,
        })
    }

    fn pending(&self) -> Option<&Tensor> {
        None
    }

    fn settle(&mut self, _: &[f32]) -> Result<()> {
        Ok(())
    }

    fn memory(&self) -> Result<Memory> {
        Ok(Memory {
            weights: self.params.values()?,
            slow: Vec::new(),
            adam: self.adam.state()?,
        })
    }

    fn restore(&mut self, memory: &Memory) -> Result<()> {
        self.params.set_values(&memory.weights)?;
        self.adam.restore(&self.params, &memory.adam)
    }
}
