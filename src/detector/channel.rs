//! A cue with its calibration and its training cadence.

use super::calibration::Calibration;
use super::clock::Step;
use super::cue::{CalibratesOn, Cue, CueKind, Frame, Lesson};
use super::{Result, Tuning};

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

    pub(crate) fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    pub(crate) fn end_warm_up(&mut self) {
        if self.fixed_warm_up {
            self.calibration.end_warm_up();
        }
    }

    /// Scores the frame. A score that is not finite counts as missing.
    pub(crate) fn score(&mut self, frame: &Frame<'_>, learn: bool) -> Result<()> {
        self.last = self.cue.score(frame, learn)?.filter(|s| s.is_finite());
        Ok(())
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

    /// Learns from the frame that was just scored, if it is this frame's turn.
    pub(crate) fn learn(
        &mut self,
        frame: &Frame<'_>,
        tuning: &Tuning,
        eager: bool,
    ) -> Result<Option<Lesson>> {
        self.wait(frame.step);
        let turn = if eager || self.cue.lessons() < EAGER_LESSONS {
            self.ticks_waited > 0.99
        } else {
            self.frames_waited >= tuning.train_interval
        };
        let due = turn && tuning.train;
        let (ticks, seconds) = (self.ticks_waited.min(1.0), self.seconds_waited);
        let lesson = if due { self.cue.learn(frame, tuning)? } else { None };
        match (self.cue.calibrates_on(), self.last) {
            (CalibratesOn::EveryFrame, Some(score)) => {
                self.calibration
                    .observe(score, frame.step.ticks, frame.step.seconds);
            }
            (CalibratesOn::TrainedFrames, Some(score)) if lesson.is_some() => {
                self.calibration.observe(score, ticks, seconds);
            }
            _ => {}
        }
        if lesson.is_some() {
            (self.frames_waited, self.ticks_waited, self.seconds_waited) = (0, 0.0, 0.0);
        }
        Ok(lesson)
    }

    /// Why the cue had to leave a GPU, once.
    pub(crate) fn take_failure(&mut self) -> Option<String> {
        self.cue.take_failure()
    }

    #[cfg(test)]
    pub(crate) fn inject(&mut self, fault: super::cue::Fault) {
        self.cue.inject(fault);
    }

    pub(crate) fn leave_gpu(&mut self) -> Result<()> {
        self.cue.leave_gpu()
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
