//! Nets on the CPU, in the calling thread.

use candle_core::{Result, bail};

use super::{Engine, InferenceJob, NetId, TrainingJob};
use crate::detector::StepReport;
use crate::detector::vae::{Checkpoint, Learner, VaeConfig};

/// Runs every net with Candle's custom operations.
#[derive(Debug, Default)]
pub(crate) struct CpuEngine {
    nets: Vec<Learner>,
}

impl CpuEngine {
    fn net(&mut self, NetId(index): NetId) -> Result<&mut Learner> {
        match self.nets.get_mut(index) {
            Some(net) => Ok(net),
            None => bail!("there is no net {index}"),
        }
    }
}

impl Engine for CpuEngine {
    fn create(&mut self, config: &VaeConfig, checkpoint: &Checkpoint) -> Result<NetId> {
        self.nets.push(Learner::new(config, checkpoint)?);
        Ok(NetId(self.nets.len() - 1))
    }

    fn infer(&mut self, jobs: &[InferenceJob<'_>]) -> Result<Vec<Vec<f32>>> {
        let infer = |job: &InferenceJob<'_>| self.net(job.net)?.infer(job.inputs, job.update);
        jobs.iter().map(infer).collect()
    }

    fn train(&mut self, jobs: &[TrainingJob<'_>]) -> Result<Vec<StepReport>> {
        let step = |job: &TrainingJob<'_>| self.net(job.net)?.step(job.inputs, job.batch);
        jobs.iter().map(step).collect()
    }

    fn reconstruction(&mut self, net: NetId) -> Result<Option<Vec<f32>>> {
        Ok(self.net(net)?.reconstruction().map(<[f32]>::to_vec))
    }

    fn checkpoint(&mut self, net: NetId) -> Result<Checkpoint> {
        self.net(net)?.checkpoint()
    }
}
