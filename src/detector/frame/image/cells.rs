//! One axis of a grid: which samples a cell covers, and how much of them.
//!
//! `cells` cells of equal size cover `extent` pixels, each sample `shared` of them; so border `k` lies at
//! `k * extent / (cells * shared)` samples. Where `extent` is odd and chroma subsampled, the last sample
//! counts for the one pixel that it covers. A grid may be displaced against the image; then only the cells
//! that are entirely in the image have values.

use std::ops::Range;

/// One axis of a grid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    /// Pixels.
    pub(super) extent: usize,
    /// Cells that cover them.
    pub(super) cells: usize,
    /// Pixels that share a sample.
    pub(super) shared: usize,
    /// By how many parts the grid is displaced.
    pub(super) offset: isize,
}

impl Axis {
    /// The axis of a grid that is displaced by a fraction of the extent.
    pub(super) fn new(extent: usize, cells: usize, shared: usize, displacement: f32) -> Self {
        let total = (extent * cells) as f64;
        Self {
            extent,
            cells,
            shared,
            offset: (f64::from(displacement).clamp(-1.0, 1.0) * total).round() as isize,
        }
    }

    /// Parts into which a sample is divided so that every border lies between two parts; a cell has
    /// `extent` of them.
    fn parts(self) -> usize {
        self.cells * self.shared
    }

    /// What divides the parts that cells have of samples.
    pub(super) fn divisor(self) -> usize {
        let divisor = greatest_common_divisor(self.extent, self.parts());
        greatest_common_divisor(divisor, self.offset.unsigned_abs())
    }

    /// Border `k` in parts.
    fn border(self, k: isize) -> isize {
        k * self.extent.cast_signed() + self.offset
    }

    /// The parts of a cell that is entirely in the image.
    fn cell(self, cell: usize) -> Range<usize> {
        let border = |k: usize| self.border(k.cast_signed()).max(0).cast_unsigned();
        border(cell)..border(cell + 1)
    }

    /// The cells that are entirely in the image.
    pub(super) fn inside(self) -> Range<usize> {
        let cut = |parts: isize| parts.max(0).cast_unsigned().div_ceil(self.extent);
        let end = self.cells.saturating_sub(cut(self.offset));
        cut(-self.offset).min(end)..end
    }

    /// One over the sum of a cell's weights along a row, see [`RowCells`].
    pub(super) fn scale(self) -> f32 {
        self.divisor() as f32 / self.extent as f32
    }

    /// Positions between samples next to the borders, before and after, of as many cells as the image has room for.
    pub(super) fn stops(self) -> impl Iterator<Item = usize> {
        let total = self.extent * self.cells;
        let first = self.offset.rem_euclid(self.extent.cast_signed()).cast_unsigned();
        (first..=total)
            .step_by(self.extent)
            .flat_map(move |position| [position / self.parts(), position.div_ceil(self.parts())])
    }

    /// The cells that the samples `first..end` are part of, with the factors that turn the sum of these
    /// samples into their part of a cell's mean. No border may lie inside, unless it is one sample.
    pub(super) fn shares(self, first: usize, end: usize) -> impl Iterator<Item = (usize, f32)> {
        let (first_part, end_part) = (first * self.parts(), end * self.parts());
        let Range { start, end: last } = self.inside();
        let at = first_part.cast_signed() - self.offset;
        let from = at.max(0).cast_unsigned() / self.extent;
        (from.max(start)..last)
            .map(move |cell| (cell, self.cell(cell)))
            .take_while(move |(_, parts)| parts.start < end_part)
            .map(move |(cell, parts)| {
                let overlap = end_part.min(parts.end) - first_part.max(parts.start);
                (
                    cell,
                    (overlap as f64 / ((end - first) * self.extent) as f64) as f32,
                )
            })
    }

    /// The samples that a cell in the image touches, with the number of parts that it has of each.
    fn touched(self, cell: usize) -> impl Iterator<Item = (usize, usize)> {
        let Range { start, end } = self.cell(cell);
        (start / self.parts()..end.div_ceil(self.parts())).map(move |sample| {
            let overlap = end.min((sample + 1) * self.parts()) - start.max(sample * self.parts());
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
    /// As many pieces for each cell, zero where another component lies, and for cells that are not entirely in the
    /// image.
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
        let longest = axis.inside().map(extent).max().unwrap_or(1);
        let pieces = longest.div_ceil(PIECE);
        let mut weights = vec![[0; PIECE]; axis.cells * pieces];
        let mut starts = vec![0; axis.cells];
        for cell in axis.inside() {
            let weights = weights[cell * pieces..][..pieces].as_flattened_mut();
            for (weight, (_, parts)) in weights.iter_mut().step_by(step).zip(axis.touched(cell)) {
                *weight = (parts / divisor) as u16;
            }
            starts[cell] = axis.touched(cell).next().map_or(0, |(sample, _)| sample * step);
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
            let axis = Axis::new(extent, cells, shared, 0.0);
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
    fn the_cells_of_a_displaced_grid_are_those_of_a_displaced_image() {
        for (extent, cells, shared) in [(1080, 100, 1), (17, 5, 2), (16, 180, 1), (33, 7, 2), (9, 1, 1)] {
            for pixels in [0_isize, 1, -1, 2, -3, 16, -16, 40] {
                let axis = Axis::new(extent, cells, shared, pixels as f32 / extent as f32);
                let expected: Vec<bool> = (0..cells)
                    .map(|cell| {
                        let first = (cell * extent) as isize + pixels * cells as isize;
                        first >= 0 && first + extent as isize <= (extent * cells) as isize
                    })
                    .collect();
                let inside: Vec<bool> = (0..cells).map(|cell| axis.inside().contains(&cell)).collect();
                assert_eq!(inside, expected, "{axis:?}");
                for cell in axis.inside() {
                    let mut total = 0.0;
                    for sample in 0..extent.div_ceil(shared) {
                        let shares = axis.shares(sample, sample + 1).filter(|share| share.0 == cell);
                        let share: f32 = shares.map(|share| share.1).sum();
                        let touched = axis.touched(cell).filter(|touched| touched.0 == sample);
                        let touched: usize = touched.map(|touched| touched.1).sum();
                        let rest = (share - touched as f32 / extent as f32).abs();
                        assert!(rest < 1e-6, "{axis:?} cell {cell} sample {sample}");
                        total += share;
                    }
                    assert!((total - 1.0).abs() < 1e-5, "{axis:?} cell {cell}: {total}");
                }
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
        let line = means(Axis::new(5, 2, 1, 0.0), 1, &[1, 2, 3, 4, 5]);
        assert!(
            (line[0] - 4.5 / 2.5).abs() < 1e-6 && (line[1] - 10.5 / 2.5).abs() < 1e-6,
            "{line:?}"
        );

        // Nine pixels share five samples: the last counts half.
        let line = means(Axis::new(9, 1, 2, 0.0), 1, &[1, 2, 3, 4, 5]);
        assert!((line[0] - 12.5 / 4.5).abs() < 1e-6, "{line:?}");
    }

    #[test]
    fn other_components_do_not_count() {
        let line = means(Axis::new(3, 1, 1, 0.0), 3, &[1, 10, 60, 2, 20, 70, 3, 30, 80]);
        assert!((line[0] - 2.0).abs() < 1e-6, "{line:?}");
    }

    #[test]
    fn windows_of_every_length_cover_their_cells() {
        for extent in 1..300 {
            let sums: Vec<u16> = (0..extent as u16).map(|x| x * 37 % 251).collect();
            let expected = sums.iter().map(|x| f32::from(*x)).sum::<f32>() / extent as f32;
            let line = means(Axis::new(extent, 1, 1, 0.0), 1, &sums);
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
            let row = RowCells::new(Axis::new(extent, cells, 1, 0.0), step);
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
            let line = means(Axis::new(extent, cells, shared, 0.0), 1, &sums);
            assert!(line.iter().all(|mean| (mean - 32_767.0).abs() < 0.01), "{line:?}");
        }
    }
}
