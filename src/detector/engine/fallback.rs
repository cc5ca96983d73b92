//! An engine that may fail, with a fallback to the CPU.

use candle_core::{Error, Result};

use super::{CpuEngine, Engine, InferenceJob, NetId, TrainingJob};
use crate::detector::StepReport;
use crate::detector::error::message;
use crate::detector::vae::{Checkpoint, VaeConfig};

/// Training steps of a net between two checkpoints. A device that is lost takes with it what was learnt since: ten seconds
/// at the start and twenty later, at 25 frames/s. Reading a checkpoint back costs far less than the hundred steps.
const CHECKPOINT_INTERVAL: u32 = 100;

/// Runs nets on `E` until that fails, and from then on, within the same call, on the CPU.
#[derive(Debug)]
pub(crate) struct WithFallback<E> {
    /// `None` once it has failed.
    primary: Option<E>,
    cpu: CpuEngine,
    nets: Vec<Net>,
    failure: Option<String>,
}

/// What it takes to continue a net elsewhere.
#[derive(Debug)]
struct Net {
    config: VaeConfig,
    checkpoint: Checkpoint,
    /// Steps that the engine has acknowledged since the checkpoint.
    steps_since: u32,
}

impl<E: Engine> WithFallback<E> {
    pub(crate) fn new(primary: E) -> Self {
        Self {
            primary: Some(primary),
            cpu: CpuEngine::default(),
            nets: Vec::new(),
            failure: None,
        }
    }

    /// Does `work` on the engine in use. When the primary one fails, all nets move to the CPU and the work is repeated.
    fn with_cpu_fallback<R>(&mut self, mut work: impl FnMut(&mut dyn Engine) -> Result<R>) -> Result<R> {
        let Some(primary) = &mut self.primary else {
            return work(&mut self.cpu);
        };
        match work(primary) {
            Ok(result) => Ok(result),
            Err(error) => {
                self.move_to_cpu(error)?;
                work(&mut self.cpu)
            }
        }
    }

    /// Every net continues from what can still be read of it, or else from its last checkpoint.
    fn move_to_cpu(&mut self, error: Error) -> Result<()> {
        let Some(mut primary) = self.primary.take() else {
            return Ok(());
        };
        self.failure = Some(message(error));
        for (index, net) in self.nets.iter_mut().enumerate() {
            if let Ok(checkpoint) = primary.checkpoint(NetId(index)) {
                net.checkpoint = checkpoint;
            }
            self.cpu.create(&net.config, &net.checkpoint)?;
            net.checkpoint = Checkpoint::default();
        }
        Ok(())
    }

    /// Counts the steps of `jobs`, and now and then takes a checkpoint.
    fn count_steps(&mut self, jobs: &[TrainingJob<'_>]) {
        let Some(primary) = &mut self.primary else { return };
        for job in jobs {
            let net = &mut self.nets[job.net.0];
            net.steps_since += 1;
            if net.steps_since == CHECKPOINT_INTERVAL {
                net.steps_since = 0;
                // Should this fail, so will the next job.
                if let Ok(checkpoint) = primary.checkpoint(job.net) {
                    net.checkpoint = checkpoint;
                }
            }
        }
    }
}

impl<E: Engine> Engine for WithFallback<E> {
    fn create(&mut self, config: &VaeConfig, checkpoint: &Checkpoint) -> Result<NetId> {
        let id = self.with_cpu_fallback(|engine| engine.create(config, checkpoint))?;
        self.nets.push(Net {
            config: config.clone(),
            checkpoint: checkpoint.clone(),
            steps_since: 0,
        });
        Ok(id)
    }

    fn infer(&mut self, jobs: &[InferenceJob<'_>]) -> Result<Vec<Vec<f32>>> {
        self.with_cpu_fallback(|engine| engine.infer(jobs))
    }

    fn train(&mut self, jobs: &[TrainingJob<'_>]) -> Result<Vec<StepReport>> {
        let reports = self.with_cpu_fallback(|engine| engine.train(jobs))?;
        self.count_steps(jobs);
        Ok(reports)
    }

    fn reconstruction(&mut self, net: NetId) -> Result<Option<Vec<f32>>> {
        self.with_cpu_fallback(|engine| engine.reconstruction(net))
    }

    fn checkpoint(&mut self, net: NetId) -> Result<Checkpoint> {
        self.with_cpu_fallback(|engine| engine.checkpoint(net))
    }

    fn take_failure(&mut self) -> Option<String> {
        self.failure.take()
    }
}
