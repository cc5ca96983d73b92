//! When the calibration of a cue that compares images was made at another frame rate.

use serde::{Deserialize, Serialize};

use crate::detector::frame::Step;

/// Down to this interval in ticks (5 frames/s), differences over longer times can be scaled back.
const COMPARABLE: f64 = 2.0;
/// Rate per frame of the running mean.
const RATE: f64 = 0.1;
/// The factor that makes an interval another one.
const OTHER: f64 = 1.5;

/// The usual interval between frames, and that of the calibration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct FrameRate {
    /// Running mean of the logarithm of the ticks from frame to frame, at least [`COMPARABLE`].
    mean: f64,
    /// That mean when the calibration began.
    calibrated: f64,
}

impl Default for FrameRate {
    fn default() -> Self {
        let mean = COMPARABLE.ln();
        Self {
            mean,
            calibrated: mean,
        }
    }
}

impl FrameRate {
    /// Takes a frame. Returns whether the frame rate is no longer that of the calibration, once for each change, seconds after
    /// it; a single long interval is no change. Until the calibration `is_ready`, it is for the rate of now.
    pub(super) fn has_changed(&mut self, step: Step, is_ready: bool) -> bool {
        if !step.is_gap() {
            self.mean += RATE * (step.ticks.max(COMPARABLE).ln() - self.mean);
        }
        let has_changed = is_ready && (self.mean - self.calibrated).abs() > OTHER.ln();
        if has_changed || !is_ready {
            self.calibrated = self.mean;
        }
        has_changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(fps: f64) -> Step {
        Step {
            seconds: 1.0 / fps,
            ticks: 10.0 / fps,
        }
    }

    /// Numbers of the frames after which another rate was found.
    fn changes(rate: &mut FrameRate, frames: usize, fps: impl Fn(usize) -> f64) -> Vec<usize> {
        (0..frames)
            .filter(|&i| rate.has_changed(step(fps(i)), true))
            .collect()
    }

    #[test]
    fn a_fall_below_five_a_second_is_found_within_seconds() {
        for (fps, longest) in [(3.0, 20), (2.0, 6), (1.0, 4)] {
            let mut rate = FrameRate::default();
            assert!(changes(&mut rate, 300, |_| 30.0).is_empty());
            let found = changes(&mut rate, 300, |_| fps);
            assert!(found[0] < longest && found.len() <= 4, "{fps}/s: {found:?}");
            assert!(!changes(&mut rate, 300, |_| 30.0).is_empty(), "back from {fps}/s");
        }
    }

    #[test]
    fn scaled_rates_and_single_pauses_are_no_change() {
        let mut rate = FrameRate::default();
        assert!(changes(&mut rate, 300, |i| [5.0, 10.0, 30.0, 120.0][i % 4]).is_empty());
        let pauses = changes(&mut rate, 300, |i| if i % 50 == 0 { 1.0 } else { 10.0 });
        assert!(pauses.is_empty(), "{pauses:?}");
        let gap = Step {
            seconds: 1.0,
            ticks: 1.0,
        };
        assert!((0..100).all(|_| !rate.has_changed(gap, true)));
    }

    #[test]
    fn a_camera_that_begins_slowly_is_calibrated_for_that() {
        let mut rate = FrameRate::default();
        assert!((0..16).all(|_| !rate.has_changed(step(2.0), false)));
        assert!(changes(&mut rate, 300, |_| 2.0).is_empty());
    }
}
