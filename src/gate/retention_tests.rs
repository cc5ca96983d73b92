use std::num::NonZeroU64;

use proptest::prelude::*;

use super::*;
use crate::gate::{Change, EventPolicy, EventTracker, Sighting, Span};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const POLICY: RetentionPolicy = RetentionPolicy {
    drop_normal: true,
    post_roll: ms(250),
    keepalive_interval: ms(0),
};

/// One letter a frame of 100 ms: `#` anomalous in event 1, `-` inside the event, `?` anomalous without an event,
/// `p` protected, `.` normal. Gives one letter a verdict: `x` dropped, `E` event, `R` post-roll, `P`
/// protected, `K` keep-alive, `N` not dropping; small where the frame resumes.
fn run(policy: &RetentionPolicy, frames: &str) -> String {
    let mut retention = Retention::new();
    let decide = |(index, letter): (usize, char)| {
        let mark = Mark {
            span: Span::new(ms(100 * index as u64), ms(100)),
            protected: letter == 'p',
            anomalous: "#?".contains(letter),
            event: NonZeroU64::new(u64::from("#-".contains(letter))),
        };
        letter_of(retention.decide(policy, &mark))
    };
    frames.chars().enumerate().map(decide).collect()
}

fn letter_of(verdict: Verdict) -> char {
    let Verdict::Keep { reason, resumes } = verdict else {
        return 'x';
    };
    let letter = match reason {
        Reason::Event => 'E',
        Reason::PostRoll => 'R',
        Reason::Protected => 'P',
        Reason::KeepAlive => 'K',
        Reason::NotDropping => 'N',
        Reason::PreRoll | Reason::Reference => '!',
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
fn flickers_pass_without_a_roll() {
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
fn a_keep_alive_passes_in_time_and_starts_no_clip() {
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
fn frames_longer_than_the_keep_alive_interval_all_pass() {
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
fn a_jump_back_in_time_keeps_the_outlet_alive() {
    let policy = RetentionPolicy {
        keepalive_interval: ms(1000),
        ..POLICY
    };
    let mut retention = Retention::new();
    let mark = |at, jump| Mark {
        span: Span {
            jump,
            ..Span::new(ms(at), ms(100))
        },
        ..Mark::default()
    };
    assert_eq!(letter_of(retention.decide(&policy, &mark(3_600_000, false))), 'K');
    assert_eq!(letter_of(retention.decide(&policy, &mark(0, true))), 'K');
    assert_eq!(letter_of(retention.decide(&policy, &mark(500, false))), 'x');
    assert_eq!(letter_of(retention.decide(&policy, &mark(1000, false))), 'K');
}

#[test]
fn dropping_can_be_switched_while_playing() {
    let mut retention = Retention::new();
    let mut letter = |at, drop_normal| {
        let mark = Mark {
            span: Span::new(ms(at), ms(100)),
            ..Mark::default()
        };
        letter_of(retention.decide(
            &RetentionPolicy {
                drop_normal,
                ..POLICY
            },
            &mark,
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
        let place = |(pause, duration, anomalous, protected): (u64, u64, bool, bool)| {
            let span = Span::new(ms(at), ms(duration));
            at += duration + pause;
            (span, anomalous && !protected, protected)
        };
        frames.into_iter().map(place).collect()
    })
}

proptest! {
    #[test]
    fn kept_is_what_an_event_a_post_roll_a_protection_or_the_keep_alive_asks_for(
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
            let tracked = tracker.observe(&events, &Sighting { span, anomalous, score: 0.5, raw_score: 1.0 });
            for change in tracked.changes() {
                match change {
                    Change::Begin(event) | Change::Update(event) => open = Some(event.end),
                    Change::End(_) => open = None,
                }
            }
            let mark = Mark { span, protected, anomalous, event: tracked.event_id };
            let verdict = retention.decide(&policy, &mark);
            if anomalous && open.is_some() {
                // A frame covers the nanosecond it starts in even where its duration is unknown.
                let end = span.end.max(span.start + Duration::from_nanos(1));
                roll_until = Some(end + policy.post_roll);
            }
            let claimed =
                protected || anomalous || open.is_some() || roll_until.is_some_and(|until| span.start < until);
            prop_assert!(!claimed || verdict.keeps(), "lost: {mark:?}");
            if keepalive == 0 {
                prop_assert_eq!(claimed, verdict.keeps(), "{:?}", mark);
            }
            if let Verdict::Keep { reason, resumes } = verdict {
                prop_assert_eq!(reason == Reason::KeepAlive, !claimed);
                prop_assert_eq!(resumes, dropped && claimed);
                dropped &= !claimed;
                last_kept = Some(span.start);
            } else {
                dropped = true;
                if keepalive > 0 {
                    let silence = span.end.max(span.start) - last_kept.expect("the first frame passes");
                    prop_assert!(silence <= policy.keepalive_interval, "{silence:?} of silence");
                }
            }
        }
    }
}
