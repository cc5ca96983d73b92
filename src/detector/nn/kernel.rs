//! The two inner loops of every layer: correlation, and the product that gives weight gradients.
//!
//! Both read windows straight from a zero-padded channels-last picture. A window is a few *runs* of
//! neighbouring values, one for each row of the convolution's kernel, so nothing is rearranged first.
//! Products are summed in registers, a tile of results at a time.

// Bounds are checked once for a whole picture: checks inside the innermost loops would take the registers
// that the sums need.
#![allow(unsafe_code)]
// The loops over a tile must be written with indices to be unrolled into registers.
#![allow(clippy::needless_range_loop)]

use super::simd::{Simd, WithSimd};

/// How far beyond its end a buffer may be read or, as scratch, must be long.
pub(super) const SLACK: usize = 64;

/// Windows over a picture, one for each cell of a grid. All lengths are in values.
#[derive(Clone, Copy)]
pub(super) struct Windows<'a> {
    pub(super) values: &'a [f32],
    /// First value of the first window.
    pub(super) start: usize,
    /// From a window to the one below, and to its right neighbour.
    pub(super) step: [usize; 2],
    /// Runs of a window, their length, and from one to the next.
    pub(super) runs: usize,
    pub(super) run: usize,
    pub(super) pitch: usize,
}

impl Windows<'_> {
    /// Values in one window.
    pub(super) fn len(&self) -> usize {
        self.runs * self.run
    }

    /// Where the window of a cell starts.
    #[inline(always)]
    pub(super) fn at(&self, cell: [usize; 2]) -> usize {
        self.start + cell[0] * self.step[0] + cell[1] * self.step[1]
    }

    /// Where the last run of a cell's window starts.
    pub(super) fn last(&self, cell: [usize; 2]) -> usize {
        self.at(cell) + self.runs.saturating_sub(1) * self.pitch
    }
}

/// A picture's worth of places, some of which are written.
#[derive(Clone, Copy)]
pub(super) struct Cells {
    pub(super) start: usize,
    /// From a cell to the one below, and to its right neighbour.
    pub(super) step: [usize; 2],
}

impl Cells {
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
    /// `[ld]`, or nothing for zeros.
    pub(super) bias: &'a [f32],
    /// Factor for negative sums; 1 leaves them.
    pub(super) slope: f32,
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
                "windows leave their picture"
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
            "results leave their picture"
        );
    }

    /// All cells, `N` vectors of outputs from `column` on, `M` cells at a time. `U` sums run side by
    /// side where there are too few others to hide the latency of an addition.
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
        let slope = simd.splat(self.slope);
        let count = self.rows * self.cols;
        let (mut row, mut col, mut done) = (0, 0, 0);
        while done < count {
            // The last tile computes its last cell several times over.
            let mut places = [[row, col]; M];
            for (m, place) in places.iter_mut().enumerate() {
                *place = [row, col];
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
                let at = places.map(|p| windows.at(p));
                sums = accumulate(simd, windows, weights, (self.ld, column), at, sums);
            }
            for m in 0..M {
                let at = self.cells.at(places[m]);
                let out = &mut self.out[at..at + self.outputs];
                for n in 0..N {
                    let mut sum = sums[0][m][n];
                    for more in &sums[1..] {
                        sum = simd.add(sum, more[m][n]);
                    }
                    let value = simd.max(sum, simd.mul(sum, slope));
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
/// `x[..].add(j)` point to values, `w` to `N` registers full.
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

/// `sums[k, n] += sum over cells of window(cell)[k] * delta(cell)[n]`
///
/// Reads up to [`SLACK`] values beyond the last window and the last cell of `delta`; what it finds there
/// goes into columns from `outputs` to `ld` at most.
pub(super) struct Outer<'a> {
    pub(super) windows: Windows<'a>,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) delta: &'a [f32],
    pub(super) cells: Cells,
    pub(super) outputs: usize,
    /// Values from one row of sums to the next, at least a whole number of vectors.
    pub(super) ld: usize,
    pub(super) sums: &'a mut [f32],
}

/// Most window values that a tile of [`Outer`] takes at once.
const MOST_ROWS: usize = 12;

/// Cells that are added up in registers before the sums go back to memory.
const CELLS_PER_PASS: usize = 64;

impl WithSimd for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        if self.rows * self.cols == 0 {
            return;
        }
        let vectors = self.outputs.div_ceil(S::LANES);
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

impl Outer<'_> {
    /// Panics unless all that [`Outer::tile`] touches is inside its slices.
    fn check(&self, padded: usize) {
        let last = [self.rows - 1, self.cols - 1];
        let reach = self.windows.last(last) + self.windows.run + MOST_ROWS;
        assert!(reach <= self.windows.values.len(), "windows leave their picture");
        assert!(
            self.cells.at(last) + padded <= self.delta.len(),
            "gradients leave their picture"
        );
        assert!(
            self.windows.len() * self.ld <= self.sums.len() && padded <= self.ld,
            "sums are too few"
        );
    }

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

    /// Sums of `valid` window values, `offset` into the window, with `N` vectors of outputs.
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
            // SAFETY: `Outer::check` found all windows and cells, and what is read beyond them, in their slices.
            unsafe {
                let mut x = self
                    .windows
                    .values
                    .as_ptr()
                    .add(self.windows.at([row, 0]) + offset);
                let mut delta = self.delta.as_ptr().add(self.cells.at([row, 0]) + column);
                for _ in 0..self.cols {
                    let d: [S::V; N] = std::array::from_fn(|n| simd.load_ptr(delta.add(n * S::LANES)));
                    for m in 0..M {
                        let x = simd.splat(*x.add(m));
                        for n in 0..N {
                            sums[m][n] = simd.mul_add(x, d[n], sums[m][n]);
                        }
                    }
                    x = x.wrapping_add(self.windows.step[1]);
                    delta = delta.wrapping_add(self.cells.step[1]);
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
