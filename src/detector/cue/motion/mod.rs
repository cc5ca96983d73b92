//! Motion: speed normalised by texture, on a grid, with a VAE conditioned on the scene.

mod features;
mod gain;

use rand::SeedableRng;
use serde::{Deserialize, Serialize};

use self::features::{FeaturesLearnt, MotionFeatures};
use self::gain::Gain;
use super::clip::Clip;
use super::{Batch, Cue, CueKind, CueLearnt, Sample};
use crate::detector::config::Networks;
use crate::detector::decision::{CalibrationConfig, Prior};
use crate::detector::engine::{Inputs, StateUpdate, TrainingBatch};
use crate::detector::frame::filter::box_mean;
use crate::detector::frame::{Frame, Learning, ReducedSizes};
use crate::detector::nn::Rng;
use crate::detector::store::{Array, Visitor};
use crate::detector::vae::{
    DecoderStage, EncoderStage, Latent, Replay, ReplayPolicy, ScoreMap, ScoringWeights, TemporalLayer,
    VaeConfig,
};
use crate::detector::{AnomalyMap, Config, Error, Result, Tuning};

/// Ticks of the faster start.
const FAST_TICKS: f64 = 200.0;
/// Step size at the start and later, as multiples of `Tuning::learning_rate` (3e-3 and 1e-3 by default).
const FAST_RATE: f64 = 6.0;
const RATE: f64 = 2.0;
/// Weight of the KL term as a multiple of `Tuning::kl_weight` (0.1 by default).
const KL_WEIGHT: f64 = 0.1 / 0.03;
/// Past frames kept for replay, and how many there must be before one joins a batch.
const REPLAY_SLOTS: usize = 300;
const REPLAY_AFTER: usize = 8;
/// The scoring weights follow the trained ones at least this fast.
const AVERAGE_RATE: f64 = 0.01;
/// Share of the latent divergence in the score.
const KL_SHARE: f32 = 0.2;
/// Side of the boxes, in cells, that the score is averaged over.
const BOX: usize = 3;
/// Cells by which the boxes of the inputs and of the score reach beyond a cell: those closer to a border have no whole ones.
const MARGIN: usize = 2;
/// Smaller scores count as this.
const FLOOR: f64 = 0.1;
/// Something moves in a cell with at least this score: its speed is above the typical one by the typical spread.
const ACTIVE: f32 = 1.0;

/// Channels of target and condition.
const CHANNELS: usize = 2;

/// The motion cue.
#[derive(Debug)]
struct Motion {
    networks: Networks,
    vae: VaeConfig,
    features: MotionFeatures,
    learnt: MotionLearnt,
    map: AnomalyMap,
    /// Targets, each with its condition behind it.
    clip: Clip<f32>,
    /// Seconds since the last sample was offered to the replay.
    waited: f64,
}

/// What the cue has learnt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Learnt {
    features: FeaturesLearnt,
    motion: MotionLearnt,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct MotionLearnt {
    rng: Rng,
    /// The targets of a clip, with their conditions behind them.
    replay: Replay<f32>,
    steps: u32,
    gain: Gain,
}

impl Learnt {
    /// All arrays with their names.
    pub(crate) fn arrays(&mut self, visit: &mut Visitor<'_>) -> Result<()> {
        visit("replay", Array::Floats(&mut self.motion.replay.samples))
    }
}

/// A motion cue for grey images of `sizes`.
pub(super) fn new(config: &Config, sizes: ReducedSizes) -> Option<impl Cue + use<>> {
    let features = MotionFeatures::new(sizes.grey?);
    let (width, height) = features.grid();
    let vae = VaeConfig {
        temporal: TemporalLayer::new(config.temporal),
        ..vae_config(features.grid())
    };
    Some(Motion {
        networks: config.networks,
        clip: Clip::new(vae.clip()),
        features,
        learnt: MotionLearnt {
            rng: Rng::seed_from_u64(config.seed ^ 0x6d6f_7469_6f6e),
            replay: Replay::new(ReplayPolicy::RandomReplacement, REPLAY_SLOTS / vae.clip()),
            steps: 0,
            gain: Gain::default(),
        },
        vae,
        map: AnomalyMap::new(width, height),
        waited: 0.0,
    })
}

/// The conditional VAE over the grid of `(width, height)` cells: which speeds are usual in a scene like this? 13,650
/// weights.
pub(crate) fn vae_config((width, height): (usize, usize)) -> VaeConfig {
    let encode = |filters, stride| EncoderStage {
        filters,
        kernel: 3,
        stride,
    };
    let decode = |filters, upsample, conditioned| DecoderStage {
        filters,
        kernel: 3,
        upsample,
        conditioned,
    };
    VaeConfig {
        size: [height, width],
        channels: CHANNELS,
        condition: CHANNELS,
        encoder: vec![encode(16, 1), encode(24, 2), encode(24, 1)],
        temporal: None,
        latent: Latent::Map(4),
        log_var_range: [-8.0, 3.0],
        initial_log_var: -2.0,
        decoder: vec![decode(16, 2, true), decode(CHANNELS, 1, false)],
        zero_output: true,
        base_image: false,
        residual_scale: 1.0,
        // A sum over the channels.
        reconstruction_weight: CHANNELS as f64,
        scoring_weights: ScoringWeights::MovingAverage,
        score_map: ScoreMap::Level { kl_share: KL_SHARE },
        score_box: BOX,
    }
}

/// The clip that ends with the last frame, as the replay keeps it.
fn clip_sample(clip: &Clip<f32>, features: &MotionFeatures) -> Vec<f32> {
    let target = features.targets();
    let current = [target, features.conditions()].concat();
    separate(clip.images(&current), target.len()).concat()
}

/// Targets and conditions of images of `target_values` and their condition each.
fn separate<'a>(images: impl Iterator<Item = &'a [f32]>, target_values: usize) -> [Vec<f32>; 2] {
    let mut parts = [Vec::new(), Vec::new()];
    for image in images {
        let (target, condition) = image.split_at(target_values.min(image.len()));
        parts[0].extend_from_slice(target);
        parts[1].extend_from_slice(condition);
    }
    parts
}

impl Motion {
    /// The largest cell of the target alone, which stays in the map.
    fn target_score(&mut self, frame: &Frame<'_>) -> f64 {
        let cells: Vec<f32> = self
            .features
            .targets()
            .chunks_exact(CHANNELS)
            .map(|p| 0.5 * (p[0] + p[1]))
            .collect();
        box_mean(
            &cells,
            self.features.grid(),
            BOX,
            &mut Vec::new(),
            &mut self.map.values,
        );
        self.complete_map(frame);
        f64::from(self.map.peak().1)
    }

    /// Only whole boxes of what is not ignored have a score.
    fn complete_map(&mut self, frame: &Frame<'_>) {
        let unscored = frame.ignored.map_or(&[][..], |ignored| &ignored.cells_unscored);
        self.map.exclude(unscored);
        self.map.fill_border(MARGIN);
        self.map.exclude(unscored);
    }
}

impl Cue for Motion {
    fn kind(&self) -> CueKind {
        CueKind::Motion
    }

    fn calibration(&self) -> CalibrationConfig {
        CalibrationConfig {
            floor: FLOOR,
            prior: Some(Prior {
                median: 2.4f64.ln(),
                deviation: 0.15,
                weight: 100.0,
            }),
            least_spread: 0.1,
            offset: 0.0,
            warm_up: 8.0,
        }
    }

    fn net(&self) -> Option<VaeConfig> {
        (self.networks != Networks::Off).then(|| self.vae.clone())
    }

    fn features(&mut self, frame: &Frame<'_>, learning: Learning) {
        self.waited += frame.step.seconds;
        let features = &self.features;
        self.clip
            .keep_previous(|| [features.targets(), features.conditions()].concat());
        self.features.observe(frame, learning);
        if self.features.is_valid() {
            self.clip.follow(frame.step);
        }
    }

    fn inputs(&self) -> Option<Inputs<'_>> {
        self.features.is_valid().then(|| Inputs {
            target: self.features.targets(),
            condition: self.features.conditions(),
        })
    }

    fn state_update(&self) -> StateUpdate {
        self.clip.update()
    }

    /// Half of target and prediction each, and the latent divergence, without the net's [`Gain`].
    fn score(&mut self, map: Option<Vec<f32>>, frame: &Frame<'_>, learning: Learning) -> Option<f64> {
        if !self.features.is_valid() {
            return None;
        }
        let input = self.target_score(frame);
        let Some(map) = map else { return Some(input) };
        self.map.values = map;
        self.complete_map(frame);
        let output = f64::from(self.map.peak().1);
        let gain = &mut self.learnt.gain;
        if learning.on {
            gain.observe(input.max(FLOOR), output.max(FLOOR), frame.step.ticks);
        }
        let factor = gain.factor();
        for value in &mut self.map.values {
            *value = (f64::from(*value) / factor) as f32;
        }
        Some(output / factor)
    }

    fn batch(&mut self, _: &Frame<'_>, tuning: &Tuning) -> Option<Batch> {
        let has_clip = self.networks != Networks::Trained || self.clip.is_complete();
        if !(self.features.is_valid() && has_clip) {
            return None;
        }
        let MotionLearnt {
            rng, replay, steps, ..
        } = &mut self.learnt;
        *steps = steps.saturating_add(1);
        if self.networks != Networks::Trained {
            return Some(Batch::Statistics);
        }
        let target = self.features.targets();
        let (replayed_target, replayed_condition) = match replay.len() > REPLAY_AFTER {
            true => {
                let replayed = replay.draw(rng).unwrap_or_default();
                replayed.split_at((self.clip.len() * target.len()).min(replayed.len()))
            }
            false => Default::default(),
        };
        let (replayed_target, replayed_condition) = (replayed_target.to_vec(), replayed_condition.to_vec());
        if self.clip.is_offered() {
            let waited = std::mem::take(&mut self.waited);
            let (clip, features) = (&self.clip, &self.features);
            replay.offer(rng, (waited, tuning.memory_seconds()), || {
                clip_sample(clip, features)
            });
        }
        let [previous_target, previous_condition] = separate(self.clip.previous(), target.len());
        let rate = match self.features.ticks() < FAST_TICKS {
            true => FAST_RATE,
            false => RATE,
        };
        let mut batch = TrainingBatch {
            previous_target,
            previous_condition,
            replayed_target,
            replayed_condition,
            kl_weight: KL_WEIGHT * tuning.kl_weight,
            learning_rate: rate * tuning.learning_rate,
            average_rate: AVERAGE_RATE.max(1.0 / (f64::from(*steps) + 1.0)),
            ..TrainingBatch::default()
        };
        batch.draw(&self.vae, tuning.dropout, rng);
        Some(Batch::Step(batch))
    }

    fn steps(&self) -> u32 {
        self.learnt.steps
    }

    fn map(&self) -> &AnomalyMap {
        &self.map
    }

    fn map_mut(&mut self) -> &mut AnomalyMap {
        &mut self.map
    }

    /// Differences show a thing where it is and where it was.
    fn looks_back(&self) -> bool {
        true
    }

    fn active_from(&self) -> Option<f32> {
        Some(ACTIVE)
    }

    fn sample(&self, _: &Frame<'_>) -> Sample {
        Sample::Floats(clip_sample(&self.clip, &self.features).into())
    }

    fn admit(&mut self, sample: &Sample) {
        if let Sample::Floats(values) = sample {
            self.learnt.replay.admit(&mut self.learnt.rng, values);
        }
    }

    fn restart(&mut self) {
        self.features.restart();
        self.clip.restart();
        self.waited = 0.0;
    }

    fn learnt(&self) -> CueLearnt {
        CueLearnt::Motion(Learnt {
            features: self.features.learnt().clone(),
            motion: self.learnt.clone(),
        })
    }

    fn restore(&mut self, learnt: CueLearnt) -> Result<()> {
        let CueLearnt::Motion(Learnt { features, motion }) = learnt else {
            return Err(Error::Learnt("the motion cue's is missing".to_owned()));
        };
        let values = self.clip.len() * (self.vae.target_values() + self.vae.condition_values());
        self.learnt.replay.restore(motion.replay, values)?;
        self.learnt.rng = motion.rng;
        self.learnt.steps = motion.steps;
        self.learnt.gain = motion.gain;
        self.features.restore(features)
    }
}
