//! Start and end of a frame, also where its buffer lacks times.

use std::time::Duration;

/// Assumed frame duration in a stream without times and without a frame rate (25 frames/s).
const FALLBACK_FRAME: Duration = Duration::from_millis(40);

/// A time that goes back by more than this is a new start (a seek, another segment), not jitter.
const JUMP: Duration = Duration::from_secs(1);

/// A frame that starts later than expected by more than this many steps of the stream, and by more than [`JUMP`], is not
/// believed alone.
const LEAP_STEPS: u32 = 4;

/// Number of consecutive frames that agree on another time before the clock moves there.
const CONFIRMATIONS: u32 = 3;

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
///
/// A single frame with a wrong time does not move the clock: a frame far from where it is expected gets the expected time,
/// until three frames in a row agree on another time.
#[derive(Debug, Clone, Default)]
pub struct FrameClock {
    last: Option<Span>,
    step: Option<Duration>,
    suspect: Option<Suspect>,
}

/// Consecutive frames that agree on a time far from the expected one.
#[derive(Debug, Clone, Copy)]
struct Suspect {
    start: Duration,
    frames: u32,
}

impl FrameClock {
    /// A clock before the first frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the span of the next frame: `at` is its running time, `duration` its own or nominal duration.
    pub fn span(&mut self, at: Option<Duration>, duration: Option<Duration>) -> Span {
        let duration = duration.filter(|duration| !duration.is_zero());
        let expected = self.expected();
        let moved = at.is_some_and(|at| self.is_far(at, expected, duration));
        let at = at.filter(|at| !moved || self.confirms(*at, expected));
        if !moved || at.is_some() {
            self.suspect = None;
        }
        let start = at.unwrap_or(expected);
        let mut span = Span::new(start, duration.unwrap_or_default());
        span.jump = self
            .last
            .is_some_and(|last| start.saturating_add(JUMP) < last.start);
        let step = self.last.and_then(|last| start.checked_sub(last.start));
        self.step = step.filter(|step| !step.is_zero() && !moved).or(self.step);
        self.last = Some(span);
        span
    }

    /// Sets the span of the next frame where it is known.
    pub fn set(&mut self, span: Span) {
        self.suspect = None;
        self.last = Some(span);
    }

    /// The next frame may have any time: a new segment starts with it.
    pub fn start_segment(&mut self) {
        self.step = None;
        self.suspect = None;
    }

    /// No frame comes during `gap`.
    pub fn skip(&mut self, gap: Span) {
        if self.last.is_some_and(|last| last.end < gap.end) {
            self.set(gap);
        }
    }

    /// Whether the last frame got the expected time instead of its own.
    pub fn is_suspect(&self) -> bool {
        self.suspect.is_some()
    }

    /// End of the last frame.
    pub fn last_end(&self) -> Option<Duration> {
        self.last.map(|last| last.end)
    }

    /// Clears the time base after a flush, a seek or a stop. The next frame is no jump.
    pub fn restart(&mut self) {
        *self = Self::default();
    }

    /// Whether a frame at this time is far from where it is expected, once the distance of frames is known.
    fn is_far(&self, at: Duration, expected: Duration, duration: Option<Duration>) -> bool {
        let (Some(last), Some(step)) = (self.last, self.step) else {
            return false;
        };
        let ahead = step.max(duration.unwrap_or_default()).saturating_mul(LEAP_STEPS);
        at > expected.saturating_add(ahead.max(JUMP)) || at.saturating_add(JUMP) < last.start
    }

    /// Whether a frame far from where it is expected confirms those before it.
    fn confirms(&mut self, at: Duration, expected: Duration) -> bool {
        let agrees = |suspect: &Suspect| {
            at.saturating_add(JUMP) >= suspect.start && at.abs_diff(suspect.start) < at.abs_diff(expected)
        };
        let before = self.suspect.filter(agrees);
        let frames = before.map_or(0, |suspect| suspect.frames) + 1;
        self.suspect = Some(Suspect { start: at, frames });
        let confirmed = frames >= CONFIRMATIONS;
        if let Some(before) = before.filter(|_| confirmed) {
            self.step = Some(at.abs_diff(before.start));
        }
        confirmed
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

    /// Starts in ms of frames at these times.
    fn starts(clock: &mut FrameClock, times: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let start = |at| clock.span(Some(ms(at)), Some(ms(100))).start.as_millis() as u64;
        times.into_iter().map(start).collect()
    }

    #[test]
    fn one_frame_with_a_wrong_time_does_not_move_the_clock() {
        for wrong in [0, 1, 20_000, 36_000_000] {
            let mut clock = FrameClock::new();
            assert_eq!(
                starts(&mut clock, [9000, 9100, wrong, 9300]),
                [9000, 9100, 9200, 9300]
            );
            assert_eq!(starts(&mut clock, [wrong, wrong + 100, 9600]), [9400, 9500, 9600]);
            assert!(!clock.is_suspect());
        }
    }

    #[test]
    fn several_frames_in_a_row_move_the_clock() {
        let mut clock = FrameClock::new();
        assert_eq!(
            starts(&mut clock, [0, 100, 60_000, 60_100, 60_200, 60_300]),
            [0, 100, 200, 300, 60_200, 60_300]
        );
        assert_eq!(starts(&mut clock, [1000, 1100]), [60_400, 60_500]);
        let back = clock.span(Some(ms(1200)), Some(ms(100)));
        assert!(back.jump && back.start == ms(1200));
        assert_eq!(starts(&mut clock, [1300]), [1300]);
    }

    #[test]
    fn rare_frames_move_the_clock_too() {
        let mut clock = FrameClock::new();
        assert_eq!(
            starts(&mut clock, [0, 100, 5000, 10_000, 15_000, 20_000]),
            [0, 100, 200, 300, 15_000, 20_000]
        );
        let mut clock = FrameClock::new();
        assert_eq!(
            starts(&mut clock, [0, 10_000, 20_000, 35_000]),
            [0, 10_000, 20_000, 35_000],
            "frames are rare from the start"
        );
    }

    #[test]
    fn gaps_move_the_clock() {
        let mut clock = FrameClock::new();
        starts(&mut clock, [0, 100]);
        clock.skip(Span::new(ms(200), ms(60_000)));
        assert_eq!(starts(&mut clock, [60_200]), [60_200]);
    }
}
