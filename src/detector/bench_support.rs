//! Single stages of the detector for the benches; no part of the API.

use candle_core::{Device, Tensor};
use rand::{Rng as _, SeedableRng as _};

use super::clock::Step;
use super::config::{Networks, Tuning};
use super::cue::{Appearance, AppearanceConfig, Cue, Frame, Motion};
use super::image::{ReducedFrame, ReducedSizes, Reducer};
use super::nn::{Rng, Staging, read};
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

/// One net alone: with a batch of two in training (motion) or of four (appearance), and of one in scoring.
#[derive(Debug)]
pub struct NetSteps {
    cue: Box<dyn Cue>,
    device: Device,
    frames: Staging,
    lectures: Staging,
    /// What a frame shows the net, and the past frames of a training step: uniform in ±2.
    shown: Vec<Vec<f32>>,
    past: Vec<Vec<f32>>,
}

impl NetSteps {
    /// The motion net, for grey pictures of 180 x `height`.
    pub fn motion(device: &ComputeDevice, height: usize) -> Result<Self> {
        let cue = Motion::new((180, height), Networks::Trained, 1);
        let count = height / 4 * 45 * 2;
        Self::new(Box::new(cue), device, vec![count; 2], 1)
    }

    /// The appearance net, for colour pictures of 64 x `height`.
    pub fn appearance(device: &ComputeDevice, height: usize) -> Result<Self> {
        let mut cue = Appearance::new(AppearanceConfig {
            arch: NetArch::default(),
            latent_dim: 16,
            size: (64, height),
            networks: Networks::Trained,
            seed: 1,
        });
        let colour = vec![128.0; 64 * height * 3];
        let frame = Frame {
            grey: &[],
            deviation: &[],
            edges: &[],
            colour: &colour,
            now: 0.0,
            step: Step {
                seconds: 0.1,
                ticks: 1.0,
            },
        };
        cue.look(&frame, true);
        Self::new(Box::new(cue), device, vec![colour.len()], 3)
    }

    fn new(
        cue: Box<dyn Cue>,
        device: &ComputeDevice,
        counts: Vec<usize>,
        past_frames: usize,
    ) -> Result<Self> {
        let mut rng = Rng::seed_from_u64(1);
        let mut random = |frames: usize| -> Vec<Vec<f32>> {
            let array = |&count: &usize| (0..frames * count).map(|_| rng.random_range(-2.0..2.0)).collect();
            counts.iter().map(array).collect()
        };
        let mut steps = Self {
            cue,
            device: device.device().clone(),
            frames: Staging::default(),
            lectures: Staging::default(),
            shown: random(1),
            past: random(past_frames),
        };
        steps.score()?;
        Ok(steps)
    }

    /// One step of the optimiser. On a GPU nothing waits for it.
    pub fn train(&mut self) -> Result<()> {
        let lecture = self.cue.lecture(self.past.clone(), &Tuning::default());
        let shown = self.show()?;
        let arrays: Vec<&[f32]> = lecture.arrays().collect();
        let given = self.lectures.upload(&arrays, &self.device)?;
        self.cue.learn(&shown, &lecture, &given, &self.device)?;
        Ok(())
    }

    /// One prediction.
    pub fn score(&mut self) -> Result<()> {
        let shown = self.show()?;
        read(&self.cue.predict(&shown, &self.device)?)?;
        Ok(())
    }

    fn show(&mut self) -> Result<Vec<Tensor>> {
        let arrays: Vec<&[f32]> = self.shown.iter().map(Vec::as_slice).collect();
        Ok(self.frames.upload(&arrays, &self.device)?)
    }
}
