//! A cue: one way of seeing that something is unusual. Each has its own input, net, loss and replay;
//! what they share is this face, so that another can be added without touching the others.
//!
//! A frame's way through a cue: `look`, `shown` to the net, `predict` where the net is, `conclude`; and where it is to
//! be learnt from, `prepare` and `learn`. What lies between, [`Exchange`](super::exchange::Exchange) does for all cues.

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

use candle_core::{Device, Result, Tensor};

use super::calibration::CalibrationConfig;
use super::clock::Step;
use super::names::names;
use super::nn::Report;
use super::{AnomalyMap, Tuning};

/// Name of a cue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CueKind {
    /// The place looks unusual.
    Appearance,
    /// The place moves unusually.
    Motion,
}

names!(CueKind, "cue": Appearance = "appearance", Motion = "motion");

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

/// Losses of one training step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepReport {
    /// The whole loss.
    pub loss: f64,
    /// Its reconstruction part.
    pub reconstruction: f64,
    /// Its KL part in nats, before its weight.
    pub kl: f64,
    /// Whether a number was not finite and the weights were left as they were.
    pub rejected: bool,
}

impl From<Report> for StepReport {
    fn from(report: Report) -> Self {
        Self {
            loss: report.loss,
            reconstruction: report.reconstruction,
            kl: report.kl,
            rejected: report.is_refused(),
        }
    }
}

/// A training step before it is made: all that chance decides of it, and its rates.
#[derive(Debug)]
pub(crate) struct Lecture {
    /// Past frames that join this one: as many arrays as the net is shown of a frame, each of whole frames, or empty.
    pub(crate) past: Vec<Vec<f32>>,
    /// Standard normal numbers for the latent values.
    pub(crate) noise: Vec<f32>,
    /// What the encoder's features are multiplied by; empty without dropout.
    pub(crate) mask: Vec<f32>,
    /// Weights of the likelihood and of the divergence.
    pub(crate) weights: [f64; 2],
    pub(crate) learning_rate: f64,
    /// How far weights that follow the trained ones go after them.
    pub(crate) slow_rate: f64,
}

impl Lecture {
    /// What goes to the net's device: the past, noise, mask.
    pub(crate) fn arrays(&self) -> impl Iterator<Item = &[f32]> {
        let rest = [&self.noise, &self.mask];
        self.past.iter().chain(rest).map(Vec::as_slice)
    }
}

/// What a cue has to learn from a frame.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Nothing: too few frames were seen.
    Pass,
    /// It has no net to train, and has learnt.
    Done,
    /// A training step.
    Step(Lecture),
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
    /// Looks at a frame.
    fn look(&mut self, frame: &Frame<'_>, learn: bool);
    /// What the net is to be shown of it: nothing while too few frames were seen, and where there is no net.
    fn shown(&self) -> Vec<&[f32]>;
    /// Has the net, on `device`, judge what it is shown. What is to be read of that, for [`Cue::conclude`].
    fn predict(&mut self, shown: &[Tensor], device: &Device) -> Result<Vec<Tensor>>;
    /// The raw score of the frame, larger = more unusual, or `None` while too few frames were seen.
    fn conclude(&mut self, told: &[Vec<f32>], frame: &Frame<'_>, learn: bool) -> Result<Option<f64>>;
    /// Readies a training step on the frame that was scored last, and some from the replay.
    fn prepare(&mut self, frame: &Frame<'_>, tuning: &Tuning) -> Turn;
    /// A training step in which frames of the past, as [`Lecture::past`], join the one that was scored last.
    fn lecture(&mut self, past: Vec<Vec<f32>>, tuning: &Tuning) -> Lecture;
    /// Makes the step, with the arrays of `lecture` as they came to the device. On a GPU nothing waits for it: it tells
    /// what the step before told.
    fn learn(
        &mut self,
        shown: &[Tensor],
        lecture: &Lecture,
        given: &[Tensor],
        device: &Device,
    ) -> Result<StepReport>;
    /// Training steps so far.
    fn lessons(&self) -> u32;
    /// Where the last score came from, in units of the score.
    fn map(&self) -> &AnomalyMap;
    /// Forgets the frames before, not what was learnt.
    fn restart(&mut self);
    /// Whether the net is on a GPU.
    fn may_leave(&self) -> bool;
    /// Moves the net to the CPU, with all that it learnt.
    fn leave_gpu(&mut self) -> Result<()>;
    /// Lets the CPU fail as a GPU would.
    #[cfg(test)]
    fn inject(&mut self, fault: Fault);
    /// The net's idea of the last picture, Y, Cr, Cb 0..255, with its width, where the cue has one.
    fn reconstruction(&self) -> Option<(Vec<f32>, usize)> {
        None
    }
}
