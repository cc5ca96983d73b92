//! The state machines of events and of the gate, with any times.

use std::num::NonZeroU64;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use gstvaeanomaly::events::{
    Decision, EventChange, EventPolicy, EventTracker, FrameClock, FrameInfo, FrameVerdict, Gate, GatePolicy,
    Observation, Output, Retention, RetentionPolicy, Span,
};

use crate::values::{duration, number, optional_duration, with_input};

/// Clock, tracker and retention, as `vaeanomaly` uses them.
pub fn events(data: &[u8]) {
    with_input(data, track);
}

fn track(u: &mut Unstructured<'_>) -> Result<()> {
    let (mut clock, mut tracker, mut retention) = (FrameClock::new(), EventTracker::new(), Retention::new());
    let mut policy = EventPolicy {
        min_anomaly: duration(u)?,
        merge_gap: duration(u)?,
        update_interval: duration(u)?,
    };
    let mut keeping = RetentionPolicy {
        drop_normal: u.arbitrary()?,
        post_roll: duration(u)?,
        keepalive_interval: duration(u)?,
    };
    let mut open: Option<NonZeroU64> = None;
    let mut next_id = tracker.next_id();
    while !u.is_empty() {
        match u.int_in_range(0..=19)? {
            0 => clock.restart(),
            1 => clock.start_segment(),
            2 => clock.skip(Span::new(duration(u)?, duration(u)?)),
            3 => clock.set(Span::new(duration(u)?, duration(u)?)),
            4 => retention.restart(),
            5 => {
                assert_eq!(tracker.finish().map(|event| event.id), open);
                open = None;
            }
            6 => policy.merge_gap = duration(u)?,
            7 => policy.min_anomaly = duration(u)?,
            8 => keeping.drop_normal = !keeping.drop_normal,
            9 => tracker.continue_from(u.arbitrary::<NonZeroU64>()?),
            _ => {}
        }
        let span = clock.span(optional_duration(u)?, optional_duration(u)?);
        assert!(span.start <= span.end);
        let observation = Observation {
            span,
            anomalous: u.arbitrary()?,
            score: number(u)?,
            raw_score: number(u)?,
            absorbed: u.arbitrary()?,
        };
        let tracked = tracker.observe(&policy, &observation);
        for change in tracked.changes() {
            match change {
                EventChange::Begin(event) => {
                    assert_eq!(open.replace(event.id), None, "a second event begins");
                    assert!(event.id >= next_id, "numbers grow");
                }
                EventChange::Update(event) => assert_eq!(open, Some(event.id)),
                EventChange::End(event) => assert_eq!(open.take(), Some(event.id)),
            }
        }
        next_id = tracker.next_id();
        assert_eq!(tracked.event_id, open);
        let verdict = FrameVerdict {
            span,
            protected: u.arbitrary()?,
            anomalous: observation.anomalous,
            event: tracked.event_id,
        };
        let decision = retention.decide(&keeping, &verdict);
        let must_be_kept =
            !keeping.drop_normal || verdict.protected || verdict.anomalous || verdict.event.is_some();
        assert!(decision.keeps() || !must_be_kept, "{verdict:?} is dropped");
        if let Decision::Keep { resumes, .. } = decision {
            assert!(!resumes || keeping.drop_normal || must_be_kept);
        }
    }
    Ok(())
}

/// The gate: everything that is pushed comes out once, in order.
pub fn gate(data: &[u8]) {
    with_input(data, hold);
}

fn gate_policy(u: &mut Unstructured<'_>) -> Result<GatePolicy> {
    Ok(GatePolicy {
        pre_roll: duration(u)?,
        post_roll: duration(u)?,
        keepalive_interval: duration(u)?,
        max_bytes: match u.int_in_range(0..=2)? {
            0 => u64::from(u.arbitrary::<u8>()?),
            _ => u64::MAX,
        },
        keep_all: u.ratio(1, 4)?,
    })
}

/// Times of a stream, of which some are wrong.
struct Times {
    now: Duration,
}

impl Times {
    fn next(&mut self, u: &mut Unstructured<'_>) -> Result<Span> {
        Ok(match u.int_in_range(0..=7)? {
            0 => Span::new(duration(u)?, duration(u)?),
            1 => Span {
                jump: true,
                ..Span::new(duration(u)?, duration(u)?)
            },
            _ => {
                let step = Duration::from_millis(u.int_in_range(0..=200)?);
                self.now += step;
                Span::new(self.now, step)
            }
        })
    }
}

fn hold(u: &mut Unstructured<'_>) -> Result<()> {
    let mut gate = Gate::new();
    let mut policy = gate_policy(u)?;
    let (mut frames, mut verdicts) = (Times { now: Duration::ZERO }, Times { now: Duration::ZERO });
    // Numbers of what was pushed and of what came out.
    let (mut pushed, mut taken) = (0u32, 0u32);
    let intra = u.arbitrary()?;
    while !u.is_empty() {
        match u.int_in_range(0..=23)? {
            0 => {
                gate.restart();
                taken = pushed;
            }
            1 => {
                gate.finish();
                take(&mut gate, &policy, &mut taken);
                gate.start_over();
            }
            2 => gate.finish(),
            3 => policy = gate_policy(u)?,
            4 => gate.timeline_mut().begin_event(duration(u)?),
            5 => gate.timeline_mut().end_event(duration(u)?),
            6 => gate.timeline_mut().set_protected(duration(u)?, u.arbitrary()?),
            7 => gate.timeline_mut().set_report_delay(duration(u)?),
            8 => gate.timeline_mut().close(duration(u)?),
            9 => {
                gate.push_other(pushed);
                pushed += 1;
            }
            10..=15 => {
                let verdict = FrameVerdict {
                    span: verdicts.next(u)?,
                    protected: u.ratio(1, 8)?,
                    anomalous: u.ratio(1, 4)?,
                    event: NonZeroU64::new(u.int_in_range(0..=2)?),
                };
                gate.add_verdict(&verdict);
            }
            _ => {
                let span = frames.next(u)?;
                let bytes = match u.ratio(1, 16)? {
                    true => u64::from(u.arbitrary::<u32>()?),
                    false => u64::from(u.arbitrary::<u8>()?),
                };
                let frame = FrameInfo {
                    span,
                    decode: optional_duration(u)?,
                    bytes,
                    key: intra || u.ratio(1, 4)?,
                    intra,
                };
                let _ = gate.should_wait(&policy, frame.bytes);
                gate.push(frame, pushed);
                pushed += 1;
            }
        }
        take(&mut gate, &policy, &mut taken);
    }
    gate.finish();
    take(&mut gate, &policy, &mut taken);
    assert_eq!(taken, pushed, "the end empties the gate");
    assert_eq!((gate.frames(), gate.bytes()), (0, 0));
    Ok(())
}

fn take(gate: &mut Gate<u32>, policy: &GatePolicy, taken: &mut u32) {
    while let Some(output) = gate.next(policy) {
        let item = match output {
            Output::Keep { item, .. } | Output::Pass(item) => item,
            Output::Drop { item, gap, .. } => {
                assert!(!policy.keep_all, "all are to be kept");
                assert!(gap.is_none_or(|gap| gap.start < gap.end));
                item
            }
        };
        assert_eq!(item, *taken, "order is kept");
        *taken += 1;
    }
}
