//! Single stages of the detector for the benches; no part of the API.

use candle_core::{Device, Tensor};
use rand::{Rng as _, SeedableRng as _};

use super::clock::Step;
use super::config::{Networks, Tuning};
use super::cue::{Appearance, AppearanceConfig, Cue as _, Frame, Motion};
use super::image::{ReducedFrame, ReducedSizes, Reducer};
use super::nn::Rng;
use super::{ComputeDevice, ImageView, NetArch, Result};

/// The first stage: from a frame to its two small pictures.
#[derive(Debug)]
pub struct Preprocessor {
    reducer: Reducer,
    reduced: ReducedFrame,
}

impl Preprocessor {
    /// For frames of the format and size of `frame` and small pictures of the given widths and heights.
    pub fn new(
        frame: &ImageView<'_>,
        grey: Option<(usize, usize)>,
        colour: Option<(usize, usize)>,
    ) -> Result<Self> {
        let reducer = Reducer::new(frame, ReducedSizes { grey, colour })?;
        Ok(Self {
            reducer,
            reduced: ReducedFrame::default(),
        })
    }

    /// Reduces one frame.
    pub fn run(&mut self, frame: &ImageView<'_>) -> Result<()> {
        self.reducer.reduce(frame, &mut self.reduced)
    }
}

/// Kernels and products that this thread has started on a GPU.
pub fn launches() -> u64 {
    super::nn::launches()
}

/// Standard inputs for a net: uniform in ±2.
fn inputs(shape: [usize; 4]) -> Result<Tensor> {
    let mut rng = Rng::seed_from_u64(1);
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| rng.random_range(-2.0..2.0))
        .collect();
    Ok(Tensor::from_vec(values, &shape, &Device::Cpu)?)
}

/// The motion net alone: two maps of each kind in training, one in scoring.
#[derive(Debug)]
pub struct MotionNetSteps {
    motion: Motion,
    batch: (Tensor, Tensor),
    single: (Tensor, Tensor),
}

impl MotionNetSteps {
    /// For grey pictures of 180 x `height`.
    pub fn new(height: usize) -> Result<Self> {
        Self::on(&ComputeDevice::cpu(), height)
    }

    /// As [`MotionNetSteps::new`], on `device`.
    pub fn on(device: &ComputeDevice, height: usize) -> Result<Self> {
        let maps = |batch| inputs([batch, height / 4, 45, 2]);
        Ok(Self {
            motion: Motion::new((180, height), Networks::Trained, 1, device.device())?,
            batch: (maps(2)?, maps(2)?),
            single: (maps(1)?, maps(1)?),
        })
    }

    /// One step of the optimiser.
    pub fn train(&mut self) -> Result<()> {
        self.motion
            .step(&self.batch.0, &self.batch.1, &Tuning::default())?;
        Ok(())
    }

    /// One prediction.
    pub fn score(&mut self) -> Result<()> {
        self.motion.predict(&self.single.0, &self.single.1)?;
        Ok(())
    }
}

/// The appearance net alone: four pictures in training, one in scoring.
#[derive(Debug)]
pub struct AppearanceNetSteps {
    appearance: Appearance,
    batch: Tensor,
    single: Tensor,
}

impl AppearanceNetSteps {
    /// For colour pictures of 64 x `height`.
    pub fn new(height: usize) -> Result<Self> {
        Self::on(&ComputeDevice::cpu(), height)
    }

    /// As [`AppearanceNetSteps::new`], on `device`.
    pub fn on(device: &ComputeDevice, height: usize) -> Result<Self> {
        let config = AppearanceConfig {
            arch: NetArch::default(),
            latent_dim: 16,
            size: (64, height),
            networks: Networks::Trained,
            seed: 1,
            device: device.device().clone(),
        };
        let mut appearance = Appearance::new(config);
        let step = Step {
            seconds: 0.1,
            ticks: 1.0,
        };
        let colour = vec![128.0; 64 * height * 3];
        let frame = Frame {
            grey: &[],
            deviation: &[],
            edges: &[],
            colour: &colour,
            now: 0.0,
            step,
        };
        appearance.score(&frame, true)?;
        Ok(Self {
            appearance,
            batch: inputs([4, height, 64, 3])?,
            single: inputs([1, height, 64, 3])?,
        })
    }

    /// One step of the optimiser.
    pub fn train(&mut self) -> Result<()> {
        self.appearance.step(&self.batch, &Tuning::default())?;
        Ok(())
    }

    /// One prediction.
    pub fn score(&mut self) -> Result<()> {
        self.appearance.predict(&self.single)?;
        Ok(())
    }
}
