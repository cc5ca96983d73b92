//! What can be set: [`Config`] when a detector is made, [`Tuning`] while it runs.

use std::time::Duration;

use super::frame::Learning;
use super::names::names;
use super::{CueKind, Error, NetArch, Result};

/// Use of the nets; anything but `Trained` is for ablations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Networks {
    /// Trained online.
    #[default]
    Trained,
    /// Left as they were initialised; the statistics still learn.
    FrozenAtRandom,
    /// Not used: statistics of the input alone.
    Off,
}

/// Recurrent layer between encoder and latent layers of the nets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Temporal {
    /// None: every frame is encoded by itself.
    #[default]
    None,
    /// A convolutional LSTM (Shi et al., *Convolutional LSTM Network*, NIPS 2015), whose state is carried along the
    /// stream.
    ConvLstm,
}

names!(Temporal, "temporal": None = "none", ConvLstm = "conv-lstm");

/// Fixed when a detector is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Cues in use, at least one.
    pub cues: Vec<CueKind>,
    /// The appearance encoder.
    pub net_arch: NetArch,
    /// Latent size of the appearance net, 1..=512.
    pub latent_dim: usize,
    /// Width of the appearance image in pixels, 16..=256; the height follows the aspect.
    pub model_width: usize,
    /// Recurrent layer of the nets.
    pub temporal: Temporal,
    /// Seed of weights, noise and replay.
    pub seed: u64,
    /// Frames before the state `calibrating` ends; 0 = as long as the statistics need.
    pub warm_up: u32,
    /// Use of the nets.
    pub networks: Networks,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cues: CueKind::ALL.to_vec(),
            net_arch: NetArch::default(),
            latent_dim: 16,
            model_width: 64,
            temporal: Temporal::None,
            seed: 0,
            warm_up: 0,
            networks: Networks::Trained,
        }
    }
}

impl Config {
    /// Largest [`Config::latent_dim`].
    pub const MAX_LATENT_DIM: usize = 512;
    /// Smallest and largest [`Config::model_width`].
    pub const MODEL_WIDTH: std::ops::RangeInclusive<usize> = 16..=256;

    /// Checks all settings.
    ///
    /// # Errors
    /// [`Error::Setting`] with the name, the value and the allowed range.
    pub fn validate(&self) -> Result<()> {
        if self.cues.is_empty() {
            let names: Vec<_> = CueKind::ALL.iter().map(|kind| kind.as_str()).collect();
            let allowed = format!("one or more of {}", names.join(", "));
            return Err(Error::setting("cues", allowed, "none"));
        }
        if !(1..=Self::MAX_LATENT_DIM).contains(&self.latent_dim) {
            let allowed = format!("1..={}", Self::MAX_LATENT_DIM);
            return Err(Error::setting("latent-dim", allowed, self.latent_dim));
        }
        if !Self::MODEL_WIDTH.contains(&self.model_width) {
            let (low, high) = (Self::MODEL_WIDTH.start(), Self::MODEL_WIDTH.end());
            return Err(Error::setting(
                "model-width",
                format!("{low}..={high}"),
                self.model_width,
            ));
        }
        self.net_arch.check_width(self.model_width)
    }
}

/// How the threshold on the raw score is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ThresholdMode {
    /// [`Tuning::threshold`] itself: the raw score is calibrated already.
    #[default]
    Calibrated,
    /// Mean and deviations of the raw score over [`Tuning::window`].
    Sigma,
    /// Extreme value theory: streaming peaks over threshold.
    Evt,
    /// A quantile of the raw score over [`Tuning::window`].
    Quantile,
}

names!(ThresholdMode, "threshold-mode":
    Calibrated = "calibrated",
    Sigma = "sigma",
    Evt = "evt",
    Quantile = "quantile",
);

/// Whether the small images are aligned with the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Stabilise {
    /// Never.
    Off,
    /// While the camera shakes.
    #[default]
    Auto,
}

names!(Stabilise, "stabilise": Off = "off", Auto = "auto");

/// Can be changed between any two frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// Train and update the statistics; false freezes both.
    pub learn: bool,
    /// Let the nets train; false freezes the weights while the statistics continue to learn.
    pub train: bool,
    /// Step size of the appearance net once warmed up; the motion net takes twice as much.
    pub learning_rate: f64,
    /// One training step every n-th frame once warmed up.
    pub train_interval: u32,
    /// Weight of the KL term of the appearance net; the motion net's keeps its ratio.
    pub kl_weight: f64,
    /// How long it takes until a static change counts as normal; 0 = never.
    pub absorb_after: Duration,
    /// Whether the small images are aligned before anything looks at them.
    pub stabilise: Stabilise,
    /// Share of the encoder's features that is zeroed in training, 0..=0.9.
    pub dropout: f64,
    /// How the threshold is computed.
    pub threshold_mode: ThresholdMode,
    /// Mode `Calibrated`: the threshold on the raw score.
    pub threshold: f64,
    /// Mode `Sigma`: deviations above the mean.
    pub sigma: f64,
    /// Modes `Evt` and `Quantile`: share of normal frames that may be flagged.
    pub false_alarm_rate: f64,
    /// Modes `Sigma`, `Evt` and `Quantile`: length of the sliding window in frames.
    pub window: u32,
    /// How far back replay, background, running scales and calibration reach, at least a second. Each has a shorter
    /// reach of its own by default, but for the appearance net's replay, which reaches back to the first frame.
    pub memory: Duration,
}

impl Tuning {
    pub(crate) fn learning(&self) -> Learning {
        Learning {
            on: self.learn,
            memory: self.memory_seconds(),
        }
    }

    /// [`Tuning::absorb_after`] in seconds; `None` = never.
    pub(crate) fn absorb_after(&self) -> Option<f64> {
        (!self.absorb_after.is_zero()).then(|| self.absorb_after.as_secs_f64().max(1.0))
    }

    /// [`Tuning::memory`] in seconds.
    pub(crate) fn memory_seconds(&self) -> f64 {
        self.memory.as_secs_f64().max(1.0)
    }
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            learn: true,
            train: true,
            learning_rate: 5e-4,
            train_interval: 5,
            kl_weight: 0.03,
            stabilise: Stabilise::Auto,
            dropout: 0.0,
            threshold_mode: ThresholdMode::Calibrated,
            threshold: 1.75,
            sigma: 5.0,
            false_alarm_rate: 0.01,
            window: 300,
            memory: Duration::from_secs(7 * 24 * 3600),
            absorb_after: Duration::from_secs(60),
        }
    }
}
