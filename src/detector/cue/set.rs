//! All cues of a detector, and the engine that runs their nets.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::{Batch, CalibratedCue, CalibratedCueLearnt, CueKind, StepReport, make};
use crate::detector::engine::{Engine, InferenceJob, TrainingJob};
use crate::detector::frame::{Frame, Learning, ReducedSizes, Step};
use crate::detector::store::Visitor;
use crate::detector::{AnomalyMap, Config, Error, Result, Tuning};

/// The cues that are on.
#[derive(Debug)]
pub(crate) struct CueSet {
    cues: Vec<CalibratedCue>,
    engine: Box<dyn Engine>,
    /// Frames after which the warm-up ends; 0 = each cue knows.
    warm_up: u32,
    frames: u32,
}

/// All that the cues have learnt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CueSetLearnt {
    cues: Vec<CalibratedCueLearnt>,
    frames: u32,
}

impl CueSetLearnt {
    /// All arrays with their names, which begin with that of their cue.
    pub(crate) fn arrays(&mut self, visit: &mut Visitor<'_>) -> Result<()> {
        for cue in &mut self.cues {
            let kind = cue.kind();
            cue.arrays(&mut |name, array| visit(&format!("{kind}.{name}"), array))?;
        }
        Ok(())
    }
}

impl CueSet {
    pub(crate) fn new(config: &Config, sizes: ReducedSizes, engine: Box<dyn Engine>) -> Self {
        let on = CueKind::ALL.iter().filter(|kind| config.cues.contains(kind));
        let cues = on.filter_map(|&kind| make(kind, config, sizes));
        Self {
            cues: cues
                .map(|cue| CalibratedCue::new(cue, config.seed, config.warm_up))
                .collect(),
            engine,
            warm_up: config.warm_up,
            frames: 0,
        }
    }

    /// Scores a frame with every cue.
    pub(crate) fn score(&mut self, frame: &Frame<'_>, learning: Learning) -> Result<()> {
        for cue in &mut self.cues {
            cue.features(frame, learning, self.engine.as_mut())?;
        }
        let jobs: Vec<InferenceJob<'_>> = self
            .cues
            .iter()
            .filter_map(|cue| {
                let (net, inputs) = cue.inputs()?;
                let update = cue.state_update();
                Some(InferenceJob { net, inputs, update })
            })
            .collect();
        let mut maps = match jobs.is_empty() {
            true => Vec::new(),
            false => self.engine.infer(&jobs)?,
        }
        .into_iter();
        for cue in &mut self.cues {
            let map = cue.inputs().is_some().then(|| maps.next()).flatten();
            cue.score(map, frame, learning);
        }
        self.count_warm_up();
        Ok(())
    }

    /// Takes whether the light is changing in the frame that was just scored.
    pub(crate) fn follow_light(&mut self, changing: bool, step: Step) {
        let others_go_on = self.cues.len() > 1;
        for cue in &mut self.cues {
            cue.follow_light(changing, others_go_on, step);
        }
    }

    /// Lets every cue that is due learn from the frame that was just scored. `adapting` trains at the fast cadence.
    pub(crate) fn learn(
        &mut self,
        frame: &Frame<'_>,
        tuning: &Tuning,
        adapting: bool,
    ) -> Result<Vec<(CueKind, StepReport)>> {
        let batches: Vec<Option<Batch>> = self
            .cues
            .iter_mut()
            .map(|cue| cue.batch(frame, tuning, adapting))
            .collect();
        let jobs: Vec<TrainingJob<'_>> = self
            .cues
            .iter()
            .zip(&batches)
            .filter_map(|(cue, batch)| match (cue.inputs(), batch) {
                (Some((net, inputs)), Some(Batch::Step(batch))) => Some(TrainingJob { net, inputs, batch }),
                _ => None,
            })
            .collect();
        let mut reports = match jobs.is_empty() {
            true => Vec::new(),
            false => self.engine.train(&jobs)?,
        }
        .into_iter();
        let mut steps = Vec::new();
        for (cue, batch) in self.cues.iter_mut().zip(&batches) {
            if !adapting {
                cue.calibrate(frame, tuning);
            }
            let report = match batch {
                Some(Batch::Step(_)) => reports.next(),
                Some(Batch::Statistics) => Some(StepReport::default()),
                None => None,
            };
            steps.extend(report.map(|report| (cue.kind(), report)));
        }
        Ok(steps)
    }

    /// Keeps what the frame that was just scored, with this number, looks like, if it is a part of an anomaly.
    pub(crate) fn keep_anomaly(&mut self, number: u64, anomalous: bool, frame: &Frame<'_>) {
        for cue in &mut self.cues {
            cue.keep_anomaly(number, anomalous, frame);
        }
    }

    /// Accepts what these frames look like as normal; `false` where there is nothing to accept.
    pub(crate) fn accept(&mut self, frames: &RangeInclusive<u64>) -> bool {
        let accepted = self.cues.iter_mut().map(|cue| cue.accept(frames));
        accepted.fold(false, |any, accepted| any | accepted)
    }

    /// Why a GPU had to be given up since the last call.
    pub(crate) fn take_failure(&mut self) -> Option<String> {
        self.engine.take_failure()
    }

    /// Forgets the previous frames, not what was learnt.
    pub(crate) fn restart(&mut self) {
        self.cues.iter_mut().for_each(CalibratedCue::restart);
    }

    /// Whether some cue could not score the last frame.
    pub(crate) fn is_held(&self) -> bool {
        self.cues.iter().any(CalibratedCue::is_held)
    }

    /// Whether some cue is calibrated.
    pub(crate) fn is_calibrated(&self) -> bool {
        self.cues.iter().any(|cue| cue.calibration().is_ready())
    }

    /// Whether the first quarter of some cue's warm-up is over.
    pub(crate) fn is_scoring(&self) -> bool {
        if self.warm_up > 0 {
            return self.frames > self.warm_up / 4;
        }
        self.cues.iter().any(|cue| cue.calibration().is_past(0.25))
    }

    /// The standardised scores of the last frame, of all cues that have one.
    pub(crate) fn standardised(&self) -> Vec<f64> {
        self.cues.iter().filter_map(CalibratedCue::standardised).collect()
    }

    /// Whether some cue's score of the last frame would be above `threshold` without what was deducted because it stays.
    pub(crate) fn is_absorbed(&self, threshold: f64) -> bool {
        self.cues.iter().any(|cue| cue.is_absorbed(threshold))
    }

    /// The cue with the largest standardised score; the first one while none has any.
    pub(crate) fn strongest(&self) -> &CalibratedCue {
        let score = |cue: &CalibratedCue| cue.standardised().unwrap_or(f64::NEG_INFINITY);
        self.cues
            .iter()
            .reduce(|best, cue| if score(cue) > score(best) { cue } else { best })
            .expect("a detector has at least one cue")
    }

    /// The cues that scored the last frame and count.
    pub(crate) fn counted(&self) -> impl Iterator<Item = &CalibratedCue> {
        self.cues
            .iter()
            .filter(|cue| !cue.is_held() && !cue.is_unsettled())
    }

    /// The standardised score of every cell: the largest of all cues, on the grid of the first one. Cells without any score
    /// are negative infinity.
    pub(crate) fn map(&self) -> AnomalyMap {
        let Some((first, others)) = self.cues.split_first() else {
            return AnomalyMap::default();
        };
        let standardise = |cue: &CalibratedCue, score: f32| match score == f32::NEG_INFINITY {
            true => score,
            false => cue.calibration().standardise(f64::from(score)) as f32,
        };
        let mut map = first.map().clone();
        for value in &mut map.values {
            *value = standardise(first, *value);
        }
        for cue in others.iter().filter(|cue| !cue.is_unsettled()) {
            let other = cue.map();
            for (i, value) in map.values.iter_mut().enumerate() {
                let x = i % map.width * other.width / map.width;
                let y = i / map.width * other.height / map.height;
                *value = value.max(standardise(cue, other.values[y * other.width + x]));
            }
        }
        map
    }

    /// What a cue expected of the last frame as Y, Cr, Cb image, 0..255, and its width, where one expects an image.
    pub(crate) fn expected_image(&mut self) -> Result<Option<(Vec<f32>, usize)>> {
        for cue in &self.cues {
            if let Some(image) = cue.expected_image(self.engine.as_mut())? {
                return Ok(Some(image));
            }
        }
        Ok(None)
    }

    /// All that was learnt.
    pub(crate) fn learnt(&mut self) -> Result<CueSetLearnt> {
        let engine = self.engine.as_mut();
        let cues = self.cues.iter().map(|cue| cue.learnt(engine));
        Ok(CueSetLearnt {
            cues: cues.collect::<Result<_>>()?,
            frames: self.frames,
        })
    }

    /// Continues from what another set of the same configuration had learnt. This set must not have seen a frame yet.
    pub(crate) fn restore(&mut self, learnt: CueSetLearnt) -> Result<()> {
        if learnt.cues.len() != self.cues.len() {
            let (got, want) = (learnt.cues.len(), self.cues.len());
            return Err(Error::Learnt(format!("it has {got} cues, not {want}")));
        }
        for (cue, learnt) in self.cues.iter_mut().zip(learnt.cues) {
            cue.restore(learnt, self.engine.as_mut())?;
        }
        self.frames = learnt.frames;
        Ok(())
    }

    fn count_warm_up(&mut self) {
        self.frames = self.frames.saturating_add(1);
        if self.warm_up > 0 && self.frames >= self.warm_up {
            self.cues.iter_mut().for_each(CalibratedCue::end_warm_up);
        }
    }
}
