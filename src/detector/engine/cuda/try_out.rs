//! Whether a device computes what the CPU does, and sooner.

use std::time::{Duration, Instant};

use candle_core::{Result, bail};

use crate::detector::NetArch;
use crate::detector::cue::appearance;
use crate::detector::engine::{
    CpuEngine, Engine, InferenceJob, Inputs, StateUpdate, TrainingBatch, TrainingJob,
};
use crate::detector::vae::{Checkpoint, VaeConfig};

/// How far the device's results may be from the CPU's, as a share of the largest.
const TOLERANCE: f64 = 1e-3;
/// Frames whose fastest counts.
const FRAMES: usize = 5;

/// Times of a frame: a score and a training step of the default appearance net.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) device: Duration,
    pub(super) cpu: Duration,
}

/// Runs the same frames on `engine` and on the CPU.
///
/// # Errors
/// The device failed, or computes something else than the CPU.
pub(super) fn try_out(engine: impl Engine) -> Result<Measured> {
    let config = appearance::vae_config(&NetArch::default(), 16, (64, 40));
    let (device, maps) = run(engine, &config)?;
    let (cpu, wanted) = run(CpuEngine::default(), &config)?;
    for (frame, (map, want)) in maps.iter().zip(&wanted).enumerate() {
        let largest = want.iter().fold(0.0f64, |most, &v| most.max(f64::from(v).abs()));
        let off = map
            .iter()
            .zip(want)
            .map(|(&a, &b)| f64::from(a - b).abs())
            .fold(0.0, f64::max);
        if off > TOLERANCE * largest || map.iter().any(|v| !v.is_finite()) {
            bail!("scores of frame {frame} are {off:.1e} from the CPU's, of {largest:.1e}");
        }
    }
    Ok(Measured { device, cpu })
}

/// The shortest time of a frame, and all anomaly maps.
fn run(mut engine: impl Engine, config: &VaeConfig) -> Result<(Duration, Vec<Vec<f32>>)> {
    let wave =
        |count: usize, rate: f32| -> Vec<f32> { (0..count).map(|i| (rate * i as f32).sin()).collect() };
    let target = wave(config.target_values(), 0.37);
    let batch = TrainingBatch {
        replayed_target: wave(3 * config.target_values(), 0.23),
        noise: wave(4 * config.latent_values(), 0.91),
        kl_weight: 0.03,
        learning_rate: 1e-4,
        ..TrainingBatch::default()
    };
    let inputs = Inputs {
        target: &target,
        condition: &[],
    };
    let net = engine.create(config, &Checkpoint::initial(config, 1, None)?)?;
    let (mut shortest, mut maps) = (Duration::MAX, Vec::new());
    for _ in 0..FRAMES {
        let start = Instant::now();
        engine.train(&[TrainingJob {
            net,
            inputs,
            batch: &batch,
        }])?;
        maps.append(&mut engine.infer(&[InferenceJob {
            net,
            inputs,
            update: StateUpdate::default(),
        }])?);
        shortest = shortest.min(start.elapsed());
    }
    Ok((shortest, maps))
}
