//! Single stages of the detector for the benches; no part of the API.

use rand::{Rng as _, SeedableRng as _};

use super::cue::{appearance, motion};
use super::engine::{Engine, InferenceJob, Inputs, NetId, StateUpdate, TrainingBatch, TrainingJob};
use super::frame::{GREY_CELL, ReducedFrame, ReducedSizes, Reducer};
use super::nn::Rng;
use super::vae::{Checkpoint, TemporalLayer, VaeConfig};
use super::{ComputeDevice, ImageView, NetArch, Result, Temporal, Tuning};

#[cfg(feature = "cuda")]
pub use super::engine::cuda::bench::{
    Counters, DeviceFrames, DeviceReader, NetPair, PolledPair, Sample, allow_teams, counters,
};

/// The first stage: from a frame to its two small images.
#[derive(Debug)]
pub struct Preprocessor {
    reducer: Reducer,
    reduced: ReducedFrame,
}

impl Preprocessor {
    /// For frames of the format and size of `frame` and small images of the given widths and heights.
    pub fn new(
        frame: &ImageView<'_>,
        grey: Option<(usize, usize)>,
        colour: Option<(usize, usize)>,
    ) -> Result<Self> {
        let reducer = Reducer::new(frame, ReducedSizes { grey, colour }, [0.0; 2])?;
        Ok(Self {
            reducer,
            reduced: ReducedFrame::default(),
        })
    }

    /// Reduces one frame.
    pub fn run(&mut self, frame: &ImageView<'_>) -> Result<()> {
        self.reducer.reduce(frame, &mut self.reduced)
    }
}

/// One net alone on random inputs: a batch of two in training (motion) or of four (appearance), and of one in scoring. With
/// a temporal layer the batches are of as many clips.
#[derive(Debug)]
pub struct NetSteps {
    engine: Box<dyn Engine>,
    net: NetId,
    target: Vec<f32>,
    condition: Vec<f32>,
    batch: TrainingBatch,
    config: VaeConfig,
    rng: Rng,
}

impl NetSteps {
    /// The motion net, for grey images of 180 x `height`.
    pub fn motion(device: &ComputeDevice, height: usize, temporal: Temporal) -> Result<Self> {
        let config = motion::vae_config((180 / GREY_CELL, height / GREY_CELL));
        Self::new(device, config, temporal, 1)
    }

    /// The appearance net, for colour images of 64 x `height`.
    pub fn appearance(device: &ComputeDevice, height: usize, temporal: Temporal) -> Result<Self> {
        let config = appearance::vae_config(&NetArch::default(), 16, (64, height));
        Self::new(device, config, temporal, 3)
    }

    fn new(device: &ComputeDevice, config: VaeConfig, temporal: Temporal, replayed: usize) -> Result<Self> {
        let config = VaeConfig {
            temporal: TemporalLayer::new(temporal),
            ..config
        };
        let (previous, replayed) = (config.clip() - 1, replayed * config.clip());
        let mut rng = Rng::seed_from_u64(1);
        let mut random = |count: usize| {
            (0..count)
                .map(|_| rng.random_range(-2.0..2.0))
                .collect::<Vec<f32>>()
        };
        let (target, condition) = (random(config.target_values()), random(config.condition_values()));
        let tuning = Tuning::default();
        let batch = TrainingBatch {
            previous_target: random(previous * config.target_values()),
            previous_condition: random(previous * config.condition_values()),
            replayed_target: random(replayed * config.target_values()),
            replayed_condition: random(replayed * config.condition_values()),
            kl_weight: tuning.kl_weight,
            learning_rate: tuning.learning_rate,
            average_rate: 0.01,
            ..TrainingBatch::default()
        };
        let mut engine = device.engine();
        let net = engine.create(&config, &Checkpoint::initial(&config, 1, Some(&target))?)?;
        let mut steps = Self {
            engine,
            net,
            target,
            condition,
            batch,
            config,
            rng,
        };
        steps.score()?;
        Ok(steps)
    }

    /// One step of the optimiser. On a GPU nothing waits for it.
    pub fn train(&mut self) -> Result<()> {
        self.batch.draw(&self.config, 0.0, &mut self.rng);
        let inputs = Inputs {
            target: &self.target,
            condition: &self.condition,
        };
        self.engine.train(&[TrainingJob {
            net: self.net,
            inputs,
            batch: &self.batch,
        }])?;
        Ok(())
    }

    /// One anomaly map.
    pub fn score(&mut self) -> Result<()> {
        let inputs = Inputs {
            target: &self.target,
            condition: &self.condition,
        };
        self.engine.infer(&[InferenceJob {
            net: self.net,
            inputs,
            update: StateUpdate {
                advance: true,
                ..StateUpdate::default()
            },
        }])?;
        Ok(())
    }
}
