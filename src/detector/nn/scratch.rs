//! Scratch memory of the convolutions: padded images, padded and transposed weights.

use std::cell::RefCell;

use super::correlate::{Cells, SLACK};
use super::simd::vectorized;

/// Rows of weights and of their gradients are padded to whole vectors of the widest instruction set.
const WIDEST: usize = 16;

/// `columns`, rounded up to whole vectors.
pub(super) fn padded_row(columns: usize) -> usize {
    columns.next_multiple_of(WIDEST)
}

/// Buffers that layers share, one set per thread, so that training in a steady state allocates only its results.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) inputs: Vec<f32>,
    pub(super) extra: Vec<f32>,
    /// Gradient of the output before the activation.
    pub(super) grad: Vec<f32>,
    pub(super) input_grad: Vec<f32>,
    pub(super) weights: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) kernel: Vec<f32>,
    pub(super) sums: Vec<f32>,
}

/// Runs `work` with this thread's buffers.
pub(super) fn with_scratch<R>(work: impl FnOnce(&mut Scratch) -> R) -> R {
    thread_local!(static SCRATCH: RefCell<Scratch> = RefCell::default());
    SCRATCH.with_borrow_mut(work)
}

/// The first `len` values of a buffer, which grows if it is too short. Old values stay in it.
pub(super) fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Layout of a channels-last image with zeros around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PaddedImage {
    /// Zeros above and to the left.
    pub(super) margin: usize,
    /// Size with the zeros. Rows and columns of the image that do not fit are left out.
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
}

impl PaddedImage {
    /// Values in one image.
    pub(super) fn len(&self) -> usize {
        self.height * self.pitch()
    }

    /// Values from one row to the next.
    pub(super) fn pitch(&self) -> usize {
        self.width * self.channels
    }

    /// Positions of the image inside the zeros.
    pub(super) fn cells(&self) -> Cells {
        Cells {
            start: self.margin * (self.pitch() + self.channels),
            step: [self.pitch(), self.channels],
        }
    }

    /// Lays out `batch` images of `height` x `width` one after the other. `fill` writes a row, or the part of it that
    /// fits, given its number among all rows of the batch.
    pub(super) fn fill<'a>(
        &self,
        buffer: &'a mut Vec<f32>,
        (batch, [height, width]): (usize, [usize; 2]),
        mut fill: impl FnMut(usize, &mut [f32]),
    ) -> &'a [f32] {
        let all = sized(buffer, batch * self.len() + SLACK);
        all[batch * self.len()..].fill(0.0);
        let margin = self.margin * self.channels;
        let inside = margin..margin + width.min(self.width - self.margin) * self.channels;
        for (b, image) in all.chunks_exact_mut(self.len()).take(batch).enumerate() {
            for (y, row) in image.chunks_exact_mut(self.pitch()).enumerate() {
                if (self.margin..self.margin + height).contains(&y) {
                    row[..inside.start].fill(0.0);
                    fill(b * height + y - self.margin, &mut row[inside.clone()]);
                    row[inside.end..].fill(0.0);
                } else {
                    row.fill(0.0);
                }
            }
        }
        all
    }

    /// As [`PaddedImage::fill`], from images one after the other.
    pub(super) fn copy<'a>(
        &self,
        buffer: &'a mut Vec<f32>,
        values: &[f32],
        (batch, [height, width]): (usize, [usize; 2]),
    ) -> &'a [f32] {
        let length = width * self.channels;
        self.fill(buffer, (batch, [height, width]), |y, row| {
            row.copy_from_slice(&values[y * length..][..row.len()]);
        })
    }
}

/// `weights` `[rows, outputs]` with rows padded to [`padded_row`], and their length. Where they need no padding they are
/// not copied.
pub(super) fn pad_rows<'a>(
    weights: &'a [f32],
    outputs: usize,
    buffer: &'a mut Vec<f32>,
) -> (&'a [f32], usize) {
    let ld = padded_row(outputs);
    if ld == outputs {
        return (weights, ld);
    }
    let padded = sized(buffer, weights.len() / outputs * ld);
    for (to, from) in padded.chunks_exact_mut(ld).zip(weights.chunks_exact(outputs)) {
        to[..outputs].copy_from_slice(from);
        to[outputs..].fill(0.0);
    }
    (padded, ld)
}

/// Padded row of `columns`. Long rows get some more, so that a column does not fall onto few cache sets.
pub(super) fn spread_row(columns: usize) -> usize {
    padded_row(columns) + if columns >= 256 { 16 } else { 0 }
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

/// Adds the transpose of `[columns, ld]` to `[.., columns]`.
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
    /// Adds every row of `[.., sums.len()]` to `sums`.
    pub(super) fn add_columns<'a>(rows: &'a [f32], sums: &'a mut [f32]) -> () {
        for row in rows.chunks_exact(sums.len()) {
            for (sum, v) in sums.iter_mut().zip(row) {
                *sum += v;
            }
        }
    }
}
