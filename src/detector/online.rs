//! The detector: from pixels to prediction, and what is learnt on the way.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::cue::{CueSet, CueSetLearnt};
use super::decision::{PostProcessor, PostProcessorLearnt, to_unit};
use super::engine::Engine;
#[cfg(feature = "cuda")]
use super::engine::cuda::CudaReducer;
#[cfg(feature = "cuda")]
use super::frame::CudaImage;
use super::frame::{Cut, IgnoredRegions, Preprocessor, ReducedSizes, SceneLearnt, reduced_sizes};
use super::names::names;
use super::regions::RegionTracker;
use super::{
    AnomalousRegion, AnomalyMap, ComputeDevice, Config, CueKind, Error, ImageView, Region, Result, Stabilise,
    State, StepReport, Temporal, Tuning,
};

/// The decision on a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// Nothing unusual.
    Normal,
    /// Unusual for this camera.
    Anomaly,
}

names!(Label, "label": Normal = "normal", Anomaly = "anomaly");

/// A cut between two frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SceneChange {
    /// The same view at another time.
    Splice,
    /// Another light or another view.
    NewScene,
}

/// The result for one frame. It does not depend on any later frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Frame number, from 0.
    pub frame: u64,
    /// Fused and calibrated score: how far the frame is above the camera's own history, in units of its usual spread;
    /// unbounded.
    pub raw_score: f64,
    /// What the raw score is compared with.
    pub threshold: f64,
    /// The raw score on a scale of 0..1 with 0.5 at the threshold.
    pub score: f64,
    /// `None` while no label can be trusted.
    pub label: Option<Label>,
    /// The cue with the larger score.
    pub cue: CueKind,
    /// Location of the largest score, in pixels of the frame.
    pub region: Region,
    /// All locations of an anomalous frame, at most eight; the first is `region`. Empty without the label
    /// [`Label::Anomaly`].
    pub regions: Vec<AnomalousRegion>,
    /// Life-cycle state.
    pub state: State,
}

/// Telemetry of one frame, apart from its [`Prediction`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameReport {
    /// A cut between the previous frame and this one.
    pub scene_change: Option<SceneChange>,
    /// The frames of the last second had next to no texture.
    pub view_blocked: bool,
    /// The frame is below the threshold only because what is unusual in it has stayed for long.
    pub absorbed: bool,
    /// Training steps on this frame. On a GPU nothing waits for a step: the numbers are those of the previous one.
    pub steps: Vec<(CueKind, StepReport)>,
    /// Why the GPU failed on this frame. The nets continue on the CPU from the last checkpoint, at most a hundred
    /// training steps old; the frame is scored all the same.
    pub device_failure: Option<String>,
    /// Wall-clock time of the stages.
    pub timings: Timings,
}

/// Wall-clock time of a frame's stages; no decision depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From pixels to the two small images.
    pub preprocess: Duration,
    /// Background, cues, fusion, threshold.
    pub score: Duration,
    /// Training and statistics.
    pub learn: Duration,
}

/// Learns one camera online and scores its frames.
#[derive(Debug)]
pub struct Detector {
    config: Config,
    device: ComputeDevice,
    /// Width and height of the frames.
    frame_size: (usize, usize),
    sizes: ReducedSizes,
    preprocessor: Preprocessor,
    ignored: IgnoredRegions,
    cues: CueSet,
    post_processor: PostProcessor,
    regions: RegionTracker,
    /// How far the images of the last frame were moved back, in fractions of width and height.
    displacement: [f32; 2],
    frames: u64,
}

/// All that a detector has learnt. A copy shares the replayed samples. [`store`](super::store) makes a file of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Learnt {
    pub(crate) shape: Shape,
    pub(crate) scene: SceneLearnt,
    pub(crate) cues: CueSetLearnt,
    pub(crate) post_processor: PostProcessorLearnt,
    pub(crate) frames: u64,
}

impl Learnt {
    /// Number of frames it was learnt from.
    pub fn frames(&self) -> u64 {
        self.frames
    }
}

/// The settings and sizes that shape the nets and the statistics. Only detectors of the same shape continue from one
/// another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Shape {
    cues: String,
    net_arch: String,
    latent_dim: usize,
    /// Files of before this setting have none.
    #[serde(default = "no_temporal_layer")]
    temporal: String,
    /// Width and height of the grey image, which follow the aspect ratio of the frames.
    grey_image: Option<(usize, usize)>,
    /// The same of the appearance net's.
    model_image: Option<(usize, usize)>,
}

fn no_temporal_layer() -> String {
    Temporal::None.to_string()
}

impl Shape {
    fn new(config: &Config, sizes: ReducedSizes) -> Self {
        let on = CueKind::ALL.iter().filter(|kind| config.cues.contains(kind));
        Self {
            cues: on.map(|kind| kind.as_str()).collect::<Vec<_>>().join("+"),
            net_arch: config.net_arch.to_string(),
            latent_dim: config.latent_dim,
            temporal: config.temporal.to_string(),
            grey_image: sizes.grey,
            model_image: sizes.colour,
        }
    }

    /// # Errors
    /// A field of the other shape that differs.
    fn check(&self, other: &Self) -> Result<()> {
        let image =
            |size: Option<(usize, usize)>| size.map_or("none".to_owned(), |(w, h)| format!("{w}x{h} pixels"));
        let fields = [
            ("cues", self.cues.clone(), other.cues.clone()),
            ("net-arch", self.net_arch.clone(), other.net_arch.clone()),
            (
                "latent-dim",
                self.latent_dim.to_string(),
                other.latent_dim.to_string(),
            ),
            ("temporal", self.temporal.clone(), other.temporal.clone()),
            (
                "grey image (aspect ratio)",
                image(self.grey_image),
                image(other.grey_image),
            ),
            (
                "model image (model-width, aspect ratio)",
                image(self.model_image),
                image(other.model_image),
            ),
        ];
        match fields.into_iter().find(|(_, want, got)| want != got) {
            Some((field, want, got)) => Err(Error::Learnt(format!("{field}: expected {want}, got {got}"))),
            None => Ok(()),
        }
    }
}

impl Detector {
    /// A detector for frames of `frame_size` = (width, height) pixels, on the CPU.
    ///
    /// # Errors
    /// A setting outside its range.
    pub fn new(config: Config, frame_size: (usize, usize)) -> Result<Self> {
        Self::on(ComputeDevice::cpu(), config, frame_size)
    }

    /// A detector for frames of `frame_size` = (width, height) pixels whose nets compute on `device`.
    ///
    /// # Errors
    /// A setting outside its range.
    pub fn on(device: ComputeDevice, config: Config, frame_size: (usize, usize)) -> Result<Self> {
        let engine = device.engine();
        Self::with_engine(engine, device, config, frame_size)
    }

    /// As [`Detector::on`], with another engine than the device's.
    pub(crate) fn with_engine(
        engine: Box<dyn Engine>,
        device: ComputeDevice,
        config: Config,
        frame_size: (usize, usize),
    ) -> Result<Self> {
        config.validate()?;
        let sizes = reduced_sizes(&config, frame_size);
        Ok(Self {
            preprocessor: Preprocessor::new(sizes),
            ignored: IgnoredRegions::none(),
            cues: CueSet::new(&config, sizes, engine),
            post_processor: PostProcessor::default(),
            regions: RegionTracker::default(),
            displacement: [0.0; 2],
            config,
            device,
            frame_size,
            sizes,
            frames: 0,
        })
    }

    /// Where the nets compute: `cpu` or `cuda:N`.
    pub fn device(&self) -> &str {
        self.device.name()
    }

    /// The life-cycle state.
    pub fn state(&self) -> State {
        self.post_processor.state()
    }

    /// Prepares for frames of another size. What was learnt is kept where the small images keep their shape; otherwise it
    /// is another camera and learning starts afresh.
    ///
    /// # Errors
    /// The model cannot be made.
    pub fn resize(&mut self, frame_size: (usize, usize)) -> Result<()> {
        if self.keeps_learnt(frame_size) {
            self.frame_size = frame_size;
            self.preprocessor.ignore(&self.ignored, frame_size);
            self.restart();
        } else {
            *self = self.renewed(frame_size)?;
        }
        Ok(())
    }

    /// Whether [`Detector::resize`] to frames of this size keeps what was learnt.
    pub fn keeps_learnt(&self, frame_size: (usize, usize)) -> bool {
        reduced_sizes(&self.config, frame_size) == self.sizes
    }

    /// Forgets everything that was learnt. The numbering of the frames continues.
    ///
    /// # Errors
    /// The model cannot be made.
    pub fn reset(&mut self) -> Result<()> {
        *self = self.renewed(self.frame_size)?;
        Ok(())
    }

    /// Continues from what another detector had learnt instead. The numbering of the frames continues from the larger
    /// number.
    ///
    /// # Errors
    /// A setting or a size differs, which the message names; then this detector stays as it is.
    pub fn replace(&mut self, learnt: Learnt) -> Result<()> {
        let frames = self.frames;
        let mut other = self.renewed(self.frame_size)?;
        other.frames = 0;
        other.restore(learnt)?;
        other.frames = other.frames.max(frames);
        *self = other;
        Ok(())
    }

    /// A detector of the same configuration that has learnt nothing and counts frames and regions on.
    fn renewed(&self, frame_size: (usize, usize)) -> Result<Self> {
        let mut other = Self::on(self.device.clone(), self.config.clone(), frame_size)?;
        other.frames = self.frames;
        other.regions = self.regions.clone();
        other.regions.restart();
        other.ignore(&self.ignored);
        Ok(other)
    }

    /// Ignores these parts of the frames from now on: nothing in them raises a score, enters the statistics, or counts for
    /// cuts and a blocked view. What they show is removed before anything looks at it, and cells that show some of it have no
    /// score. After a change the state is `adapting` until every cue has frames to compare with.
    pub fn ignore(&mut self, regions: &IgnoredRegions) {
        if *regions != self.ignored {
            self.preprocessor.ignore(regions, self.frame_size);
            self.ignored = regions.clone();
            self.cues.restart();
        }
    }

    /// The next frame does not follow the previous one (seek, lost data): forgets the frames, not what was learnt.
    pub fn restart(&mut self) {
        self.preprocessor.restart();
        self.cues.restart();
        self.regions.restart();
    }

    /// Passes over a frame: only counts it. Returns its number.
    pub fn skip(&mut self) -> u64 {
        let frame = self.frames;
        self.frames = frame.saturating_add(1);
        frame
    }

    /// Scores a frame, then learns from it. `time` is its presentation time; `nominal`, the interval between
    /// frames, is used where times are missing.
    ///
    /// # Errors
    /// A frame whose planes are too small for its format and size, or a failure of the tensor library.
    pub fn process(
        &mut self,
        frame: &ImageView<'_>,
        time: Option<Duration>,
        nominal: Option<Duration>,
        tuning: &Tuning,
    ) -> Result<(Prediction, FrameReport)> {
        let size = (frame.width, frame.height);
        self.process_with(
            size,
            |preprocessor, displacement| preprocessor.reduce(frame, displacement),
            time,
            nominal,
            tuning,
        )
    }

    /// The same for a frame in device memory, whatever device the nets compute on.
    ///
    /// # Safety
    /// As [`CudaReducer::reduce`].
    ///
    /// # Errors
    /// As [`Detector::process`], or the device failed, see [`CudaReducer::failure`].
    #[cfg(feature = "cuda")]
    #[allow(unsafe_code, reason = "addresses of device memory")]
    pub(crate) unsafe fn process_on_device(
        &mut self,
        image: &CudaImage<'_>,
        reducer: &mut CudaReducer,
        time: Option<Duration>,
        nominal: Option<Duration>,
        tuning: &Tuning,
    ) -> Result<(Prediction, FrameReport)> {
        let size = (image.width, image.height);
        // SAFETY: the caller's.
        let reduce = |preprocessor: &mut Preprocessor, displacement| unsafe {
            preprocessor.reduce_on_device(image, reducer, displacement)
        };
        self.process_with(size, reduce, time, nominal, tuning)
    }

    /// Scores a frame of `size` that `reduce` reduces, displaced by fractions of width and height, then learns from it.
    fn process_with(
        &mut self,
        size: (usize, usize),
        mut reduce: impl FnMut(&mut Preprocessor, [f32; 2]) -> Result<()>,
        time: Option<Duration>,
        nominal: Option<Duration>,
        tuning: &Tuning,
    ) -> Result<(Prediction, FrameReport)> {
        if size != self.frame_size {
            self.resize(size)?;
        }
        let started = Instant::now();
        reduce(&mut self.preprocessor, [0.0; 2])?;
        let step = self.preprocessor.advance(time, nominal);
        if tuning.stabilise == Stabilise::Auto {
            let displacement = self.preprocessor.shake(step);
            if displacement != [0.0; 2] {
                reduce(&mut self.preprocessor, displacement)?;
            }
        }
        let reduced = Instant::now();

        let (small, scene) = self.preprocessor.analyse(step, tuning.learning());
        if scene.cut.is_some() {
            self.cues.restart();
        }
        self.cues.score(&small, tuning.learning())?;
        // Without learning, another light is never learnt and nothing is to change.
        let light_changing = scene.light_changing && tuning.learn;
        self.cues.follow_light(light_changing, small.step);
        let decision = self.post_processor.decide(&self.cues, scene, small.step, tuning);
        let label = if decision.over_threshold {
            Label::Anomaly
        } else {
            Label::Normal
        };
        let label = decision.state.is_labelling().then_some(label);
        let strongest = self.cues.strongest();
        let (regions, region) = match label {
            Some(Label::Anomaly) => {
                let regions = self
                    .regions
                    .find(&self.cues, decision.threshold, &small, self.frame_size);
                let first = regions.first().map(|first| first.region);
                (regions, first.unwrap_or_default())
            }
            _ => {
                self.regions.pass(small.step.seconds);
                (Vec::new(), strongest.map().region_of_peak(self.frame_size))
            }
        };
        // Regions are followed where the background stands still, and reported where they are in the frame.
        let displacement = small.displacement;
        let region = region.moved(displacement, self.frame_size);
        let in_frame = |found: AnomalousRegion| AnomalousRegion {
            region: found.region.moved(displacement, self.frame_size),
            ..found
        };
        let regions: Vec<AnomalousRegion> = regions.into_iter().map(in_frame).collect();
        let cue = strongest.kind();
        let scored = Instant::now();

        if let Some(label) = label {
            let anomalous = label == Label::Anomaly;
            self.cues.keep_anomaly(self.frames, anomalous, &small);
        }

        let adapting = decision.state == State::Adapting;
        let steps = match tuning.learn {
            true => self.cues.learn(&small, tuning, adapting)?,
            false => Vec::new(),
        };
        let device_failure = self.cues.take_failure();
        if device_failure.is_some() {
            self.device = ComputeDevice::cpu();
        }
        let learnt = Instant::now();
        self.displacement = displacement;

        let prediction = Prediction {
            frame: self.skip(),
            raw_score: decision.raw_score,
            threshold: decision.threshold,
            score: to_unit(decision.raw_score, decision.threshold),
            label,
            cue,
            region,
            regions,
            state: decision.state,
        };
        let report = FrameReport {
            scene_change: scene.cut.map(|cut| match cut {
                Cut::SameScene => SceneChange::Splice,
                Cut::NewScene => SceneChange::NewScene,
            }),
            view_blocked: scene.view_blocked,
            absorbed: !decision.over_threshold && self.cues.is_absorbed(decision.threshold),
            steps,
            device_failure,
            timings: Timings {
                preprocess: reduced - started,
                score: scored - reduced,
                learn: learnt - scored,
            },
        };
        Ok((prediction, report))
    }

    /// Accepts what the anomalous frames with these numbers look like as normal: the like of it at the same locations no longer
    /// raises the score, unless its own score is half as high again. Its frames join the replay. `false` where none of the
    /// frames was anomalous, or it was too long ago.
    pub fn accept(&mut self, frames: RangeInclusive<u64>) -> bool {
        self.cues.accept(&frames)
    }

    /// The score of every cell of the last frame, on the scale of [`Prediction::score`]: 0..1, 0.5 at the threshold.
    pub fn anomaly_map(&self, threshold: f64) -> AnomalyMap {
        let mut map = self.cues.map().moved(self.displacement);
        for value in &mut map.values {
            *value = to_unit(f64::from(*value), threshold) as f32;
        }
        map
    }

    /// What the appearance net expected of the last frame: width, height and packed 8-bit RGB. `None` without that net,
    /// before the first frame, and where the device fails.
    pub fn reconstruction(&mut self) -> Option<(usize, usize, Vec<u8>)> {
        let (values, width) = self.cues.expected_image().ok()??;
        let height = values.len() / (3 * width);
        let rgb = values.chunks_exact(3).flat_map(|p| {
            let (y, cr, cb) = (p[0], (p[1] - 128.0) / 0.713, (p[2] - 128.0) / 0.564);
            let (r, b) = (y + cr, y + cb);
            let g = (y - 0.299 * r - 0.114 * b) / 0.587;
            [r, g, b].map(|v| v.round().clamp(0.0, 255.0) as u8)
        });
        Some((width, height, rgb.collect()))
    }

    /// All that was learnt, to be stored and to continue from.
    ///
    /// # Errors
    /// The device failed.
    pub fn learnt(&mut self) -> Result<Learnt> {
        Ok(Learnt {
            shape: Shape::new(&self.config, self.sizes),
            scene: self.preprocessor.learnt().clone(),
            cues: self.cues.learnt()?,
            post_processor: self.post_processor.learnt().clone(),
            frames: self.frames,
        })
    }

    /// Continues from what another detector of the same configuration had learnt, with the first frame of a new stream.
    ///
    /// # Errors
    /// This detector has processed frames already, or a setting or a size differs, which the message names. Then the detector
    /// is not to be used any further; see [`Detector::replace`].
    pub fn restore(&mut self, learnt: Learnt) -> Result<()> {
        if self.frames > 0 {
            return Err(Error::Learnt(format!(
                "a detector continues from it before its first frame, not after {}",
                self.frames
            )));
        }
        Shape::new(&self.config, self.sizes).check(&learnt.shape)?;
        self.cues.restore(learnt.cues)?;
        self.preprocessor.restore(learnt.scene)?;
        self.post_processor.restore(learnt.post_processor);
        self.frames = learnt.frames;
        Ok(())
    }
}
