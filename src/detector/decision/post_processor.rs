//! From the standardised scores of all cues to the decision on a frame.

use serde::{Deserialize, Serialize};

use super::fusion::Fusion;
use super::lifecycle::{LifeCycle, LifeCycleInputs, State};
use super::threshold::Threshold;
use crate::detector::cue::CueSet;
use crate::detector::frame::{SceneReport, Step};
use crate::detector::store::Visitor;
use crate::detector::{Result, Tuning};

/// The decision on a frame, before anything is learnt from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decision {
    pub(crate) raw_score: f64,
    pub(crate) threshold: f64,
    pub(crate) over_threshold: bool,
    pub(crate) state: State,
}

/// Fuses, compares, and follows the life cycle.
#[derive(Debug, Default)]
pub(crate) struct PostProcessor {
    learnt: PostProcessorLearnt,
}

/// Smoothed score, the threshold's window and the life-cycle state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PostProcessorLearnt {
    fusion: Fusion,
    threshold: Threshold,
    life_cycle: LifeCycle,
}

impl PostProcessorLearnt {
    /// All arrays with their names.
    pub(crate) fn arrays(&mut self, visit: &mut Visitor<'_>) -> Result<()> {
        self.threshold.arrays(visit)
    }
}

impl PostProcessor {
    pub(crate) fn state(&self) -> State {
        self.learnt.life_cycle.state()
    }

    /// The decision on the frame that `cues` scored last.
    pub(crate) fn decide(
        &mut self,
        cues: &CueSet,
        scene: SceneReport,
        step: Step,
        tuning: &Tuning,
    ) -> Decision {
        let PostProcessorLearnt {
            fusion,
            threshold,
            life_cycle,
        } = &mut self.learnt;
        let (held, scores) = (cues.is_held(), cues.standardised());
        let (raw_score, threshold) = if held || scores.is_empty() {
            (fusion.raw_score(), threshold.current(tuning))
        } else {
            let raw = fusion.update(&scores);
            (raw, threshold.update(raw, tuning))
        };
        let state = life_cycle.advance(&LifeCycleInputs {
            learn: tuning.learn,
            scoring: cues.is_scoring(),
            calibrated: cues.is_calibrated(),
            held,
            cut: scene.cut,
            changing: tuning.learn && (scene.light_changing || scene.other_ignored),
            step,
        });
        Decision {
            raw_score,
            threshold,
            over_threshold: raw_score > threshold,
            state,
        }
    }

    /// What was learnt.
    pub(crate) fn learnt(&self) -> &PostProcessorLearnt {
        &self.learnt
    }

    /// Continues from what another one had learnt.
    pub(crate) fn restore(&mut self, learnt: PostProcessorLearnt) {
        self.learnt = learnt;
        self.learnt.life_cycle.resume();
    }
}
