//! A cue with its calibration and its training cadence.

use super::Tuning;
use super::calibration::Calibration;
use super::clock::Step;
use super::cue::{CalibratesOn, Cue, CueKind, Frame, Turn};

/// Training steps on every tick before the cadence of `Tuning::train_interval` begins.
const EAGER_LESSONS: u32 = 1500;

/// One cue's way from frame to standardised score.
#[derive(Debug)]
pub(crate) struct Channel {
    cue: Box<dyn Cue>,
    calibration: Calibration,
    fixed_warm_up: bool,
    last: Option<f64>,
    frames_waited: u32,
    ticks_waited: f64,
    seconds_waited: f64,
}

impl Channel {
    /// `warm_up` > 0 leaves the end of the warm-up to [`Channel::end_warm_up`].
    pub(crate) fn new(cue: Box<dyn Cue>, warm_up: u32) -> Self {
        let mut config = cue.calibration();
        if warm_up > 0 {
            config.skip = config.skip.min(f64::from(warm_up) / 4.0);
            config.warm_up = f64::INFINITY;
        }
        Self {
            cue,
            calibration: Calibration::new(config),
            fixed_warm_up: warm_up > 0,
            last: None,
            frames_waited: 0,
            ticks_waited: 0.0,
            seconds_waited: 0.0,
        }
    }

    pub(crate) fn kind(&self) -> CueKind {
        self.cue.kind()
    }

    pub(crate) fn cue(&self) -> &dyn Cue {
        self.cue.as_ref()
    }

    pub(crate) fn cue_mut(&mut self) -> &mut dyn Cue {
        self.cue.as_mut()
    }

    pub(crate) fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    pub(crate) fn end_warm_up(&mut self) {
        if self.fixed_warm_up {
            self.calibration.end_warm_up();
        }
    }

    /// Takes the frame's score. One that is not finite counts as missing.
    pub(crate) fn take(&mut self, score: Option<f64>) {
        self.last = score.filter(|s| s.is_finite());
    }

    /// Whether the last frame could not be scored.
    pub(crate) fn is_held(&self) -> bool {
        self.last.is_none()
    }

    /// The last score against its history, once that is long enough.
    pub(crate) fn standardised(&self) -> Option<f64> {
        self.last
            .filter(|_| self.calibration.is_ready())
            .map(|score| self.calibration.standardise(score))
    }

    /// What there is to learn from the frame that was just scored, if it is its turn.
    pub(crate) fn prepare(&mut self, frame: &Frame<'_>, tuning: &Tuning, eager: bool) -> Turn {
        self.wait(frame.step);
        let turn = if eager || self.cue.lessons() < EAGER_LESSONS {
            self.ticks_waited > 0.99
        } else {
            self.frames_waited >= tuning.train_interval
        };
        match turn && tuning.train {
            true => self.cue.prepare(frame, tuning),
            false => Turn::Pass,
        }
    }

    /// The frame that was just scored has its place in the history. `learnt`: there was something to learn from it.
    pub(crate) fn calibrate(&mut self, frame: &Frame<'_>, learnt: bool) {
        match (self.cue.calibrates_on(), self.last) {
            (CalibratesOn::EveryFrame, Some(score)) => {
                self.calibration
                    .observe(score, frame.step.ticks, frame.step.seconds);
            }
            (CalibratesOn::TrainedFrames, Some(score)) if learnt => {
                self.calibration
                    .observe(score, self.ticks_waited.min(1.0), self.seconds_waited);
            }
            _ => {}
        }
        if learnt {
            (self.frames_waited, self.ticks_waited, self.seconds_waited) = (0, 0.0, 0.0);
        }
    }

    pub(crate) fn restart(&mut self) {
        self.cue.restart();
    }

    fn wait(&mut self, step: Step) {
        self.frames_waited += 1;
        self.ticks_waited += step.ticks;
        self.seconds_waited += step.seconds;
    }
}
