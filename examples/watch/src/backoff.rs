//! Pauses between attempts to reach a camera or a broker that has failed.

use std::time::Duration;

use rand::Rng;

/// The first and the longest pause, before jitter.
const RANGE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// The pause after so many failures, from 1: doubled each time, times a random number from 0.5 to 1.5, so that what has
/// failed together is not tried again together.
pub fn pause(failures: u32) -> Duration {
    doubled(failures).mul_f64(rand::rng().random_range(0.5..1.5))
}

fn doubled(failures: u32) -> Duration {
    let (first, longest) = RANGE;
    first
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let pauses: Vec<_> = [1, 2, 3, 7, 100].map(|n| doubled(n).as_secs_f64()).into();
        assert_eq!(pauses, [0.5, 1.0, 2.0, 30.0, 30.0]);
    }

    #[test]
    fn jitter_is_half_a_pause_at_most() {
        for _ in 0..1000 {
            assert!((0.25..=0.75).contains(&pause(1).as_secs_f64()));
        }
    }
}
