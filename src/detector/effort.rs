//! What to leave out when frames come late, and when to take it up again. Values in, decisions out; no clock.

use std::time::Duration;

/// Late for this long without a break: the training stops.
const PATIENCE: Duration = Duration::from_millis(500);
/// Late for this long after that, and not less so: every other frame goes unscored.
const SECOND_PATIENCE: Duration = Duration::from_secs(1);
/// On time for this long without a break: one step back.
const RECOVERY: Duration = Duration::from_secs(2);
/// And no judgement on fewer frames than these.
const FEWEST: u32 = 3;

/// How much is done for a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// Every frame is scored, training as set.
    #[default]
    Full,
    /// Every frame is scored, statistics learn on, the nets do not train.
    ScoreOnly,
    /// Every other frame is scored, the nets do not train.
    EveryOther,
}

impl Effort {
    /// The name as in messages and statistics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ScoreOnly => "score-only",
            Self::EveryOther => "every-other-frame",
        }
    }

    fn less(self) -> Self {
        match self {
            Self::Full => Self::ScoreOnly,
            _ => Self::EveryOther,
        }
    }

    fn more(self) -> Self {
        match self {
            Self::EveryOther => Self::ScoreOnly,
            _ => Self::Full,
        }
    }
}

/// What to do with one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The effort from this frame on.
    pub effort: Effort,
    /// Whether to score this frame; never false twice in a row.
    pub score: bool,
}

/// Turns the lateness of frames into effort: at once where nothing is measured, else step by step, down after
/// half a second and a second too late, up after two seconds at no more than half of what is allowed.
#[derive(Clone, Debug, Default)]
pub struct EffortControl {
    effort: Effort,
    stretch: Option<Stretch>,
    skipped: bool,
}

/// Frames in a row that are late, or on time.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    late: bool,
    since: Duration,
    frames: u32,
    /// Lateness of the first one.
    lateness: Duration,
}

impl EffortControl {
    /// The effort of the last frame.
    pub fn effort(&self) -> Effort {
        self.effort
    }

    /// Takes a frame of running time `at` and how late it came; `None` where that cannot be measured, which counts
    /// as on time. A `max_lateness` of zero ends all saving.
    pub fn decide(&mut self, at: Duration, lateness: Option<Duration>, max_lateness: Duration) -> Decision {
        if max_lateness.is_zero() {
            *self = Self::default();
        } else {
            self.weigh(at, lateness.unwrap_or_default(), max_lateness);
        }
        self.skipped = self.effort == Effort::EveryOther && !self.skipped;
        Decision {
            effort: self.effort,
            score: !self.skipped,
        }
    }

    fn weigh(&mut self, at: Duration, lateness: Duration, max_lateness: Duration) {
        let late = lateness > max_lateness;
        if !late && lateness > max_lateness / 2 {
            // Neither late nor well on time: as it is.
            self.stretch = None;
            return;
        }
        let fresh = Stretch {
            late,
            since: at,
            frames: 0,
            lateness,
        };
        let mut stretch = self
            .stretch
            .filter(|s| s.late == late && s.since <= at)
            .unwrap_or(fresh);
        stretch.frames += 1;
        self.stretch = Some(stretch);
        let patience = match (late, self.effort) {
            (true, Effort::Full) => PATIENCE,
            (true, _) => SECOND_PATIENCE,
            (false, _) => RECOVERY,
        };
        if stretch.frames < FEWEST || at - stretch.since < patience {
            return;
        }
        // A queue that built up takes its time to empty: what falls is not helped by doing less.
        let falls = lateness < stretch.lateness - stretch.lateness / 10;
        match (late, self.effort) {
            (true, Effort::ScoreOnly) if falls => {}
            (true, effort) => self.effort = effort.less(),
            (false, effort) => self.effort = effort.more(),
        }
        self.stretch = Some(Stretch { frames: 1, ..fresh });
    }
}

/// How far frames of a live source are behind, from their ages when they arrive.
///
/// A source that says less than its real latency makes every frame equally old. That is no lateness, so the youngest
/// frame so far is the measure, or the announced latency where that is longer.
#[derive(Clone, Debug, Default)]
pub struct Delay {
    youngest: Option<i64>,
}

impl Delay {
    /// `age`: nanoseconds from a frame's running time to now, negative where it is early; `latency`: how old the
    /// sources may be by their own account.
    pub fn lateness(&mut self, age: i64, latency: Duration) -> Duration {
        let youngest = self.youngest.map_or(age, |least| least.min(age));
        self.youngest = Some(youngest);
        let allowed = i64::try_from(latency.as_nanos())
            .unwrap_or(i64::MAX)
            .max(youngest);
        Duration::from_nanos(u64::try_from(age.saturating_sub(allowed)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: Duration = Duration::from_millis(100);
    const FRAME: Duration = Duration::from_millis(40);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Frames of 25 a second from `start`, all as late; the decisions.
    fn run(
        control: &mut EffortControl,
        start: &mut Duration,
        frames: u32,
        lateness: Duration,
    ) -> Vec<Decision> {
        let one = |_| {
            *start += FRAME;
            control.decide(*start, Some(lateness), MAX)
        };
        (0..frames).map(one).collect()
    }

    #[test]
    fn saves_step_by_step_and_recovers_step_by_step() {
        let (mut control, mut now) = (EffortControl::default(), ms(0));
        let efforts = |control: &mut EffortControl, now: &mut Duration, frames, lateness| {
            let decisions = run(control, now, frames, lateness);
            let count = |effort| decisions.iter().filter(|d| d.effort == effort).count();
            [Effort::Full, Effort::ScoreOnly, Effort::EveryOther].map(count)
        };
        assert_eq!(
            efforts(&mut control, &mut now, 100, ms(100)),
            [100, 0, 0],
            "100 ms are allowed"
        );
        // 500 ms at 40 ms a frame, then 1000 ms.
        assert_eq!(efforts(&mut control, &mut now, 100, ms(101)), [13, 25, 62]);
        assert_eq!(
            efforts(&mut control, &mut now, 100, ms(51)),
            [0, 0, 100],
            "not yet well on time"
        );
        // 2000 ms each.
        assert_eq!(efforts(&mut control, &mut now, 150, ms(50)), [50, 50, 50]);
    }

    #[test]
    fn every_other_frame_is_scored_under_the_least_effort_only() {
        let (mut control, mut now) = (EffortControl::default(), ms(0));
        for decision in run(&mut control, &mut now, 38, ms(500)) {
            assert!(decision.score, "{decision:?}");
        }
        let scored: Vec<bool> = run(&mut control, &mut now, 6, ms(500))
            .iter()
            .map(|d| d.score)
            .collect();
        assert_eq!(scored, [false, true, false, true, false, true]);
    }

    #[test]
    fn a_hiccup_and_a_queue_that_empties_cost_little() {
        let (mut control, mut now) = (EffortControl::default(), ms(0));
        for _ in 0..50 {
            run(&mut control, &mut now, 12, ms(900));
            let calm = run(&mut control, &mut now, 1, ms(0));
            assert_eq!(calm[0].effort, Effort::Full);
        }
        run(&mut control, &mut now, 20, ms(5000));
        for lateness in (0..50).map(|i| ms(5000 - 90 * i)) {
            let [decision] = run(&mut control, &mut now, 1, lateness)[..] else {
                unreachable!()
            };
            assert_eq!(decision.effort, Effort::ScoreOnly, "{lateness:?}");
        }
    }

    #[test]
    fn is_off_at_zero_at_once() {
        let (mut control, mut now) = (EffortControl::default(), ms(0));
        run(&mut control, &mut now, 100, ms(500));
        let decision = control.decide(now, Some(ms(500)), Duration::ZERO);
        assert_eq!((decision.effort, decision.score), (Effort::Full, true));
    }

    #[test]
    fn rare_frames_and_times_that_jump_back_decide_nothing_alone() {
        let mut control = EffortControl::default();
        for (at, effort) in [
            (10, Effort::Full),
            (20, Effort::Full),
            (5, Effort::Full),
            (6, Effort::Full),
        ] {
            let decision = control.decide(Duration::from_secs(at), Some(ms(200)), MAX);
            assert_eq!(decision.effort, effort, "at {at} s");
        }
        let decision = control.decide(Duration::from_secs(7), Some(ms(200)), MAX);
        assert_eq!(decision.effort, Effort::ScoreOnly, "the third in a row");
    }

    #[test]
    fn lateness_is_what_exceeds_the_announced_and_the_usual_age() {
        let mut delay = Delay::default();
        let ages = [
            (300, 0),
            (300, 0),
            (450, 150),
            (250, 0),
            (450, 200),
            (-50, 0),
            (150, 100),
        ];
        for (age, late) in ages {
            let got = delay.lateness(age * 1_000_000, ms(50));
            assert_eq!(got, ms(late), "age {age} ms");
        }
        assert_eq!(Delay::default().lateness(i64::MIN, Duration::MAX), Duration::ZERO);
        let mut delay = Delay::default();
        delay.lateness(i64::MIN, ms(0));
        assert_eq!(
            delay.lateness(i64::MAX, ms(0)),
            Duration::from_nanos(i64::MAX as u64)
        );
    }

    proptest! {
        #[test]
        fn holds_for_any_frames(
            frames in prop::collection::vec((0u64..3000, prop::option::of(0u64..400)), 0..300),
            max in 0u64..300,
        ) {
            let (mut control, mut now) = (EffortControl::default(), ms(0));
            let mut before = Decision { effort: Effort::Full, score: true };
            let mut ever_late = false;
            for (step, lateness) in frames {
                now += ms(step);
                ever_late |= lateness.is_some_and(|l| l > max);
                let decision = control.decide(now, lateness.map(ms), ms(max));
                prop_assert!(decision.score || before.score, "no two unscored in a row");
                prop_assert!(decision.score || decision.effort == Effort::EveryOther);
                prop_assert!(decision.effort == Effort::Full || (ever_late && max > 0));
                let steps = (decision.effort as i32 - before.effort as i32).abs();
                prop_assert!(steps <= 1, "one step at a time");
                let late = lateness.is_some_and(|l| l > max);
                prop_assert!(decision.effort <= before.effort || late, "less only when late");
                prop_assert!(decision.effort >= before.effort || !late, "more only when on time");
                before = decision;
            }
            if max > 0 {
                for _ in 0..110 {
                    now += FRAME;
                    before = control.decide(now, Some(ms(0)), ms(max));
                }
                prop_assert_eq!(before.effort, Effort::Full, "recovers in twice two seconds");
                for _ in 0..50 {
                    now += FRAME;
                    before = control.decide(now, Some(ms(max + 1)), ms(max));
                }
                prop_assert_eq!(before.effort, Effort::EveryOther, "saves in one and a half seconds");
            }
        }
    }
}
