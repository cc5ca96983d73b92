//! Enumerations and flags of the properties.

use gst::glib;

use crate::detector;

/// How the threshold on the raw score is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVaeAnomalyThresholdMode")]
#[non_exhaustive]
pub enum ThresholdMode {
    /// `threshold` on the fused, calibrated score.
    #[default]
    #[enum_value(
        name = "Calibrated: 'threshold' deviations of the camera's own history",
        nick = "calibrated"
    )]
    Calibrated,
    /// The classic rule.
    #[enum_value(
        name = "Sigma: moving average + 'sigma' deviations of the raw score over 'window'",
        nick = "sigma"
    )]
    Sigma,
    /// Extreme value theory.
    #[enum_value(
        name = "EVT: streaming peaks over threshold at 'false-alarm-rate'",
        nick = "evt"
    )]
    Evt,
    /// A running quantile.
    #[enum_value(
        name = "Quantile: running quantile at 1 - 'false-alarm-rate'",
        nick = "quantile"
    )]
    Quantile,
}

impl From<ThresholdMode> for detector::ThresholdMode {
    fn from(mode: ThresholdMode) -> Self {
        match mode {
            ThresholdMode::Calibrated => Self::Calibrated,
            ThresholdMode::Sigma => Self::Sigma,
            ThresholdMode::Evt => Self::Evt,
            ThresholdMode::Quantile => Self::Quantile,
        }
    }
}

/// Where the element is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVaeAnomalyState")]
#[non_exhaustive]
pub enum State {
    /// Learning; nothing is dropped.
    #[default]
    #[enum_value(
        name = "Warming up: learning, the score is not yet meaningful",
        nick = "warming-up"
    )]
    WarmingUp,
    /// Scoring; nothing is dropped.
    #[enum_value(
        name = "Calibrating: scoring, the threshold is not yet trusted",
        nick = "calibrating"
    )]
    Calibrating,
    /// Labels are given.
    #[enum_value(name = "Detecting: labels are given", nick = "detecting")]
    Detecting,
    /// After a change of scene; nothing is dropped.
    #[enum_value(name = "Adapting: learning a changed scene, no labels", nick = "adapting")]
    Adapting,
    /// Learning is off; labels are given.
    #[enum_value(name = "Frozen: labels are given, nothing is learnt", nick = "frozen")]
    Frozen,
}

impl From<detector::State> for State {
    fn from(state: detector::State) -> Self {
        match state {
            detector::State::WarmingUp => Self::WarmingUp,
            detector::State::Calibrating => Self::Calibrating,
            detector::State::Detecting => Self::Detecting,
            detector::State::Adapting => Self::Adapting,
            detector::State::Frozen => Self::Frozen,
        }
    }
}

/// Which element messages are posted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVaeAnomalyPostMessages")]
#[non_exhaustive]
pub enum PostMessages {
    /// None.
    #[enum_value(name = "None", nick = "none")]
    None,
    /// Begin, update and end of anomalies, changes of state and scene.
    #[default]
    #[enum_value(name = "Events: anomalies, changes of state and scene", nick = "events")]
    Events,
    /// The events and one message a frame.
    #[enum_value(name = "All: the events and one message a frame", nick = "all")]
    All,
}

pub use flags::Cues;

mod flags {
    #![allow(missing_docs, reason = "glib::flags makes undocumented items")]

    use gst::glib;

    /// Which cues are computed, trained and fused.
    #[glib::flags(name = "GstVaeAnomalyCues")]
    pub enum Cues {
        /// Things that do not belong where they are.
        #[flags_value(name = "Appearance: things that do not belong there", nick = "appearance")]
        APPEARANCE = 1 << 0,
        /// Things that move unusually.
        #[flags_value(name = "Motion: unusual speed", nick = "motion")]
        MOTION = 1 << 1,
    }
}
