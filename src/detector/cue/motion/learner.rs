//! The two motion nets, one trained and one that follows it, and what trains them.

use candle_core::{Device, Result, Tensor};
use rand::SeedableRng;

use super::net::MotionNet;
use super::{CHANNELS, KL_SHARE, SIDE};
use crate::detector::cue::placed::{Learner, Memory};
use crate::detector::cue::{Lecture, StepReport};
use crate::detector::nn::{
    Adam, AdamConfig, Losses, Parameters, Report, Rng, Tape, append, box_mean, motion_score, student_t_loss,
    weighted_sum,
};

#[derive(Debug)]
pub(super) struct MotionLearner {
    /// Cells of the grid: rows, columns.
    grid: (usize, usize),
    params: Parameters,
    net: MotionNet,
    slow_params: Parameters,
    /// Scores; without a graph.
    slow_net: MotionNet,
    adam: Adam,
    lesson: StepReport,
}

impl MotionLearner {
    /// # Shapes
    /// `[B * Gh * Gw * 2]` -> `[B, Gh, Gw, 2]`
    fn maps(&self, values: &Tensor) -> Result<Tensor> {
        values.reshape(((), self.grid.0, self.grid.1, CHANNELS))
    }

    /// Half of target and of the slow net's prediction each and its posterior's divergence, smoothed, for every cell.
    pub(super) fn predict(&self, target: &Tensor, condition: &Tensor) -> Result<Tensor> {
        let (target, condition) = (self.maps(target)?, self.maps(condition)?);
        let posterior = self.slow_net.encode(&target, &condition, None)?;
        let prediction = self.slow_net.decode(&posterior.mean, &condition)?;
        let map = motion_score(&target, &prediction, &posterior.kl()?, KL_SHARE)?;
        box_mean(&map, SIDE)
    }

    /// One step of the optimiser: on the frame's `shown` target and condition, and on `given`, the arrays of `lecture`.
    pub(super) fn step(
        &mut self,
        shown: &[Tensor],
        lecture: &Lecture,
        given: &[Tensor],
    ) -> Result<StepReport> {
        let ([target, condition], [past_target, past_condition, noise, mask]) = (shown, given) else {
            candle_core::bail!(
                "motion learns from 2 and 4 arrays, got {} and {}",
                shown.len(),
                given.len()
            );
        };
        let target = self.maps(&append(target, past_target)?)?;
        let condition = self.maps(&append(condition, past_condition)?)?;
        let mask = (mask.elem_count() > 0).then_some(mask);
        let (losses, tape) = Tape::record(|| -> Result<_> {
            let posterior = self.net.encode(&target, &condition, mask)?;
            let prediction = self.net.decode(&posterior.reparameterize(noise)?, &condition)?;
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
        if !report.is_refused() {
            self.slow_params.lerp_from(&self.params, lecture.slow_rate)?;
        }
        self.tell(report);
        Ok(self.lesson)
    }

    fn tell(&mut self, report: Report) {
        let lesson = StepReport::from(report);
        self.lesson = StepReport {
            // Its part of the loss.
            reconstruction: CHANNELS as f64 * lesson.reconstruction,
            ..lesson
        };
    }
}

impl Learner for MotionLearner {
    /// The seed of the weights, and the grid: rows, columns.
    type Plan = (u64, (usize, usize));

    fn make((seed, grid): &Self::Plan, device: &Device) -> Result<Self> {
        let mut params = Parameters::new(device);
        let mut slow_params = Parameters::new(device);
        let net = MotionNet::new(&mut params, &mut Rng::seed_from_u64(*seed))?;
        let slow_net = MotionNet::new(&mut slow_params, &mut Rng::seed_from_u64(*seed))?.detached();
        let adam = Adam::new(&params, AdamConfig::default())?;
        Ok(Self {
            grid: *grid,
            params,
            net,
            slow_params,
            slow_net,
            adam,
            lesson: StepReport::default(),
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
