//! Anomalies that turned out to be normal: what was seen is kept for a while, so that it can be accepted later.
//!
//! What was accepted is kept as a map: where a score is no higher than the accepted one at this location, it counts as the
//! usual score. A higher one there, and any score elsewhere, count in full.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::detector::AnomalyMap;

/// Runs of anomalous frames that can still be accepted.
const RUNS: usize = 64;
/// Anomalous frames at most this many frames apart are one run.
const GAP: u64 = 20;
/// Frames before an anomalous one that belong to it.
const BEFORE: usize = 10;
/// The same thing seen again may score higher by this factor.
const MARGIN: f32 = 1.5;
/// Share of the image's width by which it may be beside where it was.
const REACH: f64 = 0.06;

/// A frame as a cue's replay keeps it.
#[derive(Clone, Debug)]
pub(crate) enum Sample {
    Bytes(Arc<[u8]>),
    Floats(Arc<[f32]>),
}

/// A run of anomalous frames as one cue saw it.
#[derive(Debug)]
struct Run {
    frames: RangeInclusive<u64>,
    /// The highest score of every cell.
    peaks: Vec<f32>,
    /// The highest of all, and the frame that had it.
    highest: f32,
    sample: Sample,
}

impl Run {
    fn raise(&mut self, values: &[f32]) {
        self.peaks
            .iter_mut()
            .zip(values)
            .for_each(|(peak, v)| *peak = peak.max(*v));
    }
}

/// The last runs of anomalous frames. A score is smoothed, so that a run begins before its first anomalous frame, and
/// ends after the last one.
#[derive(Debug, Default)]
pub(super) struct AnomalyLog {
    runs: VecDeque<Run>,
    /// Scores of the last frames that were not anomalous.
    before: VecDeque<Vec<f32>>,
}

impl AnomalyLog {
    /// Takes a frame with its scores; `sample` is only made where it is kept.
    pub(super) fn add(
        &mut self,
        frame: u64,
        map: &AnomalyMap,
        anomalous: bool,
        sample: impl FnOnce() -> Sample,
    ) {
        let run = self.runs.back_mut();
        let run = run.filter(|run| frame.saturating_sub(*run.frames.end()) <= GAP);
        if !anomalous {
            if let Some(run) = run {
                run.raise(&map.values);
            }
            let mut values = match self.before.len() == BEFORE {
                true => self.before.pop_front().unwrap_or_default(),
                false => Vec::new(),
            };
            values.clone_from(&map.values);
            self.before.push_back(values);
            return;
        }
        let highest = map.peak().1;
        match run {
            Some(run) => {
                run.frames = *run.frames.start()..=frame;
                run.raise(&map.values);
                if highest > run.highest {
                    run.highest = highest;
                    run.sample = sample();
                }
            }
            _ => {
                if self.runs.len() == RUNS {
                    self.runs.pop_front();
                }
                let mut run = Run {
                    frames: frame..=frame,
                    peaks: map.values.clone(),
                    highest,
                    sample: sample(),
                };
                self.before.drain(..).for_each(|values| run.raise(&values));
                self.runs.push_back(run);
            }
        }
    }

    /// Accepts the runs that overlap `frames`: raises `accepted` to their scores, where `is_unusual`, and returns their
    /// strongest frames.
    pub(super) fn accept(
        &self,
        frames: &RangeInclusive<u64>,
        width: usize,
        accepted: &mut Vec<f32>,
        is_unusual: impl Fn(f32) -> bool,
    ) -> Vec<Sample> {
        let overlaps = |run: &&Run| run.frames.start() <= frames.end() && run.frames.end() >= frames.start();
        let runs = self.runs.iter().filter(overlaps);
        runs.map(|run| {
            accepted.resize(run.peaks.len(), 0.0);
            let unusual = |&(_, peak): &(usize, &f32)| is_unusual(*peak);
            for (cell, peak) in run.peaks.iter().enumerate().filter(unusual) {
                raise(accepted, width, cell, MARGIN * peak);
            }
            run.sample.clone()
        })
        .collect()
    }
}

/// Raises all values around a cell.
fn raise(values: &mut [f32], width: usize, cell: usize, level: f32) {
    let reach = (REACH * width as f64).round().max(1.0) as usize;
    let (x, y, height) = (cell % width, cell / width, values.len() / width);
    for y in y.saturating_sub(reach)..(y + reach + 1).min(height) {
        for value in &mut values[y * width..][x.saturating_sub(reach)..(x + reach + 1).min(width)] {
            *value = value.max(level);
        }
    }
}

/// Scores up to the accepted ones count as `usual`.
pub(super) fn discount(map: &mut AnomalyMap, accepted: &[f32], usual: f32) {
    for (value, accepted) in map.values.iter_mut().zip(accepted) {
        if *value <= *accepted {
            *value = value.min(usual);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(cells: &[(usize, f32)]) -> AnomalyMap {
        let mut map = AnomalyMap::new(10, 5);
        map.values.fill(1.0);
        cells.iter().for_each(|&(cell, value)| map.values[cell] = value);
        map
    }

    fn sample(value: u8) -> Sample {
        Sample::Bytes([value].into())
    }

    #[test]
    fn what_is_no_higher_at_an_accepted_location_counts_as_usual() {
        let mut log = AnomalyLog::default();
        log.add(99, &map(&[(20, 6.0)]), false, || sample(0));
        log.add(100, &map(&[(22, 8.0)]), true, || sample(1));
        log.add(101, &map(&[(23, 9.0)]), true, || sample(2));
        log.add(300, &map(&[(45, 7.0)]), true, || sample(3));
        let mut accepted = Vec::new();
        let samples = log.accept(&(90..=110), 10, &mut accepted, |v| v > 5.0);
        assert!(
            matches!(&samples[..], [Sample::Bytes(bytes)] if bytes[0] == 2),
            "{samples:?}"
        );

        let mut again = map(&[(22, 11.0), (12, 5.0), (20, 8.5), (24, 40.0), (45, 7.0)]);
        discount(&mut again, &accepted, 1.5);
        let values = [22, 12, 20, 24, 45, 0].map(|cell| again.values[cell]);
        assert_eq!(values, [1.5, 1.5, 1.5, 40.0, 7.0, 1.0]);
    }

    #[test]
    fn old_runs_can_no_longer_be_accepted() {
        let mut log = AnomalyLog::default();
        for run in 0..=RUNS as u64 {
            log.add(100 * run, &map(&[(22, 8.0)]), true, || sample(0));
        }
        assert!(log.accept(&(0..=50), 10, &mut Vec::new(), |_| true).is_empty());
        assert_eq!(log.accept(&(100..=250), 10, &mut Vec::new(), |_| true).len(), 2);
    }
}
