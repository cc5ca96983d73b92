//! Small passes over tables: transposing, padding, adding up.

use super::frame::leading;
use super::simd::vectorized;

/// Padded row of `columns`. Long rows get some more, so that a column does not fall onto few cache sets.
pub(super) fn row_length(columns: usize) -> usize {
    leading(columns) + if columns >= 256 { 16 } else { 0 }
}

/// `[rows, columns]` -> `[columns, ld]`, zero beyond `rows`.
pub(super) fn transpose(from: &[f32], columns: usize, to: &mut [f32], ld: usize) {
    let rows = from.len() / columns;
    for (r, from) in from.chunks_exact(columns).enumerate() {
        for (to, v) in to.chunks_exact_mut(ld).zip(from) {
            to[r] = *v;
        }
    }
    for to in to.chunks_exact_mut(ld) {
        to[rows..].fill(0.0);
    }
}

/// Adds `[columns, ld]` to `[.., columns]`.
pub(super) fn add_transposed(from: &[f32], ld: usize, to: &mut [f32], columns: usize) {
    for (r, to) in to.chunks_exact_mut(columns).enumerate() {
        for (to, from) in to.iter_mut().zip(from.chunks_exact(ld)) {
            *to += from[r];
        }
    }
}

/// Adds `[rows, ld]` to `[rows, columns]`.
pub(super) fn add_rows(from: &[f32], ld: usize, to: &mut [f32], columns: usize) {
    for (to, from) in to.chunks_exact_mut(columns).zip(from.chunks_exact(ld)) {
        to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
    }
}

vectorized! {
    /// Gradient before the activation; the output has its sum's sign.
    pub(super) fn before_activation<'a>(delta: &'a mut [f32], gradient: &'a [f32], output: &'a [f32], slope: f32) -> () {
        for ((d, &g), &y) in delta.iter_mut().zip(gradient).zip(output) {
            *d = if y > 0.0 { g } else { g * slope };
        }
    }
}

vectorized! {
    /// Adds every row of `[.., sums.len()]` to `sums`.
    pub(super) fn add_columns<'a>(rows: &'a [f32], sums: &'a mut [f32]) -> () {
        for row in rows.chunks_exact(sums.len()) {
            for (sum, v) in sums.iter_mut().zip(row) {
                *sum += v;
            }
        }
    }
}
