//! The CUDA engine without a GPU: the same kernels compiled as C++, behind the real server.

mod emulated;
#[cfg(feature = "cuda")]
mod gpu;
mod kernels;
mod server;

use rand::{Rng as _, SeedableRng};

use super::device::Device;
use super::engine::CudaEngine;
use super::server::ServerHandle;
use crate::detector::engine::{Engine, InferenceJob, Inputs, NetId, StateUpdate, TrainingBatch, TrainingJob};
use crate::detector::nn::Rng;
use crate::detector::vae::{Checkpoint, VaeConfig};

/// The same inputs, in the same order, for each of several engines.
struct Camera {
    configs: Vec<VaeConfig>,
    rng: Rng,
    frames: usize,
    target: Vec<Vec<f32>>,
    condition: Vec<Vec<f32>>,
    batches: Vec<TrainingBatch>,
}

impl Camera {
    fn new(configs: &[VaeConfig], seed: u64) -> Self {
        Self {
            configs: configs.to_vec(),
            rng: Rng::seed_from_u64(seed),
            frames: 0,
            target: Vec::new(),
            condition: Vec::new(),
            batches: Vec::new(),
        }
    }

    /// Adds all nets to an engine, each with a base image unlike zero.
    fn nets(&self, engine: &mut dyn Engine) -> Vec<NetId> {
        let create =
            |(i, config): (usize, &VaeConfig)| engine.create(config, &initial(config, i as u64)).unwrap();
        self.configs.iter().enumerate().map(create).collect()
    }

    /// The next frame, and a training batch of `images` images, or of as many clips.
    fn next(&mut self, images: usize, dropout: f64) {
        self.frames += 1;
        let rng = &mut self.rng;
        let mut random =
            |count: usize| -> Vec<f32> { (0..count).map(|_| rng.random_range(-1.5..1.5)).collect() };
        self.target = self.configs.iter().map(|c| random(c.target_values())).collect();
        self.condition = self
            .configs
            .iter()
            .map(|c| random(c.condition_values()))
            .collect();
        self.batches = self
            .configs
            .iter()
            .map(|c| TrainingBatch {
                previous_target: random((c.clip() - 1) * c.target_values()),
                previous_condition: random((c.clip() - 1) * c.condition_values()),
                replayed_target: random((images - 1) * c.clip() * c.target_values()),
                replayed_condition: random((images - 1) * c.clip() * c.condition_values()),
                kl_weight: 0.1,
                learning_rate: 1e-3,
                average_rate: 0.25,
                ..TrainingBatch::default()
            })
            .collect();
        for (batch, config) in self.batches.iter_mut().zip(&self.configs) {
            batch.draw(config, dropout, &mut self.rng);
        }
    }

    fn inputs(&self, i: usize) -> Inputs<'_> {
        Inputs {
            target: &self.target[i],
            condition: &self.condition[i],
        }
    }

    fn scores(&self, nets: &[NetId]) -> Vec<InferenceJob<'_>> {
        let job = |(i, &net)| InferenceJob {
            net,
            inputs: self.inputs(i),
            // Frames 1 and 8 begin a sequence; every third one is no step.
            update: StateUpdate {
                restart: self.frames % 7 == 1,
                advance: !self.frames.is_multiple_of(3),
            },
        };
        nets.iter().enumerate().map(job).collect()
    }

    fn steps(&self, nets: &[NetId]) -> Vec<TrainingJob<'_>> {
        let job = |(i, &net)| TrainingJob {
            net,
            inputs: self.inputs(i),
            batch: &self.batches[i],
        };
        nets.iter().enumerate().map(job).collect()
    }
}

/// Random weights everywhere: no layer starts at zero, and no moment.
fn initial(config: &VaeConfig, seed: u64) -> Checkpoint {
    let mut checkpoint = Checkpoint::initial(config, seed, None).unwrap();
    let mut rng = Rng::seed_from_u64(seed);
    for weight in checkpoint.weights.iter_mut().chain(&mut checkpoint.average) {
        *weight += rng.random_range(-0.05..0.05);
    }
    checkpoint
}

fn engine<D: Device>(device: D) -> CudaEngine<D> {
    ServerHandle::start(device).unwrap().engine()
}
