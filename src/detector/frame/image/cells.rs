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

    /// What divides the parts that cells have of samples.
    pub(super) fn divisor(self) -> usize {
        greatest_common_divisor(self.extent, self.parts())
    }

    /// One over the sum of a cell's weights along a row, see [`RowCells`].
    pub(super) fn scale(self) -> f32 {
        self.divisor() as f32 / self.extent as f32
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
    /// Index of each cell's first sum.
    starts: Vec<usize>,
    /// As many pieces for each cell, zero where another component lies.
    weights: Vec<Piece>,
    /// Pieces of a cell.
    pieces: usize,
    /// One over the sum of a cell's weights.
    scale: f32,
}

/// Numbers that are multiplied and added up at once.
type Piece = [u16; PIECE];
const PIECE: usize = 16;

impl RowCells {
    /// Cells of samples `step` sums apart.
    pub(super) fn new(axis: Axis, step: usize) -> Self {
        let divisor = axis.divisor();
        let extent = |cell| (axis.touched(cell).count() - 1) * step + 1;
        let longest = (0..axis.cells).map(extent).max().unwrap_or(1);
        let pieces = longest.div_ceil(PIECE);
        let mut weights = vec![[0; PIECE]; axis.cells * pieces];
        let mut starts = Vec::with_capacity(axis.cells);
        for (cell, weights) in weights.chunks_mut(pieces).enumerate() {
            let weights = weights.as_flattened_mut().iter_mut().step_by(step);
            for (weight, (_, parts)) in weights.zip(axis.touched(cell)) {
                *weight = (parts / divisor) as u16;
            }
            starts.extend(axis.touched(cell).next().map(|(sample, _)| sample * step));
        }
        Self {
            starts,
            weights,
            pieces,
            scale: axis.scale(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// How many sums a cell reads, some with weight 0.
    pub(super) fn window(&self) -> usize {
        self.pieces * PIECE
    }

    /// Adds `factor` times the means of all cells to `line`. There must be as many more `sums` behind the
    /// last sample's as a window is long.
    pub(super) fn add_means(&self, sums: &[u16], factor: f32, line: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if super::wide::is_available() {
            #[allow(unsafe_code, reason = "what the processor has is known only when running")]
            // SAFETY: the processor was just asked.
            return unsafe { self.add_means_wide(sums, factor, line) };
        }
        self.add_means_from(0, sums, factor, line);
    }

    /// The same from the cell `first` on, in code for any processor.
    fn add_means_from(&self, first: usize, sums: &[u16], factor: f32, line: &mut [f32]) {
        let factor = self.scale * factor;
        let cells = self.starts.iter().zip(self.weights.chunks_exact(self.pieces));
        for ((&start, weights), mean) in cells.zip(line).skip(first) {
            let sums = pieces_at(sums, start, self.pieces);
            let sum: i32 = weights.iter().zip(sums).map(|(a, b)| product(a, b)).sum();
            *mean += factor * sum as f32;
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn add_means_wide(&self, sums: &[u16], factor: f32, line: &mut [f32]) {
        match self.pieces {
            1 => self.add_fours_wide::<1>(sums, factor, line),
            2 => self.add_fours_wide::<2>(sums, factor, line),
            3 => self.add_fours_wide::<3>(sums, factor, line),
            _ => self.add_fours_wide::<0>(sums, factor, line),
        }
        self.add_means_from(self.len() / 4 * 4, sums, factor, line);
    }

    /// Four cells at once, as often as there are four. `PIECES` of a cell, if not 0, are known when
    /// compiling.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn add_fours_wide<const PIECES: usize>(&self, sums: &[u16], factor: f32, line: &mut [f32]) {
        let pieces = if PIECES == 0 { self.pieces } else { PIECES };
        let scaled = self.scale * factor;
        let (starts, _) = self.starts.as_chunks::<4>();
        let cells = starts.iter().zip(self.weights.chunks_exact(4 * pieces));
        for ((&[a, b, c, d], weights), means) in cells.zip(line.as_chunks_mut::<4>().0) {
            let values = [
                pieces_at(sums, a, pieces),
                pieces_at(sums, b, pieces),
                pieces_at(sums, c, pieces),
                pieces_at(sums, d, pieces),
            ];
            let products = super::wide::sums_of_products(weights, values);
            for (mean, sum) in means.iter_mut().zip(products) {
                *mean += scaled * sum as f32;
            }
        }
    }
}

#[inline(always)]
fn pieces_at(sums: &[u16], start: usize, pieces: usize) -> &[Piece] {
    sums[start..start + pieces * PIECE].as_chunks().0
}

/// Scalar product of fifteen-bit numbers.
fn product(weights: &Piece, sums: &Piece) -> i32 {
    weights
        .iter()
        .zip(sums)
        .map(|(a, b)| i32::from(a.cast_signed()) * i32::from(b.cast_signed()))
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
    fn all_processors_give_the_same_means() {
        let sums: Vec<u16> = (0..1_000_u32).map(|x| (x * x * 31 % 32_641) as u16).collect();
        for (extent, cells, step) in [(16, 180, 1), (57, 7, 3), (213, 9, 2), (250, 2, 1), (250, 3, 3)] {
            let row = RowCells::new(
                Axis {
                    extent,
                    cells,
                    shared: 1,
                },
                step,
            );
            let (mut best, mut portable) = (vec![0.0; cells], vec![0.0; cells]);
            row.add_means(&sums, 0.3, &mut best);
            row.add_means_from(0, &sums, 0.3, &mut portable);
            assert_eq!(best, portable, "{extent} on {cells}, step {step}");
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
