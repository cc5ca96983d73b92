//! Appearance: a VAE over the whole small image. A strong KL term lets only one or two nats pass the bottleneck: enough to
//! encode the scene's mode (lamp on, night vision), too little to reconstruct an anomaly.

use rand::SeedableRng;
use serde::{Deserialize, Serialize};

use super::clip::Clip;
use super::{Batch, Cue, CueKind, CueLearnt, Sample};
use crate::detector::config::Networks;
use crate::detector::decision::CalibrationConfig;
use crate::detector::engine::{Inputs, StateUpdate, TrainingBatch};
use crate::detector::frame::{Frame, Learning, ReducedSizes};
use crate::detector::nn::Rng;
use crate::detector::store::{Array, Visitor, check_len};
use crate::detector::vae::{
    DecoderStage, EncoderStage, Latent, Replay, ReplayPolicy, ScoreMap, ScoringWeights, TemporalLayer,
    VaeConfig,
};
use crate::detector::{AnomalyMap, Config, Error, NetArch, Result, Tuning};

/// Steps of the faster start, and its step size as a multiple of `Tuning::learning_rate`.
const FAST_STEPS: u32 = 1000;
const FAST_RATE: f64 = 2.0;
/// Scale of the residuals' distribution: inputs are -2..2.
const RESIDUAL_SCALE: f64 = 0.2;
/// Past images kept for replay, how many there must be before they join a batch, and how many join one.
const REPLAY_SLOTS: usize = 2000;
const REPLAY_AFTER: usize = 4;
const REPLAY_DRAWS: usize = 3;
/// Colour channels.
const CHANNELS: usize = 3;
/// Side of the boxes, in pixels, that the squared error is averaged over.
const BOX: usize = 5;
/// Pixels by which a box reaches beyond its centre: those closer to a border have no whole ones.
const MARGIN: usize = 2;

/// The appearance cue.
#[derive(Debug)]
struct Appearance {
    networks: Networks,
    vae: VaeConfig,
    learnt: Learnt,
    /// Seconds since the last sample was offered to the replay.
    waited: f64,
    /// The last frame as the net's input.
    input: Vec<f32>,
    clip: Clip<u8>,
    map: AnomalyMap,
}

/// What the cue has learnt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Learnt {
    rng: Rng,
    /// Clips of Y, Cr, Cb images, 8 bits a value.
    replay: Replay<u8>,
    steps: u32,
    /// Running mean of the input, instead of a prediction where there is no net.
    #[serde(skip)]
    background: Vec<f32>,
}

impl Learnt {
    /// All arrays with their names.
    pub(crate) fn arrays(&mut self, visit: &mut Visitor<'_>) -> Result<()> {
        visit("replay", Array::Bytes(&mut self.replay.samples))?;
        visit("mean-input", Array::F32(&mut self.background))
    }
}

/// An appearance cue for colour images of `sizes`.
pub(super) fn new(config: &Config, sizes: ReducedSizes) -> Option<impl Cue + use<>> {
    let (width, height) = sizes.colour?;
    let vae = VaeConfig {
        temporal: TemporalLayer::new(config.temporal),
        ..vae_config(&config.net_arch, config.latent_dim, (width, height))
    };
    Some(Appearance {
        networks: config.networks,
        clip: Clip::new(vae.clip()),
        learnt: Learnt {
            rng: Rng::seed_from_u64(config.seed ^ 0x0061_7070_6561_7261),
            replay: Replay::new(ReplayPolicy::Reservoir, REPLAY_SLOTS / vae.clip()),
            steps: 0,
            background: Vec::new(),
        },
        vae,
        waited: 0.0,
        input: Vec::new(),
        map: AnomalyMap::new(width, height),
    })
}

/// The VAE over images of `(width, height)` pixels: what should the scene look like now? 76,115 weights with the default
/// architecture on 64x32 pixels.
pub(crate) fn vae_config(arch: &NetArch, latent_dim: usize, (width, height): (usize, usize)) -> VaeConfig {
    let stages = arch.stages();
    let encoder = stages.iter().map(|stage| EncoderStage {
        filters: stage.filters,
        kernel: stage.kernel,
        stride: stage.pooling,
    });
    let decoder = stages.iter().enumerate().rev().map(|(i, stage)| DecoderStage {
        filters: if i == 0 { CHANNELS } else { stages[i - 1].filters },
        kernel: stage.kernel,
        upsample: stage.pooling,
        conditioned: false,
    });
    VaeConfig {
        size: [height, width],
        channels: CHANNELS,
        condition: 0,
        encoder: encoder.collect(),
        temporal: None,
        latent: Latent::Flat(latent_dim),
        log_var_range: [-10.0, 3.0],
        initial_log_var: -4.0,
        decoder: decoder.collect(),
        zero_output: false,
        base_image: true,
        residual_scale: RESIDUAL_SCALE,
        reconstruction_weight: 1.0,
        scoring_weights: ScoringWeights::Trained,
        score_map: ScoreMap::SquaredError,
        score_box: BOX,
    }
}

/// 0..255 to the net's -2..2.
fn to_input(value: f32) -> f32 {
    value * (4.0 / 255.0) - 2.0
}

/// 0..255 in 8 bits.
fn to_byte(value: f32) -> u8 {
    value.round() as u8
}

/// The net's -2..2 to 0..255.
fn from_input(value: f32) -> f32 {
    (value + 2.0) * (255.0 / 4.0)
}

impl Appearance {
    /// Stands in for training in the ablations.
    fn update_background(&mut self) {
        let Learnt {
            background, steps, ..
        } = &mut self.learnt;
        let rate = (1.0 / (f64::from(*steps) + 1.0)).max(0.005) as f32;
        for (b, x) in background.iter_mut().zip(&self.input) {
            *b += rate * (x - *b);
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
            prior: None,
            least_spread: 0.4,
            offset: 0.6,
            warm_up: 8.0,
        }
    }

    fn depends_on_light(&self) -> bool {
        true
    }

    fn net(&self) -> Option<VaeConfig> {
        (self.networks != Networks::Off).then(|| self.vae.clone())
    }

    fn base_image(&self) -> Option<&[f32]> {
        Some(&self.input)
    }

    fn features(&mut self, frame: &Frame<'_>, _: Learning) {
        self.waited += frame.step.seconds;
        let previous = || self.input.iter().map(|&v| to_byte(from_input(v))).collect();
        self.clip.keep_previous(previous);
        self.clip.follow(frame.step);
        self.input.clear();
        self.input.extend(frame.colour.iter().map(|&v| to_input(v)));
        if self.networks == Networks::Off && self.learnt.background.is_empty() {
            self.learnt.background.clone_from(&self.input);
        }
    }

    fn inputs(&self) -> Option<Inputs<'_>> {
        Some(Inputs {
            target: &self.input,
            condition: &[],
        })
    }

    fn state_update(&self) -> StateUpdate {
        self.clip.update()
    }

    fn score(&mut self, map: Option<Vec<f32>>, frame: &Frame<'_>, _: Learning) -> Option<f64> {
        let without_net = || self.vae.anomaly_map(&self.input, &self.learnt.background, &[]);
        self.map.values = map.unwrap_or_else(without_net);
        // Only whole boxes of what is not ignored have a score.
        let unscored = frame.ignored.map_or(&[][..], |ignored| &ignored.pixels_unscored);
        self.map.exclude(unscored);
        self.map.fill_border(MARGIN);
        self.map.exclude(unscored);
        Some(f64::from(self.map.peak().1))
    }

    fn batch(&mut self, frame: &Frame<'_>, tuning: &Tuning) -> Option<Batch> {
        if self.networks == Networks::Trained && !self.clip.is_complete() {
            return None;
        }
        self.learnt.steps = self.learnt.steps.saturating_add(1);
        if self.networks != Networks::Trained {
            if self.networks == Networks::Off {
                self.update_background();
            }
            return Some(Batch::Statistics);
        }
        let Learnt {
            rng, replay, steps, ..
        } = &mut self.learnt;
        let mut replayed = Vec::new();
        if replay.len() > REPLAY_AFTER {
            for _ in 0..REPLAY_DRAWS {
                let past = replay.draw(rng).unwrap_or_default();
                let from = replayed.len();
                replayed.extend(past.iter().map(|&v| to_input(f32::from(v))));
                if let Some(ignored) = frame.ignored {
                    for image in replayed[from..].chunks_exact_mut(self.vae.target_values()) {
                        ignored.blank_colour(image, to_input(128.0));
                    }
                }
            }
        }
        if self.clip.is_offered() {
            let waited = std::mem::take(&mut self.waited);
            let colour: Vec<u8> = frame.colour.iter().map(|&v| to_byte(v)).collect();
            let clip = self.clip.images(&colour);
            replay.offer(rng, (waited, tuning.memory_seconds()), || {
                clip.flatten().copied().collect()
            });
        }
        let rate = if *steps <= FAST_STEPS { FAST_RATE } else { 1.0 };
        let mut batch = TrainingBatch {
            previous_target: self
                .clip
                .previous()
                .flatten()
                .map(|&v| to_input(f32::from(v)))
                .collect(),
            replayed_target: replayed,
            kl_weight: tuning.kl_weight,
            learning_rate: rate * tuning.learning_rate,
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

    fn sample(&self, frame: &Frame<'_>) -> Sample {
        let colour: Vec<u8> = frame.colour.iter().map(|&v| to_byte(v)).collect();
        Sample::Bytes(self.clip.images(&colour).flatten().copied().collect())
    }

    fn admit(&mut self, sample: &Sample) {
        if let Sample::Bytes(image) = sample {
            self.learnt.replay.admit(&mut self.learnt.rng, image);
        }
    }

    fn restart(&mut self) {
        self.waited = 0.0;
        self.clip.restart();
    }

    fn expected_image(&self, prediction: Option<Vec<f32>>) -> Option<Vec<f32>> {
        let mut image = match (self.networks, prediction) {
            (Networks::Off, _) => self.learnt.background.clone(),
            (_, prediction) => prediction?,
        };
        for value in &mut image {
            *value = from_input(*value).clamp(0.0, 255.0);
        }
        Some(image)
    }

    fn learnt(&self) -> CueLearnt {
        CueLearnt::Appearance(self.learnt.clone())
    }

    fn restore(&mut self, learnt: CueLearnt) -> Result<()> {
        let CueLearnt::Appearance(learnt) = learnt else {
            return Err(Error::Learnt("the appearance cue's is missing".to_owned()));
        };
        let values = self.vae.target_values();
        if !learnt.background.is_empty() {
            check_len("appearance.mean-input", learnt.background.len(), values)?;
        }
        self.learnt
            .replay
            .restore(learnt.replay, self.clip.len() * values)?;
        self.learnt.rng = learnt.rng;
        self.learnt.steps = learnt.steps;
        self.learnt.background = learnt.background;
        Ok(())
    }
}
