//! Motion: speed normalised by texture, judged by a grid VAE conditioned on the scene.

mod gain;
mod learner;
mod maps;
mod net;

use candle_core::{Device, Result, Tensor};
use rand::{Rng as _, SeedableRng};

use self::gain::Gain;
use self::learner::MotionLearner;
use self::maps::MotionMaps;
use super::placed::Placed;
use super::{CalibratesOn, Cue, CueKind, Frame, Lecture, StepReport, Turn};
use crate::detector::calibration::CalibrationConfig;
use crate::detector::config::Networks;
use crate::detector::filter::box_mean;
use crate::detector::nn::Rng;
use crate::detector::vae::{dropout_mask, normal};
use crate::detector::{AnomalyMap, Tuning};

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
/// Side of the boxes of cells that the score is smoothed over.
const SIDE: usize = 3;
/// Scores below this count as this.
const FLOOR: f64 = 0.1;

/// Channels of target and condition.
const CHANNELS: usize = 2;

type Maps = (Vec<f32>, Vec<f32>);

/// The motion cue.
#[derive(Debug)]
pub(crate) struct Motion {
    networks: Networks,
    seed: u64,
    maps: MotionMaps,
    /// Made when it is first asked for.
    learner: Option<Placed<MotionLearner>>,
    rng: Rng,
    replay: Vec<Maps>,
    steps: u32,
    gain: Gain,
    map: AnomalyMap,
}

impl Motion {
    /// For grey pictures of `size` = (width, height), both multiples of 4.
    pub(crate) fn new(size: (usize, usize), networks: Networks, seed: u64) -> Self {
        let maps = MotionMaps::new(size);
        let (width, height) = maps.grid();
        Self {
            networks,
            seed,
            maps,
            learner: None,
            rng: Rng::seed_from_u64(seed ^ 0x6d6f_7469_6f6e),
            replay: Vec::new(),
            steps: 0,
            gain: Gain::default(),
            map: AnomalyMap::new(width, height),
        }
    }

    fn learner(&mut self, device: &Device) -> Result<&mut Placed<MotionLearner>> {
        let learner = match self.learner.take() {
            Some(learner) => learner,
            None => {
                let (width, height) = self.maps.grid();
                Placed::new((self.seed, (height, width)), device)?
            }
        };
        Ok(self.learner.insert(learner))
    }

    /// The largest place of the target alone, which stays in the map.
    fn target_score(&mut self) -> f64 {
        let cells: Vec<f32> = self
            .maps
            .targets()
            .chunks_exact(CHANNELS)
            .map(|p| 0.5 * (p[0] + p[1]))
            .collect();
        let grid = self.maps.grid();
        box_mean(&cells, grid, SIDE, &mut Vec::new(), &mut self.map.values);
        f64::from(self.map.peak().1)
    }

    /// A pair of maps from the replay, once that holds enough.
    fn recall(&mut self) -> Vec<Vec<f32>> {
        if self.replay.len() <= REPLAY_AFTER {
            return vec![Vec::new(); 2];
        }
        let (target, condition) = &self.replay[self.rng.random_range(0..self.replay.len())];
        vec![target.clone(), condition.clone()]
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

    /// Goes on from the weights and moments of another one, if that has any yet.
    #[cfg(all(test, feature = "cuda"))]
    pub(super) fn follow(&mut self, other: &Self) {
        if let (Some(mine), Some(theirs)) = (&mut self.learner, &other.learner) {
            mine.follow(theirs).unwrap();
        }
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

    fn look(&mut self, frame: &Frame<'_>, learn: bool) {
        self.maps.observe(frame, learn);
    }

    fn shown(&self) -> Vec<&[f32]> {
        match self.maps.is_valid() && self.networks != Networks::Off {
            true => vec![self.maps.targets(), self.maps.conditions()],
            false => Vec::new(),
        }
    }

    fn predict(&mut self, shown: &[Tensor], device: &Device) -> Result<Vec<Tensor>> {
        let [target, condition] = shown else {
            candle_core::bail!("motion is shown 2 arrays, not {}", shown.len());
        };
        self.learner(device)?
            .predict(|learner| learner.predict(target, condition))
    }

    /// Half of target and prediction each, and the latent divergence; all without the net's [`Gain`].
    fn conclude(&mut self, told: &[Vec<f32>], frame: &Frame<'_>, learn: bool) -> Result<Option<f64>> {
        if !self.maps.is_valid() {
            return Ok(None);
        }
        let input = self.target_score();
        let Some((map, pending)) = told.split_first() else {
            return Ok(Some(input));
        };
        if let Some(learner) = &mut self.learner {
            learner.settle(pending)?;
        }
        self.map.values.copy_from_slice(map);
        let output = f64::from(self.map.peak().1);
        if learn {
            self.gain
                .observe(input.max(FLOOR), output.max(FLOOR), frame.step.ticks);
        }
        let factor = self.gain.factor();
        for value in &mut self.map.values {
            *value = (f64::from(*value) / factor) as f32;
        }
        Ok(Some(output / factor))
    }

    fn prepare(&mut self, _: &Frame<'_>, tuning: &Tuning) -> Turn {
        if !self.maps.is_valid() {
            return Turn::Pass;
        }
        if self.networks != Networks::Trained {
            self.steps += 1;
            return Turn::Done;
        }
        let past = self.recall();
        self.remember();
        let lecture = self.lecture(past, tuning);
        self.steps += 1;
        Turn::Step(lecture)
    }

    fn lecture(&mut self, past: Vec<Vec<f32>>, tuning: &Tuning) -> Lecture {
        let (width, height) = self.maps.grid();
        let batch = 1 + past[0].len() / (width * height * CHANNELS);
        let places = batch * width.div_ceil(2) * height.div_ceil(2);
        let pace = if self.maps.ticks() < FAST_TICKS {
            FAST_RATE
        } else {
            RATE
        };
        Lecture {
            past,
            mask: dropout_mask(&mut self.rng, tuning.dropout, places * net::FEATURES),
            noise: normal(&mut self.rng, places * net::LATENT),
            weights: [CHANNELS as f64, KL_WEIGHT * tuning.kl_weight],
            learning_rate: pace * tuning.learning_rate,
            slow_rate: SLOW_RATE.max(1.0 / (f64::from(self.steps) + 2.0)),
        }
    }

    fn learn(
        &mut self,
        shown: &[Tensor],
        lecture: &Lecture,
        given: &[Tensor],
        device: &Device,
    ) -> Result<StepReport> {
        self.learner(device)?
            .train(|learner| learner.step(shown, lecture, given))
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

    fn may_leave(&self) -> bool {
        self.learner.as_ref().is_some_and(Placed::may_leave)
    }

    fn leave_gpu(&mut self) -> Result<()> {
        self.learner.as_mut().map_or(Ok(()), Placed::leave)
    }

    #[cfg(test)]
    fn inject(&mut self, fault: super::Fault) {
        self.learner(&Device::Cpu).unwrap().inject(fault);
    }
}
