//! Appearance: a VAE over the whole small picture. A strong KL term lets one or two nats through, enough
//! to select the scene's mode (lamp, night vision), not enough to draw the anomaly.

mod learner;
mod net;

use candle_core::{Device, Tensor};
use rand::{Rng as _, SeedableRng};

use self::learner::{AppearanceLearner, Lecture};
use super::placed::Placed;
use super::{CalibratesOn, Cue, CueKind, Frame, Lesson};
use crate::detector::calibration::CalibrationConfig;
use crate::detector::config::Networks;
use crate::detector::filter::box_mean;
use crate::detector::nn::Rng;
use crate::detector::vae::{dropout_mask, normal};
use crate::detector::{AnomalyMap, NetArch, Result, Tuning};

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

/// What the appearance cue is made from.
#[derive(Clone, Debug)]
pub(crate) struct AppearanceConfig {
    pub(crate) arch: NetArch,
    pub(crate) latent_dim: usize,
    /// Width and height, multiples of the encoder's reduction.
    pub(crate) size: (usize, usize),
    pub(crate) networks: Networks,
    pub(crate) seed: u64,
    pub(crate) device: Device,
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
    reconstruction: Vec<f32>,
    errors: Vec<f32>,
    sums: Vec<f32>,
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
            reconstruction: Vec::new(),
            errors: Vec::new(),
            sums: Vec::new(),
            map: AnomalyMap::new(width, height),
        }
    }

    /// On the CPU.
    ///
    /// # Shapes
    /// `[B, H, W, 3]`
    fn tensor(&self, values: Vec<f32>) -> candle_core::Result<Tensor> {
        let (width, height) = self.config.size;
        let batch = values.len() / (width * height * CHANNELS);
        Tensor::from_vec(values, (batch, height, width, CHANNELS), &Device::Cpu)
    }

    fn learner(&mut self) -> Result<&mut Placed<AppearanceLearner>> {
        let learner = match self.learner.take() {
            Some(learner) => learner,
            None => {
                // The plan outlives the time on a GPU and is not to hold it.
                let config = AppearanceConfig {
                    device: Device::Cpu,
                    ..self.config.clone()
                };
                Placed::new((config, self.picture.clone()), &self.config.device)?
            }
        };
        Ok(self.learner.insert(learner))
    }

    /// What should be there: the net's reconstruction from the posterior mean.
    fn reconstruct(&mut self) -> Result<()> {
        if self.config.networks == Networks::Off {
            if self.reconstruction.is_empty() {
                self.reconstruction.clone_from(&self.picture);
            }
            return Ok(());
        }
        let x = self.tensor(self.picture.clone())?;
        self.reconstruction = self.predict(&x)?;
        Ok(())
    }

    /// The net's reconstruction from the posterior mean.
    pub(in crate::detector) fn predict(&mut self, x: &Tensor) -> Result<Vec<f32>> {
        let learner = self.learner()?;
        Ok(learner.run(|learner, device| learner.predict(&x.to_device(device)?))?)
    }

    /// The current picture and some from the replay, once that holds enough.
    fn batch(&mut self) -> Result<Tensor> {
        let mut values = self.picture.clone();
        if self.replay.len() > REPLAY_AFTER {
            for _ in 0..REPLAY_DRAWS {
                let past = &self.replay[self.rng.random_range(0..self.replay.len())];
                values.extend(past.iter().map(|&p| to_net(f32::from(p))));
            }
        }
        Ok(self.tensor(values)?)
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
        let other = other.learner.as_ref().expect("it has seen a frame");
        self.learner().unwrap().follow(other).unwrap();
    }

    /// One step of the optimiser.
    pub(in crate::detector) fn step(&mut self, x: &Tensor, tuning: &Tuning) -> Result<Lesson> {
        let batch = x.dim(0)?;
        let features = self.learner()?.learner().features();
        let latent = self.config.latent_dim;
        let mask = dropout_mask(&mut self.rng, tuning.dropout, &[batch, features], &Device::Cpu)?;
        let noise = normal(&mut self.rng, &[batch, latent], &Device::Cpu)?;
        let pace = if self.steps < FAST_STEPS { FAST_RATE } else { 1.0 };
        let lecture = Lecture {
            pictures: x,
            mask: mask.as_ref(),
            noise: &noise,
            kl_weight: tuning.kl_weight,
            learning_rate: pace * tuning.learning_rate,
        };
        let report = self
            .learner()?
            .train(|learner, device| learner.step(&lecture, device))?;
        self.steps += 1;
        Ok(report.into())
    }

    /// Stands in for training in the ablations: the calibration needs its training frames.
    fn learn_without_net(&mut self) -> Lesson {
        self.steps += 1;
        if self.config.networks == Networks::Off {
            let rate = (1.0 / (f64::from(self.steps) + 1.0)).max(0.005) as f32;
            for (r, p) in self.reconstruction.iter_mut().zip(&self.picture) {
                *r += rate * (p - *r);
            }
        }
        Lesson::default()
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

    fn score(&mut self, frame: &Frame<'_>, _learn: bool) -> Result<Option<f64>> {
        self.picture.clear();
        self.picture.extend(frame.colour.iter().map(|&v| to_net(v)));
        self.reconstruct()?;
        self.errors.clear();
        let pixels = self
            .picture
            .chunks_exact(CHANNELS)
            .zip(self.reconstruction.chunks_exact(CHANNELS));
        self.errors
            .extend(pixels.map(|(x, r)| x.iter().zip(r).map(|(x, r)| (x - r).powi(2)).sum::<f32>()));
        box_mean(
            &self.errors,
            self.config.size,
            5,
            &mut self.sums,
            &mut self.map.values,
        );
        Ok(Some(f64::from(self.map.peak().1)))
    }

    fn learn(&mut self, frame: &Frame<'_>, tuning: &Tuning) -> Result<Option<Lesson>> {
        if self.config.networks != Networks::Trained {
            return Ok(Some(self.learn_without_net()));
        }
        let x = self.batch()?;
        self.remember(frame.colour);
        self.step(&x, tuning).map(Some)
    }

    fn lessons(&self) -> u32 {
        self.steps
    }

    fn map(&self) -> &AnomalyMap {
        &self.map
    }

    fn restart(&mut self) {}

    fn take_failure(&mut self) -> Option<String> {
        self.learner.as_mut().and_then(Placed::take_failure)
    }

    #[cfg(test)]
    fn inject(&mut self, fault: super::Fault) {
        self.learner().unwrap().inject(fault).unwrap();
    }

    fn leave_gpu(&mut self) -> Result<()> {
        self.config.device = Device::Cpu;
        match &mut self.learner {
            Some(learner) => Ok(learner.leave()?),
            None => Ok(()),
        }
    }

    fn reconstruction(&self) -> Option<(Vec<f32>, usize)> {
        let picture = self
            .reconstruction
            .iter()
            .map(|&v| from_net(v).clamp(0.0, 255.0))
            .collect();
        Some((picture, self.config.size.0))
    }
}
