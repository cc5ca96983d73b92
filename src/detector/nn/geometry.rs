//! Sizes of a convolution, and which inputs contribute to which outputs.

use super::correlate::{Cells, Windows};
use super::scratch::PaddedImage;

/// Sizes of a channels-last convolution with zero padding, of an image or of an upsampled one. Pairs are height and
/// width.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConvGeometry {
    pub(super) batch: usize,
    /// The input.
    pub(super) input: [usize; 2],
    /// Factor of nearest-neighbour upsampling before the convolution, 1 or 2. With 2 the stride is 1, and the padding
    /// smaller than the kernel.
    pub(super) upsample: usize,
    /// What is convolved: the upsampled input, of which the last row and column may be cropped.
    pub(super) size: [usize; 2],
    /// Channels of the input.
    pub(super) inputs: usize,
    /// Channels of a second image of the full `size`, behind those of the upsampled input; 0 without upsampling.
    pub(super) extra: usize,
    pub(super) outputs: usize,
    /// Side of the kernel.
    pub(super) kernel: usize,
    pub(super) stride: usize,
    /// Zeros on each side.
    pub(super) padding: usize,
    /// Factor for negative sums; 1 for a linear layer.
    pub(super) negative_slope: f32,
}

impl ConvGeometry {
    /// Height and width of the output.
    pub(super) fn output(&self) -> [usize; 2] {
        self.size
            .map(|n| (n + 2 * self.padding - self.kernel) / self.stride + 1)
    }

    /// Values in one output image.
    pub(super) fn output_len(&self) -> usize {
        let [height, width] = self.output();
        height * width * self.outputs
    }

    /// Values in one input image.
    pub(super) fn input_len(&self) -> usize {
        let [height, width] = self.input;
        height * width * self.inputs
    }

    /// Positions of an output image.
    pub(super) fn output_cells(&self) -> Cells {
        Cells {
            start: 0,
            step: [self.output()[1] * self.outputs, self.outputs],
        }
    }

    /// Row and column of each tap of the kernel, in the order of the weights.
    pub(super) fn taps(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let kernel = self.kernel;
        (0..kernel).flat_map(move |y| (0..kernel).map(move |x| (y, x)))
    }

    /// First value of a tap in a table of `[taps, inputs + extra, row]`.
    pub(super) fn tap_start(&self, (y, x): (usize, usize), row: usize) -> usize {
        (y * self.kernel + x) * (self.inputs + self.extra) * row
    }

    /// An image of the convolved size with its padding, as far as windows reach.
    pub(super) fn padded(&self, channels: usize) -> PaddedImage {
        let [height, width] = self.output().map(|n| (n - 1) * self.stride + self.kernel);
        PaddedImage {
            margin: self.padding,
            height,
            width,
            channels,
        }
    }

    /// Windows of the whole kernel over an image as of [`ConvGeometry::padded`]: every `step`-th from `first` on.
    pub(super) fn windows<'a>(
        &self,
        image: PaddedImage,
        values: &'a [f32],
        first: [usize; 2],
        step: usize,
    ) -> Windows<'a> {
        let (pitch, channels) = (image.pitch(), image.channels);
        Windows {
            values,
            start: first[0] * pitch + first[1] * channels,
            step: [step * pitch, step * channels],
            runs: self.kernel,
            run: self.kernel * channels,
            pitch,
        }
    }

    /// The input before upsampling, with as much of the padding as falls onto it.
    pub(super) fn padded_before_upsampling(&self) -> PaddedImage {
        let margin = self.padding.div_ceil(2);
        let size = |axis: usize| margin + self.input[axis].max((self.size[axis] + self.padding - 1) / 2 + 1);
        PaddedImage {
            margin,
            height: size(0),
            width: size(1),
            channels: self.inputs,
        }
    }

    /// The gradient of the output with zeros around it, as far as the windows of the input's gradient reach.
    pub(super) fn padded_grad(&self) -> PaddedImage {
        let out = self.output();
        let (margin, reach): (usize, [usize; 2]) = match self.upsample {
            1 => {
                let margin = self.kernel.div_ceil(self.stride) - 1;
                let reach = self
                    .input
                    .map(|n| margin + (n - 1 + self.padding) / self.stride + 1);
                (margin, reach)
            }
            _ => {
                let margin = self.kernel - 1 - self.padding;
                (margin, self.input.map(|n| 2 * n + self.kernel - 1))
            }
        };
        PaddedImage {
            margin,
            height: reach[0].max(margin + out[0]),
            width: reach[1].max(margin + out[1]),
            channels: self.outputs,
        }
    }

    /// Along one axis of a strided convolution: the inputs that tap `phase` of some output falls on.
    pub(super) fn stride_phase(&self, axis: usize, phase: usize) -> StridePhase {
        let taps = self.kernel.saturating_sub(phase).div_ceil(self.stride);
        let first = (phase + self.stride - self.padding % self.stride) % self.stride;
        // Input i = stride * q + phase - padding contributes to outputs q, q - 1, ... by taps phase, phase + stride, ...
        let q = (first + self.padding - phase) / self.stride;
        StridePhase {
            taps,
            first,
            count: self.input[axis].saturating_sub(first).div_ceil(self.stride),
            window: (q + self.padded_grad().margin + 1).saturating_sub(taps),
        }
    }

    /// Along one axis of an upsampled image: the kinds of output positions, by the inputs under their windows.
    pub(super) fn output_phases(&self, axis: usize) -> Vec<OutputPhase> {
        let (size, kernel, padding) = (self.size[axis], self.kernel, self.padding);
        let out = self.output()[axis];
        // Windows from here on reach the cropped copy of the last input.
        let whole = match size % 2 {
            0 => out,
            _ => (size + padding + 1).saturating_sub(kernel).min(out),
        };
        let phase = |first: usize, count: usize, missing: Option<usize>| {
            let even_margin = 2 * padding.div_ceil(2);
            let start = first + even_margin - padding;
            OutputPhase {
                first,
                count,
                window: start / 2,
                taps: (start % 2 + kernel - 1) / 2 + 1,
                offset: start % 2,
                missing,
            }
        };
        let regular = (0..2).map(|parity| phase(parity, whole.saturating_sub(parity).div_ceil(2), None));
        let cropped = (whole..out).map(|position| phase(position, 1, Some(size + padding - position)));
        regular.chain(cropped).filter(|phase| phase.count > 0).collect()
    }

    /// Along one axis of an upsampled image: the kinds of inputs, by the number of their copies.
    pub(super) fn input_phases(&self, axis: usize) -> Vec<InputPhase> {
        let size = self.size[axis];
        let phase = |first, count, copies| InputPhase {
            first,
            count,
            copies,
            kernel: self.kernel,
        };
        let phases = [phase(0, size / 2, 2), phase(size / 2, size % 2, 1)];
        phases.into_iter().filter(|phase| phase.count > 0).collect()
    }
}

/// Inputs of one axis that the same taps of a strided convolution are applied to.
pub(super) struct StridePhase {
    /// Number of those taps.
    pub(super) taps: usize,
    /// The first input and how many there are, every `stride`-th.
    pub(super) first: usize,
    pub(super) count: usize,
    /// Start of the first input's window over the padded gradient.
    pub(super) window: usize,
}

/// Outputs of one axis whose windows over an upsampled image cover its inputs in the same way.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutputPhase {
    /// First output and how many there are, every second one.
    pub(super) first: usize,
    pub(super) count: usize,
    /// Start of the first output's window over the padded input, and the length of the window.
    pub(super) window: usize,
    pub(super) taps: usize,
    /// 1 where the window starts at the second copy of its first input, else 0.
    offset: usize,
    /// A tap that falls onto what was cropped.
    pub(super) missing: Option<usize>,
}

impl OutputPhase {
    /// The tap of the window that the kernel's tap `t` is added to.
    pub(super) fn window_tap(&self, t: usize) -> Option<usize> {
        (self.missing != Some(t)).then_some((t + self.offset) / 2)
    }
}

/// Inputs of one axis that have the same number of copies in an upsampled image.
#[derive(Clone, Copy, Debug)]
pub(super) struct InputPhase {
    /// First input and how many there are.
    pub(super) first: usize,
    pub(super) count: usize,
    /// Two, or one where the image was cropped.
    copies: usize,
    kernel: usize,
}

impl InputPhase {
    /// Length of the window over the padded gradient of the output.
    pub(super) fn taps(&self) -> usize {
        self.kernel + self.copies - 1
    }

    /// The taps of the window that the kernel's tap `t` is added to, one for each copy.
    pub(super) fn window_taps(&self, t: usize) -> std::ops::Range<usize> {
        let first = self.kernel - 1 - t;
        first..first + self.copies
    }
}

/// All pairs of a vertical and a horizontal item, row by row.
pub(super) fn pairs<T: Copy>(ys: &[T], xs: &[T]) -> impl Iterator<Item = (T, T)> {
    ys.iter().flat_map(move |y| xs.iter().map(move |x| (*y, *x)))
}
