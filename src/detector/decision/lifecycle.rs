//! The detector's life-cycle state.

use serde::{Deserialize, Serialize};

use crate::detector::frame::{Cut, ROUNDING, Step};
use crate::detector::names::names;

/// Life-cycle state of a detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum State {
    /// Learning; the score is not yet meaningful.
    #[default]
    WarmingUp,
    /// Scoring; the threshold is not yet trusted.
    Calibrating,
    /// Labels are given.
    Detecting,
    /// Learning a changed scene; no labels.
    Adapting,
    /// Learning is off; labels are given.
    Frozen,
}

names!(State, "state":
    WarmingUp = "warming-up",
    Calibrating = "calibrating",
    Detecting = "detecting",
    Adapting = "adapting",
    Frozen = "frozen",
);

impl State {
    /// Whether labels are given in this state.
    pub fn is_labelling(self) -> bool {
        matches!(self, Self::Detecting | Self::Frozen)
    }
}

/// Seconds below the threshold that end the adaptation to a new scene.
const QUIET: f64 = 1.0;
/// Seconds after which it ends anyway.
const LONGEST_ADAPTATION: f64 = 60.0;

/// What the next state depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LifeCycleInputs {
    pub(crate) learn: bool,
    /// The first part of some cue's warm-up is over.
    pub(crate) scoring: bool,
    /// Some cue is calibrated.
    pub(crate) calibrated: bool,
    /// Some cue could not score the frame, for lack of previous ones.
    pub(crate) held: bool,
    pub(crate) over_threshold: bool,
    pub(crate) cut: Option<Cut>,
    pub(crate) step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Adaptation {
    cut: Cut,
    seconds: f64,
    quiet: f64,
    /// Whether the cut was in an earlier stream.
    #[serde(skip)]
    resumed: bool,
}

/// Walks through the states.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LifeCycle {
    state: State,
    adaptation: Option<Adaptation>,
}

impl LifeCycle {
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// A new stream continues from here. Its first frames cannot be scored by every cue, which keeps no adaptation going
    /// where nothing is learnt.
    pub(crate) fn resume(&mut self) {
        if let Some(adaptation) = &mut self.adaptation {
            adaptation.resumed = true;
        }
    }

    pub(crate) fn advance(&mut self, inputs: &LifeCycleInputs) -> State {
        self.state = match (inputs.calibrated, inputs.scoring) {
            (true, _) if self.is_adapting(inputs) => State::Adapting,
            (true, _) if !inputs.learn => State::Frozen,
            (true, _) => State::Detecting,
            (false, true) => State::Calibrating,
            (false, false) => State::WarmingUp,
        };
        self.state
    }

    /// A splice of the same scene is over as soon as there are frames to compare with; a new scene when the
    /// score has been quiet for a while, or has not become quiet for long.
    fn is_adapting(&mut self, inputs: &LifeCycleInputs) -> bool {
        if let Some(cut) = inputs.cut {
            let already_new_scene = matches!(
                self.adaptation,
                Some(Adaptation {
                    cut: Cut::NewScene,
                    ..
                })
            );
            if !already_new_scene || cut == Cut::NewScene {
                self.adaptation = Some(Adaptation {
                    cut,
                    seconds: 0.0,
                    quiet: 0.0,
                    resumed: false,
                });
            }
            return true;
        }
        let Some(adaptation) = &mut self.adaptation else {
            return false;
        };
        adaptation.seconds += inputs.step.seconds;
        adaptation.quiet = if inputs.over_threshold || inputs.held {
            0.0
        } else {
            adaptation.quiet + inputs.step.seconds
        };
        let goes_on = inputs.held && (inputs.learn || !adaptation.resumed)
            || adaptation.cut == Cut::NewScene
                && inputs.learn
                && adaptation.quiet < QUIET - ROUNDING
                && adaptation.seconds < LONGEST_ADAPTATION;
        if !goes_on {
            self.adaptation = None;
        }
        goes_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> LifeCycleInputs {
        LifeCycleInputs {
            learn: true,
            scoring: true,
            calibrated: true,
            held: false,
            over_threshold: false,
            cut: None,
            step: Step {
                seconds: 0.1,
                ticks: 1.0,
            },
        }
    }

    #[test]
    fn states_follow_in_order() {
        let mut life_cycle = LifeCycle::default();
        assert_eq!(
            life_cycle.advance(&LifeCycleInputs {
                scoring: false,
                calibrated: false,
                ..inputs()
            }),
            State::WarmingUp
        );
        assert_eq!(
            life_cycle.advance(&LifeCycleInputs {
                calibrated: false,
                ..inputs()
            }),
            State::Calibrating
        );
        assert_eq!(life_cycle.advance(&inputs()), State::Detecting);
        assert_eq!(
            life_cycle.advance(&LifeCycleInputs {
                learn: false,
                ..inputs()
            }),
            State::Frozen
        );
        assert_eq!(life_cycle.advance(&inputs()), State::Detecting);
    }

    #[test]
    fn a_splice_lasts_as_long_as_frames_are_missing() {
        let mut life_cycle = LifeCycle::default();
        assert_eq!(
            life_cycle.advance(&LifeCycleInputs {
                cut: Some(Cut::SameScene),
                held: true,
                ..inputs()
            }),
            State::Adapting
        );
        assert_eq!(
            life_cycle.advance(&LifeCycleInputs {
                held: true,
                ..inputs()
            }),
            State::Adapting
        );
        assert_eq!(
            life_cycle.advance(&LifeCycleInputs {
                over_threshold: true,
                ..inputs()
            }),
            State::Detecting
        );
    }

    #[test]
    fn a_new_scene_lasts_until_the_score_is_quiet_or_a_minute() {
        let new_scene = LifeCycleInputs {
            cut: Some(Cut::NewScene),
            ..inputs()
        };
        let mut life_cycle = LifeCycle::default();
        life_cycle.advance(&new_scene);
        for i in 1..10 {
            assert_eq!(life_cycle.advance(&inputs()), State::Adapting, "{i}");
        }
        assert_eq!(life_cycle.advance(&inputs()), State::Detecting);

        life_cycle.advance(&new_scene);
        let over_threshold = LifeCycleInputs {
            over_threshold: true,
            ..inputs()
        };
        let frames = (0..1000)
            .take_while(|_| life_cycle.advance(&over_threshold) == State::Adapting)
            .count();
        assert!((598..=601).contains(&frames), "{frames} frames");
    }

    #[test]
    fn a_splice_does_not_cut_an_adaptation_short() {
        let mut life_cycle = LifeCycle::default();
        let over_threshold = LifeCycleInputs {
            over_threshold: true,
            ..inputs()
        };
        life_cycle.advance(&LifeCycleInputs {
            cut: Some(Cut::NewScene),
            ..over_threshold
        });
        life_cycle.advance(&LifeCycleInputs {
            cut: Some(Cut::SameScene),
            ..over_threshold
        });
        assert_eq!(life_cycle.advance(&over_threshold), State::Adapting);
    }
}
