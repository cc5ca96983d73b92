//! The motion net's inputs: texture-normalised frame differences as target, the scene as condition, on a grid of 4x4
//! pixels of the grey image.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::detector::frame::filter::{box_mean, box_mean_sampled, mean, percentile};
use crate::detector::frame::{Frame, GREY_CELL as CELL, Ignored, Learning, TICK, blend, kept};
use crate::detector::{Error, Result};

/// Centre of the first cell, in pixels.
const FIRST: usize = CELL / 2;
/// Side of the box that is averaged around each cell's centre, in pixels.
const BOX: usize = 9;
/// The lags of the two differences, in seconds.
const LAGS: [f64; 2] = [TICK, 2.0 * TICK];
/// Typical size and spread of the normalised differences at these lags. Fixed on purpose: running scales
/// follow the density of a crowd.
const TYPICAL: [(f32, f32); 2] = [(0.2, 0.15), (0.3, 0.25)];
/// A normalised difference above this grows with its logarithm only: the fastest of all is still faster than the others, but
/// does not outweigh them.
const LINEAR: f32 = 6.0;
/// The smallest normalised difference.
const SMALLEST: f32 = -8.0;
/// Frames closer together than this many seconds are not kept: it bounds the history at any frame rate.
const CLOSEST: f64 = TICK / 20.0;

/// Running mean and variance of all cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Standard {
    mean: f32,
    variance: f32,
}

impl Standard {
    /// Standardises values by the statistics of those that count.
    fn apply(&mut self, values: &mut [f32], cells: Option<&[usize]>, rate: f32) {
        let mut scratch = Vec::new();
        let counted = kept(values, cells, &mut scratch);
        let before = if rate >= 1.0 { mean(counted) } else { self.mean };
        let spread = (counted
            .iter()
            .map(|v| f64::from((v - before).powi(2)))
            .sum::<f64>()
            / counted.len() as f64) as f32;
        self.mean += rate * (mean(counted) - self.mean);
        self.variance += rate * (spread - self.variance);
        let scale = 1.0 / (self.variance.sqrt() + 1e-4);
        for v in values {
            *v = ((*v - self.mean) * scale).clamp(-8.0, 8.0);
        }
    }
}

/// How differences grow with the time between the images: with its power, 1 for small displacements, less beyond the width of
/// an edge, 0 for noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Growth {
    /// Running means of the exponent times the difference, and of the difference.
    weighted: f32,
    weight: f32,
    /// The shortest lag at which it was measured, in seconds; 0 before the first.
    lag: f32,
}

impl Growth {
    /// Before it was measured.
    const EXPECTED: f32 = 0.5;

    /// Takes the sizes of the differences at two lags. Those at much longer lags than before say less about short ones and do not
    /// count.
    fn observe(&mut self, differences: [f32; 2], lags: [f64; 2], rate: f32) {
        let exponent = (differences[1] / differences[0]).ln() / (lags[1] / lags[0]).ln() as f32;
        let lag = lags[0] as f32;
        if exponent.is_finite() && (self.lag == 0.0 || lag < 1.5 * self.lag) {
            self.lag = if self.lag == 0.0 { lag } else { lag.min(self.lag) };
            self.weighted += rate * (exponent.clamp(0.0, 1.0) * differences[0] - self.weighted);
            self.weight += rate * (differences[0] - self.weight);
        }
    }

    fn exponent(self) -> f32 {
        match self.weight > 0.0 {
            true => self.weighted / self.weight,
            false => Self::EXPECTED,
        }
    }
}

/// The running scales.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct FeaturesLearnt {
    /// Ticks with valid features.
    ticks: f64,
    edge_scale: f32,
    change_scale: f32,
    #[serde(default)]
    growth: Growth,
    standards: [Standard; 2],
}

/// Computes targets and conditions frame by frame.
#[derive(Debug)]
pub(super) struct MotionFeatures {
    size: (usize, usize),
    learnt: FeaturesLearnt,
    /// Times and grey images of the previous frames.
    history: VecDeque<(f64, Vec<f32>)>,
    valid: bool,
    targets: Vec<f32>,
    conditions: Vec<f32>,
    scratch: Scratch,
}

#[derive(Debug, Default)]
struct Scratch {
    difference: Vec<f32>,
    sampled: Vec<f32>,
    sums: Vec<f32>,
    sorted: Vec<f32>,
    part: Vec<f32>,
    /// d1, d2, a, e on the grid.
    grids: [Vec<f32>; 4],
}

impl MotionFeatures {
    /// For grey images of `size` = (width, height), multiples of 4.
    pub(super) fn new(size: (usize, usize)) -> Self {
        Self {
            size,
            learnt: FeaturesLearnt::default(),
            history: VecDeque::new(),
            valid: false,
            targets: Vec::new(),
            conditions: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    /// (columns, rows)
    pub(super) fn grid(&self) -> (usize, usize) {
        (self.size.0 / CELL, self.size.1 / CELL)
    }

    /// `[Gh, Gw, 2]`: speed at the short and the long lag.
    pub(super) fn targets(&self) -> &[f32] {
        &self.targets
    }

    /// `[Gh, Gw, 2]`: deviation from the background, texture.
    pub(super) fn conditions(&self) -> &[f32] {
        &self.conditions
    }

    /// Whether the last frame had enough previous frames.
    pub(super) fn is_valid(&self) -> bool {
        self.valid
    }

    /// Ticks with valid features.
    pub(super) fn ticks(&self) -> f64 {
        self.learnt.ticks
    }

    pub(super) fn learnt(&self) -> &FeaturesLearnt {
        &self.learnt
    }

    /// # Errors
    /// A number below 0 that cannot be.
    pub(super) fn restore(&mut self, learnt: FeaturesLearnt) -> Result<()> {
        let variances = learnt.standards.map(|standard| standard.variance);
        if learnt.ticks < 0.0 || variances.into_iter().any(|variance| variance < 0.0) {
            return Err(Error::Learnt(format!(
                "motion scales: expected no numbers below 0, got {learnt:?}"
            )));
        }
        self.learnt = learnt;
        Ok(())
    }

    /// Forgets the previous frames, not the scales.
    pub(super) fn restart(&mut self) {
        self.history.clear();
        self.valid = false;
    }

    /// Computes the features of a frame; they are not valid while the history is too short. Without learning it leaves the scales
    /// as they are.
    pub(super) fn observe(&mut self, frame: &Frame<'_>, learning: Learning) {
        let past = self.past(frame.now);
        self.valid = past.is_some();
        if let Some(past) = past {
            self.measure(frame, past);
            let rate = self.rate(frame, learning);
            self.normalise(frame, past, rate);
        }
        self.push(frame);
    }

    /// Indices into the history of the frames nearest to the two lags; the second is always the older.
    fn past(&self, now: f64) -> Option<[usize; 2]> {
        let (oldest, _) = self.history.front()?;
        if self.history.len() < 2 || now - oldest < 1.5 * TICK {
            return None;
        }
        let nearest = |lag: f64, end: usize| {
            (0..end).min_by(|&a, &b| {
                let off = |i: usize| (now - self.history[i].0 - lag).abs();
                off(a).total_cmp(&off(b))
            })
        };
        // With the second lag first, the first lag can always be a younger frame.
        let short = nearest(LAGS[0], self.history.len())?.max(1);
        Some([short, nearest(LAGS[1], short)?])
    }

    fn push(&mut self, frame: &Frame<'_>) {
        if self
            .history
            .back()
            .is_some_and(|(last, _)| frame.now - last < CLOSEST)
        {
            return;
        }
        let mut buffer = Vec::new();
        while self.history.len() > 2 && frame.now - self.history[1].0 > LAGS[1] {
            buffer = self.history.pop_front().map(|(_, b)| b).unwrap_or_default();
        }
        buffer.clear();
        buffer.extend_from_slice(frame.grey);
        self.history.push_back((frame.now, buffer));
    }

    /// Box means of differences, deviation and edges on the grid, each difference and the edges less the
    /// frame's own noise floor.
    fn measure(&mut self, frame: &Frame<'_>, past: [usize; 2]) {
        let (size, grid) = (self.size, self.grid());
        let cells = cells(frame);
        let Scratch {
            difference,
            sampled,
            sums,
            sorted,
            part,
            grids,
        } = &mut self.scratch;
        let mut to_grid = |image: &[f32], out: &mut Vec<f32>, less_noise: bool| {
            box_mean_sampled(image, size, BOX, (FIRST, CELL), sums, sampled);
            box_mean(sampled, grid, 3, sums, out);
            if less_noise {
                let floor = percentile(kept(out, cells, part), 0.2, sorted);
                out.iter_mut().for_each(|v| *v = (*v - floor).max(0.0));
            }
        };
        let [d1, d2, a, e] = grids;
        for (out, index) in [(d1, past[0]), (d2, past[1])] {
            difference.clear();
            difference.extend(
                frame
                    .grey
                    .iter()
                    .zip(&self.history[index].1)
                    .map(|(g, p)| (g - p).abs()),
            );
            to_grid(difference, out, true);
        }
        difference.clear();
        difference.extend(frame.deviation.iter().map(|f| f.abs()));
        to_grid(difference, a, false);
        to_grid(frame.edges, e, true);
    }

    /// Rate of the running scales for this frame: 1 for the first, 0 without learning.
    fn rate(&mut self, frame: &Frame<'_>, learning: Learning) -> f32 {
        if !learning.on && self.learnt.ticks > 0.0 {
            return 0.0;
        }
        let rate = if self.learnt.ticks == 0.0 {
            1.0
        } else {
            let least = 0.003f64.max(learning.least_rate());
            blend((1.0 / (self.learnt.ticks + 1.0)).max(least), frame.step.ticks)
        };
        self.learnt.ticks += frame.step.ticks;
        rate as f32
    }

    fn normalise(&mut self, frame: &Frame<'_>, past: [usize; 2], rate: f32) {
        let Scratch { grids, part, .. } = &mut self.scratch;
        let [d1, d2, a, e] = &*grids;
        let cells = cells(frame);
        let mut counted = |values: &[f32]| mean(kept(values, cells, part));
        self.learnt.edge_scale =
            (self.learnt.edge_scale + rate * (counted(e) - self.learnt.edge_scale)).max(0.01);
        self.learnt.change_scale += rate * (counted(a) - self.learnt.change_scale);
        let (edge_scale, change_scale) = (self.learnt.edge_scale, self.learnt.change_scale.max(1e-4));

        self.targets.clear();
        let lags = past.map(|i| frame.now - self.history[i].0);
        // Root mean squares: what moves fills a small part of the image, and the rest is noise.
        let mut size = |values: &[f32]| {
            let values = kept(values, cells, part);
            (values.iter().map(|v| v * v).sum::<f32>() / values.len().max(1) as f32).sqrt()
        };
        let differences = [size(d1), size(d2)];
        self.learnt.growth.observe(differences, lags, rate);
        let gains = [0, 1].map(|i| lag_gain(frame, lags[i], LAGS[i], self.learnt.growth));
        for ((d1, d2), e) in d1.iter().zip(d2).zip(e) {
            for ((d, gain), (typical, spread)) in [d1, d2].into_iter().zip(gains).zip(TYPICAL) {
                let speed = gain * d / (e + edge_scale);
                self.targets.push(compress((speed - typical) / spread));
            }
        }

        let mut change: Vec<f32> = a.iter().map(|a| (a / change_scale + 0.1).ln()).collect();
        let mut texture: Vec<f32> = e.iter().map(|e| (e / edge_scale + 0.1).ln()).collect();
        self.learnt.standards[0].apply(&mut change, cells, rate);
        self.learnt.standards[1].apply(&mut texture, cells, rate);
        self.conditions.clear();
        self.conditions
            .extend(change.iter().zip(&texture).flat_map(|(c, t)| [*c, *t]));
    }
}

/// Linear up to [`LINEAR`], logarithmic above, with the same slope there.
fn compress(value: f32) -> f32 {
    match value > LINEAR {
        true => LINEAR * (1.0 + (value / LINEAR).ln()),
        false => value.max(SMALLEST),
    }
}

/// The cells that count; `None` where all do.
fn cells<'a>(frame: &Frame<'a>) -> Option<&'a [usize]> {
    let cells = frame.ignored.map(|ignored: &Ignored| &*ignored.cells_kept);
    cells.filter(|cells| !cells.is_empty())
}

/// Scales a difference over `lag` seconds to the lag that is wanted, where no frame is exactly that old. At high frame rates
/// displacements are small, and differences grow with them.
fn lag_gain(frame: &Frame<'_>, lag: f64, wanted: f64, growth: Growth) -> f32 {
    if frame.step.seconds < 0.95 * TICK && lag > 0.0 {
        (wanted / lag) as f32
    } else if lag > wanted {
        ((wanted / lag) as f32).powf(growth.exponent())
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::frame::Step;

    const SIZE: (usize, usize) = (40, 24);

    fn moving_bar(time: f64) -> Vec<f32> {
        let left = 10.0 * time;
        (0..SIZE.0 * SIZE.1)
            .map(|i| {
                let x = (i % SIZE.0) as f64;
                0.2 + 0.6 * (1.0 / (1.0 + (-(x - left)).exp())) as f32
            })
            .collect()
    }

    fn run(interval: f64, frames: usize) -> MotionFeatures {
        let mut features = MotionFeatures::new(SIZE);
        let zeros = vec![0.0; SIZE.0 * SIZE.1];
        let mut edges = Vec::new();
        for i in 0..frames {
            let now = interval * (i + 1) as f64;
            let grey = moving_bar(now);
            crate::detector::frame::filter::edges(&grey, SIZE, &mut edges);
            let step = Step {
                seconds: interval,
                ticks: interval / TICK,
            };
            let frame = Frame {
                grey: &grey,
                deviation: &zeros,
                edges: &edges,
                colour: &[],
                ignored: None,
                displacement: [0.0; 2],
                now,
                step,
            };
            features.observe(
                &frame,
                Learning {
                    on: true,
                    memory: 1e6,
                },
            );
        }
        features
    }

    #[test]
    fn needs_two_frames_and_both_lags() {
        assert!(!run(0.1, 2).is_valid());
        assert!(run(0.1, 3).is_valid());
        assert!(!run(0.2, 2).is_valid());
        assert!(run(0.2, 3).is_valid());
        assert!(!run(1.0 / 30.0, 5).is_valid());
        assert!(run(1.0 / 30.0, 7).is_valid());
    }

    #[test]
    fn the_same_motion_looks_the_same_at_any_frame_rate() {
        let slow = run(0.1, 21);
        for rate in [20.0, 25.0, 30.0, 60.0f64] {
            let fast = run(1.0 / rate, (2.1 * rate).round() as usize);
            for (a, b) in slow.targets().iter().zip(fast.targets()) {
                assert!((a - b).abs() < 0.35, "{rate} frames/s: {a} and {b}");
            }
        }
    }

    #[test]
    fn large_differences_are_compressed_and_keep_their_order() {
        for value in [-5.0, 0.0, 3.0, LINEAR] {
            assert_eq!(compress(value), value);
        }
        assert_eq!(compress(-1e9), SMALLEST);
        let slope = (compress(LINEAR + 0.01) - LINEAR) / 0.01;
        assert!((slope - 1.0).abs() < 0.01, "{slope}");
        assert!((compress(12.0) - 10.16).abs() < 0.01, "{}", compress(12.0));
        assert!(compress(60.0) > compress(30.0) + 4.0 && compress(60.0) < 20.0);
    }

    #[test]
    fn the_history_stays_short() {
        let fast = run(0.001, 500);
        assert!(
            fast.is_valid() && fast.history.len() <= 64,
            "{}",
            fast.history.len()
        );
        assert!(run(0.1, 100).history.len() <= 4);
    }
}
