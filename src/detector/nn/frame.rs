//! Scratch memory: padded pictures and padded weights.

use std::cell::RefCell;

use super::kernel::SLACK;

/// Rows of weights and of their gradients are padded to whole vectors of the widest instruction set.
const WIDEST: usize = 16;

/// `outputs`, rounded up to whole vectors.
pub(super) fn leading(outputs: usize) -> usize {
    outputs.next_multiple_of(WIDEST)
}

/// Buffers that layers share, one set a thread, so that steady work allocates only its results.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) inputs: Vec<f32>,
    pub(super) extra: Vec<f32>,
    pub(super) delta: Vec<f32>,
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

/// The first `len` values of a buffer that grows when it must; old values stay in it.
pub(super) fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// A channels-last picture of `height` x `width` with zeros around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// Zeros above and to the left.
    pub(super) margin: usize,
    /// Size of the whole; what does not fit is left out.
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
}

impl Frame {
    /// Values in one picture.
    pub(super) fn len(&self) -> usize {
        self.height * self.pitch()
    }

    /// Values from a row to the next.
    pub(super) fn pitch(&self) -> usize {
        self.width * self.channels
    }

    /// The first value inside the margin.
    pub(super) fn origin(&self) -> usize {
        self.margin * (self.pitch() + self.channels)
    }

    /// Lays out `batch` pictures of `height` x `width` one after the other. `row` writes what it is given of
    /// a row, by its number among all rows of the batch.
    pub(super) fn lay<'a>(
        &self,
        buffer: &'a mut Vec<f32>,
        (batch, height, width): (usize, usize, usize),
        mut row: impl FnMut(usize, &mut [f32]),
    ) -> &'a [f32] {
        let all = sized(buffer, batch * self.len() + SLACK);
        all[batch * self.len()..].fill(0.0);
        let margin = self.margin * self.channels;
        let inside = margin..margin + width.min(self.width - self.margin) * self.channels;
        for (image, picture) in all.chunks_exact_mut(self.len()).take(batch).enumerate() {
            for (y, line) in picture.chunks_exact_mut(self.pitch()).enumerate() {
                if (self.margin..self.margin + height).contains(&y) {
                    line[..inside.start].fill(0.0);
                    row(image * height + y - self.margin, &mut line[inside.clone()]);
                    line[inside.end..].fill(0.0);
                } else {
                    line.fill(0.0);
                }
            }
        }
        all
    }
}

impl Frame {
    /// As [`Frame::lay`], from pictures one after the other.
    pub(super) fn copy<'a>(
        &self,
        buffer: &'a mut Vec<f32>,
        values: &[f32],
        (batch, [height, width]): (usize, [usize; 2]),
    ) -> &'a [f32] {
        let row = width * self.channels;
        self.lay(buffer, (batch, height, width), |y, line| {
            line.copy_from_slice(&values[y * row..][..line.len()]);
        })
    }
}

/// `weights` `[rows, outputs]` with rows padded to [`leading`]; where they need none, as they are.
pub(super) fn pad_rows<'a>(
    weights: &'a [f32],
    outputs: usize,
    buffer: &'a mut Vec<f32>,
) -> (&'a [f32], usize) {
    let ld = leading(outputs);
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
