//! Load shedding: how much work is done for frames that come late. A pure state machine without a clock.

use std::time::Duration;

/// Training stops after frames were late for this long.
const TRAINING_PATIENCE: Duration = Duration::from_millis(500);
/// Every other frame is left unscored after frames were late for this much longer, and no less so than before.
const SCORING_PATIENCE: Duration = Duration::from_secs(1);
/// One level of load returns after frames were on time for this long.
const RECOVERY: Duration = Duration::from_secs(2);
/// Minimum number of frames for any change.
const MIN_FRAMES: u32 = 3;

/// How much work is done for a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoadLevel {
    /// Every frame is scored; training as configured.
    #[default]
    Full,
    /// Every frame is scored and updates the statistics; training is suspended.
    ScoreOnly,
    /// Every other frame is scored; training is suspended.
    EveryOther,
}

impl LoadLevel {
    /// The name in messages and statistics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ScoreOnly => "score-only",
            Self::EveryOther => "every-other-frame",
        }
    }

    fn lower(self) -> Self {
        match self {
            Self::Full => Self::ScoreOnly,
            _ => Self::EveryOther,
        }
    }

    fn higher(self) -> Self {
        match self {
            Self::EveryOther => Self::ScoreOnly,
            _ => Self::Full,
        }
    }
}

/// What to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadDecision {
    /// The load level from this frame on.
    pub level: LoadLevel,
    /// Whether to score this frame; never `false` twice in a row.
    pub score: bool,
}

/// Derives the load level from the lateness of frames, one level at a time: down after half a second of lateness, then
/// after another second; up after two seconds at no more than half the allowed lateness.
#[derive(Clone, Debug, Default)]
pub struct LoadShedder {
    level: LoadLevel,
    stretch: Option<Stretch>,
    skipped: bool,
}

/// Consecutive frames that are late, or consecutive frames that are on time.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    late: bool,
    since: Duration,
    frames: u32,
    /// Lateness of the first frame.
    lateness: Duration,
}

impl LoadShedder {
    /// The load level of the last frame.
    pub fn level(&self) -> LoadLevel {
        self.level
    }

    /// Decides about the frame at running time `at`. A `lateness` of `None` (it cannot be measured) counts as on time; a
    /// `max_lateness` of zero disables load shedding.
    pub fn decide(
        &mut self,
        at: Duration,
        lateness: Option<Duration>,
        max_lateness: Duration,
    ) -> LoadDecision {
        if max_lateness.is_zero() {
            *self = Self::default();
        } else {
            self.update(at, lateness.unwrap_or_default(), max_lateness);
        }
        self.skipped = self.level == LoadLevel::EveryOther && !self.skipped;
        LoadDecision {
            level: self.level,
            score: !self.skipped,
        }
    }

    fn update(&mut self, at: Duration, lateness: Duration, max_lateness: Duration) {
        let late = lateness > max_lateness;
        if !late && lateness > max_lateness / 2 {
            // Neither late nor clearly on time: no change.
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
        let patience = match (late, self.level) {
            (true, LoadLevel::Full) => TRAINING_PATIENCE,
            (true, _) => SCORING_PATIENCE,
            (false, _) => RECOVERY,
        };
        if stretch.frames < MIN_FRAMES || at - stretch.since < patience {
            return;
        }
        // A queue takes time to empty: while lateness falls, a lower level would not help.
        let falls = lateness < stretch.lateness - stretch.lateness / 10;
        match (late, self.level) {
            (true, LoadLevel::ScoreOnly) if falls => {}
            (true, level) => self.level = level.lower(),
            (false, level) => self.level = level.higher(),
        }
        self.stretch = Some(Stretch { frames: 1, ..fresh });
    }
}

/// Lateness of the frames of a live source, from their ages on arrival.
///
/// A source that announces less than its real latency makes every frame equally old. That is no lateness, so lateness
/// counts from the age of the youngest frame so far, or from the announced latency where that is longer.
#[derive(Clone, Debug, Default)]
pub struct AgeBaseline {
    youngest: Option<i64>,
}

impl AgeBaseline {
    /// `age` is the time in ns from a frame's running time to now, negative for an early frame; `latency` is the one that
    /// upstream announces, or that the pipeline is configured for.
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

    /// Runs frames at 25 frames/s from `start`, all equally late, and returns the decisions.
    fn run(
        shedder: &mut LoadShedder,
        start: &mut Duration,
        frames: u32,
        lateness: Duration,
    ) -> Vec<LoadDecision> {
        let one = |_| {
            *start += FRAME;
            shedder.decide(*start, Some(lateness), MAX)
        };
        (0..frames).map(one).collect()
    }

    #[test]
    fn sheds_and_recovers_one_level_at_a_time() {
        let (mut shedder, mut now) = (LoadShedder::default(), ms(0));
        let levels = |shedder: &mut LoadShedder, now: &mut Duration, frames, lateness| {
            let decisions = run(shedder, now, frames, lateness);
            let count = |level| decisions.iter().filter(|d| d.level == level).count();
            [LoadLevel::Full, LoadLevel::ScoreOnly, LoadLevel::EveryOther].map(count)
        };
        assert_eq!(
            levels(&mut shedder, &mut now, 100, ms(100)),
            [100, 0, 0],
            "100 ms are allowed"
        );
        // 500 ms at 40 ms a frame, then 1000 ms.
        assert_eq!(levels(&mut shedder, &mut now, 100, ms(101)), [13, 25, 62]);
        assert_eq!(
            levels(&mut shedder, &mut now, 100, ms(51)),
            [0, 0, 100],
            "not clearly on time yet"
        );
        // 2000 ms each.
        assert_eq!(levels(&mut shedder, &mut now, 150, ms(50)), [50, 50, 50]);
    }

    #[test]
    fn every_other_frame_is_scored_at_the_lowest_level_only() {
        let (mut shedder, mut now) = (LoadShedder::default(), ms(0));
        for decision in run(&mut shedder, &mut now, 38, ms(500)) {
            assert!(decision.score, "{decision:?}");
        }
        let scored: Vec<bool> = run(&mut shedder, &mut now, 6, ms(500))
            .iter()
            .map(|d| d.score)
            .collect();
        assert_eq!(scored, [false, true, false, true, false, true]);
    }

    #[test]
    fn short_delays_and_a_queue_that_empties_shed_little() {
        let (mut shedder, mut now) = (LoadShedder::default(), ms(0));
        for _ in 0..50 {
            run(&mut shedder, &mut now, 12, ms(900));
            let on_time = run(&mut shedder, &mut now, 1, ms(0));
            assert_eq!(on_time[0].level, LoadLevel::Full);
        }
        run(&mut shedder, &mut now, 20, ms(5000));
        for lateness in (0..50).map(|i| ms(5000 - 90 * i)) {
            let [decision] = run(&mut shedder, &mut now, 1, lateness)[..] else {
                unreachable!()
            };
            assert_eq!(decision.level, LoadLevel::ScoreOnly, "{lateness:?}");
        }
    }

    #[test]
    fn a_maximum_of_zero_disables_it_at_once() {
        let (mut shedder, mut now) = (LoadShedder::default(), ms(0));
        run(&mut shedder, &mut now, 100, ms(500));
        let decision = shedder.decide(now, Some(ms(500)), Duration::ZERO);
        assert_eq!((decision.level, decision.score), (LoadLevel::Full, true));
    }

    #[test]
    fn single_frames_and_jumps_back_in_time_change_nothing() {
        let mut shedder = LoadShedder::default();
        for (at, level) in [
            (10, LoadLevel::Full),
            (20, LoadLevel::Full),
            (5, LoadLevel::Full),
            (6, LoadLevel::Full),
        ] {
            let decision = shedder.decide(Duration::from_secs(at), Some(ms(200)), MAX);
            assert_eq!(decision.level, level, "at {at} s");
        }
        let decision = shedder.decide(Duration::from_secs(7), Some(ms(200)), MAX);
        assert_eq!(decision.level, LoadLevel::ScoreOnly, "the third in a row");
    }

    #[test]
    fn lateness_is_the_age_beyond_the_announced_and_the_usual_one() {
        let mut baseline = AgeBaseline::default();
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
            let got = baseline.lateness(age * 1_000_000, ms(50));
            assert_eq!(got, ms(late), "age {age} ms");
        }
        assert_eq!(
            AgeBaseline::default().lateness(i64::MIN, Duration::MAX),
            Duration::ZERO
        );
        let mut baseline = AgeBaseline::default();
        baseline.lateness(i64::MIN, ms(0));
        assert_eq!(
            baseline.lateness(i64::MAX, ms(0)),
            Duration::from_nanos(i64::MAX as u64)
        );
    }

    proptest! {
        #[test]
        fn holds_for_any_frames(
            frames in prop::collection::vec((0u64..3000, prop::option::of(0u64..400)), 0..300),
            max in 0u64..300,
        ) {
            let (mut shedder, mut now) = (LoadShedder::default(), ms(0));
            let mut before = LoadDecision { level: LoadLevel::Full, score: true };
            let mut ever_late = false;
            for (step, lateness) in frames {
                now += ms(step);
                ever_late |= lateness.is_some_and(|l| l > max);
                let decision = shedder.decide(now, lateness.map(ms), ms(max));
                prop_assert!(decision.score || before.score, "no two unscored in a row");
                prop_assert!(decision.score || decision.level == LoadLevel::EveryOther);
                prop_assert!(decision.level == LoadLevel::Full || (ever_late && max > 0));
                let steps = (decision.level as i32 - before.level as i32).abs();
                prop_assert!(steps <= 1, "one step at a time");
                let late = lateness.is_some_and(|l| l > max);
                prop_assert!(decision.level <= before.level || late, "lower only when late");
                prop_assert!(decision.level >= before.level || !late, "higher only when on time");
                before = decision;
            }
            if max > 0 {
                for _ in 0..110 {
                    now += FRAME;
                    before = shedder.decide(now, Some(ms(0)), ms(max));
                }
                prop_assert_eq!(before.level, LoadLevel::Full, "recovers in twice two seconds");
                for _ in 0..50 {
                    now += FRAME;
                    before = shedder.decide(now, Some(ms(max + 1)), ms(max));
                }
                prop_assert_eq!(before.level, LoadLevel::EveryOther, "sheds in one and a half seconds");
            }
        }
    }
}
