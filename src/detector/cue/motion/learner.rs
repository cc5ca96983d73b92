//! The two motion nets, one trained and one that follows it, and what trains them.

use candle_core::{Device, Result, Tensor};
use rand::SeedableRng;

use super::net::MotionNet;
use crate::detector::cue::placed::{Learner, Memory};
use crate::detector::nn::{
    Adam, AdamConfig, Losses, Parameters, Report, Rng, StepOutcome, Tape, read_both, student_t_loss, upload,
    weighted_sum,
};

/// What a training step is made from, on any device.
pub(super) struct Lecture<'a> {
    pub(super) target: &'a Tensor,
    pub(super) condition: &'a Tensor,
    pub(super) mask: Option<&'a Tensor>,
    pub(super) noise: &'a Tensor,
    /// Weights of the likelihood and of the divergence.
    pub(super) weights: [f64; 2],
    pub(super) learning_rate: f64,
    /// How far the slow net follows after it.
    pub(super) slow_rate: f64,
}

#[derive(Debug)]
pub(super) struct MotionLearner {
    params: Parameters,
    net: MotionNet,
    slow_params: Parameters,
    /// Scores; without a graph.
    slow_net: MotionNet,
    adam: Adam,
}

impl MotionLearner {
    /// The slow net's prediction, and its posterior's divergence in every latent cell.
    pub(super) fn predict(&self, given: [&Tensor; 2], device: &Device) -> Result<(Vec<f32>, Vec<f32>)> {
        let [target, condition] = upload(given, device)?;
        let posterior = self.slow_net.encode(&target, &condition, None)?;
        let prediction = self.slow_net.decode(&posterior.mean, &condition)?;
        read_both(&prediction, &posterior.kl()?)
    }

    /// One step of the optimiser.
    pub(super) fn step(&mut self, lecture: &Lecture<'_>, device: &Device) -> Result<Report> {
        let given = [lecture.target, lecture.condition, lecture.noise];
        let [target, condition, noise] = upload(given, device)?;
        let mask = lecture.mask.map(|mask| mask.to_device(device)).transpose()?;
        let (losses, tape) = Tape::record(|| -> Result<_> {
            let posterior = self.net.encode(&target, &condition, mask.as_ref())?;
            let prediction = self.net.decode(&posterior.reparameterize(&noise)?, &condition)?;
            let reconstruction = student_t_loss(&prediction, &target, 1.0)?;
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
        if report.outcome != StepOutcome::Refused {
            self.slow_params.lerp_from(&self.params, lecture.slow_rate)?;
        }
        Ok(report)
    }
}

impl Learner for MotionLearner {
    /// The seed of the weights.
    type Plan = u64;

    fn make(seed: &u64, device: &Device) -> Result<Self> {
        let mut params = Parameters::new(device);
        let mut slow_params = Parameters::new(device);
        let net = MotionNet::new(&mut params, &mut Rng::seed_from_u64(*seed))?;
        let slow_net = MotionNet::new(&mut slow_params, &mut Rng::seed_from_u64(*seed))?.detached();
        let adam = Adam::new(&params, AdamConfig::default())?;
        Ok(Self {
            params,
            net,
            slow_params,
            slow_net,
            adam,
        })
    }

    fn memory(&self) -> Result<Memory> {
        Ok(Memory {
            weights: self.params.values()?,
            slow: self.slow_params.values()?,
            adam: self.adam.state()?,
        })
    }

    fn restore(&mut self, memory: &Memory) -> Result<()> {
        self.params.set_values(&memory.weights)?;
        self.slow_params.set_values(&memory.slow)?;
        self.adam.restore(&self.params, &memory.adam)
    }
}
