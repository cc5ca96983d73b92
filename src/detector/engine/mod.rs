//! Where nets compute: inference and training of many nets behind one trait.
//!
//! A [`NetId`] names a net of an engine. An engine belongs to one detector; the CUDA engines of all detectors of a process
//! share a server, which runs their jobs together.

mod cpu;
pub(crate) mod cuda;
mod fallback;
#[cfg(test)]
pub(crate) mod tests;

use candle_core::Result;

pub(crate) use cpu::CpuEngine;
pub(crate) use fallback::WithFallback;

use super::StepReport;
use super::vae::{Checkpoint, VaeConfig};

/// A net of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NetId(pub(crate) usize);

/// What a net looks at, one image or several one after the other, channels-last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Inputs<'a> {
    /// `[B, H, W, C]`
    pub(crate) target: &'a [f32],
    /// `[B, H, W, D]`; empty for an unconditional net.
    pub(crate) condition: &'a [f32],
}

/// What an image does to the state of a net's temporal layer; nothing to a net without one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StateUpdate {
    /// It does not follow the previous image: the state is zero before it.
    pub(crate) restart: bool,
    /// It is a step: the state after it is kept. Otherwise the next image is scored from the same state.
    pub(crate) advance: bool,
}

/// A frame to be scored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InferenceJob<'a> {
    pub(crate) net: NetId,
    /// One image.
    pub(crate) inputs: Inputs<'a>,
    pub(crate) update: StateUpdate,
}

/// Everything random about a training step, and its rates.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TrainingBatch {
    /// The images of the current clip before the current one, as [`Inputs`]; empty without a temporal layer.
    pub(crate) previous_target: Vec<f32>,
    pub(crate) previous_condition: Vec<f32>,
    /// Replayed images behind the current one, as [`Inputs`]: whole clips, or empty.
    pub(crate) replayed_target: Vec<f32>,
    pub(crate) replayed_condition: Vec<f32>,
    /// Standard normal samples for the latent values of the whole batch, `[B, latent values]`.
    pub(crate) noise: Vec<f32>,
    /// Factors of the features at the bottleneck, `[B, features]`; empty without dropout.
    pub(crate) dropout_mask: Vec<f32>,
    pub(crate) kl_weight: f64,
    pub(crate) learning_rate: f64,
    /// How far the moving average of the weights goes towards them.
    pub(crate) average_rate: f64,
}

/// A step of the optimiser.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrainingJob<'a> {
    pub(crate) net: NetId,
    /// The current image; the batch's previous ones come before it, the replayed ones behind it.
    pub(crate) inputs: Inputs<'a>,
    pub(crate) batch: &'a TrainingBatch,
}

/// Runs the nets of one detector.
pub(crate) trait Engine: std::fmt::Debug + Send {
    /// Adds a net that continues from `checkpoint`.
    ///
    /// # Errors
    /// The checkpoint is of another net, or the device has no room for it.
    fn create(&mut self, config: &VaeConfig, checkpoint: &Checkpoint) -> Result<NetId>;

    /// The anomaly map `[H, W]` of each job, in the jobs' order.
    fn infer(&mut self, jobs: &[InferenceJob<'_>]) -> Result<Vec<Vec<f32>>>;

    /// Makes one step with each job, and reports it. A GPU does not wait: it reports the net's previous step. No two
    /// jobs are of the same net.
    ///
    /// # Errors
    /// The device failed. Some of the steps may have been made all the same.
    fn train(&mut self, jobs: &[TrainingJob<'_>]) -> Result<Vec<StepReport>>;

    /// The net's prediction `[H, W, C]` of the last image that it inferred; `None` before the first.
    fn reconstruction(&mut self, net: NetId) -> Result<Option<Vec<f32>>>;

    /// All that a net has learnt.
    fn checkpoint(&mut self, net: NetId) -> Result<Checkpoint>;

    /// Why a GPU had to be given up since the last call.
    fn take_failure(&mut self) -> Option<String> {
        None
    }
}
