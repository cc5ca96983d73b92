//! Time between frames. Rates of running means are per tick, a tenth of a second.

use std::time::Duration;

/// Seconds of one tick.
pub(crate) const TICK: f64 = 0.1;
/// Tolerance of sums of frame intervals, in seconds.
pub(crate) const ROUNDING: f64 = 1e-6;
/// A longer pause is a gap in the stream and counts as this many seconds.
const LONGEST: f64 = 1.0;

/// Time since the previous frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) seconds: f64,
    /// The same in ticks; 1 after a gap.
    pub(crate) ticks: f64,
}

impl Step {
    /// Whether nothing is known of the time between.
    pub(crate) fn is_gap(self) -> bool {
        self.ticks < 0.5 * self.seconds / TICK
    }
}

/// Whether running means follow, and how far back they reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Learning {
    pub(crate) on: bool,
    /// Seconds.
    pub(crate) memory: f64,
}

impl Learning {
    /// The smallest rate per tick that forgets what is older than the memory.
    pub(crate) fn least_rate(self) -> f64 {
        (TICK / self.memory).min(1.0)
    }
}

/// Rate of a running mean over `ticks` ticks: `1 - (1 - rate)^ticks`.
pub(crate) fn blend(rate: f64, ticks: f64) -> f64 {
    1.0 - (1.0 - rate).max(0.0).powf(ticks)
}

/// Measures steps by the frames' times, or by the nominal frame interval where there are none.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    last: Option<Duration>,
    now: f64,
}

impl Clock {
    /// The step to a frame at `time`; `nominal` is used where times are missing or run backwards.
    pub(crate) fn step(&mut self, time: Option<Duration>, nominal: Option<Duration>) -> Step {
        let usual = nominal
            .map(|n| n.as_secs_f64())
            .filter(|&s| s > 0.0)
            .unwrap_or(TICK);
        let measured = match (self.last, time) {
            (Some(last), Some(now)) if now > last => (now - last).as_secs_f64(),
            _ => usual,
        };
        // A frame without a time came when it should have come.
        let expected = |last: Duration| last.checked_add(Duration::from_secs_f64(measured));
        self.last = time.or(self.last.and_then(expected));
        let longest = LONGEST.max(usual);
        let seconds = measured.min(longest);
        // After a gap, or a wrong time, nothing is known of the time between: it is the next frame.
        let is_gap = measured > longest;
        self.now += if is_gap { usual } else { seconds };
        Step {
            seconds,
            ticks: if is_gap { 1.0 } else { seconds / TICK },
        }
    }

    /// Seconds since the first frame, without gaps.
    pub(crate) fn now(&self) -> f64 {
        self.now
    }

    /// The next frame's time does not continue the previous one's.
    pub(crate) fn restart(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(t: u64) -> Option<Duration> {
        Some(Duration::from_millis(t))
    }

    #[test]
    fn a_tick_is_a_tenth_of_a_second() {
        let mut clock = Clock::default();
        let nominal = ms(40);
        assert!((clock.step(ms(5000), nominal).ticks - 0.4).abs() < 1e-9);
        assert_eq!(clock.step(ms(5100), nominal).ticks, 1.0);
        assert_eq!(
            clock.step(ms(5300), nominal),
            Step {
                seconds: 0.2,
                ticks: 2.0
            }
        );
        assert_eq!(clock.step(ms(5325), nominal).ticks, 0.25);
        assert!((clock.now() - 0.365).abs() < 1e-9);
    }

    #[test]
    fn missing_backward_and_distant_times_are_bounded() {
        let mut clock = Clock::default();
        assert_eq!(
            clock.step(None, None),
            Step {
                seconds: 0.1,
                ticks: 1.0
            }
        );
        assert!(!clock.step(ms(9000), ms(50)).is_gap());
        assert_eq!(clock.step(ms(1000), ms(50)).seconds, 0.05);
        let gap = Step {
            seconds: 1.0,
            ticks: 1.0,
        };
        assert_eq!(clock.step(ms(90_000_000), ms(50)), gap);
        assert!(gap.is_gap());
        let slow = clock.step(None, ms(2000));
        assert!(slow.seconds == 2.0 && !slow.is_gap());
    }

    #[test]
    fn frames_without_a_time_come_at_the_nominal_interval() {
        let mut clock = Clock::default();
        for i in 0..40 {
            let time = (i % 4 == 0).then(|| Duration::from_millis(100 * i));
            let step = clock.step(time, ms(100));
            assert!((step.seconds - 0.1).abs() < 1e-9, "frame {i}: {step:?}");
        }
    }

    #[test]
    fn small_blends_add_up() {
        let mut left = 1.0;
        for _ in 0..3 {
            left *= 1.0 - blend(0.25, 1.0 / 3.0);
        }
        assert!((left - 0.75f64).abs() < 1e-12);
        assert_eq!(blend(1.0, 0.3), 1.0);
    }
}
