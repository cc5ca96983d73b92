//! Appearance: a VAE over the whole small picture. A strong KL term lets one or two nats through, enough
//! to select the scene's mode (lamp, night vision), not enough to draw the anomaly.

mod learner;
mod net;

use candle_core::{Device, Result, Tensor};
use rand::{Rng as _, SeedableRng};

use self::learner::AppearanceLearner;
use super::placed::Placed;
use super::{CalibratesOn, Cue, CueKind, Frame, Lecture, StepReport, Turn};
use crate::detector::calibration::CalibrationConfig;
use crate::detector::config::Networks;
use crate::detector::nn::{Rng, box_mean, squared_error};
use crate::detector::vae::{dropout_mask, normal};
use crate::detector::{AnomalyMap, NetArch, Tuning};

/// Steps of the faster start, and its step size as a multiple of `Tuning::learning_rate`.
const FAST_STEPS: u32 = 1000;
const FAST_RATE: f64 = 2.0;
/// Scale of the residuals' distribution: pictures are -2..2.
const RESIDUAL_SCALE: f64 = 0.2;
/// Past pictures kept for replay, how many there must be before it starts, and how many join a batch.
const REPLAY_SLOTS: usize = 2000;
const REPLAY_AFTER: usize = 4;
const REPLAY_DRAWS: usize = 3;
/// Colour channels.
const CHANNELS: usize = 3;
/// Side of the boxes of pixels that the error is smoothed over.
const SIDE: usize = 5;

/// What the appearance cue is made from.
#[derive(Clone, Debug)]
pub(crate) struct AppearanceConfig {
    pub(crate) arch: NetArch,
    pub(crate) latent_dim: usize,
    /// Width and height, multiples of the encoder's reduction.
    pub(crate) size: (usize, usize),
    pub(crate) networks: Networks,
    pub(crate) seed: u64,
}

/// The appearance cue.
#[derive(Debug)]
pub(crate) struct Appearance {
    config: AppearanceConfig,
    /// Made from the first frame.
    learner: Option<Placed<AppearanceLearner>>,
    rng: Rng,
    /// Reservoir over all training frames, 8 bits a value.
    replay: Vec<Vec<u8>>,
    offered: u64,
    steps: u32,
    picture: Vec<f32>,
    /// Stands in for the net where there is none: a running mean.
    background: Vec<f32>,
    map: AnomalyMap,
}

/// 0..255 to the net's -2..2.
fn to_net(value: f32) -> f32 {
    value * (4.0 / 255.0) - 2.0
}

fn from_net(value: f32) -> f32 {
    (value + 2.0) * (255.0 / 4.0)
}

impl Appearance {
    pub(crate) fn new(config: AppearanceConfig) -> Self {
        let (width, height) = config.size;
        Self {
            rng: Rng::seed_from_u64(config.seed ^ 0x0061_7070_6561_7261),
            config,
            learner: None,
            replay: Vec::new(),
            offered: 0,
            steps: 0,
            picture: Vec::new(),
            background: Vec::new(),
            map: AnomalyMap::new(width, height),
        }
    }

    fn learner(&mut self, device: &Device) -> Result<&mut Placed<AppearanceLearner>> {
        let learner = match self.learner.take() {
            Some(learner) => learner,
            None => Placed::new((self.config.clone(), self.picture.clone()), device)?,
        };
        Ok(self.learner.insert(learner))
    }

    /// As the net's [`AppearanceLearner::predict`], against the background.
    fn compare(&mut self) -> Result<()> {
        let (width, height) = self.config.size;
        let picture = |values: &[f32]| Tensor::from_slice(values, (1, height, width, CHANNELS), &Device::Cpu);
        let error = squared_error(&picture(&self.picture)?, &picture(&self.background)?)?;
        self.map.values = box_mean(&error, SIDE)?.flatten_all()?.to_vec1()?;
        Ok(())
    }

    /// Some pictures from the replay, once that holds enough.
    fn recall(&mut self) -> Vec<Vec<f32>> {
        let mut values = Vec::new();
        if self.replay.len() > REPLAY_AFTER {
            for _ in 0..REPLAY_DRAWS {
                let past = &self.replay[self.rng.random_range(0..self.replay.len())];
                values.extend(past.iter().map(|&p| to_net(f32::from(p))));
            }
        }
        vec![values]
    }

    /// Algorithm R (Vitter 1985): every training frame so far is in the reservoir with the same probability.
    fn remember(&mut self, colour: &[f32]) {
        let store = |slot: &mut Vec<u8>| {
            slot.clear();
            slot.extend(colour.iter().map(|&p| p.round() as u8));
        };
        self.offered += 1;
        if self.replay.len() < REPLAY_SLOTS {
            let mut slot = Vec::with_capacity(colour.len());
            store(&mut slot);
            self.replay.push(slot);
        } else {
            let slot = self.rng.random_range(0..self.offered) as usize;
            if slot < REPLAY_SLOTS {
                store(&mut self.replay[slot]);
            }
        }
    }

    /// Goes on from the weights and moments of another one that has seen a frame.
    #[cfg(all(test, feature = "cuda"))]
    pub(super) fn follow(&mut self, other: &Self) {
        let (mine, theirs) = (self.learner.as_mut(), other.learner.as_ref());
        mine.unwrap().follow(theirs.unwrap()).unwrap();
    }

    /// Stands in for training in the ablations: the calibration needs its training frames.
    fn learn_without_net(&mut self) {
        self.steps += 1;
        if self.config.networks == Networks::Off {
            let rate = (1.0 / (f64::from(self.steps) + 1.0)).max(0.005) as f32;
            for (r, p) in self.background.iter_mut().zip(&self.picture) {
                *r += rate * (p - *r);
            }
        }
    }
}

impl Cue for Appearance {
    fn kind(&self) -> CueKind {
        CueKind::Appearance
    }

    fn calibration(&self) -> CalibrationConfig {
        CalibrationConfig {
            floor: 0.05,
            mean: 0.7f64.ln(),
            deviation: 0.35,
            weight: 30.0,
            skip: 50.0,
            warm_up: 150.0,
            warm_up_seconds: 0.0,
            settled_weight: 600.0,
        }
    }

    fn calibrates_on(&self) -> CalibratesOn {
        CalibratesOn::TrainedFrames
    }

    fn look(&mut self, frame: &Frame<'_>, _: bool) {
        self.picture.clear();
        self.picture.extend(frame.colour.iter().map(|&v| to_net(v)));
        if self.config.networks == Networks::Off && self.background.is_empty() {
            self.background.clone_from(&self.picture);
        }
    }

    fn shown(&self) -> Vec<&[f32]> {
        match self.config.networks {
            Networks::Off => Vec::new(),
            _ => vec![&self.picture],
        }
    }

    fn predict(&mut self, shown: &[Tensor], device: &Device) -> Result<Vec<Tensor>> {
        let [picture] = shown else {
            candle_core::bail!("appearance is shown 1 array, not {}", shown.len());
        };
        self.learner(device)?.predict(|learner| learner.predict(picture))
    }

    fn conclude(&mut self, told: &[Vec<f32>], _: &Frame<'_>, _: bool) -> Result<Option<f64>> {
        match (told, &mut self.learner) {
            ([map, pending @ ..], Some(learner)) => {
                self.map.values.copy_from_slice(map);
                learner.settle(pending)?;
            }
            _ => self.compare()?,
        }
        Ok(Some(f64::from(self.map.peak().1)))
    }

    fn prepare(&mut self, frame: &Frame<'_>, tuning: &Tuning) -> Turn {
        if self.config.networks != Networks::Trained {
            self.learn_without_net();
            return Turn::Done;
        }
        let past = self.recall();
        self.remember(frame.colour);
        let lecture = self.lecture(past, tuning);
        self.steps += 1;
        Turn::Step(lecture)
    }

    fn lecture(&mut self, past: Vec<Vec<f32>>, tuning: &Tuning) -> Lecture {
        let features = self.learner.as_ref().map_or(0, |l| l.learner().features());
        let batch = 1 + past[0].len() / self.picture.len().max(1);
        let pace = if self.steps < FAST_STEPS { FAST_RATE } else { 1.0 };
        Lecture {
            past,
            mask: dropout_mask(&mut self.rng, tuning.dropout, batch * features),
            noise: normal(&mut self.rng, batch * self.config.latent_dim),
            weights: [1.0, tuning.kl_weight],
            learning_rate: pace * tuning.learning_rate,
            slow_rate: 0.0,
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

    fn restart(&mut self) {}

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

    fn reconstruction(&self) -> Option<(Vec<f32>, usize)> {
        let expected = match &self.learner {
            Some(learner) => learner.learner().expected()?,
            None => self.background.clone(),
        };
        let picture = expected.iter().map(|&v| from_net(v).clamp(0.0, 255.0)).collect();
        Some((picture, self.config.size.0))
    }
}
