//! What is measured over time, and how it grows.

use anyhow::{Context, Result};

/// A quantity at points in time.
#[derive(Clone, Debug, Default)]
pub struct Series(Vec<(f64, f64)>);

impl Series {
    /// Adds a value at this time in seconds; times rise.
    pub fn push(&mut self, seconds: f64, value: f64) {
        self.0.push((seconds, value));
    }

    /// The last value; 0 where there is none.
    pub fn last(&self) -> f64 {
        self.0.last().map_or(0.0, |(_, value)| *value)
    }

    /// The largest value; 0 where there is none.
    pub fn max(&self) -> f64 {
        self.0.iter().map(|(_, value)| *value).fold(0.0, f64::max)
    }

    /// How much the median of the last third of the values from `start` on is above that of their first third, and the
    /// seconds between both thirds. `None` with less than three values.
    pub fn growth(&self, start: f64) -> Option<(f64, f64)> {
        let values: Vec<(f64, f64)> = self.0.iter().copied().filter(|(at, _)| *at >= start).collect();
        let third = values.len() / 3;
        if third == 0 {
            return None;
        }
        let (early, late) = (middle(&values[..third]), middle(&values[values.len() - third..]));
        Some((late.1 - early.1, late.0 - early.0))
    }
}

/// The middle time and the median value.
fn middle(values: &[(f64, f64)]) -> (f64, f64) {
    let mut sorted: Vec<f64> = values.iter().map(|(_, value)| *value).collect();
    sorted.sort_by(f64::total_cmp);
    (values[values.len() / 2].0, sorted[sorted.len() / 2])
}

/// Resident memory of this process in MB of 10^6 bytes.
///
/// # Errors
/// There is no procfs.
pub fn resident_mb() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
    Ok(kib.context("VmRSS is no number of kB")? * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_that_of_the_medians() {
        let mut series = Series::default();
        for i in 0..90 {
            let outlier = if i % 10 == 3 { 1000.0 } else { 0.0 };
            series.push(f64::from(i), 2.0 * f64::from(i) + outlier);
        }
        let (growth, seconds) = series.growth(0.0).unwrap();
        assert!((growth - 120.0).abs() < 8.0, "{growth}");
        assert_eq!(seconds, 60.0);
        assert_eq!(series.growth(88.0), None);
    }
}
