use std::num::NonZeroU64;

use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const POLICY: GatePolicy = GatePolicy {
    pre_roll: ms(200),
    post_roll: ms(100),
    keepalive_interval: ms(0),
    max_bytes: u64::MAX,
    keep_all: false,
};

/// Runs frames of 100 ms: capitals are key frames, `A`/`a` anomalous in event 1, `N`/`n` normal, `P`/`p` protected.
/// Returns one character a frame: `#` kept, `+` kept after a drop, `.` dropped, `!` lost.
fn run(policy: &GatePolicy, frames: &str, intra: bool) -> String {
    let mut gate = Gate::new();
    let mut outcomes = String::new();
    for (index, letter) in frames.chars().enumerate() {
        let span = Span::new(ms(100 * index as u64), ms(100));
        let kind = letter.to_ascii_lowercase();
        let event = NonZeroU64::new(u64::from(kind == 'a'));
        gate.add_verdict(&FrameVerdict {
            span,
            protected: kind == 'p',
            anomalous: kind == 'a',
            event,
        });
        gate.push(
            FrameInfo {
                span,
                decode: None,
                bytes: 1,
                key: intra || letter.is_ascii_uppercase(),
                intra,
            },
            index,
        );
        take(&mut gate, policy, &mut outcomes);
    }
    gate.finish();
    take(&mut gate, policy, &mut outcomes);
    assert_eq!(gate.bytes(), 0);
    outcomes
}

fn take(gate: &mut Gate<usize>, policy: &GatePolicy, outcomes: &mut String) {
    while let Some(output) = gate.next(policy) {
        let (index, outcome) = match output {
            Output::Keep { item, discont, .. } => (item, if discont { '+' } else { '#' }),
            Output::Drop { item, lost, .. } => (item, if lost { '!' } else { '.' }),
            Output::Pass(_) => panic!("nothing else was pushed"),
        };
        assert_eq!(index, outcomes.len(), "order is kept");
        outcomes.push(outcome);
    }
}

#[test]
fn raw_frames_are_kept_from_the_pre_roll_to_the_post_roll() {
    assert_eq!(run(&POLICY, "nnnnnaannnn", true), "...+####...");
}

#[test]
fn encoded_frames_are_kept_from_the_key_frame_before_the_pre_roll() {
    //                        event at 7: pre-roll from 5, its key frame is 3; post-roll is frame 8
    assert_eq!(run(&POLICY, "NnnNnnNannNnn", false), "...+#####....");
}

#[test]
fn two_events_in_one_group_are_one_clip() {
    assert_eq!(run(&POLICY, "Nnnannnnnnanann", false), "##############.");
}

#[test]
fn a_stream_that_starts_without_a_key_frame_waits_for_one() {
    assert_eq!(run(&POLICY, "aaaAa", false), "!!!+#");
}

#[test]
fn protected_frames_are_kept_at_once() {
    let mut gate = Gate::new();
    let span = Span::new(ms(0), ms(100));
    gate.add_verdict(&FrameVerdict {
        span,
        protected: true,
        ..FrameVerdict::default()
    });
    gate.push(
        FrameInfo {
            span,
            decode: None,
            bytes: 1,
            key: true,
            intra: false,
        },
        0,
    );
    let output = gate.next(&POLICY);
    assert_eq!(
        output,
        Some(Output::Keep {
            item: 0,
            reason: KeepReason::Protected,
            discont: false,
            resumes: false
        })
    );
}

#[test]
fn the_bound_on_bytes_drops_whole_groups_from_the_front() {
    let policy = GatePolicy {
        pre_roll: ms(10_000),
        max_bytes: 7,
        ..POLICY
    };
    assert_eq!(run(&policy, "NnnNnnNnnA", false), "...+######");
    // A group larger than the bound loses its key frame: nothing of it can be decoded.
    assert_eq!(run(&policy, "NnnnnnnnnaAa", false), ".........!+#");
}

#[test]
fn key_frames_keep_the_stream_alive() {
    let policy = GatePolicy {
        keepalive_interval: ms(600),
        ..POLICY
    };
    assert_eq!(run(&policy, "NnnNnnNnnNnn", false), "#.....+.....");
    let policy = GatePolicy {
        keepalive_interval: ms(500),
        ..POLICY
    };
    assert_eq!(
        run(&policy, "NnnNnnNnnNnn", false),
        "#..+..+..+..",
        "600 ms would be too late"
    );
}

#[test]
fn other_items_keep_their_position() {
    let mut gate = Gate::new();
    for (index, item) in ["a", "b"].into_iter().enumerate() {
        let span = Span::new(ms(100 * index as u64), ms(100));
        gate.add_verdict(&FrameVerdict {
            span,
            ..FrameVerdict::default()
        });
        gate.push(
            FrameInfo {
                span,
                decode: None,
                bytes: 1,
                key: true,
                intra: true,
            },
            item,
        );
        gate.push_other("caps");
    }
    assert_eq!(gate.next(&POLICY), None, "a held frame holds what follows it");
    gate.finish();
    let items = std::iter::from_fn(|| gate.next(&POLICY)).map(|output| match output {
        Output::Keep { item, .. } | Output::Drop { item, .. } | Output::Pass(item) => item,
    });
    assert_eq!(items.collect::<Vec<_>>(), ["a", "caps", "b", "caps"]);
}

#[test]
fn verdicts_of_another_branch_may_come_late() {
    let mut gate = Gate::new();
    let mut outcomes = String::new();
    let frame = |index: u64| {
        let span = Span::new(ms(100 * index), ms(100));
        (
            span,
            FrameInfo {
                span,
                decode: None,
                bytes: 1,
                key: index.is_multiple_of(2),
                intra: false,
            },
        )
    };
    for index in 0..6 {
        gate.push(frame(index).1, index as usize);
        take(&mut gate, &POLICY, &mut outcomes);
    }
    assert_eq!(outcomes, "", "nothing is known yet");
    for index in 0..6 {
        let event = NonZeroU64::new(u64::from(index == 5));
        gate.add_verdict(&FrameVerdict {
            span: frame(index).0,
            anomalous: index == 5,
            event,
            ..FrameVerdict::default()
        });
    }
    take(&mut gate, &POLICY, &mut outcomes);
    assert_eq!(outcomes, "..+###");
}

/// In a pipeline, late verdicts can be the consequence of the latency that follows from the hold.
#[test]
fn waiting_for_late_verdicts_is_no_hold() {
    let hold = |late: u64| {
        let mut gate = Gate::new();
        for index in 0..100 {
            let span = |index| Span::new(ms(100 * index), ms(100));
            let frame = FrameInfo {
                span: span(index),
                decode: None,
                bytes: 1,
                key: true,
                intra: true,
            };
            gate.push(frame, index as usize);
            if index >= late {
                gate.add_verdict(&FrameVerdict::normal(span(index - late)));
            }
            while gate.next(&POLICY).is_some() {}
        }
        gate.longest_hold()
    };
    assert!((ms(100)..=ms(300)).contains(&hold(0)), "{:?}", hold(0));
    assert_eq!(hold(50), hold(0));
}

#[test]
fn a_full_gate_without_verdicts_repeats_the_newest_one() {
    let policy = GatePolicy {
        max_bytes: 2,
        ..POLICY
    };
    for anomalous in [true, false] {
        let mut gate = Gate::new();
        let mut outcomes = String::new();
        let first = Span::new(ms(0), ms(100));
        gate.add_verdict(&FrameVerdict {
            span: first,
            anomalous,
            event: NonZeroU64::new(u64::from(anomalous)),
            ..FrameVerdict::default()
        });
        for index in 0..6 {
            let span = Span::new(ms(100 * index), ms(100));
            gate.push(
                FrameInfo {
                    span,
                    decode: None,
                    bytes: 1,
                    key: true,
                    intra: true,
                },
                index as usize,
            );
            take(&mut gate, &policy, &mut outcomes);
            assert!(gate.bytes() <= policy.max_bytes);
        }
        assert!(gate.should_wait(&policy, 1));
        assert_eq!(outcomes, if anomalous { "####" } else { "...." });
    }
}
