//! Enumerations and flags of the properties. Their nicks are the core's names.

use gst::glib;

use crate::detector::{self, CueKind};
use crate::gstutil::same_variants;

/// How the threshold on the raw score is determined.
///
/// Since: 0.1
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVaeAnomalyThresholdMode")]
#[non_exhaustive]
pub enum ThresholdMode {
    /// `threshold` on the fused, calibrated score.
    #[default]
    #[enum_value(
        name = "Calibrated: 'threshold' units above the camera's own history",
        nick = "calibrated"
    )]
    Calibrated,
    /// Moving average plus `sigma` standard deviations.
    #[enum_value(
        name = "Sigma: moving average plus 'sigma' standard deviations of the raw score over 'window'",
        nick = "sigma"
    )]
    Sigma,
    /// Extreme value theory.
    #[enum_value(
        name = "EVT: streaming peaks over threshold at 'false-alarm-rate'",
        nick = "evt"
    )]
    Evt,
    /// Running quantile.
    #[enum_value(
        name = "Quantile: running quantile at 1 - 'false-alarm-rate'",
        nick = "quantile"
    )]
    Quantile,
}

same_variants!(ThresholdMode, detector::ThresholdMode: Calibrated, Sigma, Evt, Quantile);

/// Whether the small images are aligned with the background before they are compared.
///
/// Since: 0.1
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVaeAnomalyStabilise")]
#[non_exhaustive]
pub enum Stabilise {
    /// Never.
    #[enum_value(name = "Off: never", nick = "off")]
    Off,
    /// While the camera shakes.
    #[default]
    #[enum_value(name = "Auto: while the camera shakes", nick = "auto")]
    Auto,
}

same_variants!(Stabilise, detector::Stabilise: Off, Auto);

/// Recurrent layer of the models.
///
/// Since: 0.1
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVaeAnomalyTemporal")]
#[non_exhaustive]
pub enum Temporal {
    /// Every frame is encoded by itself.
    #[default]
    #[enum_value(name = "None: every frame is encoded by itself", nick = "none")]
    None,
    /// A convolutional LSTM, whose state is carried along the stream.
    #[enum_value(
        name = "ConvLSTM: a convolutional LSTM, whose state is carried along the stream",
        nick = "conv-lstm"
    )]
    ConvLstm,
}

same_variants!(Temporal, detector::Temporal: None, ConvLstm);

/// Life-cycle state.
///
/// Since: 0.1
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVaeAnomalyState")]
#[non_exhaustive]
pub enum State {
    /// Learning; nothing is dropped.
    #[default]
    #[enum_value(
        name = "Warming up: learning, the score is not meaningful yet",
        nick = "warming-up"
    )]
    WarmingUp,
    /// Scoring without labels; nothing is dropped.
    #[enum_value(
        name = "Calibrating: scoring, the threshold is not reliable yet",
        nick = "calibrating"
    )]
    Calibrating,
    /// Scoring and labelling.
    #[enum_value(name = "Detecting: scoring and labelling", nick = "detecting")]
    Detecting,
    /// After a scene change; nothing is dropped.
    #[enum_value(
        name = "Adapting: after a cut or while the light changes, no labels",
        nick = "adapting"
    )]
    Adapting,
    /// Labelling without learning.
    #[enum_value(name = "Frozen: scoring and labelling without learning", nick = "frozen")]
    Frozen,
}

same_variants!(State, detector::State: WarmingUp, Calibrating, Detecting, Adapting, Frozen);

/// Which element messages are posted.
///
/// Since: 0.1
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
    /// The events and one message per frame.
    #[enum_value(name = "All: events and one message per frame", nick = "all")]
    All,
}

pub use flags::Cues;

mod flags {
    #![allow(missing_docs, reason = "glib::flags makes undocumented items")]

    use gst::glib;

    /// Which cues are computed, trained and fused.
    ///
    /// Since: 0.1
    #[glib::flags(name = "GstVaeAnomalyCues")]
    pub enum Cues {
        /// Objects that do not belong where they are.
        #[flags_value(
            name = "Appearance: objects that do not belong where they are",
            nick = "appearance"
        )]
        APPEARANCE = 1 << 0,
        /// Unusual motion.
        #[flags_value(name = "Motion: unusual speed", nick = "motion")]
        MOTION = 1 << 1,
    }
}

impl From<CueKind> for Cues {
    fn from(cue: CueKind) -> Self {
        match cue {
            CueKind::Appearance => Self::APPEARANCE,
            CueKind::Motion => Self::MOTION,
        }
    }
}

impl FromIterator<CueKind> for Cues {
    fn from_iter<I: IntoIterator<Item = CueKind>>(cues: I) -> Self {
        cues.into_iter()
            .fold(Self::empty(), |flags, cue| flags | Self::from(cue))
    }
}

impl Cues {
    /// The cues that are set.
    pub fn kinds(self) -> Vec<CueKind> {
        let kinds = CueKind::ALL.iter().copied();
        kinds.filter(|&cue| self.contains(cue.into())).collect()
    }
}

#[cfg(test)]
mod tests {
    use gst::prelude::*;

    use super::*;
    use crate::gstutil::nick;

    #[test]
    fn nicks_are_the_names_of_the_core() {
        for state in detector::State::ALL.iter().copied() {
            assert_eq!(nick(State::from(state)), state.as_str());
            assert_eq!(detector::State::from(State::from(state)), state);
        }
        for choice in detector::Stabilise::ALL.iter().copied() {
            assert_eq!(nick(Stabilise::from(choice)), choice.as_str());
            assert_eq!(detector::Stabilise::from(Stabilise::from(choice)), choice);
        }
        for choice in detector::Temporal::ALL.iter().copied() {
            assert_eq!(nick(Temporal::from(choice)), choice.as_str());
            assert_eq!(detector::Temporal::from(Temporal::from(choice)), choice);
        }
        for mode in detector::ThresholdMode::ALL.iter().copied() {
            assert_eq!(nick(ThresholdMode::from(mode)), mode.as_str());
            assert_eq!(detector::ThresholdMode::from(ThresholdMode::from(mode)), mode);
        }
    }

    #[test]
    fn every_cue_has_a_flag_of_its_name() {
        let value = Cues::all().to_value();
        let (_, flags) = glib::FlagsValue::from_value(&value).expect("flags");
        let nicks: Vec<&str> = flags.iter().map(|flag| flag.nick()).collect();
        assert_eq!(nicks.len(), CueKind::ALL.len());
        for cue in CueKind::ALL {
            assert!(nicks.contains(&cue.as_str()), "{cue} is not in {nicks:?}");
        }
        for flags in [Cues::empty(), Cues::APPEARANCE, Cues::MOTION, Cues::all()] {
            assert_eq!(flags.kinds().into_iter().collect::<Cues>(), flags);
        }
    }
}
