//! Past samples that join the current one in a training step.

use std::sync::Arc;

use rand::Rng as _;
use serde::{Deserialize, Serialize};

use crate::detector::Result;
use crate::detector::nn::Rng;
use crate::detector::store::check_len;

/// Samples that are kept however short the memory is.
const LEAST: u64 = 10;
/// Slots that a sample takes that was accepted as normal.
const WEIGHT: usize = 10;

/// What a full replay buffer does with a new sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ReplayPolicy {
    /// Overwrites a random slot: old samples fade exponentially.
    #[default]
    RandomReplacement,
    /// Algorithm R (Vitter, *Random Sampling with a Reservoir*, 1985): every sample so far is in the buffer with the same
    /// probability.
    Reservoir,
}

/// A bounded buffer of past samples, equally many values each. A copy of it shares the samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Replay<T> {
    #[serde(skip)]
    policy: ReplayPolicy,
    #[serde(skip)]
    capacity: usize,
    /// Samples offered so far.
    offered: u64,
    /// Time in which they were offered.
    seconds: f64,
    #[serde(skip)]
    pub(crate) samples: Vec<Arc<[T]>>,
}

impl<T> Replay<T> {
    pub(crate) fn new(policy: ReplayPolicy, capacity: usize) -> Self {
        Self {
            policy,
            capacity,
            offered: 0,
            seconds: 0.0,
            samples: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }

    /// A random sample; `None` of an empty buffer.
    pub(crate) fn draw(&self, rng: &mut Rng) -> Option<&[T]> {
        match self.samples.len() {
            0 => None,
            len => Some(&self.samples[rng.random_range(0..len)]),
        }
    }

    /// Offers a sample, which stands for the `seconds` since the previous one; it is only made if it is kept. Samples
    /// older than `memory` seconds fade.
    pub(crate) fn offer(
        &mut self,
        rng: &mut Rng,
        (seconds, memory): (f64, f64),
        sample: impl FnOnce() -> Vec<T>,
    ) {
        self.offered = self.offered.saturating_add(1);
        self.seconds += seconds;
        // Samples in the time that is remembered: of all so far, the same share as of the time.
        let remembered = match self.seconds > memory {
            true => ((self.offered as f64 * memory / self.seconds) as u64).max(1),
            false => self.offered,
        };
        let capacity = (remembered.max(LEAST) as usize).min(self.capacity);
        self.samples.truncate(capacity);
        if self.samples.len() < capacity {
            self.samples.push(sample().into());
            return;
        }
        let slot = match self.policy {
            ReplayPolicy::RandomReplacement => rng.random_range(0..capacity),
            ReplayPolicy::Reservoir => rng.random_range(0..remembered.max(capacity as u64)) as usize,
        };
        if let Some(kept) = self.samples.get_mut(slot) {
            *kept = sample().into();
        }
    }

    /// Overwrites random slots with a sample, so that it is drawn as often as [`WEIGHT`] others.
    pub(crate) fn admit(&mut self, rng: &mut Rng, sample: &Arc<[T]>) {
        let len = self.samples.len();
        for _ in 0..WEIGHT.min(len) {
            self.samples[rng.random_range(0..len)] = Arc::clone(sample);
        }
    }

    /// Continues with the samples of another buffer, which have `values` values each. Where it holds fewer than were
    /// offered to it, it counts as a buffer to which fewer were offered.
    ///
    /// # Errors
    /// A sample of another size.
    pub(crate) fn restore(&mut self, other: Self, values: usize) -> Result<()> {
        for sample in &other.samples {
            check_len("a replayed sample", sample.len(), values)?;
        }
        let mut samples = other.samples;
        samples.truncate(self.capacity);
        let complete = other.offered.min(self.capacity as u64);
        let kept = samples.len() as u64;
        self.offered = match kept < complete {
            true => (u128::from(other.offered) * u128::from(kept) / u128::from(complete)) as u64,
            false => other.offered.max(kept),
        };
        self.seconds = other.seconds.max(0.0);
        self.samples = samples;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    /// Samples numbered from 0, after 1000 offers to a buffer of 100.
    fn kept(policy: ReplayPolicy, memory: f64) -> Vec<u32> {
        let mut rng = Rng::seed_from_u64(1);
        let mut replay = Replay::new(policy, 100);
        assert_eq!(replay.draw(&mut rng), None);
        for i in 0..1000u32 {
            replay.offer(&mut rng, (0.1, memory), || vec![i]);
            assert!(replay.len() <= 100 && replay.draw(&mut rng).is_some_and(|drawn| drawn[0] <= i));
        }
        replay.samples.iter().map(|sample| sample[0]).collect()
    }

    #[test]
    fn a_reservoir_keeps_old_and_new_samples_alike() {
        let kept = kept(ReplayPolicy::Reservoir, 1e6);
        assert_eq!(kept.len(), 100);
        let old = kept.iter().filter(|&&i| i < 500).count();
        assert!((35..=65).contains(&old), "{old} of 100 are from the first half");
    }

    #[test]
    fn random_replacement_forgets_old_samples() {
        let kept = kept(ReplayPolicy::RandomReplacement, 1e6);
        let old = kept.iter().filter(|&&i| i < 500).count();
        assert!(old < 10, "{old} of 100 are from the first half");
    }

    #[test]
    fn a_memory_bounds_how_far_both_reach_back() {
        for policy in [ReplayPolicy::Reservoir, ReplayPolicy::RandomReplacement] {
            // 20 of the 100 seconds, which is 200 samples.
            let kept = kept(policy, 20.0);
            assert_eq!(kept.len(), 100);
            let old = kept.iter().filter(|&&i| i < 500).count();
            assert!(old < 20, "{policy:?}: {old} of 100 are from the first half");
        }
        assert_eq!(kept(ReplayPolicy::Reservoir, 2.0).len(), 20);
    }
}
