//! The detector: a frame's way from pixels to prediction.

use std::time::{Duration, Instant};

use super::cue::{Appearance, AppearanceConfig, Cue, Motion};
use super::fusion::to_unit;
use super::image::ReducedSizes;
use super::judge::Judge;
use super::names::names;
use super::observer::{Observer, reduced_sizes};
use super::scene::Cut;
use super::{
    AnomalyMap, ComputeDevice, Config, CueKind, ImageView, Region, Result, State, StepReport, Tuning,
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
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// Frame number, from 0.
    pub frame: u64,
    /// Fused, calibrated, smoothed score in deviations from the camera's own history; unbounded.
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
    picture: (usize, usize),
    sizes: ReducedSizes,
    observer: Observer,
    judge: Judge,
    frames: u64,
}

impl Detector {
    /// A detector for pictures of `picture` = (width, height) pixels, on the CPU.
    ///
    /// # Errors
    /// A setting outside its range.
    pub fn new(config: Config, picture: (usize, usize)) -> Result<Self> {
        Self::on(ComputeDevice::cpu(), config, picture)
    }

    /// A detector for pictures of `picture` = (width, height) pixels whose nets compute on `device`.
    ///
    /// # Errors
    /// A setting outside its range.
    pub fn on(device: ComputeDevice, config: Config, picture: (usize, usize)) -> Result<Self> {
        config.validate()?;
        let sizes = reduced_sizes(&config, picture);
        let cues = make_cues(&config, sizes);
        Ok(Self {
            observer: Observer::new(sizes),
            judge: Judge::new(cues, config.warm_up, device.device()),
            config,
            device,
            picture,
            sizes,
            frames: 0,
        })
    }

    /// Lets the nets of one cue fail as on a GPU.
    #[cfg(test)]
    pub(crate) fn inject(&mut self, cue: CueKind, fault: super::Fault) {
        self.judge.inject(cue, fault);
    }

    /// Where the nets compute: `cpu` or `cuda:N`.
    pub fn device(&self) -> &str {
        self.device.name()
    }

    /// Where the detector is in its life.
    pub fn state(&self) -> State {
        self.judge.state()
    }

    /// Readies the detector for pictures of another size. What was learnt is kept where the shape of the small
    /// pictures stays; otherwise it is another camera and learning starts afresh.
    ///
    /// # Errors
    /// The model cannot be made.
    pub fn resize(&mut self, picture: (usize, usize)) -> Result<()> {
        if reduced_sizes(&self.config, picture) == self.sizes {
            self.picture = picture;
            self.restart();
        } else {
            let frames = self.frames;
            *self = Self::on(self.device.clone(), self.config.clone(), picture)?;
            self.frames = frames;
        }
        Ok(())
    }

    /// The next frame does not follow the last one (seek, lost data): forgets the frames, not what was learnt.
    pub fn restart(&mut self) {
        self.observer.restart();
        self.judge.restart();
    }

    /// Passes over a frame: it is counted, nothing else. Returns its number.
    pub fn skip(&mut self) -> u64 {
        let frame = self.frames;
        self.frames += 1;
        frame
    }

    /// Scores a frame, then learns from it. `time` is its presentation time; `nominal`, the interval between
    /// frames, is used where times are missing.
    ///
    /// # Errors
    /// A frame that does not hold the picture it promises, or a failure of the tensor library.
    pub fn process(
        &mut self,
        frame: &ImageView<'_>,
        time: Option<Duration>,
        nominal: Option<Duration>,
        tuning: &Tuning,
    ) -> Result<(Prediction, FrameReport)> {
        if (frame.width, frame.height) != self.picture {
            self.resize((frame.width, frame.height))?;
        }
        let started = Instant::now();
        self.observer.reduce(frame)?;
        let reduced = Instant::now();
        let (seen, report) = self.observer.observe(time, nominal, tuning.learn);
        let verdict = self.judge.judge(&seen, report, self.picture, tuning)?;
        let scored = Instant::now();
        let steps = self.judge.learn(&seen, tuning)?;
        let device_failure = self.judge.take_failure();
        if device_failure.is_some() {
            self.device = ComputeDevice::cpu();
        }
        let learnt = Instant::now();

        let label = if verdict.over_threshold {
            Label::Anomaly
        } else {
            Label::Normal
        };
        let prediction = Prediction {
            frame: self.skip(),
            raw_score: verdict.raw_score,
            threshold: verdict.threshold,
            score: to_unit(verdict.raw_score, verdict.threshold),
            label: verdict.state.is_labelling().then_some(label),
            cue: verdict.cue,
            region: verdict.region,
            state: verdict.state,
        };
        let report = FrameReport {
            scene_change: report.cut.map(|cut| match cut {
                Cut::SameScene => SceneChange::Splice,
                Cut::NewScene => SceneChange::NewScene,
            }),
            view_blocked: report.view_blocked,
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

    /// Every place of the last frame on the scale of [`Prediction::score`]: 0..1, 0.5 at the threshold.
    pub fn anomaly_map(&self, threshold: f64) -> AnomalyMap {
        let mut map = self.judge.map();
        for value in &mut map.values {
            *value = to_unit(f64::from(*value), threshold) as f32;
        }
        map
    }

    /// What the appearance net expected of the last frame: width, height and packed 8-bit RGB.
    pub fn reconstruction(&self) -> Option<(usize, usize, Vec<u8>)> {
        let (values, width) = self.judge.reconstruction()?;
        let height = values.len() / (3 * width);
        let rgb = values.chunks_exact(3).flat_map(|p| {
            let (y, cr, cb) = (p[0], (p[1] - 128.0) / 0.713, (p[2] - 128.0) / 0.564);
            let (r, b) = (y + cr, y + cb);
            let g = (y - 0.299 * r - 0.114 * b) / 0.587;
            [r, g, b].map(|v| v.round().clamp(0.0, 255.0) as u8)
        });
        Some((width, height, rgb.collect()))
    }
}

fn make_cues(config: &Config, sizes: ReducedSizes) -> Vec<Box<dyn Cue>> {
    let mut cues: Vec<Box<dyn Cue>> = Vec::new();
    if let (true, Some(size)) = (config.cues.motion, sizes.grey) {
        cues.push(Box::new(Motion::new(size, config.networks, config.seed)));
    }
    if let (true, Some(size)) = (config.cues.appearance, sizes.colour) {
        cues.push(Box::new(Appearance::new(AppearanceConfig {
            arch: config.net_arch.clone(),
            latent_dim: config.latent_dim,
            size,
            networks: config.networks,
            seed: config.seed,
        })));
    }
    cues
}
