//! Camera shake: measures how far each frame is displaced from the background.
//!
//! The displacement is found by the method of Lucas and Kanade, from coarse to fine ("An Iterative Image Registration
//! Technique with an Application to Stereo Vision", IJCAI 1981), with Geman and McClure's weights, so that moving things do
//! not count, and with a common change of brightness as a third unknown.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::clock::{Step, blend};
use super::filter::percentile;

/// Mean change of the displacement from frame to frame, in pixels, above which frames are moved back, and below which that
/// ends.
const SHAKING: f32 = 0.15;
const STILL: f32 = 0.08;
/// Rate of that mean per tick, and the largest change that counts.
const RATE: f64 = 0.05;
const LARGEST_CHANGE: f32 = 1.0;
/// Larger displacements, in pixels, are another view.
const LARGEST: f32 = 8.0;
/// How often the image is halved for the coarsest step.
const HALVINGS: usize = 2;
/// Steps at each size, and at the full one.
const STEPS: usize = 2;
const FINE_STEPS: usize = 4;
/// Sides of smaller images tell nothing.
const SMALLEST_SIDE: usize = 8;
/// Least standard deviation of the errors of pixels that are where they should be.
const NOISE: f32 = 0.004;
/// Added to the mean squared gradient: without texture the displacement is 0.
const TEXTURE: f64 = 1e-6;
/// The spread of the errors is that of about as many pixels.
const SAMPLES: usize = 1024;
/// Correlation with the background below which an image shows something else, such as a covered lens.
const ALIKE: f64 = 0.5;

/// What was measured so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Shake {
    /// Of the last frame, in pixels.
    displacement: [f32; 2],
    /// Mean change of the displacement from frame to frame, in pixels.
    change: f32,
    /// Whether frames are moved back.
    shaking: bool,
}

/// Measures the displacement of grey images.
#[derive(Debug, Default)]
pub(super) struct Stabiliser {
    image: Pyramid,
    background: Pyramid,
    errors: Vec<f32>,
    sorted: Vec<f32>,
}

impl Stabiliser {
    /// How far the image, of `size` = (width, height), is displaced from the background, in pixels; `None` while the camera is
    /// still, and where the displacement is not known. Pixels with `ignored` 1 do not count.
    pub(super) fn observe(
        &mut self,
        shake: &mut Shake,
        (image, background): (&[f32], &[f32]),
        size: (usize, usize),
        ignored: Option<&[u8]>,
        step: Step,
    ) -> Option<[f32; 2]> {
        self.image.fill(image, size, ignored);
        self.background.fill(background, size, ignored);
        // Half the size is enough to notice that a camera shakes.
        let finest = usize::from(!shake.shaking);
        let found = self.displacement(finest);
        let [dx, dy] = found.unwrap_or_default();
        let change = (dx - shake.displacement[0]).hypot(dy - shake.displacement[1]);
        shake.displacement = [dx, dy];
        shake.change += blend(RATE, step.ticks) as f32 * (change.min(LARGEST_CHANGE) - shake.change);
        shake.shaking = shake.change > if shake.shaking { STILL } else { SHAKING };
        found.filter(|_| shake.shaking)
    }

    /// The displacement in pixels of the full size, from the coarsest size to that of `finest` halvings.
    fn displacement(&mut self, finest: usize) -> Option<[f32; 2]> {
        let mut full = [0.0f32; 2];
        let mut alike = true;
        for level in (finest..self.image.0.len()).rev() {
            let scale = (1 << level) as f32;
            let steps = if level == 0 { FINE_STEPS } else { STEPS };
            for _ in 0..steps {
                let (moved, correlation) = self.step(level, full.map(|d| d / scale))?;
                full = [full[0] + scale * moved[0], full[1] + scale * moved[1]];
                alike = correlation > ALIKE;
            }
            if full[0].hypot(full[1]) > LARGEST {
                return None;
            }
        }
        alike.then_some(full)
    }

    /// What is to be added to the displacement at one size, a step of Gauss and Newton, and the correlation of image and
    /// background before it.
    fn step(&mut self, level: usize, displacement: [f32; 2]) -> Option<([f32; 2], f64)> {
        let (image, background) = (&self.image.0[level], &self.background.0[level]);
        let (width, height) = image.size;
        if width < SMALLEST_SIDE || height < SMALLEST_SIDE {
            return Some(([0.0; 2], 1.0));
        }
        let shift = [Shift::new(displacement[0]), Shift::new(displacement[1])];
        let inside = |shift: Shift, len: usize| {
            let Range { start, end } = shift.inside(len);
            start.max(1)..end.min(len - 1)
        };
        let (columns, rows) = (inside(shift[0], width), inside(shift[1], height));
        if 2 * columns.len() < width || 2 * rows.len() < height {
            return None;
        }
        // Rows of `columns.len()` errors, NaN where a pixel does not count.
        self.errors.clear();
        for y in rows.clone() {
            let [left, top] = shift.map(|shift| shift.fraction);
            let above = shift[1].at(y) * width + shift[0].at(columns.start);
            let pixels = |start: usize| &image.values[start..][..columns.len()];
            let corners = [above, above + 1, above + width, above + width + 1].map(pixels);
            let background = &background.values[y * width..][columns.clone()];
            self.errors.extend((0..columns.len()).map(|x| {
                let [a, b, c, d] = corners.map(|pixels| pixels[x]);
                let (above, below) = (a + left * (b - a), c + left * (d - c));
                above + top * (below - above) - background[x]
            }));
        }
        let every = (self.errors.len() / SAMPLES).max(1) | 1;
        let samples = self.errors.iter().step_by(every).copied();
        let mut samples: Vec<f32> = samples.filter(|e| !e.is_nan()).collect();
        if samples.is_empty() {
            return None;
        }
        let middle = percentile(&samples, 0.5, &mut self.sorted);
        samples.iter_mut().for_each(|e| *e = (*e - middle).abs());
        let spread = 1.4826 * percentile(&samples, 0.5, &mut self.sorted) + NOISE;

        let mut sums = [0.0f64; 15];
        for (y, errors) in rows.zip(self.errors.chunks_exact(columns.len())) {
            let row = |y: usize| &background.values[y * width + columns.start - 1..][..columns.len() + 2];
            let (above, here, below) = (row(y - 1), row(y), row(y + 1));
            let mut row = [0.0f32; 15];
            for (column, e) in errors.iter().enumerate() {
                let e = e - middle;
                let gx = 0.5 * (here[column + 2] - here[column]);
                let gy = 0.5 * (below[column + 1] - above[column + 1]);
                if !(e + gx + gy).is_finite() {
                    continue;
                }
                let far = 0.5 * e / spread;
                let weight = (1.0 / (1.0 + far * far)).powi(2);
                let (x, y) = (weight * gx, weight * gy);
                let b = here[column + 1] - 0.5;
                let i = b + e;
                let terms = [
                    x * gx,
                    x * gy,
                    y * gy,
                    x,
                    y,
                    weight,
                    x * e,
                    y * e,
                    weight * e,
                    1.0,
                    i,
                    b,
                    i * i,
                    b * b,
                    i * b,
                ];
                row.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
            }
            sums.iter_mut()
                .zip(row)
                .for_each(|(sum, row)| *sum += f64::from(row));
        }
        let [xx, xy, yy, x, y, n, ex, ey, e, count, i, b, ii, bb, ib] = sums;
        if n <= 0.0 {
            return None;
        }
        // The common change of brightness is eliminated from the three equations.
        let (xx, xy, yy) = (
            xx - x * x / n + TEXTURE * n,
            xy - x * y / n,
            yy - y * y / n + TEXTURE * n,
        );
        let (ex, ey) = (ex - x * e / n, ey - y * e / n);
        let determinant = xx * yy - xy * xy;
        let moved = [xy * ey - yy * ex, xy * ex - xx * ey].map(|d| (d / determinant) as f32);
        // Without any texture nothing speaks against a displacement, which is 0.
        let variances = (ii - i * i / count + TEXTURE * count) * (bb - b * b / count + TEXTURE * count);
        let correlation = (ib - i * b / count + TEXTURE * count) / variances.sqrt();
        moved
            .iter()
            .all(|d| d.is_finite())
            .then_some((moved, correlation))
    }
}

/// An image and its halves.
#[derive(Debug, Default)]
struct Pyramid(Vec<Grey>);

#[derive(Debug, Default)]
struct Grey {
    size: (usize, usize),
    /// NaN where it is ignored.
    values: Vec<f32>,
}

impl Pyramid {
    fn fill(&mut self, image: &[f32], size: (usize, usize), ignored: Option<&[u8]>) {
        self.0.resize_with(HALVINGS + 1, Grey::default);
        let full = &mut self.0[0];
        full.size = size;
        full.values.clear();
        full.values.extend_from_slice(image);
        for (value, &ignored) in full.values.iter_mut().zip(ignored.unwrap_or_default()) {
            if ignored == 1 {
                *value = f32::NAN;
            }
        }
        for level in 1..self.0.len() {
            let (before, half) = self.0.split_at_mut(level);
            half[0].fill_from(&before[level - 1]);
        }
    }
}

impl Grey {
    /// Half of another image.
    fn fill_from(&mut self, image: &Self) {
        let width = image.size.0;
        self.size = (width / 2, image.size.1 / 2);
        self.values.clear();
        for rows in image.values.chunks_exact(2 * width.max(1)).take(self.size.1) {
            let (above, below) = rows.split_at(width);
            let pairs = above.chunks_exact(2).zip(below.chunks_exact(2));
            self.values
                .extend(pairs.map(|(a, b)| 0.25 * ((a[0] + a[1]) + (b[0] + b[1]))));
        }
    }
}

/// A displacement along one axis: whole pixels, and the rest, 0..1.
#[derive(Clone, Copy, Debug)]
struct Shift {
    whole: isize,
    fraction: f32,
}

impl Shift {
    fn new(displacement: f32) -> Self {
        let whole = displacement.floor();
        Self {
            whole: whole as isize,
            fraction: displacement - whole,
        }
    }

    fn at(self, i: usize) -> usize {
        i.saturating_add_signed(self.whole)
    }

    /// The pixels of `0..len` for which what is displaced to them and its next neighbour are in the image too.
    fn inside(self, len: usize) -> Range<usize> {
        let start = (-self.whole).max(0) as usize;
        let end = len.saturating_add_signed(-(self.whole + 1).max(0));
        start.min(end)..end
    }
}

/// Gives the pixels of a displaced image, `[height, width, channels]`, the values of `instead` where they are NaN, and where
/// they show something `ignored`: pixels of the image that is not displaced.
pub(super) fn fill_unseen(
    image: &mut [f32],
    (width, height, channels): (usize, usize, usize),
    displacement: [f32; 2],
    ignored: impl Iterator<Item = usize>,
    instead: &[f32],
) {
    let [horizontal, vertical] = displacement.map(|d| d.floor() as isize);
    for i in ignored {
        let (x, y) = ((i % width) as isize - horizontal, (i / width) as isize - vertical);
        for (x, y) in [(x, y), (x - 1, y), (x, y - 1), (x - 1, y - 1)] {
            if (0..width as isize).contains(&x) && (0..height as isize).contains(&y) {
                let at = (y as usize * width + x as usize) * channels;
                image[at..at + channels].fill(f32::NAN);
            }
        }
    }
    for (value, instead) in image.iter_mut().zip(instead) {
        if value.is_nan() {
            *value = *instead;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (usize, usize) = (90, 60);
    const TENTH: Step = Step {
        seconds: 0.1,
        ticks: 1.0,
    };

    /// A scene that is displaced by `d`; a dark thing covers a part of it.
    fn scene(d: [f32; 2], thing: Option<usize>) -> Vec<f32> {
        let mut image: Vec<f32> = (0..SIZE.0 * SIZE.1)
            .map(|i| {
                let (x, y) = ((i % SIZE.0) as f32 - d[0], (i / SIZE.0) as f32 - d[1]);
                0.5 + 0.15 * (0.31 * x + 0.11 * y).sin()
                    + 0.1 * (0.23 * y - 0.17 * x).cos()
                    + 0.1 * (0.5 * x).sin()
            })
            .collect();
        for y in 20..40 {
            if let Some(x) = thing {
                image[y * SIZE.0 + x..][..20].fill(0.0);
            }
        }
        image
    }

    fn shaking() -> Shake {
        Shake {
            shaking: true,
            change: 0.5,
            ..Shake::default()
        }
    }

    #[test]
    fn finds_the_displacement_behind_a_moving_thing_and_in_another_light() {
        let background = scene([0.0; 2], None);
        for d in [[0.0, 0.0], [0.4, -0.3], [-1.6, 2.3], [5.2, -4.1]] {
            let image: Vec<f32> = scene(d, Some(30)).iter().map(|v| v + 0.04).collect();
            let mut stabiliser = Stabiliser::default();
            let found = stabiliser.observe(&mut shaking(), (&image, &background), SIZE, None, TENTH);
            let [x, y] = found.expect("it is known");
            assert!(
                (x - d[0]).abs() < 0.05 && (y - d[1]).abs() < 0.05,
                "{d:?}: {x}, {y}"
            );
        }
    }

    #[test]
    fn what_is_ignored_does_not_count() {
        let background = scene([0.0; 2], None);
        let mut image = scene([1.0, 0.5], None);
        let mut ignored = vec![0; image.len()];
        // Most of the image stands still, and is ignored.
        for y in 0..SIZE.1 {
            for x in 25..SIZE.0 {
                ignored[y * SIZE.0 + x] = 1;
                image[y * SIZE.0 + x] = background[y * SIZE.0 + x];
            }
        }
        let mut stabiliser = Stabiliser::default();
        let found = stabiliser.observe(&mut shaking(), (&image, &background), SIZE, Some(&ignored), TENTH);
        let [x, y] = found.expect("it is known");
        assert!((x - 1.0).abs() < 0.05 && (y - 0.5).abs() < 0.05, "{x}, {y}");
    }

    #[test]
    fn a_plain_image_or_another_view_has_no_displacement() {
        let plain = vec![0.5; SIZE.0 * SIZE.1];
        let mut stabiliser = Stabiliser::default();
        let found = stabiliser.observe(&mut shaking(), (&plain, &plain), SIZE, None, TENTH);
        assert_eq!(found, Some([0.0; 2]));
        let tiny = [0.1, 0.2, 0.3, 0.4];
        let found = stabiliser.observe(&mut shaking(), (&tiny, &tiny), (2, 2), None, TENTH);
        assert_eq!(found, Some([0.0; 2]));
        let (here, there) = (scene([0.0; 2], None), scene([25.0, 10.0], None));
        let found = stabiliser.observe(&mut shaking(), (&there, &here), SIZE, None, TENTH);
        assert!(found.is_none_or(|[x, y]| x.hypot(y) <= LARGEST), "{found:?}");
        let covered: Vec<f32> = (0..here.len())
            .map(|i| 0.1 + 0.001 * ((i * 7919) % 13) as f32)
            .collect();
        let found = stabiliser.observe(&mut shaking(), (&covered, &here), SIZE, None, TENTH);
        assert_eq!(found, None, "a covered lens");
    }

    #[test]
    fn only_a_shaking_camera_is_moved_back() {
        let background = scene([0.0; 2], None);
        let mut stabiliser = Stabiliser::default();
        let mut shake = Shake::default();
        let mut observe = |d: [f32; 2], thing: usize| {
            let image = scene(d, Some(thing));
            stabiliser.observe(&mut shake, (&image, &background), SIZE, None, TENTH)
        };
        for i in 0..100 {
            assert_eq!(
                observe([0.7, 0.0], i % 60),
                None,
                "a camera that stands still, frame {i}"
            );
        }
        let swing = |i: usize| [if i.is_multiple_of(2) { 0.6 } else { -0.6 }, 0.0];
        let found: Vec<_> = (0..40).map(|i| observe(swing(i), i)).collect();
        let begin = found.iter().position(Option::is_some).expect("it shakes");
        assert!((1..20).contains(&begin), "from frame {begin} on");
        for (i, d) in found.iter().enumerate().skip(begin + 1) {
            let [x, _] = d.expect("it still shakes");
            assert!((x - swing(i)[0]).abs() < 0.05, "frame {i}: {x}");
        }
        let still = (0..100).filter(|&i| observe([0.0; 2], i % 60).is_some()).count();
        assert!(
            (10..70).contains(&still),
            "moved back for {still} frames after the shake"
        );
    }

    #[test]
    fn what_is_outside_or_ignored_is_filled_in() {
        let (width, height) = (5, 4);
        let mut image: Vec<f32> = (0..width * height * 2).map(|i| i as f32).collect();
        let instead = vec![-1.0; image.len()];
        image[..2 * width].fill(f32::NAN);
        // Pixel (x, y) shows what is at x + 1.5, y - 0.25: pixel (3, 2) is in four others.
        let ignored = [2 * width + 3].into_iter();
        fill_unseen(&mut image, (width, height, 2), [1.5, -0.25], ignored, &instead);
        let filled: Vec<usize> = (0..width * height).filter(|i| image[2 * i] == -1.0).collect();
        assert_eq!(filled, [0, 1, 2, 3, 4, 11, 12, 16, 17]);
        assert!(image.iter().all(|v| v.is_finite()));
        assert!(filled.iter().all(|i| image[2 * i + 1] == -1.0));
    }
}
