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
/// Gives what became of each frame in order: `#` kept, `+` kept after a drop, `.` dropped, `!` lost.
fn run(policy: &GatePolicy, frames: &str, intra: bool) -> String {
    let mut gate = Gate::new();
    let mut fates = String::new();
    for (index, letter) in frames.chars().enumerate() {
        let span = Span::new(ms(100 * index as u64), ms(100));
        let kind = letter.to_ascii_lowercase();
        let event = NonZeroU64::new(u64::from(kind == 'a'));
        gate.note(&Mark {
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
        take(&mut gate, policy, &mut fates);
    }
    gate.finish();
    take(&mut gate, policy, &mut fates);
    assert_eq!(gate.bytes(), 0);
    fates
}

fn take(gate: &mut Gate<usize>, policy: &GatePolicy, fates: &mut String) {
    while let Some(output) = gate.next(policy) {
        let (index, fate) = match output {
            Output::Keep { item, discont, .. } => (item, if discont { '+' } else { '#' }),
            Output::Drop { item, lost, .. } => (item, if lost { '!' } else { '.' }),
            Output::Pass(_) => panic!("nothing else was pushed"),
        };
        assert_eq!(index, fates.len(), "order is kept");
        fates.push(fate);
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
fn what_is_protected_passes_at_once() {
    let mut gate = Gate::new();
    let span = Span::new(ms(0), ms(100));
    gate.note(&Mark {
        span,
        protected: true,
        ..Mark::default()
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
            reason: Reason::Protected,
            discont: false,
            resumes: false
        })
    );
}

#[test]
fn too_many_bytes_cost_whole_groups_from_the_front() {
    let policy = GatePolicy {
        pre_roll: ms(10_000),
        max_bytes: 7,
        ..POLICY
    };
    assert_eq!(run(&policy, "NnnNnnNnnA", false), "...+######");
    // A group larger than the bound loses its key frame: nothing of it can be shown.
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
fn other_things_keep_their_place() {
    let mut gate = Gate::new();
    for (index, item) in ["a", "b"].into_iter().enumerate() {
        let span = Span::new(ms(100 * index as u64), ms(100));
        gate.note(&Mark {
            span,
            ..Mark::default()
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
    assert_eq!(
        gate.next(&POLICY),
        None,
        "a frame that is held holds what comes after it"
    );
    gate.finish();
    let items = std::iter::from_fn(|| gate.next(&POLICY)).map(|output| match output {
        Output::Keep { item, .. } | Output::Drop { item, .. } | Output::Pass(item) => item,
    });
    assert_eq!(items.collect::<Vec<_>>(), ["a", "caps", "b", "caps"]);
}

#[test]
fn marks_of_another_branch_may_come_late() {
    let mut gate = Gate::new();
    let mut fates = String::new();
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
        take(&mut gate, &POLICY, &mut fates);
    }
    assert_eq!(fates, "", "nothing is known yet");
    for index in 0..6 {
        let event = NonZeroU64::new(u64::from(index == 5));
        gate.note(&Mark {
            span: frame(index).0,
            anomalous: index == 5,
            event,
            ..Mark::default()
        });
    }
    take(&mut gate, &POLICY, &mut fates);
    assert_eq!(fates, "..+###");
}

#[test]
fn a_full_gate_without_marks_follows_the_newest_one() {
    let policy = GatePolicy {
        max_bytes: 2,
        ..POLICY
    };
    for anomalous in [true, false] {
        let mut gate = Gate::new();
        let mut fates = String::new();
        let first = Span::new(ms(0), ms(100));
        gate.note(&Mark {
            span: first,
            anomalous,
            event: NonZeroU64::new(u64::from(anomalous)),
            ..Mark::default()
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
            take(&mut gate, &policy, &mut fates);
            assert!(gate.bytes() <= policy.max_bytes);
        }
        assert!(gate.waits_for_marks(&policy, 1));
        assert_eq!(fates, if anomalous { "####" } else { "...." });
    }
}
