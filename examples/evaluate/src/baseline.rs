//! Simple methods for comparison, under the same protocol: one pass, no labels.

use anyhow::{Context, Result};

use gst_video::VideoFrameExt;

use crate::autoencoder::Autoencoder;
use crate::clips::Frame;

/// Luma of one frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grey {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Grey levels 0..255, `[height, width]`.
    pub pixels: Vec<f32>,
}

impl Grey {
    /// Copies the luma plane.
    pub fn of(frame: &Frame) -> Result<Self> {
        let mapped = frame.map()?;
        let (width, height) = (mapped.width() as usize, mapped.height() as usize);
        let stride = mapped.comp_stride(0) as usize;
        let data = mapped.comp_data(0).context("luma is missing")?;
        let pixels = data
            .chunks(stride)
            .take(height)
            .flat_map(|row| &row[..width])
            .map(|&p| f32::from(p))
            .collect();
        Ok(Self {
            width,
            height,
            pixels,
        })
    }

    /// Area averages on a `size` x `size` grid; the aspect ratio is not kept.
    pub fn shrunk_to(&self, size: usize) -> Vec<f32> {
        let mut sums = vec![0.0; size * size];
        let mut counts = vec![0.0f32; size * size];
        for (y, row) in self.pixels.chunks(self.width).enumerate() {
            let base = y * size / self.height * size;
            for (x, pixel) in row.iter().enumerate() {
                let cell = base + x * size / self.width;
                sums[cell] += pixel;
                counts[cell] += 1.0;
            }
        }
        sums.iter()
            .zip(&counts)
            .map(|(sum, count)| sum / count.max(1.0))
            .collect()
    }
}

/// A method that scores one frame after another.
pub trait Baseline {
    /// Its name in tables and JSON.
    fn name(&self) -> &'static str;
    /// Scores the frame, then learns from it; 0 if no score is possible yet.
    fn score(&mut self, grey: &Grey) -> Result<f64>;
    /// Its decision on the last frame, if it has a decision rule.
    fn flagged(&self) -> Option<bool> {
        None
    }
}

/// All baselines that need only the images.
pub fn all(seed: u64) -> Result<Vec<Box<dyn Baseline>>> {
    Ok(vec![
        Box::new(FrameDifference::default()),
        Box::new(BackgroundDifference::default()),
        Box::new(Autoencoder::new(seed)?),
    ])
}

fn mean_absolute_difference(a: &[f32], b: &[f32]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(x, y)| f64::from((x - y).abs())).sum();
    sum / a.len().max(1) as f64
}

/// Mean absolute difference to the previous frame.
#[derive(Default)]
struct FrameDifference {
    previous: Grey,
}

impl Baseline for FrameDifference {
    fn name(&self) -> &'static str {
        "frame difference"
    }

    fn score(&mut self, grey: &Grey) -> Result<f64> {
        let comparable = self.previous.pixels.len() == grey.pixels.len();
        let score = if comparable {
            mean_absolute_difference(&self.previous.pixels, &grey.pixels)
        } else {
            0.0
        };
        self.previous = grey.clone();
        Ok(score)
    }
}

/// Weight of a new frame in the background average.
const BACKGROUND_RATE: f32 = 0.01;

/// Mean absolute difference to an exponential average of all previous frames.
#[derive(Default)]
struct BackgroundDifference {
    background: Vec<f32>,
    frames: u32,
}

impl Baseline for BackgroundDifference {
    fn name(&self) -> &'static str {
        "background difference"
    }

    fn score(&mut self, grey: &Grey) -> Result<f64> {
        if self.background.len() != grey.pixels.len() {
            self.background.clone_from(&grey.pixels);
            self.frames = 1;
            return Ok(0.0);
        }
        let score = mean_absolute_difference(&self.background, &grey.pixels);
        let rate = BACKGROUND_RATE.max(1.0 / (self.frames + 1) as f32);
        self.frames = self.frames.saturating_add(1);
        for (b, p) in self.background.iter_mut().zip(&grey.pixels) {
            *b += rate * (p - *b);
        }
        Ok(score)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(value: f32) -> Grey {
        Grey {
            width: 4,
            height: 2,
            pixels: vec![value; 8],
        }
    }

    #[test]
    fn frame_difference_compares_consecutive_frames() {
        let mut baseline = FrameDifference::default();
        let scores: Vec<f64> = [10.0, 10.0, 14.0, 14.0]
            .map(|v| baseline.score(&flat(v)).unwrap())
            .to_vec();
        assert_eq!(scores, [0.0, 0.0, 4.0, 0.0]);
    }

    #[test]
    fn the_background_adapts_slowly() {
        let mut baseline = BackgroundDifference::default();
        for _ in 0..50 {
            assert_eq!(baseline.score(&flat(10.0)).unwrap(), 0.0);
        }
        assert_eq!(baseline.score(&flat(20.0)).unwrap(), 10.0);
        let again = baseline.score(&flat(20.0)).unwrap();
        assert!(
            (9.0..10.0).contains(&again),
            "a lasting change is absorbed slowly, got {again}"
        );
        let resized = Grey {
            width: 2,
            height: 2,
            pixels: vec![0.0; 4],
        };
        assert_eq!(baseline.score(&resized).unwrap(), 0.0);
    }

    #[test]
    fn shrunk_to_averages_areas() {
        let grey = Grey {
            width: 4,
            height: 4,
            pixels: (0..16).map(|i| i as f32).collect(),
        };
        assert_eq!(grey.shrunk_to(2), [2.5, 4.5, 10.5, 12.5]);
    }
}
