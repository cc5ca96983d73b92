//! Motion: speed normalised by texture, judged by a grid VAE conditioned on the scene.

mod gain;
mod learner;
mod maps;
mod net;

use candle_core::{Device, Tensor};
use rand::{Rng as _, SeedableRng};

use self::gain::Gain;
use self::learner::{Lecture, MotionLearner};
use self::maps::MotionMaps;
use super::placed::Placed;
use super::{CalibratesOn, Cue, CueKind, Frame, Lesson};
use crate::detector::calibration::CalibrationConfig;
use crate::detector::config::Networks;
use crate::detector::filter::box_mean;
use crate::detector::nn::Rng;
use crate::detector::vae::{dropout_mask, normal};
use crate::detector::{AnomalyMap, Result, Tuning};

/// Ticks of the faster start.
const FAST_TICKS: f64 = 200.0;
/// Step size of the start and later, as multiples of `Tuning::learning_rate` (3e-3 and 1e-3 by default).
const FAST_RATE: f64 = 6.0;
const RATE: f64 = 2.0;
/// Weight of the KL term as a multiple of `Tuning::kl_weight` (0.1 by default).
const KL_WEIGHT: f64 = 0.1 / 0.03;
/// Past frames kept for replay, and how many there must be before it starts.
const REPLAY_SLOTS: usize = 300;
const REPLAY_AFTER: usize = 8;
/// The scoring weights follow the trained ones at least this fast.
const SLOW_RATE: f64 = 0.01;
/// Share of the latent divergence in the score.
const KL_SHARE: f32 = 0.2;
/// Scores below this count as this.
const FLOOR: f64 = 0.1;

/// Channels of target and condition.
const CHANNELS: usize = 2;

type Maps = (Vec<f32>, Vec<f32>);

/// The motion cue.
#[derive(Debug)]
pub(crate) struct Motion {
    networks: Networks,
    maps: MotionMaps,
    learner: Placed<MotionLearner>,
    rng: Rng,
    replay: Vec<Maps>,
    steps: u32,
    gain: Gain,
    map: AnomalyMap,
    cells: Vec<f32>,
    sums: Vec<f32>,
}

impl Motion {
    /// For grey pictures of `size` = (width, height), both multiples of 4.
    pub(crate) fn new(size: (usize, usize), networks: Networks, seed: u64, device: &Device) -> Result<Self> {
        let maps = MotionMaps::new(size);
        let (width, height) = maps.grid();
        Ok(Self {
            networks,
            maps,
            learner: Placed::new(seed, device)?,
            rng: Rng::seed_from_u64(seed ^ 0x6d6f_7469_6f6e),
            replay: Vec::new(),
            steps: 0,
            gain: Gain::default(),
            map: AnomalyMap::new(width, height),
            cells: Vec::new(),
            sums: Vec::new(),
        })
    }

    /// On the CPU.
    ///
    /// # Shapes
    /// `[B, Gh, Gw, 2]`
    fn tensor(&self, values: Vec<f32>) -> candle_core::Result<Tensor> {
        let (width, height) = self.maps.grid();
        let batch = values.len() / (width * height * CHANNELS);
        Tensor::from_vec(values, (batch, height, width, CHANNELS), &Device::Cpu)
    }

    /// The largest 3x3 mean of the cells; leaves all of them in the map.
    fn smooth(&mut self) -> f64 {
        box_mean(
            &self.cells,
            self.maps.grid(),
            3,
            &mut self.sums,
            &mut self.map.values,
        );
        f64::from(self.map.peak().1)
    }

    /// Per cell: half of target and prediction each, and the latent divergence; all without the net's [`Gain`].
    fn judge(&mut self, ticks: f64, learn: bool) -> Result<f64> {
        let (width, height) = self.maps.grid();
        let pair_mean = |values: &[f32]| {
            values
                .chunks_exact(CHANNELS)
                .map(|p| 0.5 * (p[0] + p[1]))
                .collect::<Vec<_>>()
        };
        self.cells = pair_mean(self.maps.targets());
        let input = self.smooth();
        if self.networks == Networks::Off {
            return Ok(input);
        }
        let target = self.tensor(self.maps.targets().to_vec())?;
        let condition = self.tensor(self.maps.conditions().to_vec())?;
        let (prediction, divergence) = self.predict(&target, &condition)?;
        let prediction = pair_mean(&prediction);
        let latent_width = width.div_ceil(2);
        for y in 0..height {
            for x in 0..width {
                let i = y * width + x;
                self.cells[i] += prediction[i] + KL_SHARE * divergence[y / 2 * latent_width + x / 2];
            }
        }
        let output = self.smooth();
        if learn {
            self.gain.observe(input.max(FLOOR), output.max(FLOOR), ticks);
        }
        let factor = self.gain.factor();
        for value in &mut self.map.values {
            *value = (f64::from(*value) / factor) as f32;
        }
        Ok(output / factor)
    }

    /// The slow net's prediction, and its posterior's divergence in every latent cell.
    pub(in crate::detector) fn predict(
        &mut self,
        target: &Tensor,
        condition: &Tensor,
    ) -> candle_core::Result<(Vec<f32>, Vec<f32>)> {
        self.learner
            .run(|learner, device| learner.predict([target, condition], device))
    }

    /// The current maps and one pair from the replay, once that holds enough.
    fn batch(&mut self) -> Result<(Tensor, Tensor)> {
        let mut targets = self.maps.targets().to_vec();
        let mut conditions = self.maps.conditions().to_vec();
        if self.replay.len() > REPLAY_AFTER {
            let (y, c) = &self.replay[self.rng.random_range(0..self.replay.len())];
            targets.extend_from_slice(y);
            conditions.extend_from_slice(c);
        }
        Ok((self.tensor(targets)?, self.tensor(conditions)?))
    }

    fn remember(&mut self) {
        let maps = (self.maps.targets().to_vec(), self.maps.conditions().to_vec());
        if self.replay.len() < REPLAY_SLOTS {
            self.replay.push(maps);
        } else {
            let slot = self.rng.random_range(0..REPLAY_SLOTS);
            self.replay[slot] = maps;
        }
    }

    /// Goes on from the weights and moments of another one.
    #[cfg(all(test, feature = "cuda"))]
    pub(super) fn follow(&mut self, other: &Self) {
        self.learner.follow(&other.learner).unwrap();
    }

    /// One step of the optimiser.
    pub(in crate::detector) fn step(
        &mut self,
        target: &Tensor,
        condition: &Tensor,
        tuning: &Tuning,
    ) -> Result<Lesson> {
        let (batch, height, width, _) = target.dims4()?;
        let [height, width] = [height, width].map(|n| n.div_ceil(2));
        let features = [batch, height, width, net::FEATURES];
        let latent = [batch, height, width, net::LATENT];
        let mask = dropout_mask(&mut self.rng, tuning.dropout, &features, &Device::Cpu)?;
        let noise = normal(&mut self.rng, &latent, &Device::Cpu)?;
        let pace = if self.maps.ticks() < FAST_TICKS {
            FAST_RATE
        } else {
            RATE
        };
        let lecture = Lecture {
            target,
            condition,
            mask: mask.as_ref(),
            noise: &noise,
            weights: [CHANNELS as f64, KL_WEIGHT * tuning.kl_weight],
            learning_rate: pace * tuning.learning_rate,
            slow_rate: SLOW_RATE.max(1.0 / (f64::from(self.steps) + 2.0)),
        };
        let report = self
            .learner
            .train(|learner, device| learner.step(&lecture, device))?;
        self.steps += 1;
        let lesson = Lesson::from(report);
        Ok(Lesson {
            // Its part of the loss.
            reconstruction: CHANNELS as f64 * lesson.reconstruction,
            ..lesson
        })
    }
}

impl Cue for Motion {
    fn kind(&self) -> CueKind {
        CueKind::Motion
    }

    fn calibration(&self) -> CalibrationConfig {
        CalibrationConfig {
            floor: FLOOR,
            mean: 2.4f64.ln(),
            deviation: 0.2,
            weight: 50.0,
            skip: 0.0,
            warm_up: 50.0,
            warm_up_seconds: 8.0,
            settled_weight: 400.0,
        }
    }

    fn calibrates_on(&self) -> CalibratesOn {
        CalibratesOn::EveryFrame
    }

    fn score(&mut self, frame: &Frame<'_>, learn: bool) -> Result<Option<f64>> {
        if !self.maps.observe(frame, learn) {
            return Ok(None);
        }
        self.judge(frame.step.ticks, learn).map(Some)
    }

    fn learn(&mut self, _frame: &Frame<'_>, tuning: &Tuning) -> Result<Option<Lesson>> {
        if !self.maps.is_valid() {
            return Ok(None);
        }
        if self.networks != Networks::Trained {
            self.steps += 1;
            return Ok(Some(Lesson::default()));
        }
        let (target, condition) = self.batch()?;
        self.remember();
        self.step(&target, &condition, tuning).map(Some)
    }

    fn lessons(&self) -> u32 {
        self.steps
    }

    fn map(&self) -> &AnomalyMap {
        &self.map
    }

    fn restart(&mut self) {
        self.maps.restart();
    }

    fn take_failure(&mut self) -> Option<String> {
        self.learner.take_failure()
    }

    #[cfg(test)]
    fn inject(&mut self, fault: super::Fault) {
        self.learner.inject(fault).unwrap();
    }

    fn leave_gpu(&mut self) -> Result<()> {
        Ok(self.learner.leave()?)
    }
}
