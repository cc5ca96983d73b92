//! Nearest-neighbour enlargement by two, cropping, and a convolution of stride 1, as one operation.
//!
//! The enlarged picture is never made. Each output row (and column) meets pairs of equal rows, so taps that
//! fall onto the same small row are added up first: a 3x3 kernel becomes four 2x2 kernels, one for each
//! parity of row and column, with 4/9 of the products. The gradients meet the output through a kernel one
//! larger than the layer's, at every second place. Where the enlarged picture was cropped to an odd size,
//! the last rows lack one tap and have kernels of their own.

use super::convolve::{Saved, Sums};
use super::frame::{Frame, Scratch, leading, pad_rows, sized, with_scratch};
use super::kernel::{Cells, Correlate, Outer, Windows};
use super::parity::{Parity, Source, parities, sources};
use super::simd::dispatch;
use super::storage::add;
use super::tables::{add_columns, add_rows, add_transposed, before_activation, transpose};

/// Sizes of one such layer. All places are (row, column).
#[derive(Clone, Copy, Debug)]
pub(super) struct Enlarge {
    pub(super) batch: usize,
    /// The small picture.
    pub(super) input: [usize; 2],
    /// The enlarged and cropped picture: twice the small one, or one less.
    pub(super) enlarged: [usize; 2],
    /// Channels of the small picture, and of another in full size that stands behind them.
    pub(super) inputs: usize,
    pub(super) extra: usize,
    pub(super) outputs: usize,
    /// Side of the kernel; the padding is smaller.
    pub(super) kernel: usize,
    pub(super) padding: usize,
    /// Factor for negative sums; 1 for a linear layer.
    pub(super) slope: f32,
}

impl Enlarge {
    /// Height and width of the result.
    pub(super) fn output(&self) -> [usize; 2] {
        self.enlarged.map(|n| n + 2 * self.padding + 1 - self.kernel)
    }

    pub(super) fn small_frame(&self) -> Frame {
        let margin = self.padding.div_ceil(2);
        let size =
            |axis: usize| margin + self.input[axis].max((self.enlarged[axis] + self.padding - 1) / 2 + 1);
        Frame {
            margin,
            height: size(0),
            width: size(1),
            channels: self.inputs,
        }
    }

    fn extra_frame(&self) -> Frame {
        let [height, width] = self.output().map(|n| n + self.kernel - 1);
        Frame {
            margin: self.padding,
            height,
            width,
            channels: self.extra,
        }
    }

    fn delta_frame(&self) -> Frame {
        let margin = self.kernel - 1 - self.padding;
        let out = self.output();
        let size = |axis: usize| (2 * self.input[axis] + self.kernel - 1).max(margin + out[axis]);
        Frame {
            margin,
            height: size(0),
            width: size(1),
            channels: self.outputs,
        }
    }

    pub(super) fn parities(&self, axis: usize) -> Vec<Parity> {
        parities(self.enlarged[axis], self.kernel, self.padding)
    }

    fn sources(&self, axis: usize) -> Vec<Source> {
        sources(self.enlarged[axis], self.kernel)
    }

    /// Values of one layer tap in a table of `[taps, inputs + extra, ld]`.
    fn tap_of(&self, ty: usize, tx: usize, ld: usize) -> usize {
        (ty * self.kernel + tx) * (self.inputs + self.extra) * ld
    }

    /// # Shapes
    /// `[B, h, w, inputs]`, `[B, H, W, extra]`, `[k * k * (inputs + extra), outputs]`, `[outputs]`
    /// -> `[B, H', W', outputs]`
    pub(super) fn forward(&self, input: &[f32], extra: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        if let Some(out) = self.forward_packed(input, weight, bias) {
            return out;
        }
        let [height, width] = self.output();
        let size = height * width * self.outputs;
        let mut out = vec![0.0; self.batch * size];
        with_scratch(|scratch| {
            let (weight, ld) = pad_rows(weight, self.outputs, &mut scratch.weights);
            let (bias, _) = pad_rows(bias, self.outputs, &mut scratch.bias);
            let (small, full) = (self.small_frame(), self.extra_frame());
            let inputs = small.copy(&mut scratch.inputs, input, (self.batch, self.input));
            let extras = match self.extra {
                0 => extra,
                _ => full.copy(&mut scratch.extra, extra, (self.batch, self.enlarged)),
            };
            let extra_kernel = self.extra_kernel(weight, ld, &mut scratch.sums);
            for (y, x) in pairs(&self.parities(0), &self.parities(1)) {
                let kernel = self.parity_kernel(weight, ld, (&y, &x), &mut scratch.kernel);
                for (b, out) in out.chunks_exact_mut(size).enumerate() {
                    let near = self.parity_windows((small, &inputs[b * small.len()..]), (&y, &x));
                    let far = self.extra_windows((full, &extras[b * full.len()..]), [y.first, x.first], 2);
                    dispatch(Correlate {
                        inputs: &[(near, kernel), (far, extra_kernel)][..1 + usize::from(self.extra > 0)],
                        ld,
                        bias,
                        slope: self.slope,
                        rows: y.count,
                        cols: x.count,
                        outputs: self.outputs,
                        out,
                        cells: Cells {
                            start: (y.first * width + x.first) * self.outputs,
                            step: [2 * width * self.outputs, 2 * self.outputs],
                        },
                    });
                }
            }
        });
        out
    }

    fn parity_windows<'a>(
        &self,
        (frame, values): (Frame, &'a [f32]),
        (y, x): (&Parity, &Parity),
    ) -> Windows<'a> {
        Windows {
            values,
            start: y.window * frame.pitch() + x.window * self.inputs,
            step: [frame.pitch(), self.inputs],
            runs: y.taps,
            run: x.taps * self.inputs,
            pitch: frame.pitch(),
        }
    }

    fn extra_windows<'a>(
        &self,
        (frame, values): (Frame, &'a [f32]),
        first: [usize; 2],
        step: usize,
    ) -> Windows<'a> {
        Windows {
            values,
            start: first[0] * frame.pitch() + first[1] * self.extra,
            step: [step * frame.pitch(), step * self.extra],
            runs: self.kernel,
            run: self.kernel * self.extra,
            pitch: frame.pitch(),
        }
    }

    /// The layer's weights of the extra channels, `[k * k * extra, ld]`.
    fn extra_kernel<'a>(&self, weight: &[f32], ld: usize, out: &'a mut Vec<f32>) -> &'a [f32] {
        let block = self.extra * ld;
        let out = sized(out, self.kernel.pow(2) * block);
        for (i, (ty, tx)) in taps(self.kernel).enumerate() {
            let from = &weight[self.tap_of(ty, tx, ld) + self.inputs * ld..][..block];
            out[i * block..][..block].copy_from_slice(from);
        }
        out
    }

    /// The kernel over the small picture for one kind of output places, `[taps, taps, inputs, ld]`.
    fn parity_kernel<'a>(
        &self,
        weight: &[f32],
        ld: usize,
        (y, x): (&Parity, &Parity),
        out: &'a mut Vec<f32>,
    ) -> &'a [f32] {
        let block = self.inputs * ld;
        let out = sized(out, y.taps * x.taps * block);
        out.fill(0.0);
        for (ty, tx) in taps(self.kernel) {
            if let (Some(py), Some(px)) = (y.place(ty), x.place(tx)) {
                let from = &weight[self.tap_of(ty, tx, ld)..][..block];
                add(&mut out[(py * x.taps + px) * block..][..block], from);
            }
        }
        out
    }

    /// Adds the gradients of weight and bias to `sums`, and gives the small picture's if that is wanted.
    pub(super) fn backward(
        &self,
        saved: Saved<'_>,
        extra: &[f32],
        sums: Option<Sums<'_>>,
        need_input: bool,
    ) -> Option<Vec<f32>> {
        with_scratch(|scratch| {
            let frame = self.delta_frame();
            let [height, width] = self.output();
            let row = width * self.outputs;
            frame.lay(&mut scratch.delta, (self.batch, height, width), |y, line| {
                let range = y * row..(y + 1) * row;
                before_activation(
                    line,
                    &saved.gradient[range.clone()],
                    &saved.output[range],
                    self.slope,
                );
            });
            if let Some(Sums { weight, bias }) = sums {
                self.bias_gradient(&scratch.delta, bias);
                self.weight_gradient(saved.input, weight, scratch);
                self.extra_gradient(extra, weight, scratch);
            }
            need_input.then(|| self.input_gradient(saved.weight, scratch))
        })
    }

    fn bias_gradient(&self, delta: &[f32], sums: &mut [f32]) {
        let frame = self.delta_frame();
        let [rows, cols] = self.output();
        for image in delta.chunks_exact(frame.len()).take(self.batch) {
            for y in 0..rows {
                let row = &image[frame.origin() + y * frame.pitch()..][..cols * self.outputs];
                add_columns(row, sums);
            }
        }
    }

    /// Windows over the padded gradient of the output, one for each small place of a kind.
    fn source_windows<'a>(&self, values: &'a [f32], (y, x): (&Source, &Source)) -> Windows<'a> {
        let pitch = self.delta_frame().pitch();
        Windows {
            values,
            start: 2 * (y.first * pitch + x.first * self.outputs),
            step: [2 * pitch, 2 * self.outputs],
            runs: y.taps(),
            run: x.taps() * self.outputs,
            pitch,
        }
    }

    fn weight_gradient(&self, input: &[f32], sums: &mut [f32], scratch: &mut Scratch) {
        let Scratch {
            inputs,
            delta,
            sums: table,
            kernel,
            ..
        } = scratch;
        let (small, frame) = (self.small_frame(), self.delta_frame());
        let inputs = small.copy(inputs, input, (self.batch, self.input));
        let ld = leading(self.inputs);
        let block = self.outputs * ld;
        // Transposed: [taps, outputs, ld] with the inputs along the rows.
        let by_tap = sized(kernel, self.kernel.pow(2) * block);
        by_tap.fill(0.0);
        for (y, x) in pairs(&self.sources(0), &self.sources(1)) {
            let table = sized(table, y.taps() * x.taps() * block);
            table.fill(0.0);
            for b in 0..self.batch {
                dispatch(Outer {
                    windows: self.source_windows(&delta[b * frame.len()..], (&y, &x)),
                    rows: y.count,
                    cols: x.count,
                    delta: &inputs[b * small.len()..],
                    cells: Cells {
                        start: small.origin() + y.first * small.pitch() + x.first * self.inputs,
                        step: [small.pitch(), self.inputs],
                    },
                    outputs: self.inputs,
                    ld,
                    sums: table,
                });
            }
            for (to, (ty, tx)) in by_tap.chunks_exact_mut(block).zip(taps(self.kernel)) {
                for (uy, ux) in y.places(ty).flat_map(|uy| x.places(tx).map(move |ux| (uy, ux))) {
                    add(to, &table[(uy * x.taps() + ux) * block..][..block]);
                }
            }
        }
        for (to, (ty, tx)) in by_tap.chunks_exact(block).zip(taps(self.kernel)) {
            let sums = &mut sums[self.tap_of(ty, tx, self.outputs)..][..self.inputs * self.outputs];
            add_transposed(to, ld, sums, self.outputs);
        }
    }

    fn extra_gradient(&self, extra: &[f32], sums: &mut [f32], scratch: &mut Scratch) {
        if self.extra == 0 {
            return;
        }
        let Scratch {
            extra: buffer,
            delta,
            sums: table,
            ..
        } = scratch;
        let (full, frame) = (self.extra_frame(), self.delta_frame());
        let extras = full.copy(buffer, extra, (self.batch, self.enlarged));
        let ld = leading(self.outputs);
        let table = sized(table, self.kernel.pow(2) * self.extra * ld);
        table.fill(0.0);
        let [rows, cols] = self.output();
        for b in 0..self.batch {
            dispatch(Outer {
                windows: self.extra_windows((full, &extras[b * full.len()..]), [0, 0], 1),
                rows,
                cols,
                delta: &delta[b * frame.len()..],
                cells: Cells {
                    start: frame.origin(),
                    step: [frame.pitch(), self.outputs],
                },
                outputs: self.outputs,
                ld,
                sums: table,
            });
        }
        for (from, (ty, tx)) in table.chunks_exact(self.extra * ld).zip(taps(self.kernel)) {
            let start = self.tap_of(ty, tx, self.outputs) + self.inputs * self.outputs;
            add_rows(
                from,
                ld,
                &mut sums[start..][..self.extra * self.outputs],
                self.outputs,
            );
        }
    }

    fn input_gradient(&self, weight: &[f32], scratch: &mut Scratch) -> Vec<f32> {
        let Scratch {
            delta,
            weights,
            kernel: buffer,
            ..
        } = scratch;
        let [height, width] = self.input;
        let size = height * width * self.inputs;
        let frame = self.delta_frame();
        let ld = leading(self.inputs);
        let block = self.outputs * ld;
        let turned = sized(weights, self.kernel.pow(2) * block);
        for (to, (ty, tx)) in turned.chunks_exact_mut(block).zip(taps(self.kernel)) {
            let from = &weight[self.tap_of(ty, tx, self.outputs)..][..self.inputs * self.outputs];
            transpose(from, self.outputs, to, ld);
        }
        let mut out = vec![0.0; self.batch * size];
        for (y, x) in pairs(&self.sources(0), &self.sources(1)) {
            let kernel = sized(buffer, y.taps() * x.taps() * block);
            kernel.fill(0.0);
            for (from, (ty, tx)) in turned.chunks_exact(block).zip(taps(self.kernel)) {
                for (uy, ux) in y.places(ty).flat_map(|uy| x.places(tx).map(move |ux| (uy, ux))) {
                    add(&mut kernel[(uy * x.taps() + ux) * block..][..block], from);
                }
            }
            for (b, out) in out.chunks_exact_mut(size).enumerate() {
                dispatch(Correlate {
                    inputs: &[(self.source_windows(&delta[b * frame.len()..], (&y, &x)), kernel)],
                    ld,
                    bias: &[],
                    slope: 1.0,
                    rows: y.count,
                    cols: x.count,
                    outputs: self.inputs,
                    out,
                    cells: Cells {
                        start: (y.first * width + x.first) * self.inputs,
                        step: [width * self.inputs, self.inputs],
                    },
                });
            }
        }
        out
    }
}

/// Places of a square kernel, row by row.
fn taps(kernel: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..kernel).flat_map(move |y| (0..kernel).map(move |x| (y, x)))
}

fn pairs<T: Copy>(ys: &[T], xs: &[T]) -> impl Iterator<Item = (T, T)> {
    ys.iter().flat_map(move |y| xs.iter().map(move |x| (*y, *x)))
}
