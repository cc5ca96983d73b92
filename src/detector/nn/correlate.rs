//! The inner loops of the convolutions: correlation, and the products that give the gradients of weights.
//!
//! All read windows straight from a zero-padded channels-last image. A window is a few *runs* of neighbouring values,
//! one for each row of the convolution's kernel, so nothing is rearranged first. Products are summed in registers, a tile
//! of results at a time.

#![allow(
    unsafe_code,
    reason = "bounds are checked once for a whole image: checks inside the innermost loops would take the registers that \
              the sums need"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "the loops over a tile must be written with indices to be unrolled into registers"
)]

use super::scratch::padded_row;
use super::simd::{Simd, WithSimd};

/// How many values beyond its end a buffer may be read; scratch buffers are that much longer.
pub(super) const SLACK: usize = 64;

/// Windows over an image, one for each cell of a grid. All lengths are in values.
#[derive(Clone, Copy)]
pub(super) struct Windows<'a> {
    pub(super) values: &'a [f32],
    /// First value of the first window.
    pub(super) start: usize,
    /// From a window to the one below, and to its right neighbour.
    pub(super) step: [usize; 2],
    /// Runs of a window.
    pub(super) runs: usize,
    /// Values of a run.
    pub(super) run: usize,
    /// From a run to the next.
    pub(super) pitch: usize,
}

impl Windows<'_> {
    /// Values in one window.
    fn len(&self) -> usize {
        self.runs * self.run
    }

    /// Start of a cell's window.
    #[inline(always)]
    fn at(&self, cell: [usize; 2]) -> usize {
        self.start + cell[0] * self.step[0] + cell[1] * self.step[1]
    }

    /// Start of the last run of a cell's window.
    fn last(&self, cell: [usize; 2]) -> usize {
        self.at(cell) + self.runs.saturating_sub(1) * self.pitch
    }
}

/// Positions of a grid's cells in an image.
#[derive(Clone, Copy)]
pub(super) struct Cells {
    /// First value of the first cell.
    pub(super) start: usize,
    /// From a cell to the one below, and to its right neighbour.
    pub(super) step: [usize; 2],
}

impl Cells {
    /// First value of a cell.
    #[inline(always)]
    pub(super) fn at(&self, cell: [usize; 2]) -> usize {
        self.start + cell[0] * self.step[0] + cell[1] * self.step[1]
    }
}

/// `out[cell, n] = act(bias[n] + sum over inputs and k of window(cell)[k] * weights[k, n])`
pub(super) struct Correlate<'a> {
    /// Windows with their weights, `[window, ld]`.
    pub(super) inputs: &'a [(Windows<'a>, &'a [f32])],
    /// Values from one row of weights to the next: a multiple of the lanes, or the exact outputs.
    pub(super) ld: usize,
    /// `[ld]`, or empty for zeros.
    pub(super) bias: &'a [f32],
    /// Factor for negative sums; 1 leaves them.
    pub(super) negative_slope: f32,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) outputs: usize,
    pub(super) out: &'a mut [f32],
    pub(super) cells: Cells,
}

impl WithSimd for Correlate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        if self.rows * self.cols == 0 {
            return;
        }
        let vectors = self.outputs.div_ceil(S::LANES);
        self.check(vectors * S::LANES);
        let mut first = 0;
        while first < vectors {
            let column = first * S::LANES;
            first += match (vectors - first, S::WIDE_FILE) {
                (1, true) => self.column::<S, 8, 1, 2>(simd, column),
                (1, false) => self.column::<S, 6, 1, 2>(simd, column),
                (3, false) => self.column::<S, 4, 3, 1>(simd, column),
                (_, true) => self.column::<S, 8, 2, 1>(simd, column),
                (_, false) => self.column::<S, 6, 2, 1>(simd, column),
            };
        }
    }
}

impl Correlate<'_> {
    /// Panics unless all that [`Correlate::column`] touches is inside its slices.
    fn check(&self, padded: usize) {
        let last = [self.rows - 1, self.cols - 1];
        for (windows, weights) in self.inputs {
            assert!(
                windows.last(last) + windows.run <= windows.values.len(),
                "windows exceed their image"
            );
            assert!(
                windows.len() * self.ld <= weights.len() && padded <= self.ld,
                "weights are too few"
            );
        }
        assert!(
            self.bias.is_empty() || padded <= self.bias.len(),
            "biases are too few"
        );
        assert!(
            self.cells.at(last) + self.outputs <= self.out.len(),
            "results exceed their image"
        );
    }

    /// All cells, `N` vectors of outputs from `column` on, `M` cells at a time. `U` sums run side by side where there are
    /// too few others to hide the latency of an addition.
    #[inline(always)]
    fn column<S: Simd, const M: usize, const N: usize, const U: usize>(
        &mut self,
        simd: S,
        column: usize,
    ) -> usize {
        let zero = simd.splat(0.0);
        let bias: [S::V; N] = std::array::from_fn(|n| match self.bias {
            [] => zero,
            bias => simd.load(&bias[column + n * S::LANES..]),
        });
        let negative_slope = simd.splat(self.negative_slope);
        let count = self.rows * self.cols;
        let (mut row, mut col, mut done) = (0, 0, 0);
        while done < count {
            // The last tile computes its last cell several times over.
            let mut cells = [[row, col]; M];
            for (m, cell) in cells.iter_mut().enumerate() {
                *cell = [row, col];
                if done + m + 1 < count {
                    col += 1;
                    if col == self.cols {
                        (row, col) = (row + 1, 0);
                    }
                }
            }
            done += M;

            let mut sums = [[[zero; N]; M]; U];
            sums[0] = [bias; M];
            for (windows, weights) in self.inputs {
                let at = cells.map(|cell| windows.at(cell));
                sums = accumulate(simd, windows, weights, (self.ld, column), at, sums);
            }
            for m in 0..M {
                let at = self.cells.at(cells[m]);
                let out = &mut self.out[at..at + self.outputs];
                for n in 0..N {
                    let mut sum = sums[0][m][n];
                    for more in &sums[1..] {
                        sum = simd.add(sum, more[m][n]);
                    }
                    let value = simd.max(sum, simd.mul(sum, negative_slope));
                    let out = &mut out[column + n * S::LANES..];
                    if out.len() >= S::LANES {
                        simd.store(out, value);
                    } else {
                        simd.store_part(out, value);
                    }
                }
            }
        }
        N
    }
}

/// Adds the products of `M` windows with their weights.
#[inline(always)]
fn accumulate<S: Simd, const M: usize, const N: usize, const U: usize>(
    simd: S,
    windows: &Windows<'_>,
    weights: &[f32],
    (ld, column): (usize, usize),
    at: [usize; M],
    mut sums: [[[S::V; N]; M]; U],
) -> [[[S::V; N]; M]; U] {
    let run = windows.run;
    for r in 0..windows.runs {
        // SAFETY: `Correlate::check` found all windows inside `values` and all their weights there.
        unsafe {
            let x = at.map(|at| windows.values.as_ptr().add(at + r * windows.pitch));
            let mut w = weights.as_ptr().add(r * run * ld + column);
            let mut j = 0;
            for _ in 0..run / U {
                for (u, sums) in sums.iter_mut().enumerate() {
                    *sums = multiply(simd, x, j + u, w.wrapping_add(u * ld), *sums);
                }
                w = w.wrapping_add(U * ld);
                j += U;
            }
            for _ in 0..run % U {
                sums[0] = multiply(simd, x, j, w, sums[0]);
                w = w.wrapping_add(ld);
                j += 1;
            }
        }
    }
    sums
}

/// # Safety
/// `x[..].add(j)` point to values, `w` to `N` vectors.
#[inline(always)]
unsafe fn multiply<S: Simd, const M: usize, const N: usize>(
    simd: S,
    x: [*const f32; M],
    j: usize,
    w: *const f32,
    mut sums: [[S::V; N]; M],
) -> [[S::V; N]; M] {
    // SAFETY: as the caller promises.
    unsafe {
        let w: [S::V; N] = std::array::from_fn(|n| simd.load_ptr(w.add(n * S::LANES)));
        for m in 0..M {
            let x = simd.splat(*x[m].add(j));
            for n in 0..N {
                sums[m][n] = simd.mul_add(x, w[n], sums[m][n]);
            }
        }
    }
    sums
}

/// Most outputs that [`DotProducts`] can have.
const MOST_OUTPUTS: usize = 4;

/// Whether [`DotProducts`] takes fewer steps than [`Correlate`], for windows of `runs * run` values.
pub(super) fn is_faster_with_dot_products(runs: usize, run: usize, outputs: usize) -> bool {
    /// Vectors of the widest instruction set; steps to add up a vector's lanes.
    const LANES: usize = 16;
    const SUM: usize = 10;
    outputs <= MOST_OUTPUTS && outputs * (runs * run.div_ceil(LANES) + SUM) < runs * run
}

/// Weights `[runs * run, outputs]` -> `[outputs, runs, padded_row(run)]`, with zeros between.
pub(super) fn weights_by_output(weight: &[f32], run: usize, outputs: usize, out: &mut [f32]) {
    let ld = padded_row(run);
    let runs = weight.len() / (outputs * run);
    out.fill(0.0);
    for (k, row) in weight.chunks_exact(outputs).enumerate() {
        for (n, w) in row.iter().enumerate() {
            out[(n * runs + k / run) * ld + k % run] = *w;
        }
    }
}

/// [`Correlate`] for few outputs, with vectors along the windows:
/// `out[cell, n] = act(bias[n] + dot product of window(cell) and weights[n])`.
///
/// Reads each run to the end of a vector; what it finds beyond must be finite.
pub(super) struct DotProducts<'a> {
    pub(super) windows: Windows<'a>,
    /// As [`weights_by_output`] lays them out.
    pub(super) weights: &'a [f32],
    pub(super) bias: &'a [f32],
    /// Factor for negative sums; 1 leaves them.
    pub(super) negative_slope: f32,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) outputs: usize,
    pub(super) out: &'a mut [f32],
    pub(super) cells: Cells,
}

impl WithSimd for DotProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        if self.rows * self.cols == 0 {
            return;
        }
        let last = [self.rows - 1, self.cols - 1];
        let ld = padded_row(self.windows.run);
        assert!(
            self.windows.last(last) + ld <= self.windows.values.len(),
            "windows exceed their image"
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
            n => panic!("at most {MOST_OUTPUTS} outputs are supported, got {n}"),
        }
    }
}

impl DotProducts<'_> {
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
                        *out = if sum > 0.0 { sum } else { sum * self.negative_slope };
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
        let ld = padded_row(run);
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

/// `sums[k, n] += sum over cells of window(cell)[k] * values(cell)[n]`
///
/// Reads up to [`SLACK`] values beyond the last window and the last cell of `values`; what it finds there goes into
/// columns from `columns` to `ld` at most.
pub(super) struct OuterProducts<'a> {
    pub(super) windows: Windows<'a>,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) values: &'a [f32],
    pub(super) cells: Cells,
    /// Values of a cell.
    pub(super) columns: usize,
    /// Values from one row of sums to the next, at least a whole number of vectors.
    pub(super) ld: usize,
    pub(super) sums: &'a mut [f32],
}

/// Most window values that a tile of [`OuterProducts`] takes at once.
const MOST_ROWS: usize = 12;

/// Cells that are added up in registers before the sums go back to memory.
const CELLS_PER_PASS: usize = 64;

impl WithSimd for OuterProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        if self.rows * self.cols == 0 {
            return;
        }
        let vectors = self.columns.div_ceil(S::LANES);
        self.check(vectors * S::LANES);
        let rows_per_pass = (CELLS_PER_PASS / self.cols).max(1);
        for row in (0..self.rows).step_by(rows_per_pass) {
            let rows = row..(row + rows_per_pass).min(self.rows);
            let mut first = 0;
            while first < vectors {
                let column = first * S::LANES;
                first += match (vectors - first, S::WIDE_FILE) {
                    (left, _) if self.windows.run <= 2 => match left {
                        1 => self.column::<S, 2, 1>(simd, &rows, column),
                        2 => self.column::<S, 2, 2>(simd, &rows, column),
                        _ => self.column::<S, 2, 3>(simd, &rows, column),
                    },
                    (left, _) if self.windows.run <= 6 => match left {
                        1 => self.column::<S, 6, 1>(simd, &rows, column),
                        _ => self.column::<S, 6, 2>(simd, &rows, column),
                    },
                    (1, _) => self.column::<S, 12, 1>(simd, &rows, column),
                    (3, false) => self.column::<S, 4, 3>(simd, &rows, column),
                    (_, true) => self.column::<S, 12, 2>(simd, &rows, column),
                    (_, false) => self.column::<S, 6, 2>(simd, &rows, column),
                };
            }
        }
    }
}

impl OuterProducts<'_> {
    /// Panics unless all that [`OuterProducts::tile`] touches is inside its slices.
    fn check(&self, padded: usize) {
        let last = [self.rows - 1, self.cols - 1];
        let reach = self.windows.last(last) + self.windows.run + MOST_ROWS;
        assert!(reach <= self.windows.values.len(), "windows exceed their image");
        assert!(
            self.cells.at(last) + padded <= self.values.len(),
            "values exceed their image"
        );
        assert!(
            self.windows.len() * self.ld <= self.sums.len() && padded <= self.ld,
            "sums are too few"
        );
    }

    /// `N` vectors of sums from `column` on.
    #[inline(always)]
    fn column<S: Simd, const M: usize, const N: usize>(
        &mut self,
        simd: S,
        rows: &std::ops::Range<usize>,
        column: usize,
    ) -> usize {
        let Windows { runs, run, pitch, .. } = self.windows;
        for r in 0..runs {
            for k in (0..run).step_by(M) {
                let valid = M.min(run - k);
                self.tile::<S, M, N>(simd, rows, column, (r * pitch + k, r * run + k), valid);
            }
        }
        N
    }

    /// Sums of `valid` window values, `offset` into the window, with `N` vectors.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const N: usize>(
        &mut self,
        simd: S,
        rows: &std::ops::Range<usize>,
        column: usize,
        (offset, k): (usize, usize),
        valid: usize,
    ) {
        let mut sums = [[simd.splat(0.0); N]; M];
        let at = |m: usize, n: usize| (k + m) * self.ld + column + n * S::LANES;
        for m in 0..M {
            for n in 0..N {
                if m < valid {
                    sums[m][n] = simd.load(&self.sums[at(m, n)..]);
                }
            }
        }
        for row in rows.clone() {
            // SAFETY: `OuterProducts::check` found all windows and cells, and what is read beyond them, in their slices.
            unsafe {
                let mut x = self
                    .windows
                    .values
                    .as_ptr()
                    .add(self.windows.at([row, 0]) + offset);
                let mut values = self.values.as_ptr().add(self.cells.at([row, 0]) + column);
                for _ in 0..self.cols {
                    let v: [S::V; N] = std::array::from_fn(|n| simd.load_ptr(values.add(n * S::LANES)));
                    for m in 0..M {
                        let x = simd.splat(*x.add(m));
                        for n in 0..N {
                            sums[m][n] = simd.mul_add(x, v[n], sums[m][n]);
                        }
                    }
                    x = x.wrapping_add(self.windows.step[1]);
                    values = values.wrapping_add(self.cells.step[1]);
                }
            }
        }
        for m in 0..M {
            for n in 0..N {
                if m < valid {
                    simd.store(
                        &mut self.sums[(k + m) * self.ld + column + n * S::LANES..],
                        sums[m][n],
                    );
                }
            }
        }
    }
}
