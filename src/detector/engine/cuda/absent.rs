//! Stands for the CUDA engine in a build without feature `cuda`: types without values.

use candle_core::Result;

use crate::detector::StepReport;
use crate::detector::engine::{Engine, InferenceJob, NetId, TrainingJob};
use crate::detector::vae::{Checkpoint, VaeConfig};

/// There is none.
#[derive(Clone, Debug)]
pub(crate) enum ServerHandle {}

/// There is none.
#[derive(Debug)]
pub(crate) enum CudaEngine {}

/// Why there is no device.
pub(crate) fn open(_: Option<usize>) -> std::result::Result<(usize, ServerHandle), String> {
    Err("this build has no CUDA support".to_owned())
}

/// Why there is no device.
pub(crate) fn open_faster_than_cpu() -> std::result::Result<(usize, ServerHandle), String> {
    open(None)
}

impl ServerHandle {
    pub(crate) fn engine(&self) -> CudaEngine {
        match *self {}
    }
}

impl Engine for CudaEngine {
    fn create(&mut self, _: &VaeConfig, _: &Checkpoint) -> Result<NetId> {
        match *self {}
    }

    fn infer(&mut self, _: &[InferenceJob<'_>]) -> Result<Vec<Vec<f32>>> {
        match *self {}
    }

    fn train(&mut self, _: &[TrainingJob<'_>]) -> Result<Vec<StepReport>> {
        match *self {}
    }

    fn reconstruction(&mut self, _: NetId) -> Result<Option<Vec<f32>>> {
        match *self {}
    }

    fn checkpoint(&mut self, _: NetId) -> Result<Checkpoint> {
        match *self {}
    }
}
