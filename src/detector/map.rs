//! Scores over the frame on a coarse grid.

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

    /// The connected cells around the peak that are at least half as high, as a rectangle in a frame of
    /// `frame` = (width, height) pixels.
    pub(crate) fn region_of_peak(&self, frame: (usize, usize)) -> Region {
        let (start, peak) = self.peak();
        if self.values.is_empty() || !peak.is_finite() {
            return Region::default();
        }
        let level = 0.5 * peak;
        let (mut left, mut right) = (start % self.width, start % self.width);
        let (mut upper, mut lower) = (start / self.width, start / self.width);
        let mut seen = vec![false; self.values.len()];
        let mut open = vec![start];
        seen[start] = true;
        while let Some(i) = open.pop() {
            let (x, y) = (i % self.width, i / self.width);
            (left, right) = (left.min(x), right.max(x));
            (upper, lower) = (upper.min(y), lower.max(y));
            let neighbours = [
                (x > 0).then(|| i - 1),
                (x + 1 < self.width).then_some(i + 1),
                (y > 0).then(|| i - self.width),
                (y + 1 < self.height).then_some(i + self.width),
            ];
            for n in neighbours.into_iter().flatten() {
                if !seen[n] && self.values[n] >= level {
                    seen[n] = true;
                    open.push(n);
                }
            }
        }
        let to_pixels = |cell: usize, cells: usize, pixels: usize| (cell * pixels / cells) as u32;
        let (x, y) = (
            to_pixels(left, self.width, frame.0),
            to_pixels(upper, self.height, frame.1),
        );
        Region {
            x,
            y,
            width: (to_pixels(right + 1, self.width, frame.0) - x).max(1),
            height: (to_pixels(lower + 1, self.height, frame.1) - y).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_what_is_connected_around_the_peak() {
        let mut map = AnomalyMap::new(10, 5);
        for (x, y, v) in [(3, 2, 1.0), (4, 2, 0.6), (4, 3, 0.5), (8, 1, 0.9), (2, 2, 0.4)] {
            map.values[y * 10 + x] = v;
        }
        assert_eq!(map.peak(), (23, 1.0));
        let region = map.region_of_peak((640, 360));
        assert_eq!(
            region,
            Region {
                x: 192,
                y: 144,
                width: 128,
                height: 144
            }
        );
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
}
