//! One axis of a grid: which samples a cell covers, and how much of them.
//!
//! `cells` cells of equal size cover `extent` pixels, each sample `shared` of them; so border `k` lies at
//! `k * extent / (cells * shared)` samples. Where `extent` is odd and chroma subsampled, the last sample
//! counts for the one pixel that it covers.

use super::layout::Tap;

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
    /// Parts into which a sample is divided so that every border lies between two parts; a cell has
    /// `extent` of them.
    fn parts(self) -> usize {
        self.cells * self.shared
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
        (first_part / self.extent..self.cells)
            .take_while(move |cell| cell * self.extent < end_part)
            .map(move |cell| {
                let overlap = end_part.min((cell + 1) * self.extent) - first_part.max(cell * self.extent);
                (cell, (overlap as f64 / ((end - first) * self.extent) as f64) as f32)
            })
    }

    /// The samples that a cell touches, with the number of parts that it has of each.
    fn touched(self, cell: usize) -> impl Iterator<Item = (usize, usize)> {
        let (first_part, end_part) = (cell * self.extent, (cell + 1) * self.extent);
        (first_part / self.parts()..end_part.div_ceil(self.parts())).map(move |sample| {
            let overlap =
                end_part.min((sample + 1) * self.parts()) - first_part.max(sample * self.parts());
            (sample, overlap)
        })
    }
}

/// Weights of all cells along a row. They are whole numbers, so that sums are exact and the processor's
/// products of sixteen-bit numbers serve.
#[derive(Clone, Debug)]
pub(super) struct RowCells {
    /// Byte of each cell's first sample.
    starts: Vec<usize>,
    /// A window of weights for each cell, one weight a byte, zero where another component's bytes lie.
    weights: Vec<i16>,
    window: usize,
    /// One over the sum of a cell's weights.
    scale: f32,
}

/// Length of a window of at least `bytes` bytes: one of those that `RowCells::means` takes at once, or a
/// multiple of the largest.
fn window_of(bytes: usize) -> usize {
    bytes.next_multiple_of(if bytes > 48 { 32 } else { 8 })
}

impl RowCells {
    /// Cells of samples `step` bytes apart.
    pub(super) fn new(axis: Axis, step: usize) -> Self {
        let divisor = greatest_common_divisor(axis.extent, axis.parts());
        let bytes = |cell| (axis.touched(cell).count() - 1) * step + 1;
        let window = (0..axis.cells).map(bytes).max().unwrap_or(1);
        let window = window_of(window);
        let mut weights = vec![0; axis.cells * window];
        let mut starts = Vec::with_capacity(axis.cells);
        for (cell, weights) in weights.chunks_mut(window).enumerate() {
            let places = weights.iter_mut().step_by(step);
            for (place, (_, parts)) in places.zip(axis.touched(cell)) {
                *place = (parts / divisor) as i16;
            }
            starts.extend(axis.touched(cell).next().map(|(sample, _)| sample * step));
        }
        Self { starts, weights, window, scale: divisor as f32 / axis.extent as f32 }
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Bytes that a cell's sum reads, many of them with weight 0.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// Means of all cells from columns, one a byte of the row. There must be a window more of them.
    pub(super) fn means(&self, columns: &[i16], taps: &[Tap], line: &mut [f32]) {
        match self.window {
            8 => self.means_of::<8>(columns, taps, line),
            16 => self.means_of::<16>(columns, taps, line),
            24 => self.means_of::<24>(columns, taps, line),
            40 => self.means_of::<40>(columns, taps, line),
            48 => self.means_of::<48>(columns, taps, line),
            _ => self.means_of::<32>(columns, taps, line),
        }
    }

    /// The same, adding up `N` products at once.
    fn means_of<const N: usize>(&self, columns: &[i16], taps: &[Tap], line: &mut [f32]) {
        let windows = self.weights.chunks_exact(self.window);
        for ((&start, weights), mean) in self.starts.iter().zip(windows).zip(line) {
            let mut total = 0.0;
            for tap in taps {
                let columns = &columns[start + tap.offset..][..self.window];
                let (weights, _) = weights.as_chunks::<N>();
                let (columns, _) = columns.as_chunks::<N>();
                let sum: i32 = weights.iter().zip(columns).map(|(a, b)| product(a, b)).sum();
                total += tap.factor * sum as f32;
            }
            *mean = self.scale * total;
        }
    }
}

/// Scalar product; of arrays, because that is what the compiler has an instruction for.
fn product<const N: usize>(a: &[i16; N], b: &[i16; N]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
}

fn greatest_common_divisor(mut a: usize, mut b: usize) -> usize {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
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

    const BYTE: [Tap; 1] = [Tap { offset: 0, factor: 1.0 }];

    fn means(axis: Axis, step: usize, taps: &[Tap], samples: &[i16]) -> Vec<f32> {
        let cells = RowCells::new(axis, step);
        let mut columns = samples.to_vec();
        columns.resize(samples.len() + cells.window(), 0);
        let mut line = vec![0.0; cells.len()];
        cells.means(&columns, taps, &mut line);
        line
    }

    #[test]
    fn means_along_a_row_are_weighted_at_the_borders() {
        // Five samples on two cells: 1 2 3/2 | 3/2 4 5
        let samples = [1, 2, 3, 4, 5];
        let line = means(Axis { extent: 5, cells: 2, shared: 1 }, 1, &BYTE, &samples);
        assert!((line[0] - 4.5 / 2.5).abs() < 1e-6 && (line[1] - 10.5 / 2.5).abs() < 1e-6, "{line:?}");

        // Nine pixels share five samples: the last counts half.
        let line = means(Axis { extent: 9, cells: 1, shared: 2 }, 1, &BYTE, &samples);
        assert!((line[0] - 12.5 / 4.5).abs() < 1e-6, "{line:?}");
    }

    #[test]
    fn taps_pick_bytes_of_a_sample() {
        let samples = [1, 10, 100, 2, 20, 200, 3, 30, 300];
        let taps = [Tap { offset: 2, factor: 1.0 }, Tap { offset: 1, factor: 256.0 }];
        let line = means(Axis { extent: 3, cells: 1, shared: 1 }, 3, &taps, &samples);
        assert!((line[0] - (200.0 + 256.0 * 20.0)).abs() < 1e-2, "{line:?}");
    }

    #[test]
    fn windows_of_every_length_cover_their_cells() {
        for extent in 16..600 {
            let samples: Vec<i16> = (0..extent as i16).map(|x| x * 37 % 251).collect();
            let expected = samples.iter().map(|x| f32::from(*x)).sum::<f32>() / extent as f32;
            let line = means(Axis { extent, cells: 1, shared: 1 }, 1, &BYTE, &samples);
            assert!((line[0] - expected).abs() < 1e-3, "{extent}: {} not {expected}", line[0]);
        }
    }

    #[test]
    fn sums_at_the_limits_fit() {
        let columns = vec![i16::MAX; 16_384];
        let line = means(Axis { extent: 16_384, cells: 1, shared: 1 }, 1, &BYTE, &columns);
        assert!((line[0] - 32_767.0).abs() < 0.01, "{line:?}");
        let line = means(Axis { extent: 16_381, cells: 4_096, shared: 2 }, 1, &BYTE, &columns);
        assert!(line.iter().all(|mean| (mean - 32_767.0).abs() < 0.01), "{line:?}");
    }
}
