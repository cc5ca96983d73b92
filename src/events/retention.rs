//! Which frames are passed on: the reasons to keep one, the keep-alive, and the counts of frames in and out.

use std::time::Duration;

use super::{FrameVerdict, Span, Timeline};

/// Why a frame is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepReason {
    /// It is anomalous or inside an open event.
    Event,
    /// It starts less than the pre-roll before an anomaly.
    PreRoll,
    /// It starts less than the post-roll after an anomaly.
    PostRoll,
    /// The detector warms up, calibrates or adapts: nothing is dropped.
    Protected,
    /// Other frames that are kept cannot be decoded without it.
    Reference,
    /// No frame was kept for the keep-alive interval.
    KeepAlive,
    /// Dropping is switched off.
    NotDropping,
}

impl KeepReason {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::Event,
        Self::PreRoll,
        Self::PostRoll,
        Self::Protected,
        Self::Reference,
        Self::KeepAlive,
        Self::NotDropping,
    ];

    /// The name in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::PreRoll => "pre-roll",
            Self::PostRoll => "post-roll",
            Self::Protected => "protected",
            Self::Reference => "reference",
            Self::KeepAlive => "keep-alive",
            Self::NotDropping => "not-dropping",
        }
    }
}

/// Whether a frame is kept or dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The frame is passed on.
    Keep {
        /// Why.
        reason: KeepReason,
        /// Frames before it were dropped, and it is more than a keep-alive: a clip starts here, with a key frame.
        resumes: bool,
    },
    /// The frame is dropped; its time is a gap.
    Drop,
}

impl Decision {
    /// Whether the frame is passed on.
    pub fn keeps(&self) -> bool {
        matches!(self, Decision::Keep { .. })
    }
}

/// Counts of frames and bytes in and out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Frames received.
    pub frames_in: u64,
    /// Frames passed on.
    pub frames_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes passed on.
    pub bytes_out: u64,
}

impl Tally {
    /// Counts one frame of `bytes` bytes.
    pub fn count(&mut self, bytes: u64, kept: bool) {
        self.frames_in += 1;
        self.bytes_in += bytes;
        if kept {
            self.frames_out += 1;
            self.bytes_out += bytes;
        }
    }
}

/// Keeps or drops frames in output order; adds the keep-alive.
#[derive(Debug, Clone, Default)]
pub struct KeepFilter {
    last_kept: Option<Duration>,
    /// A frame was dropped since the last one that was kept for more than a keep-alive.
    dropping: bool,
}

impl KeepFilter {
    /// A filter before the first frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides about a frame for which there is a `reason` to keep it, or none.
    ///
    /// A frame without a reason is kept as a keep-alive when the last kept frame started at least `keepalive_interval`
    /// before it, or more than that before the next opportunity, which is at the end of `span`. At a constant frame rate
    /// two kept frames thus never start further apart than the interval; at a varying one by at most one frame more.
    /// The first frame of a stream is kept too, so that elements downstream can start. An interval of zero disables the
    /// keep-alive.
    pub fn decide(
        &mut self,
        span: Span,
        reason: Option<KeepReason>,
        keepalive_interval: Duration,
    ) -> Decision {
        if span.jump {
            self.start_over();
        }
        let reason = reason.or_else(|| {
            self.is_due(span, keepalive_interval)
                .then_some(KeepReason::KeepAlive)
        });
        let Some(reason) = reason else {
            self.dropping = true;
            return Decision::Drop;
        };
        self.last_kept = Some(self.last_kept.map_or(span.start, |last| last.max(span.start)));
        let resumes = self.dropping && reason != KeepReason::KeepAlive;
        self.dropping &= !resumes;
        Decision::Keep { reason, resumes }
    }

    /// Whether a frame must be kept for the keep-alive alone.
    pub fn is_due(&self, span: Span, keepalive_interval: Duration) -> bool {
        if keepalive_interval.is_zero() {
            return false;
        }
        let Some(last) = self.last_kept else { return true };
        span.start.saturating_sub(last) >= keepalive_interval
            || span.end.saturating_sub(last) > keepalive_interval
    }

    /// Clears all times when time goes back; whether frames were dropped before stays known.
    pub fn start_over(&mut self) {
        self.last_kept = None;
    }

    /// Clears everything after a flush or a stop.
    pub fn restart(&mut self) {
        *self = Self::default();
    }
}

/// What is kept besides the events themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Drop frames that belong to no anomaly.
    pub drop_normal: bool,
    /// Frames that start less than this after the end of an event's last anomalous frame are kept.
    pub post_roll: Duration,
    /// While dropping, one frame is kept this often; 0 = none. See [`KeepFilter::decide`].
    pub keepalive_interval: Duration,
}

/// Decides about every frame as it arrives, without holding any back (`drop-normal` of `vaeanomaly`).
#[derive(Debug, Clone, Default)]
pub struct Retention {
    timeline: Timeline,
    filter: KeepFilter,
}

impl Retention {
    /// Retention before the first frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides about the frame of this verdict. An anomalous frame is never dropped, even before an event has begun;
    /// post-roll follows events only.
    pub fn decide(&mut self, policy: &RetentionPolicy, verdict: &FrameVerdict) -> Decision {
        let start = verdict.span.start;
        self.timeline.add_verdict(verdict);
        self.timeline.prune(start, policy.post_roll);
        let reason = self.timeline.reason(start, Duration::ZERO, policy.post_roll);
        let reason = reason.or(verdict.anomalous.then_some(KeepReason::Event));
        let reason = reason.or((!policy.drop_normal).then_some(KeepReason::NotDropping));
        self.filter
            .decide(verdict.span, reason, policy.keepalive_interval)
    }

    /// Clears all times after a flush, a seek or a stop.
    pub fn restart(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use proptest::prelude::*;

    use super::*;
    use crate::events::{EventChange, EventPolicy, EventTracker, Observation, Span};

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const POLICY: RetentionPolicy = RetentionPolicy {
        drop_normal: true,
        post_roll: ms(250),
        keepalive_interval: ms(0),
    };

    /// One letter a frame of 100 ms: `#` anomalous in event 1, `-` inside the event, `?` anomalous without an event,
    /// `p` protected, `.` normal. Returns one letter a decision: `x` dropped, `E` event, `R` post-roll, `P`
    /// protected, `K` keep-alive, `N` not dropping; small where the frame resumes.
    fn run(policy: &RetentionPolicy, frames: &str) -> String {
        let mut retention = Retention::new();
        let decide = |(index, letter): (usize, char)| {
            let verdict = FrameVerdict {
                span: Span::new(ms(100 * index as u64), ms(100)),
                protected: letter == 'p',
                anomalous: "#?".contains(letter),
                event: NonZeroU64::new(u64::from("#-".contains(letter))),
            };
            letter_of(retention.decide(policy, &verdict))
        };
        frames.chars().enumerate().map(decide).collect()
    }

    fn letter_of(decision: Decision) -> char {
        let Decision::Keep { reason, resumes } = decision else {
            return 'x';
        };
        let letter = match reason {
            KeepReason::Event => 'E',
            KeepReason::PostRoll => 'R',
            KeepReason::Protected => 'P',
            KeepReason::KeepAlive => 'K',
            KeepReason::NotDropping => 'N',
            KeepReason::PreRoll | KeepReason::Reference => '!',
        };
        if resumes {
            letter.to_ascii_lowercase()
        } else {
            letter
        }
    }

    #[test]
    fn post_roll_counts_from_the_end_of_the_last_anomalous_frame() {
        // The last anomalous frame ends at 400 ms: frames at 400, 500 and 600 start less than 250 ms after that.
        assert_eq!(run(&POLICY, "..##......#"), "xxeERRRxxxe");
    }

    #[test]
    fn post_roll_ends_exactly_where_it_says() {
        let policy = RetentionPolicy {
            post_roll: ms(200),
            ..POLICY
        };
        assert_eq!(
            run(&policy, "#...."),
            "ERRxx",
            "a frame that starts at the end of the post-roll is outside"
        );
        assert_eq!(
            run(
                &RetentionPolicy {
                    post_roll: ms(201),
                    ..POLICY
                },
                "#...."
            ),
            "ERRRx"
        );
        assert_eq!(
            run(
                &RetentionPolicy {
                    post_roll: ms(0),
                    ..POLICY
                },
                "#...."
            ),
            "Exxxx"
        );
    }

    #[test]
    fn an_open_event_keeps_its_merge_gap() {
        let policy = RetentionPolicy {
            post_roll: ms(100),
            ..POLICY
        };
        assert_eq!(run(&policy, "#---#.."), "EEEEERx");
    }

    #[test]
    fn anomalous_frames_without_an_event_are_kept_without_a_roll() {
        assert_eq!(run(&POLICY, ".?.."), "xexx");
    }

    #[test]
    fn nothing_is_dropped_before_the_detector_is_ready() {
        assert_eq!(run(&POLICY, "ppp..p"), "PPPxxp");
    }

    #[test]
    fn nothing_is_dropped_when_dropping_is_off() {
        assert_eq!(
            run(
                &RetentionPolicy {
                    drop_normal: false,
                    ..POLICY
                },
                "..#....."
            ),
            "NNERRRNN"
        );
    }

    #[test]
    fn a_keep_alive_comes_in_time_and_starts_no_clip() {
        let policy = RetentionPolicy {
            keepalive_interval: ms(300),
            post_roll: ms(0),
            ..POLICY
        };
        assert_eq!(run(&policy, "........#......"), "KxxKxxKxexxKxxK");
        let policy = RetentionPolicy {
            keepalive_interval: ms(250),
            ..policy
        };
        assert_eq!(run(&policy, "......."), "KxKxKxK", "300 ms would be too late");
    }

    #[test]
    fn frames_longer_than_the_keep_alive_interval_are_all_kept() {
        assert_eq!(
            run(
                &RetentionPolicy {
                    keepalive_interval: ms(50),
                    ..POLICY
                },
                "...."
            ),
            "KKKK"
        );
    }

    #[test]
    fn the_keep_alive_continues_after_a_jump_back_in_time() {
        let policy = RetentionPolicy {
            keepalive_interval: ms(1000),
            ..POLICY
        };
        let mut retention = Retention::new();
        let verdict = |at, jump| FrameVerdict {
            span: Span {
                jump,
                ..Span::new(ms(at), ms(100))
            },
            ..FrameVerdict::default()
        };
        assert_eq!(
            letter_of(retention.decide(&policy, &verdict(3_600_000, false))),
            'K'
        );
        assert_eq!(letter_of(retention.decide(&policy, &verdict(0, true))), 'K');
        assert_eq!(letter_of(retention.decide(&policy, &verdict(500, false))), 'x');
        assert_eq!(letter_of(retention.decide(&policy, &verdict(1000, false))), 'K');
    }

    #[test]
    fn dropping_can_be_switched_while_playing() {
        let mut retention = Retention::new();
        let mut letter = |at, drop_normal| {
            let verdict = FrameVerdict {
                span: Span::new(ms(at), ms(100)),
                ..FrameVerdict::default()
            };
            letter_of(retention.decide(
                &RetentionPolicy {
                    drop_normal,
                    ..POLICY
                },
                &verdict,
            ))
        };
        assert_eq!(
            [
                letter(0, false),
                letter(100, true),
                letter(200, false),
                letter(300, false)
            ],
            ['N', 'x', 'n', 'N']
        );
    }

    /// Frames that follow one another, each with a label and a protection.
    fn any_frames() -> impl Strategy<Value = Vec<(Span, bool, bool)>> {
        let frame = (
            1u64..300,
            0u64..150,
            prop::bool::weighted(0.15),
            prop::bool::weighted(0.05),
        );
        prop::collection::vec(frame, 1..200).prop_map(|frames| {
            let mut at = 0;
            let frame = |(pause, duration, anomalous, protected): (u64, u64, bool, bool)| {
                let span = Span::new(ms(at), ms(duration));
                at += duration + pause;
                (span, anomalous && !protected, protected)
            };
            frames.into_iter().map(frame).collect()
        })
    }

    proptest! {
        #[test]
        fn a_frame_is_kept_for_an_event_a_post_roll_protection_or_the_keep_alive_only(
            frames in any_frames(),
            min_anomaly in 0u64..300, merge_gap in 0u64..600, post_roll in 0u64..800, keepalive in 0u64..1500,
        ) {
            let events = EventPolicy { min_anomaly: ms(min_anomaly), merge_gap: ms(merge_gap), update_interval: ms(1000) };
            let policy =
                RetentionPolicy { drop_normal: true, post_roll: ms(post_roll), keepalive_interval: ms(keepalive) };
            let (mut tracker, mut retention) = (EventTracker::new(), Retention::new());
            let mut roll_until: Option<Duration> = None;
            let mut last_kept: Option<Duration> = None;
            let mut dropped = false;
            let mut open: Option<Duration> = None;
            for (span, anomalous, protected) in frames {
                let tracked = tracker.observe(&events, &Observation { span, anomalous, score: 0.5, raw_score: 1.0, absorbed: false });
                for change in tracked.changes() {
                    match change {
                        EventChange::Begin(event) | EventChange::Update(event) => open = Some(event.end),
                        EventChange::End(_) => open = None,
                    }
                }
                let verdict = FrameVerdict { span, protected, anomalous, event: tracked.event_id };
                let decision = retention.decide(&policy, &verdict);
                if anomalous && open.is_some() {
                    // A frame covers the nanosecond it starts in even where its duration is unknown.
                    let end = span.end.max(span.start + Duration::from_nanos(1));
                    roll_until = Some(end + policy.post_roll);
                }
                let claimed =
                    protected || anomalous || open.is_some() || roll_until.is_some_and(|until| span.start < until);
                prop_assert!(!claimed || decision.keeps(), "lost: {verdict:?}");
                if keepalive == 0 {
                    prop_assert_eq!(claimed, decision.keeps(), "{:?}", verdict);
                }
                if let Decision::Keep { reason, resumes } = decision {
                    prop_assert_eq!(reason == KeepReason::KeepAlive, !claimed);
                    prop_assert_eq!(resumes, dropped && claimed);
                    dropped &= !claimed;
                    last_kept = Some(span.start);
                } else {
                    dropped = true;
                    if keepalive > 0 {
                        let gap = span.end.max(span.start) - last_kept.expect("the first frame is kept");
                        prop_assert!(gap <= policy.keepalive_interval, "a gap of {gap:?}");
                    }
                }
            }
        }
    }
}
