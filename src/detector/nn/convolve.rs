//! Convolution on plain slices: forward, and the gradients of data, weights and bias.

use super::frame::{Frame, Scratch, leading, pad_rows, sized, with_scratch};
use super::kernel::{Cells, Correlate, Outer, Windows};
use super::narrow::{self, Dots};
use super::simd::dispatch;
use super::tables::{add_columns, add_rows, add_transposed, before_activation, row_length, transpose};

/// Sizes of one convolution; zero padding, channels last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Convolve {
    pub(super) batch: usize,
    /// Height and width.
    pub(super) input: [usize; 2],
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
    /// Factor for negative sums; 1 for a linear layer.
    pub(super) slope: f32,
}

/// What the backward pass starts from.
pub(super) struct Saved<'a> {
    pub(super) input: &'a [f32],
    pub(super) weight: &'a [f32],
    pub(super) output: &'a [f32],
    /// Gradient of the output.
    pub(super) gradient: &'a [f32],
}

/// What the backward pass adds to.
pub(super) struct Sums<'a> {
    pub(super) weight: &'a mut [f32],
    pub(super) bias: &'a mut [f32],
}

impl Convolve {
    /// Height and width of the result.
    pub(super) fn output(&self) -> [usize; 2] {
        self.input
            .map(|n| (n + 2 * self.padding - self.kernel) / self.stride + 1)
    }

    /// The padded input, as far as windows reach.
    fn input_frame(&self) -> Frame {
        let [height, width] = self.output().map(|n| (n - 1) * self.stride + self.kernel);
        Frame {
            margin: self.padding,
            height,
            width,
            channels: self.inputs,
        }
    }

    /// The padded gradient of the output, as far as the data gradient's windows reach.
    fn delta_frame(&self) -> Frame {
        let margin = self.kernel.div_ceil(self.stride) - 1;
        let reach = |n: usize| (n - 1 + self.padding) / self.stride + 1;
        let [out_h, out_w] = self.output();
        let [height, width] = self.input.map(reach);
        Frame {
            margin,
            height: margin + height.max(out_h),
            width: margin + width.max(out_w),
            channels: self.outputs,
        }
    }

    fn windows<'a>(&self, values: &'a [f32], pitch: usize) -> Windows<'a> {
        Windows {
            values,
            start: 0,
            step: [self.stride * pitch, self.stride * self.inputs],
            runs: self.kernel,
            run: self.kernel * self.inputs,
            pitch,
        }
    }

    fn cells(&self) -> Cells {
        Cells {
            start: 0,
            step: [self.output()[1] * self.outputs, self.outputs],
        }
    }

    /// # Shapes
    /// `[B, H, W, inputs]`, `[k * k * inputs, outputs]`, `[outputs]` -> `[B, H', W', outputs]`
    pub(super) fn forward(&self, input: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let [rows, cols] = self.output();
        let mut out = vec![0.0; self.batch * rows * cols * self.outputs];
        with_scratch(|scratch| {
            if self.narrow() {
                self.forward_narrow(input, weight, bias, &mut out, scratch);
            } else {
                self.forward_wide(input, weight, bias, &mut out, scratch);
            }
        });
        out
    }

    /// Whether there are so few outputs that vectors had better lie along the windows.
    fn narrow(&self) -> bool {
        narrow::pays(self.kernel, self.kernel * self.inputs, self.outputs)
    }

    fn forward_wide(
        &self,
        input: &[f32],
        weight: &[f32],
        bias: &[f32],
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let [rows, cols] = self.output();
        let (weights, ld) = pad_rows(weight, self.outputs, &mut scratch.weights);
        let (bias, _) = pad_rows(bias, self.outputs, &mut scratch.bias);
        let frame = self.input_frame();
        // Without padding no window reaches beyond the picture.
        let [height, width] = self.input;
        let (values, image, pitch) = match self.padding {
            0 => (input, height * width * self.inputs, width * self.inputs),
            _ => (
                frame.copy(&mut scratch.inputs, input, (self.batch, self.input)),
                frame.len(),
                frame.pitch(),
            ),
        };
        for (b, out) in out.chunks_exact_mut(rows * cols * self.outputs).enumerate() {
            dispatch(Correlate {
                inputs: &[(self.windows(&values[b * image..], pitch), weights)],
                ld,
                bias,
                slope: self.slope,
                rows,
                cols,
                outputs: self.outputs,
                out,
                cells: self.cells(),
            });
        }
    }

    fn forward_narrow(
        &self,
        input: &[f32],
        weight: &[f32],
        bias: &[f32],
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let [rows, cols] = self.output();
        let run = self.kernel * self.inputs;
        let weights = sized(&mut scratch.weights, self.outputs * self.kernel * leading(run));
        narrow::turn(weight, run, self.outputs, weights);
        let frame = self.input_frame();
        let values = frame.copy(&mut scratch.inputs, input, (self.batch, self.input));
        for (b, out) in out.chunks_exact_mut(rows * cols * self.outputs).enumerate() {
            dispatch(Dots {
                windows: self.windows(&values[b * frame.len()..], frame.pitch()),
                weights,
                bias,
                slope: self.slope,
                rows,
                cols,
                outputs: self.outputs,
                out,
                cells: self.cells(),
            });
        }
    }

    /// Adds the gradients of weight and bias to `sums`, and gives the input's if that is wanted.
    pub(super) fn backward(
        &self,
        saved: Saved<'_>,
        sums: Option<Sums<'_>>,
        need_input: bool,
    ) -> Option<Vec<f32>> {
        with_scratch(|scratch| {
            let frame = self.delta_frame();
            let [height, width] = self.output();
            let row = width * self.outputs;
            let delta = frame.lay(&mut scratch.delta, (self.batch, height, width), |y, line| {
                let range = y * row..(y + 1) * row;
                before_activation(
                    line,
                    &saved.gradient[range.clone()],
                    &saved.output[range],
                    self.slope,
                );
            });
            if let Some(Sums { weight, bias }) = sums {
                self.bias_gradient(delta, frame, bias);
                let inputs =
                    self.input_frame()
                        .copy(&mut scratch.inputs, saved.input, (self.batch, self.input));
                if self.narrow() {
                    self.weight_gradient_narrow(inputs, (delta, frame), weight, &mut scratch.sums);
                } else {
                    self.weight_gradient(inputs, (delta, frame), weight, &mut scratch.sums);
                }
            }
            need_input.then(|| self.input_gradient((delta, frame), saved.weight, &mut scratch.weights))
        })
    }

    fn bias_gradient(&self, delta: &[f32], frame: Frame, sums: &mut [f32]) {
        let [rows, cols] = self.output();
        for image in delta.chunks_exact(frame.len()).take(self.batch) {
            for y in 0..rows {
                let row = &image[frame.origin() + y * frame.pitch()..][..cols * self.outputs];
                add_columns(row, sums);
            }
        }
    }

    fn weight_gradient(
        &self,
        inputs: &[f32],
        delta: (&[f32], Frame),
        sums: &mut [f32],
        buffer: &mut Vec<f32>,
    ) {
        let ld = leading(self.outputs);
        let direct = ld == self.outputs;
        let len = sums.len() / self.outputs * ld;
        let (delta, frame) = delta;
        let image = self.input_frame();
        let [rows, cols] = self.output();
        let padded = if direct { &mut *sums } else { sized(buffer, len) };
        if !direct {
            padded.fill(0.0);
        }
        for b in 0..self.batch {
            dispatch(Outer {
                windows: self.windows(&inputs[b * image.len()..], image.pitch()),
                rows,
                cols,
                delta: &delta[b * frame.len()..],
                cells: Cells {
                    start: frame.origin(),
                    step: [frame.pitch(), self.outputs],
                },
                outputs: self.outputs,
                ld,
                sums: padded,
            });
        }
        if !direct {
            add_rows(&buffer[..len], ld, sums, self.outputs);
        }
    }

    /// As [`Convolve::weight_gradient`], but with vectors along the windows and single outputs.
    fn weight_gradient_narrow(
        &self,
        inputs: &[f32],
        (delta, frame): (&[f32], Frame),
        sums: &mut [f32],
        buffer: &mut Vec<f32>,
    ) {
        let run = self.kernel * self.inputs;
        let ld = leading(run);
        let image = self.input_frame();
        let [rows, cols] = self.output();
        // A row of the kernel at a time: [outputs, ld].
        let table = sized(buffer, self.outputs * ld);
        for (r, sums) in sums.chunks_exact_mut(run * self.outputs).enumerate() {
            table.fill(0.0);
            for b in 0..self.batch {
                dispatch(Outer {
                    windows: Windows {
                        values: &delta[b * frame.len()..],
                        start: frame.origin(),
                        step: [frame.pitch(), self.outputs],
                        runs: 1,
                        run: self.outputs,
                        pitch: 0,
                    },
                    rows,
                    cols,
                    delta: &inputs[b * image.len()..],
                    cells: Cells {
                        start: r * image.pitch(),
                        step: [self.stride * image.pitch(), self.stride * self.inputs],
                    },
                    outputs: run,
                    ld,
                    sums: table,
                });
            }
            add_transposed(table, ld, sums, self.outputs);
        }
    }

    /// A correlation of the output's gradient with the mirrored kernel. With a stride, input rows (and
    /// columns) fall into as many phases, each of which meets only every `stride`-th tap.
    fn input_gradient(&self, delta: (&[f32], Frame), weight: &[f32], buffer: &mut Vec<f32>) -> Vec<f32> {
        let (delta, frame) = delta;
        let [height, width] = self.input;
        let size = height * width * self.inputs;
        let mut out = vec![0.0; self.batch * size];
        for (py, px) in (0..self.stride).flat_map(|y| (0..self.stride).map(move |x| (y, x))) {
            let (y, x) = (self.phase(py, height), self.phase(px, width));
            if y.taps * y.count * x.taps * x.count == 0 {
                continue;
            }
            let (weights, ld) = self.mirror(weight, (py, y.taps), (px, x.taps), buffer);
            for (b, out) in out.chunks_exact_mut(size).enumerate() {
                let windows = Windows {
                    values: &delta[b * frame.len()..],
                    start: y.window * frame.pitch() + x.window * self.outputs,
                    step: [frame.pitch(), self.outputs],
                    runs: y.taps,
                    run: x.taps * self.outputs,
                    pitch: frame.pitch(),
                };
                dispatch(Correlate {
                    inputs: &[(windows, weights)],
                    ld,
                    bias: &[],
                    slope: 1.0,
                    rows: y.count,
                    cols: x.count,
                    outputs: self.inputs,
                    out,
                    cells: Cells {
                        start: (y.first * width + x.first) * self.inputs,
                        step: [self.stride * width * self.inputs, self.stride * self.inputs],
                    },
                });
            }
        }
        out
    }

    /// Along one axis of `size` inputs: those that tap `phase` of some output falls on.
    fn phase(&self, phase: usize, size: usize) -> Phase {
        let taps = self.kernel.saturating_sub(phase).div_ceil(self.stride);
        let first = (phase + self.stride - self.padding % self.stride) % self.stride;
        // Input i = stride * q + phase - padding is met by outputs q, q - 1, ... with taps phase, phase + stride, ...
        let q = (first + self.padding - phase) / self.stride;
        let margin = self.delta_frame().margin;
        Phase {
            taps,
            first,
            count: size.saturating_sub(first).div_ceil(self.stride),
            window: (q + margin + 1).saturating_sub(taps),
        }
    }

    /// Weights of one phase, taps in reverse order, inputs and outputs exchanged:
    /// `[taps * taps * outputs, inputs]`, rows padded.
    fn mirror<'a>(
        &self,
        weight: &[f32],
        (py, taps_y): (usize, usize),
        (px, taps_x): (usize, usize),
        buffer: &'a mut Vec<f32>,
    ) -> (&'a [f32], usize) {
        let Self {
            inputs,
            outputs,
            kernel,
            stride,
            ..
        } = *self;
        let ld = row_length(inputs);
        let all = sized(buffer, taps_y * taps_x * outputs * ld);
        let mut taps = all.chunks_exact_mut(outputs * ld);
        for (uy, ux) in (0..taps_y)
            .rev()
            .flat_map(|y| (0..taps_x).rev().map(move |x| (y, x)))
        {
            let tap = (py + stride * uy) * kernel + px + stride * ux;
            let from = &weight[tap * inputs * outputs..][..inputs * outputs];
            let to = taps.next().expect("as many taps as were counted");
            transpose(from, outputs, to, ld);
        }
        (all, ld)
    }
}

/// Along one axis: the inputs of one phase of the data gradient.
struct Phase {
    /// Taps that meet them.
    taps: usize,
    /// The first input and how many there are.
    first: usize,
    count: usize,
    /// Where the first one's window over the padded gradient starts.
    window: usize,
}
