//! The two inner loops of every layer: correlation, and the product that gives weight gradients.
//!
//! Both read windows straight from a zero-padded channels-last picture. A window is a few *runs* of
//! neighbouring values, one for each row of the convolution's kernel, so nothing is rearranged first.
//! Products are summed in registers, a tile of results at a time.

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
}

/// A picture's worth of places, some of which are written.
#[derive(Clone, Copy)]
pub(super) struct Cells {
    pub(super) start: usize,
    /// From a cell to the one below, and to its right neighbour.
    pub(super) step: [usize; 2],
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
        let vectors = self.outputs.div_ceil(S::LANES);
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
            let valid = M.min(count - done);
            let mut places = [[row, col]; M];
            for (m, place) in places.iter_mut().enumerate() {
                if m < valid {
                    *place = [row, col];
                    col += 1;
                    if col == self.cols {
                        (row, col) = (row + 1, 0);
                    }
                }
            }
            done += valid;

            let mut sums = [[[zero; N]; M]; U];
            sums[0] = [bias; M];
            for (windows, weights) in self.inputs {
                let at = places.map(|p| windows.start + p[0] * windows.step[0] + p[1] * windows.step[1]);
                accumulate(simd, windows, weights, (self.ld, column), at, &mut sums);
            }
            for m in 0..valid {
                let at =
                    self.cells.start + places[m][0] * self.cells.step[0] + places[m][1] * self.cells.step[1];
                let out = &mut self.out[at..at + self.outputs];
                for n in 0..N {
                    let sum = sums
                        .iter()
                        .skip(1)
                        .fold(sums[0][m][n], |a, s| simd.add(a, s[m][n]));
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

#[inline(always)]
fn accumulate<S: Simd, const M: usize, const N: usize, const U: usize>(
    simd: S,
    windows: &Windows<'_>,
    weights: &[f32],
    (ld, column): (usize, usize),
    at: [usize; M],
    sums: &mut [[[S::V; N]; M]; U],
) {
    let run = windows.run;
    for r in 0..windows.runs {
        let x: [&[f32]; M] = std::array::from_fn(|m| &windows.values[at[m] + r * windows.pitch..][..run]);
        let weights = &weights[r * run * ld + column..];
        let mut j = 0;
        while j + U <= run {
            for u in 0..U {
                multiply(simd, &x, j + u, &weights[(j + u) * ld..], &mut sums[u]);
            }
            j += U;
        }
        while j < run {
            multiply(simd, &x, j, &weights[j * ld..], &mut sums[0]);
            j += 1;
        }
    }
}

#[inline(always)]
fn multiply<S: Simd, const M: usize, const N: usize>(
    simd: S,
    x: &[&[f32]; M],
    j: usize,
    weights: &[f32],
    sums: &mut [[S::V; N]; M],
) {
    let w: [S::V; N] = std::array::from_fn(|n| simd.load(&weights[n * S::LANES..]));
    for (x, sums) in x.iter().zip(sums) {
        let x = simd.splat(x[j]);
        for (sum, w) in sums.iter_mut().zip(w) {
            *sum = simd.mul_add(x, w, *sum);
        }
    }
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

/// Cells that are added up in registers before the sums go back to memory.
const CELLS_PER_PASS: usize = 64;

impl WithSimd for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let vectors = self.outputs.div_ceil(S::LANES);
        let rows_per_pass = (CELLS_PER_PASS / self.cols).max(1);
        for row in (0..self.rows).step_by(rows_per_pass) {
            let rows = row..(row + rows_per_pass).min(self.rows);
            let mut first = 0;
            while first < vectors {
                let column = first * S::LANES;
                first += match (vectors - first, S::WIDE_FILE) {
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
                self.tile::<S, M, N>(simd, rows, column, r * pitch + k, r * run + k, M.min(run - k));
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
        offset: usize,
        k: usize,
        valid: usize,
    ) {
        let mut sums = [[simd.splat(0.0); N]; M];
        for (m, sums) in sums.iter_mut().enumerate().take(valid) {
            for (n, sum) in sums.iter_mut().enumerate() {
                *sum = simd.load(&self.sums[(k + m) * self.ld + column + n * S::LANES..]);
            }
        }
        let (from, to) = (self.windows.step, self.cells.step);
        for row in rows.clone() {
            let mut x = self.windows.start + offset + row * from[0];
            let mut d = self.cells.start + column + row * to[0];
            for _ in 0..self.cols {
                let values = &self.windows.values[x..x + M];
                let delta = &self.delta[d..d + N * S::LANES];
                let delta: [S::V; N] = std::array::from_fn(|n| simd.load(&delta[n * S::LANES..]));
                for (x, sums) in values.iter().zip(&mut sums) {
                    let x = simd.splat(*x);
                    for (sum, delta) in sums.iter_mut().zip(delta) {
                        *sum = simd.mul_add(x, delta, *sum);
                    }
                }
                x += from[1];
                d += to[1];
            }
        }
        for (m, sums) in sums.iter().enumerate().take(valid) {
            for (n, sum) in sums.iter().enumerate() {
                simd.store(&mut self.sums[(k + m) * self.ld + column + n * S::LANES..], *sum);
            }
        }
    }
}
