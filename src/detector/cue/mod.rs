//! A cue: one way of seeing that something is unusual. Each has its own input, net, loss and replay;
//! what they share is this face, so that another can be added without touching the others.

mod appearance;
mod motion;
mod placed;
#[cfg(test)]
mod placed_tests;
#[cfg(test)]
mod reference;

pub(crate) use appearance::{Appearance, AppearanceConfig};
pub(crate) use motion::Motion;
#[cfg(test)]
pub(crate) use placed::Fault;

use super::calibration::CalibrationConfig;
use super::clock::Step;
use super::nn::{Report, StepOutcome};
use super::{AnomalyMap, Result, Tuning};

/// Name of a cue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CueKind {
    /// The place looks unusual.
    Appearance,
    /// The place moves unusually.
    Motion,
}

impl CueKind {
    /// The name in lower case, as in the metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Appearance => "appearance",
            Self::Motion => "motion",
        }
    }
}

/// What the cues see of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    /// Grey picture, 0..1.
    pub(crate) grey: &'a [f32],
    /// Grey picture minus the background.
    pub(crate) deviation: &'a [f32],
    /// Edge strength of the deviation.
    pub(crate) edges: &'a [f32],
    /// Y, Cr, Cb picture, 0..255, channels last.
    pub(crate) colour: &'a [f32],
    /// Seconds since the first frame.
    pub(crate) now: f64,
    /// Time since the frame before.
    pub(crate) step: Step,
}

/// What one training step told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lesson {
    /// The whole loss.
    pub loss: f64,
    /// Its reconstruction part.
    pub reconstruction: f64,
    /// Its KL part in nats, before its weight.
    pub kl: f64,
    /// Whether a number was not finite and the weights were left as they were.
    pub refused: bool,
}

impl From<Report> for Lesson {
    fn from(report: Report) -> Self {
        Self {
            loss: report.loss,
            reconstruction: report.reconstruction,
            kl: report.kl,
            refused: report.outcome == StepOutcome::Refused,
        }
    }
}

/// When a cue's score enters its calibration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CalibratesOn {
    EveryFrame,
    TrainedFrames,
}

/// The common face of the cues.
pub(crate) trait Cue: Send + std::fmt::Debug {
    fn kind(&self) -> CueKind;
    fn calibration(&self) -> CalibrationConfig;
    fn calibrates_on(&self) -> CalibratesOn;
    /// The raw score of a frame, larger = more unusual, or `None` while too few frames were seen.
    fn score(&mut self, frame: &Frame<'_>, learn: bool) -> Result<Option<f64>>;
    /// One training step on the frame that was scored last, and some from the replay.
    fn learn(&mut self, frame: &Frame<'_>, tuning: &Tuning) -> Result<Option<Lesson>>;
    /// Training steps so far.
    fn lessons(&self) -> u32;
    /// Where the last score came from, in units of the score.
    fn map(&self) -> &AnomalyMap;
    /// Forgets the frames before, not what was learnt.
    fn restart(&mut self);
    /// Why the nets had to leave a GPU since this was asked last.
    fn take_failure(&mut self) -> Option<String>;
    /// Moves the nets to the CPU, with all that they learnt.
    fn leave_gpu(&mut self) -> Result<()>;
    /// Lets the CPU fail as a GPU would.
    #[cfg(test)]
    fn inject(&mut self, fault: Fault);
    /// The net's idea of the last picture, Y, Cr, Cb 0..255, with its width, where the cue has one.
    fn reconstruction(&self) -> Option<(Vec<f32>, usize)> {
        None
    }
}
