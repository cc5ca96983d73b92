//! Start and end of a frame, also where its buffer lacks times.

use std::time::Duration;

/// Assumed frame duration in a stream without times and without a frame rate (25 frames/s).
const FALLBACK_FRAME: Duration = Duration::from_millis(40);

/// A time that goes back by more than this is a new start (a seek, another segment), not jitter.
const JUMP: Duration = Duration::from_secs(1);

/// The time during which a frame is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Start of the frame.
    pub start: Duration,
    /// End of the frame; equal to `start` where the duration is unknown.
    pub end: Duration,
    /// Time went back before this frame: state about earlier times no longer applies.
    pub jump: bool,
}

impl Span {
    /// A frame that starts at `start` and lasts `duration`.
    pub fn new(start: Duration, duration: Duration) -> Self {
        Span {
            start,
            end: start.saturating_add(duration),
            jump: false,
        }
    }

    /// Duration of the frame; zero where it is unknown.
    pub fn duration(&self) -> Duration {
        self.end.saturating_sub(self.start)
    }
}

/// Derives a [`Span`] for every frame, whatever its buffer lacks.
///
/// A frame without a time starts where the previous frame ended. Where that is unknown too, the last distance between two
/// frames repeats. At frame rate 0/1 the caller has no duration to pass.
#[derive(Debug, Clone, Default)]
pub struct FrameClock {
    last: Option<Span>,
    step: Option<Duration>,
}

impl FrameClock {
    /// A clock before the first frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the span of the next frame: `at` is its running time, `duration` its own or nominal duration.
    pub fn span(&mut self, at: Option<Duration>, duration: Option<Duration>) -> Span {
        let duration = duration.filter(|duration| !duration.is_zero());
        let start = at.unwrap_or_else(|| self.expected());
        let mut span = Span::new(start, duration.unwrap_or_default());
        span.jump = self
            .last
            .is_some_and(|last| start.saturating_add(JUMP) < last.start);
        let step = self.last.and_then(|last| start.checked_sub(last.start));
        self.step = step.filter(|step| !step.is_zero()).or(self.step);
        self.last = Some(span);
        span
    }

    /// End of the last frame.
    pub fn last_end(&self) -> Option<Duration> {
        self.last.map(|last| last.end)
    }

    /// Clears the time base after a flush, a seek or a stop. The next frame is no jump.
    pub fn restart(&mut self) {
        *self = Self::default();
    }

    fn expected(&self) -> Duration {
        match self.last {
            None => Duration::ZERO,
            Some(last) if last.end > last.start => last.end,
            Some(last) => last.start.saturating_add(self.step.unwrap_or(FALLBACK_FRAME)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn buffer_times_are_used_unchanged() {
        let mut clock = FrameClock::new();
        assert_eq!(
            clock.span(Some(ms(500)), Some(ms(40))),
            Span::new(ms(500), ms(40))
        );
        assert_eq!(clock.span(Some(ms(700)), None), Span::new(ms(700), ms(0)));
    }

    #[test]
    fn missing_times_continue_from_the_previous_frame() {
        let mut clock = FrameClock::new();
        assert_eq!(clock.span(None, Some(ms(40))).start, ms(0));
        assert_eq!(clock.span(None, Some(ms(40))).start, ms(40));
        assert_eq!(clock.span(None, None).start, ms(80));
        assert_eq!(clock.span(None, None).start, ms(120), "the last step repeats");
    }

    #[test]
    fn a_stream_without_times_and_rate_runs_at_25_frames_a_second() {
        let mut clock = FrameClock::new();
        let starts: Vec<_> = (0..3).map(|_| clock.span(None, None).start).collect();
        assert_eq!(starts, [ms(0), ms(40), ms(80)]);
    }

    #[test]
    fn only_going_back_by_more_than_a_second_is_a_jump() {
        let mut clock = FrameClock::new();
        clock.span(Some(ms(5000)), Some(ms(40)));
        assert!(!clock.span(Some(ms(4990)), Some(ms(40))).jump);
        assert!(clock.span(Some(ms(100)), Some(ms(40))).jump);
        clock.restart();
        assert!(!clock.span(Some(ms(0)), Some(ms(40))).jump);
    }
}
