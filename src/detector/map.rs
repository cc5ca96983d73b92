//! Scores over the frame on a coarse grid, and rectangles in it.

/// Scores over the frame, row by row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnomalyMap {
    /// Cells in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width` values, row by row.
    pub values: Vec<f32>,
}

/// A rectangle in pixels of the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

impl Region {
    /// Area in pixels.
    pub fn area(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// Area in pixels that both cover.
    pub fn intersection(&self, other: &Self) -> u64 {
        let shared = |from: u32, length: u32, other_from: u32, other_length: u32| {
            let end =
                (u64::from(from) + u64::from(length)).min(u64::from(other_from) + u64::from(other_length));
            end.saturating_sub(u64::from(from.max(other_from)))
        };
        shared(self.x, self.width, other.x, other.width) * shared(self.y, self.height, other.y, other.height)
    }

    /// The same moved by a displacement in fractions of a frame of `frame` = (width, height) pixels. What leaves the frame is
    /// cut off; at least one pixel stays.
    pub(crate) fn moved(&self, displacement: [f32; 2], frame: (usize, usize)) -> Self {
        let along = |from: u32, length: u32, displacement: f32, pixels: usize| {
            let by = (displacement * pixels as f32).round() as i64;
            let pixels = pixels as i64;
            let start = (i64::from(from) + by).clamp(0, pixels - 1);
            let end = (i64::from(from) + i64::from(length) + by).clamp(start + 1, pixels);
            (start as u32, (end - start) as u32)
        };
        let (x, width) = along(self.x, self.width, displacement[0], frame.0);
        let (y, height) = along(self.y, self.height, displacement[1], frame.1);
        Self { x, y, width, height }
    }
}

/// Cells of a grid, or pixels of an image, from `left` and `upper` up to but without `right` and `lower`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) left: usize,
    pub(crate) upper: usize,
    pub(crate) right: usize,
    pub(crate) lower: usize,
}

impl Extent {
    /// The smallest one with all these cells of a grid of `width` columns; `None` without cells.
    pub(crate) fn around(cells: &[usize], width: usize) -> Option<Self> {
        let cell = |&i: &usize| Self {
            left: i % width,
            upper: i / width,
            right: i % width + 1,
            lower: i / width + 1,
        };
        cells.iter().map(cell).reduce(|a, b| Self {
            left: a.left.min(b.left),
            upper: a.upper.min(b.upper),
            right: a.right.max(b.right),
            lower: a.lower.max(b.lower),
        })
    }

    /// The same area of a frame of `frame` = (width, height) pixels, where the grid of `grid` = (columns, rows) covers it.
    pub(crate) fn region(&self, grid: (usize, usize), frame: (usize, usize)) -> Region {
        let to_pixels = |cell: usize, cells: usize, pixels: usize| (cell * pixels / cells) as u32;
        let (x, y) = (
            to_pixels(self.left, grid.0, frame.0),
            to_pixels(self.upper, grid.1, frame.1),
        );
        Region {
            x,
            y,
            width: (to_pixels(self.right, grid.0, frame.0) - x).max(1),
            height: (to_pixels(self.lower, grid.1, frame.1) - y).max(1),
        }
    }
}

/// The cells connected with `start` over cells that `belongs`, in a grid of `(columns, rows)`; none where `start` does not.
/// Marks them in `seen`, and passes over what is marked.
pub(crate) fn connected(
    (width, height): (usize, usize),
    start: usize,
    seen: &mut [bool],
    belongs: impl Fn(usize) -> bool,
) -> Vec<usize> {
    if seen[start] || !belongs(start) {
        return Vec::new();
    }
    seen[start] = true;
    let mut cells = vec![start];
    let mut next = 0;
    while let Some(&i) = cells.get(next) {
        next += 1;
        let (x, y) = (i % width, i / width);
        let neighbours = [
            (x > 0).then(|| i - 1),
            (x + 1 < width).then_some(i + 1),
            (y > 0).then(|| i - width),
            (y + 1 < height).then_some(i + width),
        ];
        for n in neighbours.into_iter().flatten() {
            if !seen[n] && belongs(n) {
                seen[n] = true;
                cells.push(n);
            }
        }
    }
    cells
}

impl AnomalyMap {
    pub(crate) fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            values: vec![0.0; width * height],
        }
    }

    /// Takes the score from these cells: none of them is ever the peak.
    pub(crate) fn exclude(&mut self, cells: &[usize]) {
        cells.iter().for_each(|&i| self.values[i] = f32::NEG_INFINITY);
    }

    /// Gives cells less than `margin` cells from a border the value of the nearest one that is not: means over boxes that reach
    /// beyond the image are those of fewer pixels, and vary more. Along a side of too few cells nothing changes.
    pub(crate) fn fill_border(&mut self, margin: usize) {
        let (width, height) = self.size();
        let inner = |at: usize, cells: usize| match cells > 2 * margin {
            true => at.clamp(margin, cells - 1 - margin),
            false => at,
        };
        for i in 0..self.values.len() {
            let (x, y) = (i % width, i / width);
            let (inner_x, inner_y) = (inner(x, width), inner(y, height));
            if (x, y) != (inner_x, inner_y) {
                self.values[i] = self.values[inner_y * width + inner_x];
            }
        }
    }

    /// The same moved by a displacement in fractions of width and height, to the nearest cell. Cells without a score stay
    /// where they are. What lies before the first cell or behind the last one has the value of that one.
    pub(crate) fn moved(self, displacement: [f32; 2]) -> Self {
        let by = |displacement: f32, cells: usize| (displacement * cells as f32).round() as isize;
        let (dx, dy) = (by(displacement[0], self.width), by(displacement[1], self.height));
        if (dx, dy) == (0, 0) {
            return self;
        }
        let from = |at: usize, by: isize, cells: usize| at.saturating_add_signed(-by).min(cells - 1);
        let value = |(i, &here): (usize, &f32)| {
            let (x, y) = (
                from(i % self.width, dx, self.width),
                from(i / self.width, dy, self.height),
            );
            let moved = self.values[y * self.width + x];
            match here.is_finite() && moved.is_finite() {
                true => moved,
                false => here,
            }
        };
        Self {
            values: self.values.iter().enumerate().map(value).collect(),
            ..self
        }
    }

    /// Columns and rows.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Index and value of the largest cell; the first of equals. NaN never wins.
    pub(crate) fn peak(&self) -> (usize, f32) {
        self.values
            .iter()
            .copied()
            .enumerate()
            .fold(
                (0, f32::NEG_INFINITY),
                |best, (i, v)| if v > best.1 { (i, v) } else { best },
            )
    }

    /// A peak and the connected cells around it that are at least half as high.
    pub(crate) fn hill(&self, peak: usize) -> Vec<usize> {
        let Some(&top) = self.values.get(peak).filter(|top| top.is_finite()) else {
            return Vec::new();
        };
        let mut seen = vec![false; self.values.len()];
        connected(self.size(), peak, &mut seen, |i| {
            i == peak || self.values[i] >= 0.5 * top
        })
    }

    /// The peaks of all connected parts whose cells are `over` a threshold.
    pub(crate) fn peaks(&self, over: impl Fn(f32) -> bool) -> Vec<usize> {
        let is_over: Vec<bool> = self.values.iter().map(|&value| over(value)).collect();
        let mut seen = vec![false; self.values.len()];
        (0..self.values.len())
            .filter_map(|start| {
                let part = connected(self.size(), start, &mut seen, |i| is_over[i]);
                part.into_iter().reduce(|best, i| {
                    if self.values[i] > self.values[best] {
                        i
                    } else {
                        best
                    }
                })
            })
            .collect()
    }

    /// The [`AnomalyMap::hill`] of the highest peak, as a rectangle in a frame of `frame` = (width, height) pixels.
    pub(crate) fn region_of_peak(&self, frame: (usize, usize)) -> Region {
        let extent = Extent::around(&self.hill(self.peak().0), self.width);
        extent.map_or_else(Region::default, |extent| extent.region(self.size(), frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(x: u32, y: u32, width: u32, height: u32) -> Region {
        Region { x, y, width, height }
    }

    #[test]
    fn the_region_is_what_is_connected_around_the_peak() {
        let mut map = AnomalyMap::new(10, 5);
        for (x, y, v) in [(3, 2, 1.0), (4, 2, 0.6), (4, 3, 0.5), (8, 1, 0.9), (2, 2, 0.4)] {
            map.values[y * 10 + x] = v;
        }
        assert_eq!(map.peak(), (23, 1.0));
        assert_eq!(map.region_of_peak((640, 360)), region(192, 144, 128, 144));
    }

    #[test]
    fn a_peak_below_zero_is_a_region_of_one_cell() {
        let mut map = AnomalyMap::new(10, 5);
        map.values.fill(-2.0);
        map.values[23] = -1.0;
        assert_eq!(map.region_of_peak((640, 360)), region(192, 144, 64, 72));
    }

    #[test]
    fn every_connected_part_over_a_threshold_has_one_peak() {
        let mut map = AnomalyMap::new(10, 5);
        for (x, y, v) in [
            (3, 2, 1.0),
            (4, 2, 0.6),
            (4, 3, 0.7),
            (8, 1, 0.9),
            (9, 2, 0.8),
            (0, 0, 0.3),
        ] {
            map.values[y * 10 + x] = v;
        }
        map.exclude(&[49]);
        let mut peaks = map.peaks(|v| v > 0.5);
        peaks.sort_unstable();
        assert_eq!(
            peaks,
            [18, 23, 29],
            "cells that touch at a corner are not connected"
        );
        assert!(map.peaks(|v| v > 1.0).is_empty());
    }

    #[test]
    fn regions_stay_inside_frames_smaller_than_the_grid() {
        let mut map = AnomalyMap::new(45, 45);
        map.values[45 * 45 - 1] = 1.0;
        let r = map.region_of_peak((16, 16));
        assert!(
            r.width >= 1 && r.x + r.width <= 16 && r.y + r.height <= 16,
            "{r:?}"
        );
    }

    #[test]
    fn a_map_without_scores_has_no_region() {
        let mut map = AnomalyMap::new(4, 4);
        map.exclude(&(0..16).collect::<Vec<_>>());
        assert_eq!(map.region_of_peak((640, 360)), Region::default());
        assert_eq!(
            AnomalyMap::default().region_of_peak((640, 360)),
            Region::default()
        );
    }

    #[test]
    fn the_border_has_the_values_of_what_is_next_to_it() {
        let mut map = AnomalyMap::new(5, 4);
        map.values = (0..20).map(|i| i as f32).collect();
        map.exclude(&[13]);
        map.fill_border(1);
        let none = f32::NEG_INFINITY;
        #[rustfmt::skip]
        let expected = [
            6.0, 6.0, 7.0, 8.0, 8.0,
            6.0, 6.0, 7.0, 8.0, 8.0,
            11.0, 11.0, 12.0, none, none,
            11.0, 11.0, 12.0, none, none,
        ];
        assert_eq!(map.values, expected);
        let mut narrow = AnomalyMap::new(3, 2);
        narrow.values = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        narrow.fill_border(1);
        assert_eq!(narrow.values, [2.0, 2.0, 2.0, 5.0, 5.0, 5.0]);
    }

    #[test]
    fn regions_are_moved_within_the_frame() {
        let moved = |r: Region, by| r.moved(by, (200, 100));
        let r = region(10, 20, 30, 40);
        assert_eq!(moved(r, [0.0, 0.0]), r);
        assert_eq!(moved(r, [0.05, -0.1]), region(20, 10, 30, 40));
        assert_eq!(moved(r, [-0.1, 0.5]), region(0, 70, 20, 30));
        assert_eq!(moved(r, [1.0, -1.0]), region(199, 0, 1, 1));
    }

    #[test]
    fn maps_are_moved_to_the_nearest_cell() {
        let mut map = AnomalyMap::new(4, 2);
        map.values = vec![1.0, 2.0, 3.0, f32::NEG_INFINITY, 5.0, 6.0, 7.0, 8.0];
        assert_eq!(map.clone().moved([0.1, 0.2]), map);
        let left = map.clone().moved([-0.25, 0.0]);
        assert_eq!(
            left.values,
            [2.0, 3.0, 3.0, f32::NEG_INFINITY, 6.0, 7.0, 8.0, 8.0],
            "what is excluded stays where it is"
        );
        let down = map.moved([0.0, 0.5]);
        assert_eq!(
            down.values,
            [1.0, 2.0, 3.0, f32::NEG_INFINITY, 1.0, 2.0, 3.0, 8.0]
        );
    }

    #[test]
    fn regions_intersect_where_both_are() {
        let a = region(10, 10, 20, 10);
        assert_eq!(a.intersection(&region(25, 5, 20, 8)), 15);
        assert_eq!(a.intersection(&region(30, 10, 5, 5)), 0, "they only touch");
        assert_eq!(a.intersection(&a), a.area());
        let huge = region(u32::MAX, 0, u32::MAX, u32::MAX);
        assert_eq!(huge.intersection(&huge), huge.area());
    }
}
