//! Engines that fail, and the fallback to the CPU.

use candle_core::{Result, bail};
use rand::SeedableRng;

use super::{
    CpuEngine, Engine, InferenceJob, Inputs, NetId, StateUpdate, TrainingBatch, TrainingJob, WithFallback,
};
use crate::detector::StepReport;
use crate::detector::nn::Rng;
use crate::detector::vae::tests::{appearance, motion};
use crate::detector::vae::{Checkpoint, VaeConfig};

/// Stands in for a GPU that fails.
#[derive(Debug)]
pub(crate) struct FailsAfter {
    cpu: CpuEngine,
    /// Calls of `infer` and `train` that still succeed; after them every call fails.
    calls: u32,
    /// Whether checkpoints can be read after that.
    readable: bool,
}

impl FailsAfter {
    pub(crate) fn new(calls: u32, readable: bool) -> Self {
        Self {
            cpu: CpuEngine::default(),
            calls,
            readable,
        }
    }

    fn call(&mut self) -> Result<&mut CpuEngine> {
        match self.calls {
            0 => bail!("injected fault"),
            _ => self.calls -= 1,
        }
        Ok(&mut self.cpu)
    }
}

impl Engine for FailsAfter {
    fn create(&mut self, config: &VaeConfig, checkpoint: &Checkpoint) -> Result<NetId> {
        self.cpu.create(config, checkpoint)
    }

    fn infer(&mut self, jobs: &[InferenceJob<'_>]) -> Result<Vec<Vec<f32>>> {
        self.call()?.infer(jobs)
    }

    fn train(&mut self, jobs: &[TrainingJob<'_>]) -> Result<Vec<StepReport>> {
        self.call()?.train(jobs)
    }

    fn reconstruction(&mut self, net: NetId) -> Result<Option<Vec<f32>>> {
        self.cpu.reconstruction(net)
    }

    fn checkpoint(&mut self, net: NetId) -> Result<Checkpoint> {
        match (self.calls, self.readable) {
            (0, false) => bail!("injected fault"),
            _ => self.cpu.checkpoint(net),
        }
    }
}

/// Both nets of a detector on one engine, with inputs that follow from the number of the frame.
struct Nets<E> {
    engine: E,
    nets: Vec<(NetId, VaeConfig)>,
    rng: Rng,
}

impl<E: Engine> Nets<E> {
    fn new(mut engine: E) -> Self {
        let nets = [motion(), appearance()].map(|config| {
            let checkpoint = Checkpoint::initial(&config, 3, None).unwrap();
            (engine.create(&config, &checkpoint).unwrap(), config)
        });
        Self {
            engine,
            nets: nets.to_vec(),
            rng: Rng::seed_from_u64(3),
        }
    }

    /// One call of `infer`, one of `train`.
    fn frame(&mut self, i: u32) -> (Vec<Vec<f32>>, Vec<StepReport>) {
        let wave = |count: usize, rate: f32| -> Vec<f32> {
            (0..count)
                .map(|n| (rate * n as f32 + 0.4 * i as f32).sin())
                .collect()
        };
        let mut samples = Vec::new();
        for (net, config) in &self.nets {
            let (target, condition) = (
                wave(config.target_values(), 0.37),
                wave(config.condition_values(), 0.23),
            );
            let mut batch = TrainingBatch {
                replayed_target: wave(config.target_values(), 0.2),
                replayed_condition: wave(config.condition_values(), 0.3),
                kl_weight: 0.1,
                learning_rate: 1e-3,
                average_rate: 0.1,
                ..TrainingBatch::default()
            };
            batch.draw(config, 0.2, &mut self.rng);
            samples.push((*net, target, condition, batch));
        }
        let inputs = |(target, condition)| Inputs { target, condition };
        let inference = samples.iter().map(|(net, target, condition, _)| InferenceJob {
            net: *net,
            inputs: inputs((target, condition)),
            update: StateUpdate::default(),
        });
        let training = samples.iter().map(|(net, target, condition, batch)| TrainingJob {
            net: *net,
            inputs: inputs((target, condition)),
            batch,
        });
        let maps = self.engine.infer(&inference.collect::<Vec<_>>()).unwrap();
        (maps, self.engine.train(&training.collect::<Vec<_>>()).unwrap())
    }
}

/// Compares nets whose engine fails after `calls` with nets on the CPU, over `frames`.
fn assert_same(calls: u32, readable: bool, frames: u32) {
    let mut sound = Nets::new(CpuEngine::default());
    let mut failing = Nets::new(WithFallback::new(FailsAfter::new(calls, readable)));
    let mut failures = Vec::new();
    for i in 0..frames {
        assert_eq!(
            failing.frame(i),
            sound.frame(i),
            "frame {i} of a failure after {calls} calls"
        );
        failures.extend(failing.engine.take_failure().map(|message| (i, message)));
    }
    assert_eq!(failures, [(calls / 2, "injected fault".to_owned())]);
}

#[test]
fn nets_that_move_to_the_cpu_in_mid_stream_compute_the_same_bits() {
    // Even numbers fail in `infer`, odd ones in `train`.
    for calls in [0, 1, 20, 21] {
        assert_same(calls, true, calls / 2 + 10);
    }
}

#[test]
fn a_lost_device_continues_from_the_last_checkpoint() {
    // One of the first weights.
    assert_same(0, false, 10);
    assert_same(1, false, 10);
    // The next one is taken with the hundredth step; the hundred-and-first fails.
    assert_same(201, false, 105);
}

#[test]
fn a_lost_device_loses_the_steps_since_the_last_checkpoint_and_no_frame() {
    let mut sound = Nets::new(CpuEngine::default());
    let mut failing = Nets::new(WithFallback::new(FailsAfter::new(10, false)));
    let mut frames = |i| (failing.frame(i), sound.frame(i));
    assert!((0..5).map(&mut frames).all(|(got, want)| got == want));
    // Five steps are gone.
    let (got, want) = frames(5);
    assert_ne!(got, want);
    assert_eq!((got.0.len(), got.1.len()), (2, 2));
    assert!(failing.engine.take_failure().is_some());
}

#[test]
fn an_unknown_net_is_an_error() {
    let mut engine = CpuEngine::default();
    let job = InferenceJob {
        net: NetId(2),
        inputs: Inputs::default(),
        update: StateUpdate::default(),
    };
    assert!(engine.infer(&[job]).is_err());
    assert!(engine.checkpoint(NetId(0)).is_err());
}
