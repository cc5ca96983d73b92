//! What the benches use of the engine; no part of the API.

use std::sync::Arc;
use std::time::Duration;

use candle_core::Error;
use candle_core::cuda::cudarc::driver::{CudaContext, CudaSlice, DevicePtr as _};
use rand::{Rng as _, SeedableRng as _};

use super::device::Kernel;
use super::driver::{Gpu, open};
use super::engine::CudaEngine;
use super::reduce::CudaReducer;
use crate::detector::cue::{appearance, motion};
use crate::detector::engine::{Engine, InferenceJob, Inputs, NetId, StateUpdate, TrainingBatch, TrainingJob};
use crate::detector::frame::{CudaImage, GREY_CELL};
#[cfg(test)]
use crate::detector::frame::{ReducedFrame, ReducedSizes};
use crate::detector::nn::Rng;
use crate::detector::vae::{Checkpoint, VaeConfig};
use crate::detector::{
    ComputeDevice, Detector, FrameReport, ImageView, NetArch, PixelFormat, Prediction, Result, Tuning,
};

/// What the first GPU has done so far.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// Launches of both kernels.
    pub launches: usize,
    /// Time that multiprocessors have worked on scores, over all of them.
    pub scores: Duration,
    /// The same for training steps.
    pub steps: Duration,
    /// Bytes of device memory that the server has.
    pub memory: usize,
    /// Those of them in which launches keep activations.
    pub workspaces: usize,
}

/// Reads the counters.
///
/// # Errors
/// There is no usable GPU.
pub fn counters() -> Result<Counters> {
    let (_, server) = open(Some(0)).map_err(Error::msg)?;
    let [memory, workspaces] = server.memory();
    Ok(Counters {
        memory,
        workspaces,
        launches: server.launches(),
        scores: server.busy(Kernel::Score).map_err(Error::msg)?,
        steps: server.busy(Kernel::Step).map_err(Error::msg)?,
    })
}

/// Both nets of a camera, with random frames; cameras may share it.
#[derive(Debug)]
pub struct Sample {
    nets: [Net; 2],
}

#[derive(Debug)]
struct Net {
    config: VaeConfig,
    checkpoint: Checkpoint,
    target: Vec<f32>,
    condition: Vec<f32>,
    /// Two images for the motion net, four for the appearance net.
    batch: TrainingBatch,
}

impl Net {
    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            target: &self.target,
            condition: &self.condition,
        }
    }
}

impl Sample {
    /// For grey images of 180 x `grey_height` and colour images of 64 x `colour_height`.
    ///
    /// # Errors
    /// The nets cannot be made.
    pub fn new(grey_height: usize, colour_height: usize, seed: u64) -> Result<Arc<Self>> {
        let mut rng = Rng::seed_from_u64(seed);
        let motion = motion::vae_config((180 / GREY_CELL, grey_height / GREY_CELL));
        let appearance = appearance::vae_config(&NetArch::default(), 16, (64, colour_height));
        let mut net = |config: VaeConfig, replayed: usize| -> Result<Net> {
            let mut random = |count: usize| {
                (0..count)
                    .map(|_| rng.random_range(-2.0..2.0))
                    .collect::<Vec<f32>>()
            };
            let (target, condition) = (random(config.target_values()), random(config.condition_values()));
            let tuning = Tuning::default();
            let mut batch = TrainingBatch {
                replayed_target: random(replayed * config.target_values()),
                replayed_condition: random(replayed * config.condition_values()),
                kl_weight: tuning.kl_weight,
                learning_rate: tuning.learning_rate,
                average_rate: 0.01,
                ..TrainingBatch::default()
            };
            batch.draw(&config, 0.0, &mut rng);
            let checkpoint = Checkpoint::initial(&config, seed, Some(&target))?;
            Ok(Net {
                config,
                checkpoint,
                target,
                condition,
                batch,
            })
        };
        Ok(Arc::new(Self {
            nets: [net(motion, 1)?, net(appearance, 3)?],
        }))
    }

    /// Adds both nets to an engine.
    fn create(&self, engine: &mut dyn Engine) -> Result<[NetId; 2]> {
        let [motion, appearance] = &self.nets;
        Ok([
            engine.create(&motion.config, &motion.checkpoint)?,
            engine.create(&appearance.config, &appearance.checkpoint)?,
        ])
    }

    fn scores(&self, ids: [NetId; 2]) -> [InferenceJob<'_>; 2] {
        [0, 1].map(|i| InferenceJob {
            net: ids[i],
            inputs: self.nets[i].inputs(),
            update: StateUpdate::default(),
        })
    }

    fn steps(&self, ids: [NetId; 2]) -> [TrainingJob<'_>; 2] {
        [0, 1].map(|i| TrainingJob {
            net: ids[i],
            inputs: self.nets[i].inputs(),
            batch: &self.nets[i].batch,
        })
    }
}

/// Whether few scores are computed by several multiprocessors each, where the first GPU can.
///
/// # Errors
/// There is no usable GPU.
pub fn allow_teams(allow: bool) -> Result<()> {
    open(Some(0)).map_err(Error::msg)?.1.allow_teams(allow);
    Ok(())
}

/// A camera without its video on the first GPU, for a thread with many cameras: it asks for scores, and looks later.
#[derive(Debug)]
pub struct PolledPair {
    engine: CudaEngine<Gpu>,
    nets: [NetId; 2],
    sample: Arc<Sample>,
}

impl PolledPair {
    /// # Errors
    /// There is no usable GPU, or no room for the nets.
    pub fn new(sample: &Arc<Sample>) -> Result<Self> {
        let mut engine = open(Some(0)).map_err(Error::msg)?.1.engine();
        Ok(Self {
            nets: sample.create(&mut engine)?,
            engine,
            sample: sample.clone(),
        })
    }

    /// Asks for the score of a frame with both nets.
    ///
    /// # Errors
    /// The device failed, or the score before has not been collected.
    pub fn submit(&mut self) -> Result<()> {
        Ok(self.engine.submit(&self.sample.scores(self.nets))?)
    }

    /// Whether the score is there.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.engine.is_done()
    }

    /// Takes the score.
    ///
    /// # Errors
    /// The device failed.
    pub fn collect(&mut self) -> Result<()> {
        self.engine.collect()?;
        Ok(())
    }

    /// Makes a training step of both nets; nothing waits for it.
    ///
    /// # Errors
    /// The device failed, or the score before has not been collected.
    pub fn train(&mut self) -> Result<()> {
        self.engine.train(&self.sample.steps(self.nets))?;
        Ok(())
    }
}

/// A camera without its video: both nets on a device.
#[derive(Debug)]
pub struct NetPair {
    engine: Box<dyn Engine>,
    nets: [NetId; 2],
    sample: Arc<Sample>,
}

impl NetPair {
    /// # Errors
    /// The device has no room for the nets.
    pub fn new(device: &ComputeDevice, sample: &Arc<Sample>) -> Result<Self> {
        let mut engine = device.engine();
        let mut pair = Self {
            nets: sample.create(engine.as_mut())?,
            engine,
            sample: sample.clone(),
        };
        pair.check_device()?;
        Ok(pair)
    }

    /// Scores a frame with both nets.
    ///
    /// # Errors
    /// The device failed.
    pub fn score(&mut self) -> Result<()> {
        self.engine.infer(&self.sample.scores(self.nets))?;
        self.check_device()
    }

    /// Makes a training step of both nets. On a GPU nothing waits for it.
    ///
    /// # Errors
    /// The device failed.
    pub fn train(&mut self) -> Result<()> {
        self.engine.train(&self.sample.steps(self.nets))?;
        self.check_device()
    }

    /// Fails where the engine has moved to the CPU.
    fn check_device(&mut self) -> Result<()> {
        match self.engine.take_failure() {
            Some(reason) => Err(Error::msg(reason).into()),
            None => Ok(()),
        }
    }
}

/// Frames in the memory of the first GPU, as a decoder leaves them there; cameras may share them.
#[derive(Debug)]
pub struct DeviceFrames {
    context: Arc<CudaContext>,
    frames: Vec<DeviceFrame>,
}

#[derive(Debug)]
struct DeviceFrame {
    format: PixelFormat,
    size: (usize, usize),
    color: crate::detector::ColorModel,
    /// Address and bytes of each plane.
    planes: Vec<(u64, usize)>,
    strides: Vec<usize>,
    /// All planes, one behind the other.
    _memory: CudaSlice<u8>,
}

impl DeviceFrame {
    fn image(&self) -> CudaImage<'_> {
        CudaImage {
            format: self.format,
            width: self.size.0,
            height: self.size.1,
            planes: &self.planes,
            strides: &self.strides,
            color: self.color,
        }
    }
}

impl DeviceFrames {
    /// # Errors
    /// There is no usable GPU.
    pub fn new() -> Result<Self> {
        let context = CudaContext::new(0).map_err(Error::wrap)?;
        Ok(Self {
            context,
            frames: Vec::new(),
        })
    }

    /// Copies a frame to the GPU, and waits for that.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn push(&mut self, view: &ImageView<'_>) -> Result<()> {
        let stream = self.context.default_stream();
        let memory = stream.clone_htod(&view.planes.concat()).map_err(Error::wrap)?;
        stream.synchronize().map_err(Error::wrap)?;
        let mut address = memory.device_ptr(&stream).0;
        let place = |plane: &&[u8]| {
            let start = address;
            address += plane.len() as u64;
            (start, plane.len())
        };
        let planes = view.planes.iter().map(place).collect();
        self.frames.push(DeviceFrame {
            format: view.format,
            size: (view.width, view.height),
            color: view.color,
            planes,
            strides: view.strides.to_vec(),
            _memory: memory,
        });
        Ok(())
    }
}

/// Runs a camera's detector on the frames in the GPU's memory.
#[derive(Debug)]
pub struct DeviceReader {
    reducer: CudaReducer,
    frames: Arc<DeviceFrames>,
}

impl DeviceReader {
    /// # Errors
    /// The GPU does not take the kernel.
    pub fn new(frames: &Arc<DeviceFrames>) -> Result<Self> {
        // SAFETY: the context is alive as long as the frames, which outlive the reducer.
        let reducer = unsafe { CudaReducer::new(frames.context.cu_ctx().cast(), false) };
        Ok(Self {
            reducer: reducer.map_err(Error::msg)?,
            frames: frames.clone(),
        })
    }

    /// Reduces frame `i` alone.
    #[cfg(test)]
    pub(super) fn reduce(
        &mut self,
        i: usize,
        sizes: ReducedSizes,
        displacement: [f32; 2],
        out: &mut ReducedFrame,
    ) -> Result<()> {
        let frame = &self.frames.frames[i];
        // SAFETY: the planes are in the reducer's context, and the copy that wrote them has ended.
        unsafe { self.reducer.reduce(&frame.image(), sizes, displacement, out) }
    }

    /// Processes frame `i` of an endless loop.
    ///
    /// # Errors
    /// As those of [`Detector::process`], or the GPU failed.
    pub fn process(
        &mut self,
        detector: &mut Detector,
        i: usize,
        time: Option<Duration>,
        tuning: &Tuning,
    ) -> Result<(Prediction, FrameReport)> {
        let frame = &self.frames.frames[i % self.frames.frames.len()];
        // SAFETY: the planes are in the reducer's context, and the copy that wrote them has ended.
        unsafe { detector.process_on_device(&frame.image(), &mut self.reducer, time, None, tuning) }
    }
}
