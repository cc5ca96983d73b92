//! Cues: ways in which a frame can be unusual. Each has its own features, net, score and replay; everything else, from
//! the engine to the threshold, treats them alike.
//!
//! A frame's way through a cue: [`Cue::features`], then its net's [`Cue::inputs`] go through the engine, then
//! [`Cue::score`] from the map that comes back; and where the cue is due to learn, [`Cue::batch`] for the engine.

mod absorption;
mod accepted;
mod activity;
pub(crate) mod appearance;
mod calibrated;
mod clip;
mod frame_rate;
pub(crate) mod motion;
mod set;

use serde::{Deserialize, Serialize};

pub(crate) use accepted::Sample;
pub(crate) use calibrated::{CalibratedCue, CalibratedCueLearnt};
pub(crate) use set::{CueSet, CueSetLearnt};

use super::decision::CalibrationConfig;
use super::engine::{Inputs, StateUpdate, TrainingBatch};
use super::frame::{Frame, Learning, ReducedSizes};
use super::names::names;
use super::store::Visitor;
use super::vae::VaeConfig;
use super::{AnomalyMap, Config, Result, Tuning};

/// The registry of cues. Each entry names a module with `new(&Config, ReducedSizes) -> Option<impl Cue>` and `Learnt`; a new
/// cue is a module and an entry here. (Modules that a macro declares are not formatted.)
macro_rules! registry {
    ($($(#[$doc:meta])* $kind:ident = $name:literal in $module:ident;)+) => {
        /// Name of a cue.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum CueKind {
            $($(#[$doc])* $kind,)+
        }

        names!(CueKind, "cue": $($kind = $name),+);

        /// What one cue has learnt.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub(crate) enum CueLearnt {
            $($kind($module::Learnt),)+
        }

        impl CueLearnt {
            pub(crate) fn kind(&self) -> CueKind {
                match self {
                    $(Self::$kind(_) => CueKind::$kind,)+
                }
            }

            /// All arrays with their names.
            pub(crate) fn arrays(&mut self, visit: &mut Visitor<'_>) -> Result<()> {
                match self {
                    $(Self::$kind(learnt) => learnt.arrays(visit),)+
                }
            }
        }

        /// A cue of that kind; `None` where the small images do not have what it looks at.
        pub(crate) fn make(kind: CueKind, config: &Config, sizes: ReducedSizes) -> Option<Box<dyn Cue>> {
            match kind {
                $(CueKind::$kind => $module::new(config, sizes).map(|cue| Box::new(cue) as Box<dyn Cue>),)+
            }
        }
    };
}

registry! {
    /// Unusual motion.
    Motion = "motion" in motion;
    /// Unusual appearance.
    Appearance = "appearance" in appearance;
}

/// Losses of one training step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepReport {
    /// The whole loss.
    pub loss: f64,
    /// Its reconstruction term.
    pub reconstruction: f64,
    /// Its KL term in nats, before its weight.
    pub kl: f64,
    /// Whether a number was not finite, so that the weights stayed as they were.
    pub rejected: bool,
}

/// One way in which a frame can be unusual.
pub(crate) trait Cue: Send + std::fmt::Debug {
    fn kind(&self) -> CueKind;
    fn calibration(&self) -> CalibrationConfig;

    /// Whether another light makes everything look unusual.
    fn depends_on_light(&self) -> bool {
        false
    }

    /// The cue's net; `None` where it works without one.
    fn net(&self) -> Option<VaeConfig>;

    /// The net's base image before training, from the features of the first frame.
    fn base_image(&self) -> Option<&[f32]> {
        None
    }

    /// Computes the features of a frame. Without learning it leaves running scales as they are.
    fn features(&mut self, frame: &Frame<'_>, learning: Learning);

    /// The features of the last frame as the net's inputs; `None` while too few frames were seen.
    fn inputs(&self) -> Option<Inputs<'_>>;

    /// What the last frame does to the state of the net's temporal layer.
    fn state_update(&self) -> StateUpdate {
        StateUpdate::default()
    }

    /// The raw score of the last frame, larger = more unusual; `None` while too few frames were seen. `map` is the net's
    /// anomaly map, `None` without a net.
    fn score(&mut self, map: Option<Vec<f32>>, frame: &Frame<'_>, learning: Learning) -> Option<f64>;

    /// Learns from the last frame: the batch of the net's next training step, if the cue has something to learn.
    fn batch(&mut self, frame: &Frame<'_>, tuning: &Tuning) -> Option<Batch>;

    /// Training steps so far.
    fn steps(&self) -> u32;

    /// Where the last score came from, in units of the score.
    fn map(&self) -> &AnomalyMap;

    /// The same, to be corrected by what was accepted.
    fn map_mut(&mut self) -> &mut AnomalyMap;

    /// Whether the map also shows where something was in the previous frames.
    fn looks_back(&self) -> bool {
        false
    }

    /// The score from which something is active in a cell, where a score counts more in cells in which nothing is; `None`
    /// where it counts the same everywhere.
    fn active_from(&self) -> Option<f32> {
        None
    }

    /// The last frame as the replay keeps it.
    fn sample(&self, frame: &Frame<'_>) -> Sample;

    /// Puts a frame that was accepted as normal into the replay.
    fn admit(&mut self, sample: &Sample);

    /// Forgets the previous frames, not what was learnt.
    fn restart(&mut self) {}

    /// What the cue expected of the last frame as Y, Cr, Cb, 0..255, where that is an image; from its net's prediction.
    fn expected_image(&self, _prediction: Option<Vec<f32>>) -> Option<Vec<f32>> {
        None
    }

    /// What was learnt, without the net's weights.
    fn learnt(&self) -> CueLearnt;

    /// Continues from what another cue of the same configuration had learnt.
    ///
    /// # Errors
    /// It is of another cue, or of another size.
    fn restore(&mut self, learnt: CueLearnt) -> Result<()>;
}

/// What a cue learns from a frame.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Batch {
    /// A training step of the net.
    Step(TrainingBatch),
    /// Statistics only: the cue has no net, or one that does not train.
    Statistics,
}
