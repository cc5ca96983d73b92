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
                (
                    cell,
                    (overlap as f64 / ((end - first) * self.extent) as f64) as f32,
                )
            })
    }

    /// The samples that a cell touches, with the number of parts that it has of each.
    fn touched(self, cell: usize) -> impl Iterator<Item = (usize, usize)> {
        let (first_part, end_part) = (cell * self.extent, (cell + 1) * self.extent);
        (first_part / self.parts()..end_part.div_ceil(self.parts())).map(move |sample| {
            let overlap = end_part.min((sample + 1) * self.parts()) - first_part.max(sample * self.parts());
            (sample, overlap)
        })
    }
}

/// Weights of all cells along a row. They are whole numbers, so that sums are exact and the processor's
/// products of sixteen-bit numbers serve.
#[derive(Clone, Debug)]
pub(super) struct RowCells {
    /// Place of each cell's first sample.
    starts: Vec<usize>,
    /// A window of weights for each cell, zero where another component lies.
    weights: Vec<i16>,
    window: usize,
    /// One over the sum of a cell's weights.
    scale: f32,
}

/// Longest window whose products are added up at once; longer ones are a multiple of it. Powers of two are
/// what the compiler has instructions for.
const LONG: usize = 64;

impl RowCells {
    /// Cells of samples `step` places apart.
    pub(super) fn new(axis: Axis, step: usize) -> Self {
        let divisor = greatest_common_divisor(axis.extent, axis.parts());
        let places = |cell| (axis.touched(cell).count() - 1) * step + 1;
        let longest = (0..axis.cells).map(places).max().unwrap_or(1);
        let window = match longest {
            0..=LONG => longest.next_power_of_two().max(8),
            _ => longest.next_multiple_of(LONG),
        };
        let mut weights = vec![0; axis.cells * window];
        let mut starts = Vec::with_capacity(axis.cells);
        for (cell, weights) in weights.chunks_mut(window).enumerate() {
            for (weight, (_, parts)) in weights.iter_mut().step_by(step).zip(axis.touched(cell)) {
                *weight = (parts / divisor) as i16;
            }
            starts.extend(axis.touched(cell).next().map(|(sample, _)| sample * step));
        }
        Self {
            starts,
            weights,
            window,
            scale: divisor as f32 / axis.extent as f32,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// How many sums a cell reads, some with weight 0.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// Adds `factor` times the means of all cells to `line`. There must be as many more `sums` behind the
    /// last sample's as a window is long.
    #[inline(always)]
    pub(super) fn add_means(&self, sums: &[u16], factor: f32, line: &mut [f32]) {
        let factor = self.scale * factor;
        match self.window {
            8 => self.add_short::<8>(sums, factor, line),
            16 => self.add_short::<16>(sums, factor, line),
            32 => self.add_short::<32>(sums, factor, line),
            _ => self.add_long(sums, factor, line),
        }
    }

    /// The same where windows are `N` long.
    #[inline(always)]
    fn add_short<const N: usize>(&self, sums: &[u16], factor: f32, line: &mut [f32]) {
        let (windows, _) = self.weights.as_chunks::<N>();
        for ((&start, weights), mean) in self.starts.iter().zip(windows).zip(line) {
            if let Some(sums) = sums[start..].first_chunk() {
                *mean += factor * product(weights, sums) as f32;
            }
        }
    }

    /// The same where windows are a multiple of `LONG`.
    #[inline(always)]
    fn add_long(&self, sums: &[u16], factor: f32, line: &mut [f32]) {
        let windows = self.weights.chunks_exact(self.window);
        for ((&start, weights), mean) in self.starts.iter().zip(windows).zip(line) {
            let (weights, _) = weights.as_chunks::<LONG>();
            let (sums, _) = sums[start..].as_chunks();
            let sum: i32 = weights.iter().zip(sums).map(|(a, b)| product(a, b)).sum();
            *mean += factor * sum as f32;
        }
    }
}

/// Scalar product; of arrays, because that is what the compiler has an instruction for.
#[inline(always)]
fn product<const N: usize>(weights: &[i16; N], sums: &[u16; N]) -> i32 {
    weights
        .iter()
        .zip(sums)
        .map(|(a, b)| i32::from(*a) * i32::from(b.cast_signed()))
        .sum()
}

fn greatest_common_divisor(mut a: usize, mut b: usize) -> usize {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::super::columns::MAX_ROWS;
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

    fn means(axis: Axis, step: usize, sums: &[u16]) -> Vec<f32> {
        let cells = RowCells::new(axis, step);
        let mut sums = sums.to_vec();
        sums.resize(sums.len() + cells.window(), 0);
        let mut line = vec![0.0; cells.len()];
        cells.add_means(&sums, 1.0, &mut line);
        line
    }

    #[test]
    fn means_along_a_row_are_weighted_at_the_borders() {
        // Five samples on two cells: 1 2 3/2 | 3/2 4 5
        let line = means(
            Axis {
                extent: 5,
                cells: 2,
                shared: 1,
            },
            1,
            &[1, 2, 3, 4, 5],
        );
        assert!(
            (line[0] - 4.5 / 2.5).abs() < 1e-6 && (line[1] - 10.5 / 2.5).abs() < 1e-6,
            "{line:?}"
        );

        // Nine pixels share five samples: the last counts half.
        let line = means(
            Axis {
                extent: 9,
                cells: 1,
                shared: 2,
            },
            1,
            &[1, 2, 3, 4, 5],
        );
        assert!((line[0] - 12.5 / 4.5).abs() < 1e-6, "{line:?}");
    }

    #[test]
    fn other_components_do_not_count() {
        let line = means(
            Axis {
                extent: 3,
                cells: 1,
                shared: 1,
            },
            3,
            &[1, 10, 60, 2, 20, 70, 3, 30, 80],
        );
        assert!((line[0] - 2.0).abs() < 1e-6, "{line:?}");
    }

    #[test]
    fn windows_of_every_length_cover_their_cells() {
        for extent in 1..300 {
            let sums: Vec<u16> = (0..extent as u16).map(|x| x * 37 % 251).collect();
            let expected = sums.iter().map(|x| f32::from(*x)).sum::<f32>() / extent as f32;
            let line = means(
                Axis {
                    extent,
                    cells: 1,
                    shared: 1,
                },
                1,
                &sums,
            );
            assert!(
                (line[0] - expected).abs() < 1e-3,
                "{extent}: {} not {expected}",
                line[0]
            );
        }
    }

    #[test]
    fn sums_at_the_limits_fit() {
        let sums = vec![i16::MAX as u16; 16_384];
        for (extent, cells, shared) in [(16_384, 1, 1), (16_381, 4_096, 2)] {
            let line = means(
                Axis {
                    extent,
                    cells,
                    shared,
                },
                1,
                &sums,
            );
            assert!(line.iter().all(|mean| (mean - 32_767.0).abs() < 0.01), "{line:?}");
        }
    }
}
