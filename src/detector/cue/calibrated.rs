//! A cue with its net, its calibration and its training cadence.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::absorption::Absorption;
use super::accepted::{AnomalyLog, discount};
use super::activity::Activity;
use super::frame_rate::FrameRate;
use super::{Batch, Cue, CueKind, CueLearnt};
use crate::detector::decision::{Calibration, CalibrationLearnt};
use crate::detector::engine::{Engine, Inputs, NetId, StateUpdate};
use crate::detector::frame::{Frame, Learning, Step};
use crate::detector::store::{Array, Visitor, check_len};
use crate::detector::vae::Checkpoint;
use crate::detector::{AnomalyMap, Error, Result, Tuning};

/// Training steps at one per tick before the cadence of [`Tuning::train_interval`] begins.
const FAST_STEPS: u32 = 1500;

/// Seconds for which a cue must be quiet after a change of light, and after which it counts again anyway.
const QUIET: f64 = 1.0;
const LONGEST_UNSETTLED: f64 = 60.0;

/// Deviations above which the score of a cell is accepted with an anomaly.
const UNUSUAL: f64 = 1.0;

/// One cue's way from frame to standardised score.
#[derive(Debug)]
pub(crate) struct CalibratedCue {
    cue: Box<dyn Cue>,
    seed: u64,
    /// Made from the first frame.
    net: Option<NetId>,
    calibration: Calibration,
    fixed_warm_up: bool,
    /// Whether the last frame could not be scored.
    held: bool,
    activity: Activity,
    /// The last frame's scores before those of quiet cells were raised.
    unraised: Vec<f32>,
    absorption: Absorption,
    /// The last frame's standardised score without what was deducted, where something was.
    with_absorbed: Option<f64>,
    waited: Waited,
    unsettled: Option<Unsettled>,
    frame_rate: FrameRate,
    /// What can be accepted.
    anomalies: AnomalyLog,
    /// Accepted score of every cell; empty where nothing was accepted.
    accepted: Vec<f32>,
}

/// Time since the last training step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Waited {
    frames: u32,
    ticks: f64,
}

/// Since the light changed, until the cue has learnt the new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Unsettled {
    seconds: f64,
    /// Seconds at the end without an anomalous score.
    quiet: f64,
}

/// All that a cue and its net have learnt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CalibratedCueLearnt {
    cue: CueLearnt,
    /// The net's; `None` before the first frame.
    net: Option<Checkpoint>,
    calibration: CalibrationLearnt,
    #[serde(default)]
    activity: Activity,
    absorption: Absorption,
    waited: Waited,
    unsettled: Option<Unsettled>,
    #[serde(default)]
    frame_rate: FrameRate,
    #[serde(skip)]
    accepted: Vec<f32>,
}

impl CalibratedCueLearnt {
    pub(crate) fn kind(&self) -> CueKind {
        self.cue.kind()
    }

    /// All arrays with their names.
    pub(crate) fn arrays(&mut self, visit: &mut Visitor<'_>) -> Result<()> {
        self.cue.arrays(visit)?;
        visit("accepted", Array::F32(&mut self.accepted))?;
        visit("levels", Array::F32(&mut self.absorption.levels))?;
        self.activity.arrays(visit)?;
        self.net.as_mut().map_or(Ok(()), |net| net.arrays(visit))
    }
}

impl CalibratedCue {
    /// `seed` is that of the net's weights. `warm_up` > 0 leaves the end of the warm-up to [`Self::end_warm_up`].
    pub(crate) fn new(cue: Box<dyn Cue>, seed: u64, warm_up: u32) -> Self {
        let mut config = cue.calibration();
        if warm_up > 0 {
            config.warm_up = f64::INFINITY;
        }
        Self {
            cue,
            seed,
            net: None,
            calibration: Calibration::new(config),
            fixed_warm_up: warm_up > 0,
            held: true,
            activity: Activity::default(),
            unraised: Vec::new(),
            absorption: Absorption::default(),
            with_absorbed: None,
            waited: Waited::default(),
            unsettled: None,
            frame_rate: FrameRate::default(),
            anomalies: AnomalyLog::default(),
            accepted: Vec::new(),
        }
    }

    pub(crate) fn kind(&self) -> CueKind {
        self.cue.kind()
    }

    pub(crate) fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// Where the last score came from, in units of the score.
    pub(crate) fn map(&self) -> &AnomalyMap {
        self.cue.map()
    }

    /// Whether the map also shows where something was in the previous frames.
    pub(crate) fn looks_back(&self) -> bool {
        self.cue.looks_back()
    }

    pub(crate) fn end_warm_up(&mut self) {
        if self.fixed_warm_up {
            self.calibration.end_warm_up();
        }
    }

    /// Whether the last frame could not be scored.
    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// The smoothed score against its history; `None` before the first, and while the cue learns another light.
    pub(crate) fn standardised(&self) -> Option<f64> {
        self.calibration.standardised().filter(|_| !self.is_unsettled())
    }

    /// Whether the cue does not count because the light changed.
    pub(super) fn is_unsettled(&self) -> bool {
        self.unsettled.is_some()
    }

    /// Takes whether the light is changing in the frame that was just scored.
    /// A cue that depends on light does not count until it has learnt the new one, if `others_go_on`.
    pub(super) fn follow_light(&mut self, changing: bool, others_go_on: bool, step: Step) {
        if changing {
            self.calibration.relearn();
            if others_go_on && self.cue.depends_on_light() {
                self.unsettled = Some(Unsettled::default());
            }
        } else if let Some(unsettled) = &mut self.unsettled {
            unsettled.seconds += step.seconds;
            unsettled.quiet = match self.calibration.is_anomalous() {
                true => 0.0,
                false => unsettled.quiet + step.seconds,
            };
            if unsettled.quiet >= QUIET || unsettled.seconds >= LONGEST_UNSETTLED {
                self.unsettled = None;
            }
        }
    }

    /// Whether the last frame would be above `threshold` without what was deducted because it stays.
    pub(super) fn is_absorbed(&self, threshold: f64) -> bool {
        self.with_absorbed.is_some_and(|score| score > threshold)
    }

    /// Computes the features of a frame, and makes the net with the first ones.
    pub(super) fn features(
        &mut self,
        frame: &Frame<'_>,
        learning: Learning,
        engine: &mut dyn Engine,
    ) -> Result<()> {
        self.cue.features(frame, learning);
        if let (None, Some(config), Some(_)) = (self.net, self.cue.net(), self.cue.inputs()) {
            let checkpoint = Checkpoint::initial(&config, self.seed, self.cue.base_image())?;
            self.net = Some(engine.create(&config, &checkpoint)?);
        }
        Ok(())
    }

    /// The net and what it is to look at; `None` where there is no net, or too few frames were seen.
    pub(super) fn inputs(&self) -> Option<(NetId, Inputs<'_>)> {
        self.net.zip(self.cue.inputs())
    }

    /// What the last frame does to the state of the net's temporal layer.
    pub(super) fn state_update(&self) -> StateUpdate {
        self.cue.state_update()
    }

    /// Takes the net's map of the last frame. A score that is not finite counts as missing.
    pub(super) fn score(&mut self, map: Option<Vec<f32>>, frame: &Frame<'_>, learning: Learning) {
        let mut score = self.cue.score(map, frame, learning);
        self.with_absorbed = None;
        if let (Some(_), Some(_)) = (score, self.cue.active_from()) {
            self.unraised.clone_from(&self.cue.map().values);
            self.activity.raise(self.cue.map_mut());
            score = Some(f64::from(self.map().peak().1));
        }
        if let (Some(_), Some(usual)) = (score, self.calibration.usual()) {
            if !self.accepted.is_empty() {
                discount(self.cue.map_mut(), &self.accepted, usual as f32);
            }
            let before = self.map().peak().1;
            self.absorption.deduct(self.cue.map_mut(), usual as f32);
            let after = self.map().peak().1;
            self.with_absorbed = (after < before).then(|| self.calibration.standardise(f64::from(before)));
            score = Some(f64::from(after));
        }
        let score = score.filter(|s| s.is_finite());
        self.held = score.is_none();
        if let Some(score) = score {
            self.calibration.smooth(score, frame.step);
        }
    }

    /// What there is to learn from the frame that was just scored, if the cue is due. `adapting` trains at the fast
    /// cadence.
    pub(super) fn batch(&mut self, frame: &Frame<'_>, tuning: &Tuning, adapting: bool) -> Option<Batch> {
        self.waited.add(frame.step);
        let due = if adapting || self.is_unsettled() || self.cue.steps() < FAST_STEPS {
            self.waited.ticks > 0.99
        } else {
            self.waited.frames >= tuning.train_interval
        };
        let batch = match due && tuning.train {
            true => self.cue.batch(frame, tuning),
            false => None,
        };
        if batch.is_some() {
            self.waited = Waited::default();
        }
        batch
    }

    /// Takes the frame that was just scored into the history and into the levels of the cells.
    pub(super) fn calibrate(&mut self, frame: &Frame<'_>, tuning: &Tuning) {
        if self.held {
            return;
        }
        let is_ready = self.calibration.is_ready();
        if self.cue.looks_back() && self.frame_rate.has_changed(frame.step, is_ready) {
            self.calibration.relearn();
        }
        if let (true, Some(usual), Some(after)) = (is_ready, self.calibration.usual(), tuning.absorb_after())
        {
            self.absorption
                .observe(self.cue.map(), usual as f32, frame.step.seconds, after);
        }
        let memory = tuning.memory_seconds();
        if let Some(floor) = self.cue.active_from() {
            let is_anomalous = is_ready && self.calibration.is_anomalous();
            self.activity
                .observe(&self.unraised, floor, frame.step, is_anomalous, memory);
        }
        self.calibration.observe(frame.step.seconds, memory);
    }

    /// Keeps what the frame that was just scored, with this number, looks like, if it is a part of an anomaly.
    pub(super) fn keep_anomaly(&mut self, number: u64, anomalous: bool, frame: &Frame<'_>) {
        if !self.is_held() {
            let (cue, anomalies) = (&self.cue, &mut self.anomalies);
            anomalies.add(number, cue.map(), anomalous, || cue.sample(frame));
        }
    }

    /// Accepts what these frames look like as normal; `false` where none of them was anomalous, or it is too long ago.
    pub(super) fn accept(&mut self, frames: &RangeInclusive<u64>) -> bool {
        let (width, calibration) = (self.map().width, &self.calibration);
        let is_unusual = |score: f32| calibration.standardise(f64::from(score)) > UNUSUAL;
        let samples = self
            .anomalies
            .accept(frames, width, &mut self.accepted, is_unusual);
        samples.iter().for_each(|sample| self.cue.admit(sample));
        !samples.is_empty()
    }

    pub(super) fn restart(&mut self) {
        self.cue.restart();
    }

    /// What the cue expected of the last frame as Y, Cr, Cb image, 0..255, and its width, where that is an image.
    pub(super) fn expected_image(&self, engine: &mut dyn Engine) -> Result<Option<(Vec<f32>, usize)>> {
        let prediction = match self.net {
            Some(net) => engine.reconstruction(net)?,
            None => None,
        };
        let image = self.cue.expected_image(prediction);
        Ok(image.map(|image| (image, self.map().width)))
    }

    pub(super) fn learnt(&self, engine: &mut dyn Engine) -> Result<CalibratedCueLearnt> {
        Ok(CalibratedCueLearnt {
            cue: self.cue.learnt(),
            net: self.net.map(|net| engine.checkpoint(net)).transpose()?,
            calibration: self.calibration.learnt().clone(),
            activity: self.activity.clone(),
            absorption: self.absorption.clone(),
            waited: self.waited,
            unsettled: self.unsettled,
            frame_rate: self.frame_rate,
            accepted: self.accepted.clone(),
        })
    }

    pub(super) fn restore(&mut self, learnt: CalibratedCueLearnt, engine: &mut dyn Engine) -> Result<()> {
        let (config, checkpoint) = (self.cue.net(), learnt.net);
        self.net = match (config, checkpoint) {
            (Some(config), Some(checkpoint)) => Some(engine.create(&config, &checkpoint)?),
            (_, None) => None,
            (None, Some(_)) => return Err(Error::Learnt(format!("the {} cue has no net", self.kind()))),
        };
        self.cue.restore(learnt.cue)?;
        self.calibration.restore(learnt.calibration)?;
        self.waited = learnt.waited;
        self.unsettled = learnt.unsettled;
        self.frame_rate = learnt.frame_rate;
        if !learnt.accepted.is_empty() {
            check_len("accepted", learnt.accepted.len(), self.map().values.len())?;
        }
        self.accepted = learnt.accepted;
        if !learnt.absorption.levels.is_empty() {
            check_len("levels", learnt.absorption.levels.len(), self.map().values.len())?;
        }
        self.absorption = learnt.absorption;
        let floor = self.cue.active_from().unwrap_or_default();
        learnt.activity.check(self.map().values.len(), floor)?;
        self.activity = learnt.activity;
        Ok(())
    }
}

impl Waited {
    fn add(&mut self, step: Step) {
        self.frames = self.frames.saturating_add(1);
        self.ticks += step.ticks;
    }
}
