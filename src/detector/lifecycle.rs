//! The one visible state of a detector.

use super::clock::{ROUNDING, Step};
use super::names::names;
use super::scene::Cut;

/// Where a detector is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum State {
    /// Learning; the score is not yet meaningful.
    #[default]
    WarmingUp,
    /// Scoring; the threshold is not yet to be trusted.
    Calibrating,
    /// Labels are given.
    Detecting,
    /// After a change of scene: learning what is normal now; no labels.
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

/// Seconds below the threshold that end the adaptation to a new scene, and seconds after which it ends anyway.
const QUIET: f64 = 1.0;
const LONGEST_ADAPTATION: f64 = 60.0;

/// What the next state depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signs {
    pub(crate) learn: bool,
    /// The first part of some cue's warm-up is over.
    pub(crate) scoring: bool,
    /// Some cue is calibrated.
    pub(crate) calibrated: bool,
    /// Some cue lacks the frames before this one.
    pub(crate) held: bool,
    pub(crate) over_threshold: bool,
    pub(crate) cut: Option<Cut>,
    pub(crate) step: Step,
}

#[derive(Clone, Copy, Debug)]
struct Adaptation {
    cut: Cut,
    seconds: f64,
    quiet: f64,
}

/// Turns signs into states.
#[derive(Debug, Default)]
pub(crate) struct LifeCycle {
    state: State,
    adaptation: Option<Adaptation>,
}

impl LifeCycle {
    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn advance(&mut self, signs: &Signs) -> State {
        self.state = match (signs.calibrated, signs.scoring) {
            (true, _) if self.is_adapting(signs) => State::Adapting,
            (true, _) if !signs.learn => State::Frozen,
            (true, _) => State::Detecting,
            (false, true) => State::Calibrating,
            (false, false) => State::WarmingUp,
        };
        self.state
    }

    /// A splice of the same scene is over as soon as there are frames to compare with; a new scene when the
    /// score has been quiet for a while, or has not become quiet for long.
    fn is_adapting(&mut self, signs: &Signs) -> bool {
        if let Some(cut) = signs.cut {
            let harder = matches!(
                self.adaptation,
                Some(Adaptation {
                    cut: Cut::NewScene,
                    ..
                })
            );
            if !harder || cut == Cut::NewScene {
                self.adaptation = Some(Adaptation {
                    cut,
                    seconds: 0.0,
                    quiet: 0.0,
                });
            }
            return true;
        }
        let Some(adaptation) = &mut self.adaptation else {
            return false;
        };
        adaptation.seconds += signs.step.seconds;
        adaptation.quiet = if signs.over_threshold || signs.held {
            0.0
        } else {
            adaptation.quiet + signs.step.seconds
        };
        let goes_on = signs.held
            || adaptation.cut == Cut::NewScene
                && signs.learn
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

    fn signs() -> Signs {
        Signs {
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
    fn goes_through_its_life_in_order() {
        let mut life = LifeCycle::default();
        assert_eq!(
            life.advance(&Signs {
                scoring: false,
                calibrated: false,
                ..signs()
            }),
            State::WarmingUp
        );
        assert_eq!(
            life.advance(&Signs {
                calibrated: false,
                ..signs()
            }),
            State::Calibrating
        );
        assert_eq!(life.advance(&signs()), State::Detecting);
        assert_eq!(
            life.advance(&Signs {
                learn: false,
                ..signs()
            }),
            State::Frozen
        );
        assert_eq!(life.advance(&signs()), State::Detecting);
    }

    #[test]
    fn a_splice_lasts_as_long_as_frames_are_missing() {
        let mut life = LifeCycle::default();
        assert_eq!(
            life.advance(&Signs {
                cut: Some(Cut::SameScene),
                held: true,
                ..signs()
            }),
            State::Adapting
        );
        assert_eq!(
            life.advance(&Signs {
                held: true,
                ..signs()
            }),
            State::Adapting
        );
        assert_eq!(
            life.advance(&Signs {
                over_threshold: true,
                ..signs()
            }),
            State::Detecting
        );
    }

    #[test]
    fn a_new_scene_lasts_until_the_score_is_quiet_or_a_minute() {
        let new_scene = Signs {
            cut: Some(Cut::NewScene),
            ..signs()
        };
        let mut life = LifeCycle::default();
        life.advance(&new_scene);
        for i in 1..10 {
            assert_eq!(life.advance(&signs()), State::Adapting, "{i}");
        }
        assert_eq!(life.advance(&signs()), State::Detecting);

        life.advance(&new_scene);
        let loud = Signs {
            over_threshold: true,
            ..signs()
        };
        let frames = (0..1000)
            .take_while(|_| life.advance(&loud) == State::Adapting)
            .count();
        assert!((598..=601).contains(&frames), "{frames} frames");
    }

    #[test]
    fn a_splice_does_not_cut_an_adaptation_short() {
        let mut life = LifeCycle::default();
        let loud = Signs {
            over_threshold: true,
            ..signs()
        };
        life.advance(&Signs {
            cut: Some(Cut::NewScene),
            ..loud
        });
        life.advance(&Signs {
            cut: Some(Cut::SameScene),
            ..loud
        });
        assert_eq!(life.advance(&loud), State::Adapting);
    }
}
