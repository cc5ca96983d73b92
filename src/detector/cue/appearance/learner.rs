//! The appearance net and what trains it.

use candle_core::{Device, Result, Tensor};
use rand::SeedableRng;

use super::net::AppearanceNet;
use super::{AppearanceConfig, RESIDUAL_SCALE};
use crate::detector::cue::placed::{Learner, Memory};
use crate::detector::nn::{
    Adam, AdamConfig, Losses, Parameters, Report, Rng, Tape, student_t_loss, upload, weighted_sum,
};

/// What a training step is made from, on any device.
pub(super) struct Lecture<'a> {
    pub(super) pictures: &'a Tensor,
    pub(super) mask: Option<&'a Tensor>,
    pub(super) noise: &'a Tensor,
    pub(super) kl_weight: f64,
    pub(super) learning_rate: f64,
}

/// Made from the first frame, which is its first guess of the scene.
#[derive(Debug)]
pub(super) struct AppearanceLearner {
    params: Parameters,
    net: AppearanceNet,
    /// The same weights without a graph.
    scorer: AppearanceNet,
    adam: Adam,
}

impl AppearanceLearner {
    /// Values that the encoder hands to the latent heads.
    pub(super) fn features(&self) -> usize {
        self.net.features()
    }

    /// The net's reconstruction from the posterior mean.
    pub(super) fn predict(&self, x: &Tensor) -> Result<Vec<f32>> {
        let posterior = self.scorer.encode(x, None)?;
        self.scorer.decode(&posterior.mean)?.flatten_all()?.to_vec1()
    }

    /// One step of the optimiser. The loss: mean over batch, channels and pixels of the likelihood terms, and mean
    /// over the batch of the KL.
    pub(super) fn step(&mut self, lecture: &Lecture<'_>, device: &Device) -> Result<Report> {
        let [x, noise] = upload([lecture.pictures, lecture.noise], device)?;
        let mask = lecture.mask.map(|mask| mask.to_device(device)).transpose()?;
        let (losses, tape) = Tape::record(|| -> Result<_> {
            let posterior = self.net.encode(&x, mask.as_ref())?;
            let picture = self.net.decode(&posterior.reparameterize(&noise)?)?;
            let reconstruction = student_t_loss(&picture, &x, RESIDUAL_SCALE)?;
            let kl = posterior.kl_loss()?;
            Ok(Losses {
                loss: weighted_sum([(&reconstruction, 1.0), (&kl, lecture.kl_weight)])?,
                reconstruction,
                kl,
            })
        })?;
        self.adam
            .learn(&self.params, tape, &losses, lecture.learning_rate)
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
            scorer: net.detached(),
            params,
            net,
            adam,
        })
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
