//! The detector's life-cycle state.

use serde::{Deserialize, Serialize};

use crate::detector::frame::{Cut, Step};
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

/// Seconds after which labels are given again whatever changes.
const LONGEST_ADAPTATION: f64 = 5.0;
/// Seconds without a change after which a further one counts as a new one.
const QUIET: f64 = 5.0;

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
    pub(crate) cut: Option<Cut>,
    /// The light, or what is ignored, is changing: the past says little about what is normal now.
    pub(crate) changing: bool,
    pub(crate) step: Step,
}

/// Walks through the states.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LifeCycle {
    state: State,
    /// After a cut, until every cue has frames to compare with.
    after_cut: bool,
    /// Seconds since a change began, and since it was last seen; `None` if that is long ago.
    change: Option<(f64, f64)>,
    /// Whether the cut was in an earlier stream.
    #[serde(skip)]
    resumed: bool,
}

impl LifeCycle {
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// A new stream continues from here. Its first frames cannot be scored by every cue, which keeps no adaptation going
    /// where nothing is learnt.
    pub(crate) fn resume(&mut self) {
        self.resumed = self.after_cut;
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

    /// After a cut until there are frames to compare with, and while something changes, up to some seconds.
    fn is_adapting(&mut self, inputs: &LifeCycleInputs) -> bool {
        if inputs.cut.is_some() {
            (self.after_cut, self.resumed) = (true, false);
        } else if !inputs.held || self.resumed && !inputs.learn {
            self.after_cut = false;
        }
        self.change = match (self.change, inputs.changing) {
            (None, true) => Some((0.0, 0.0)),
            (Some((begun, _)), true) => Some((begun + inputs.step.seconds, 0.0)),
            (Some((begun, last)), false) if last < QUIET => {
                Some((begun + inputs.step.seconds, last + inputs.step.seconds))
            }
            (_, false) => None,
        };
        let changes = inputs.changing && self.change.is_some_and(|(begun, _)| begun < LONGEST_ADAPTATION);
        self.after_cut || changes
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
            cut: None,
            changing: false,
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
        assert_eq!(life_cycle.advance(&inputs()), State::Detecting);
    }

    #[test]
    fn a_change_lasts_as_long_as_it_is_seen_but_some_seconds_at_most() {
        let changing = LifeCycleInputs {
            changing: true,
            ..inputs()
        };
        let mut life_cycle = LifeCycle::default();
        assert_eq!(life_cycle.advance(&changing), State::Adapting);
        assert_eq!(life_cycle.advance(&inputs()), State::Detecting);

        let mut life_cycle = LifeCycle::default();
        let adapting = |life_cycle: &mut LifeCycle| {
            (0..1000)
                .filter(|_| life_cycle.advance(&changing) == State::Adapting)
                .count()
        };
        let frames = adapting(&mut life_cycle);
        assert!((49..=51).contains(&frames), "{frames} frames");
        (0..70).for_each(|_| _ = life_cycle.advance(&inputs()));
        assert_eq!(adapting(&mut life_cycle), frames, "a later change counts anew");
    }

    #[test]
    fn a_cut_without_learning_ends_with_its_stream() {
        let held = LifeCycleInputs {
            learn: false,
            held: true,
            ..inputs()
        };
        let mut life_cycle = LifeCycle::default();
        let cut = LifeCycleInputs {
            cut: Some(Cut::SameScene),
            ..held
        };
        assert_eq!(life_cycle.advance(&cut), State::Adapting);
        assert_eq!(life_cycle.advance(&held), State::Adapting);
        life_cycle.resume();
        assert_eq!(life_cycle.advance(&held), State::Frozen);
    }
}
