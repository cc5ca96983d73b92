//! One axis of a grid: which samples a cell covers, and how much of them.
//!
//! `cells` cells of equal size cover `extent` pixels, each sample `shared` of them; so border `k` lies at
//! `k * extent / (cells * shared)` samples. Where `extent` is odd and chroma subsampled, the last sample
//! counts for the one pixel that it covers.

/// One axis of a grid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    /// Pixels.
    pub(super) extent: usize,
    /// Cells that cover them.
    pub(super) cells: usize,
    /// Pixels that share a sample.
    pub(super) shared: usize,
}

impl Axis {
    /// Parts into which a sample is divided so that every border lies between two parts.
    fn parts(self) -> usize {
        self.cells * self.shared
    }

    /// The sample in which border `k` lies, and the share of the sample before the border.
    fn border(self, k: usize) -> (usize, f64) {
        let position = k * self.extent;
        let within = position % self.parts();
        (position / self.parts(), within as f64 / self.parts() as f64)
    }

    /// Size of a cell in samples.
    fn cell_size(self) -> f64 {
        self.extent as f64 / self.parts() as f64
    }

    /// Upper bound of the samples that a cell touches.
    pub(super) fn max_touched(self) -> usize {
        self.extent.div_ceil(self.parts()) + 1
    }

    /// Positions between samples next to the borders, before and after.
    pub(super) fn stops(self) -> impl Iterator<Item = usize> {
        (0..=self.cells).flat_map(move |k| {
            let position = k * self.extent;
            [position / self.parts(), position.div_ceil(self.parts())]
        })
    }

    /// The cells that the samples `first..end` are part of, with the factors that turn the sum of these
    /// samples into their part of a cell's mean. No border may lie inside, unless it is one sample.
    pub(super) fn shares(self, first: usize, end: usize) -> impl Iterator<Item = (usize, f32)> {
        let (first_part, end_part) = (first * self.parts(), end * self.parts());
        let first_cell = first_part / self.extent;
        (first_cell..self.cells)
            .take_while(move |cell| cell * self.extent < end_part)
            .map(move |cell| {
                let overlap = end_part.min((cell + 1) * self.extent) - first_part.max(cell * self.extent);
                (
                    cell,
                    (overlap as f64 / ((end - first) * self.extent) as f64) as f32,
                )
            })
    }
}

/// Weights of one cell along a row.
#[derive(Clone, Copy, Debug)]
struct Cell {
    start: usize,
    end: usize,
    /// Of the sample at `start`, beside its place in the sum of `start..end`.
    left: f32,
    /// Of the sample at `end`.
    right: f32,
}

/// Cells along a row, ready to be applied to a running sum.
#[derive(Clone, Debug)]
pub(super) struct RowCells {
    scale: f32,
    cells: Vec<Cell>,
}

impl RowCells {
    pub(super) fn new(axis: Axis) -> Self {
        let scale = 1.0 / axis.cell_size();
        let cell = |k| {
            let ((start, before_left), (end, before_right)) = (axis.border(k), axis.border(k + 1));
            let (left, right) = if start == end {
                (0.0, before_right - before_left)
            } else {
                (-before_left, before_right)
            };
            Cell {
                start,
                end,
                left: (left * scale) as f32,
                right: (right * scale) as f32,
            }
        };
        Self {
            scale: scale as f32,
            cells: (0..axis.cells).map(cell).collect(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Means of all cells, `running[i]` being the sum of the first `i` samples, modulo 2^32; it has one more
    /// value at the end, equal to the sum of all samples.
    pub(super) fn means(&self, running: &[u32], line: &mut [f32]) {
        let sum = |start: usize, end: usize| running[end].wrapping_sub(running[start]) as f32;
        for (cell, mean) in self.cells.iter().zip(line) {
            let &Cell {
                start,
                end,
                left,
                right,
            } = cell;
            *mean = self.scale * sum(start, end) + left * sum(start, start + 1) + right * sum(end, end + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_shared_out_in_full() {
        for (extent, cells, shared) in [(1080, 100, 1), (17, 5, 2), (16, 180, 1), (33, 7, 2), (16, 16, 1)] {
            let axis = Axis {
                extent,
                cells,
                shared,
            };
            let samples = extent.div_ceil(shared);
            let mut totals = vec![0.0; cells];
            for sample in 0..samples {
                let mut total = 0.0;
                for (cell, share) in axis.shares(sample, sample + 1) {
                    totals[cell] += share;
                    total += share;
                }
                let pixels = shared.min(extent - sample * shared) as f32;
                let expected = pixels * cells as f32 / extent as f32;
                assert!(
                    (total - expected).abs() < 1e-6,
                    "{axis:?} sample {sample}: {total} not {expected}"
                );
            }
            for total in totals {
                assert!(
                    (total - 1.0).abs() < 1e-5,
                    "{axis:?}: a cell's weights sum to {total}"
                );
            }
        }
    }

    #[test]
    fn means_along_a_row_are_weighted_at_the_borders() {
        // Five samples on two cells: 1 2 3/2 | 3/2 4 5
        let running = [0, 1, 3, 6, 10, 15, 15];
        let mut line = [0.0; 2];
        RowCells::new(Axis {
            extent: 5,
            cells: 2,
            shared: 1,
        })
        .means(&running, &mut line);
        assert!(
            (line[0] - 4.5 / 2.5).abs() < 1e-6 && (line[1] - 10.5 / 2.5).abs() < 1e-6,
            "{line:?}"
        );

        // Nine pixels share five samples: the last counts half.
        let mut line = [0.0; 1];
        RowCells::new(Axis {
            extent: 9,
            cells: 1,
            shared: 2,
        })
        .means(&running, &mut line);
        assert!((line[0] - 12.5 / 4.5).abs() < 1e-6, "{line:?}");
    }

    #[test]
    fn running_sums_may_wrap() {
        let start = u32::MAX - 2;
        let running: Vec<u32> = [0, 1, 3, 6, 10, 15, 15]
            .iter()
            .map(|sum| start.wrapping_add(*sum))
            .collect();
        let mut line = [0.0; 1];
        RowCells::new(Axis {
            extent: 5,
            cells: 1,
            shared: 1,
        })
        .means(&running, &mut line);
        assert!((line[0] - 3.0).abs() < 1e-6, "{line:?}");
    }
}
