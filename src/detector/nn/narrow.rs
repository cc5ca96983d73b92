//! Correlation with few outputs: vectors along the windows, not along the outputs.

// As in `kernel`: bounds are checked once, tiles are unrolled by index.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop)]

use super::frame::leading;
use super::kernel::{Cells, Windows};
use super::simd::{Simd, WithSimd};

/// Most outputs that [`Dots`] can have.
pub(super) const MOST: usize = 4;

/// Whether [`Dots`] takes fewer steps than [`super::kernel::Correlate`].
pub(super) fn pays(runs: usize, run: usize, outputs: usize) -> bool {
    /// Vectors of the widest instruction set; steps to add up a vector's lanes.
    const LANES: usize = 16;
    const SUM: usize = 10;
    outputs <= MOST && outputs * (runs * run.div_ceil(LANES) + SUM) < runs * run
}

/// Weights `[runs * run, outputs]` -> `[outputs, runs, leading(run)]`, with zeros between.
pub(super) fn turn(weight: &[f32], run: usize, outputs: usize, out: &mut [f32]) {
    let ld = leading(run);
    out.fill(0.0);
    for (k, row) in weight.chunks_exact(outputs).enumerate() {
        let runs = weight.len() / (outputs * run);
        for (n, w) in row.iter().enumerate() {
            out[(n * runs + k / run) * ld + k % run] = *w;
        }
    }
}

/// `out[cell, n] = act(bias[n] + dot product of window(cell) and weights[n])`
///
/// Reads each run to the end of a vector; what it finds beyond must be finite.
pub(super) struct Dots<'a> {
    pub(super) windows: Windows<'a>,
    /// As [`turn`] makes them.
    pub(super) weights: &'a [f32],
    pub(super) bias: &'a [f32],
    /// Factor for negative sums; 1 leaves them.
    pub(super) slope: f32,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) outputs: usize,
    pub(super) out: &'a mut [f32],
    pub(super) cells: Cells,
}

impl WithSimd for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        if self.rows * self.cols == 0 {
            return;
        }
        let last = [self.rows - 1, self.cols - 1];
        let ld = leading(self.windows.run);
        assert!(
            self.windows.last(last) + ld <= self.windows.values.len(),
            "windows leave their picture"
        );
        assert!(
            self.outputs * self.windows.runs * ld <= self.weights.len(),
            "weights are too few"
        );
        match self.outputs {
            1 => self.cells::<S, 8, 1>(simd),
            2 => self.cells::<S, 4, 2>(simd),
            3 => self.cells::<S, 3, 3>(simd),
            4 => self.cells::<S, 2, 4>(simd),
            _ => panic!("{} outputs are not few", self.outputs),
        }
    }
}

impl Dots<'_> {
    /// All cells with their `N` outputs, `M` cells at a time.
    #[inline(always)]
    fn cells<S: Simd, const M: usize, const N: usize>(&mut self, simd: S) {
        for row in 0..self.rows {
            for col in (0..self.cols).step_by(M) {
                // The last tile computes its last cell several times over.
                let col: [usize; M] = std::array::from_fn(|m| (col + m).min(self.cols - 1));
                let sums = self.sums::<S, M, N>(simd, col.map(|col| self.windows.at([row, col])));
                for m in 0..M {
                    let at = self.cells.at([row, col[m]]);
                    for (n, out) in self.out[at..at + N].iter_mut().enumerate() {
                        let sum = simd.sum(sums[m][n]) + self.bias[n];
                        *out = if sum > 0.0 { sum } else { sum * self.slope };
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn sums<S: Simd, const M: usize, const N: usize>(&self, simd: S, at: [usize; M]) -> [[S::V; N]; M] {
        let Windows {
            values,
            runs,
            run,
            pitch,
            ..
        } = self.windows;
        let ld = leading(run);
        let mut sums = [[simd.splat(0.0); N]; M];
        for r in 0..runs {
            for j in (0..run).step_by(S::LANES) {
                // SAFETY: `run` found all windows and weights, to the end of their last vectors, in their slices.
                unsafe {
                    let x: [S::V; M] =
                        std::array::from_fn(|m| simd.load_ptr(values.as_ptr().add(at[m] + r * pitch + j)));
                    for n in 0..N {
                        let w = simd.load_ptr(self.weights.as_ptr().add((n * runs + r) * ld + j));
                        for m in 0..M {
                            sums[m][n] = simd.mul_add(x[m], w, sums[m][n]);
                        }
                    }
                }
            }
        }
        sums
    }
}
