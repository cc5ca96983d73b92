//! When a frame starts and ends, also when its buffer does not say.

use std::time::Duration;

/// What one frame is taken to last in a stream that has neither times nor a frame rate: 25 frames a second.
const FALLBACK_FRAME: Duration = Duration::from_millis(40);

/// Times that go back by more than this are a new start (a seek, another segment), not jitter.
const JUMP: Duration = Duration::from_secs(1);

/// The time one frame is on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// When the frame starts.
    pub start: Duration,
    /// When the frame ends; equal to `start` where nobody knows.
    pub end: Duration,
    /// Time went back before this frame: what was remembered about earlier times does not apply any more.
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

    /// How long the frame lasts; zero where nobody knows.
    pub fn duration(&self) -> Duration {
        self.end.saturating_sub(self.start)
    }
}

/// Gives every frame a [`Span`], whatever its buffer lacks.
///
/// A frame without a time starts where the one before it ended, or, where that is not known either, as much later
/// as the frame before it was later than its own predecessor. Frame rate 0/1 means that the caller has no duration to give.
#[derive(Debug, Clone, Default)]
pub struct FrameClock {
    last: Option<Span>,
    step: Option<Duration>,
}

impl FrameClock {
    /// A clock that has seen no frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// The span of the next frame: `at` is its running time, `duration` its own or nominal duration.
    pub fn span(&mut self, at: Option<Duration>, duration: Option<Duration>) -> Span {
        let duration = duration.filter(|duration| !duration.is_zero());
        let start = at.unwrap_or_else(|| self.expected());
        let mut span = Span::new(start, duration.unwrap_or_default());
        span.jump = self.would_jump(start);
        let step = self.last.and_then(|last| start.checked_sub(last.start));
        self.step = step.filter(|step| !step.is_zero()).or(self.step);
        self.last = Some(span);
        span
    }

    /// Whether a frame that starts at `at` would be back behind those before it.
    pub fn would_jump(&self, at: Duration) -> bool {
        self.last.is_some_and(|last| at.saturating_add(JUMP) < last.start)
    }

    /// Forgets the time base: after a flush, a seek or a stop. The next frame is no jump.
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
    fn times_given_are_times_taken() {
        let mut clock = FrameClock::new();
        assert_eq!(
            clock.span(Some(ms(500)), Some(ms(40))),
            Span::new(ms(500), ms(40))
        );
        assert_eq!(clock.span(Some(ms(700)), None), Span::new(ms(700), ms(0)));
    }

    #[test]
    fn missing_times_go_on_from_the_frame_before() {
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
    fn only_a_long_way_back_is_a_jump() {
        let mut clock = FrameClock::new();
        clock.span(Some(ms(5000)), Some(ms(40)));
        assert!(!clock.span(Some(ms(4990)), Some(ms(40))).jump);
        assert!(clock.span(Some(ms(100)), Some(ms(40))).jump);
        clock.restart();
        assert!(!clock.span(Some(ms(0)), Some(ms(40))).jump);
    }
}
