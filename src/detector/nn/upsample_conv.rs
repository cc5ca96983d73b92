//! Nearest-neighbour upsampling by two, cropping, and a convolution of stride 1, as one operation.
//!
//! The upsampled image is never computed. The window of each output covers pairs of equal rows (and columns), so taps that
//! fall onto the same input are summed first: a 3x3 kernel becomes four 2x2 kernels, one for each parity of row and column,
//! with 4/9 of the products. The gradient of an input is a correlation of the output's gradient with a kernel one larger
//! than the layer's, at every second position. Where the upsampled image was cropped to an odd size, the last rows lack one
//! tap and have kernels of their own.

use super::correlate::{Cells, Correlate, OuterProducts, Windows};
use super::geometry::{ConvGeometry, InputPhase, OutputPhase, pairs};
use super::scratch::{
    PaddedImage, Scratch, add_rows, add_transposed, pad_rows, padded_row, sized, transpose,
};
use super::simd::{self, dispatch};
use super::tensor::add;

/// Writes the output of `[input, extra, weight, bias]`.
pub(super) fn forward(
    g: &ConvGeometry,
    [input, extra, weight, bias]: [&[f32]; 4],
    output: &mut [f32],
    scratch: &mut Scratch,
) {
    if let Some(axes) = packed_axes(g) {
        return forward_packed(g, axes, [input, weight, bias], output, scratch);
    }
    let [_, width] = g.output();
    let (weight, ld) = pad_rows(weight, g.outputs, &mut scratch.weights);
    let (bias, _) = pad_rows(bias, g.outputs, &mut scratch.bias);
    let (image, extra_image) = (g.padded_before_upsampling(), g.padded(g.extra));
    let inputs = image.copy(&mut scratch.inputs, input, (g.batch, g.input));
    let extras = match g.extra {
        0 => extra,
        _ => extra_image.copy(&mut scratch.extra, extra, (g.batch, g.size)),
    };
    let extra_kernel = extra_kernel(g, weight, ld, &mut scratch.sums);
    for (y, x) in pairs(&g.output_phases(0), &g.output_phases(1)) {
        let kernel = phase_kernel(g, weight, ld, (&y, &x), &mut scratch.kernel);
        for (b, out) in output.chunks_exact_mut(g.output_len()).enumerate() {
            let windows = phase_windows(image, &inputs[b * image.len()..], (&y, &x));
            let first = [y.first, x.first];
            let extra_windows = g.windows(extra_image, &extras[b * extra_image.len()..], first, 2);
            dispatch(Correlate {
                inputs: &[(windows, kernel), (extra_windows, extra_kernel)][..1 + usize::from(g.extra > 0)],
                ld,
                bias,
                negative_slope: g.negative_slope,
                rows: y.count,
                cols: x.count,
                outputs: g.outputs,
                out,
                cells: Cells {
                    start: (y.first * width + x.first) * g.outputs,
                    step: [2 * width * g.outputs, 2 * g.outputs],
                },
            });
        }
    }
}

/// Windows over the padded input, one for each output of a phase.
fn phase_windows<'a>(
    image: PaddedImage,
    values: &'a [f32],
    (y, x): (&OutputPhase, &OutputPhase),
) -> Windows<'a> {
    let (pitch, channels) = (image.pitch(), image.channels);
    Windows {
        values,
        start: y.window * pitch + x.window * channels,
        step: [pitch, channels],
        runs: y.taps,
        run: x.taps * channels,
        pitch,
    }
}

/// The weights of the extra channels, `[kernel * kernel * extra, ld]`.
fn extra_kernel<'a>(g: &ConvGeometry, weight: &[f32], ld: usize, buffer: &'a mut Vec<f32>) -> &'a [f32] {
    let block = g.extra * ld;
    let out = sized(buffer, g.kernel.pow(2) * block);
    for (i, tap) in g.taps().enumerate() {
        let from = &weight[g.tap_start(tap, ld) + g.inputs * ld..][..block];
        out[i * block..][..block].copy_from_slice(from);
    }
    out
}

/// The kernel over the input for the outputs of one phase, `[taps, taps, inputs, ld]`.
fn phase_kernel<'a>(
    g: &ConvGeometry,
    weight: &[f32],
    ld: usize,
    (y, x): (&OutputPhase, &OutputPhase),
    buffer: &'a mut Vec<f32>,
) -> &'a [f32] {
    let block = g.inputs * ld;
    let out = sized(buffer, y.taps * x.taps * block);
    out.fill(0.0);
    for (ty, tx) in g.taps() {
        if let (Some(wy), Some(wx)) = (y.window_tap(ty), x.window_tap(tx)) {
            let from = &weight[g.tap_start((ty, tx), ld)..][..block];
            add(&mut out[(wy * x.taps + wx) * block..][..block], from);
        }
    }
    out
}

/// Windows over the padded gradient of the output, one for each input of a phase.
fn grad_windows<'a>(
    image: PaddedImage,
    values: &'a [f32],
    (y, x): (&InputPhase, &InputPhase),
) -> Windows<'a> {
    let (pitch, channels) = (image.pitch(), image.channels);
    Windows {
        values,
        start: 2 * (y.first * pitch + x.first * channels),
        step: [2 * pitch, 2 * channels],
        runs: y.taps(),
        run: x.taps() * channels,
        pitch,
    }
}

/// The taps of the window that one of the kernel's is added to, as indices of its `taps * taps`.
fn window_taps((y, x): (InputPhase, InputPhase), (ty, tx): (usize, usize)) -> impl Iterator<Item = usize> {
    y.window_taps(ty)
        .flat_map(move |wy| x.window_taps(tx).map(move |wx| wy * x.taps() + wx))
}

/// Adds the gradient of the weights to `sums`, given the padded gradient in `scratch.grad`.
pub(super) fn weight_grad(
    g: &ConvGeometry,
    input: &[f32],
    extra: &[f32],
    sums: &mut [f32],
    scratch: &mut Scratch,
) {
    let Scratch {
        inputs,
        grad,
        sums: table,
        kernel,
        ..
    } = scratch;
    let (image, grad_image) = (g.padded_before_upsampling(), g.padded_grad());
    let inputs = image.copy(inputs, input, (g.batch, g.input));
    let ld = padded_row(g.inputs);
    let block = g.outputs * ld;
    // Transposed: [taps, outputs, ld] with the inputs along the rows.
    let by_tap = sized(kernel, g.kernel.pow(2) * block);
    by_tap.fill(0.0);
    let Cells { start, step } = image.cells();
    for (y, x) in pairs(&g.input_phases(0), &g.input_phases(1)) {
        let table = sized(table, y.taps() * x.taps() * block);
        table.fill(0.0);
        for b in 0..g.batch {
            dispatch(OuterProducts {
                windows: grad_windows(grad_image, &grad[b * grad_image.len()..], (&y, &x)),
                rows: y.count,
                cols: x.count,
                values: &inputs[b * image.len()..],
                cells: Cells {
                    start: start + y.first * step[0] + x.first * step[1],
                    step,
                },
                columns: g.inputs,
                ld,
                sums: table,
            });
        }
        for (to, tap) in by_tap.chunks_exact_mut(block).zip(g.taps()) {
            for i in window_taps((y, x), tap) {
                add(to, &table[i * block..][..block]);
            }
        }
    }
    for (from, tap) in by_tap.chunks_exact(block).zip(g.taps()) {
        let sums = &mut sums[g.tap_start(tap, g.outputs)..][..g.inputs * g.outputs];
        add_transposed(from, ld, sums, g.outputs);
    }
    if g.extra > 0 {
        extra_weight_grad(g, extra, sums, scratch);
    }
}

/// The extra channels' part of [`weight_grad`].
fn extra_weight_grad(g: &ConvGeometry, extra: &[f32], sums: &mut [f32], scratch: &mut Scratch) {
    let (image, grad_image) = (g.padded(g.extra), g.padded_grad());
    let extras = image.copy(&mut scratch.extra, extra, (g.batch, g.size));
    let ld = padded_row(g.outputs);
    let table = sized(&mut scratch.sums, g.kernel.pow(2) * g.extra * ld);
    table.fill(0.0);
    let [rows, cols] = g.output();
    for b in 0..g.batch {
        dispatch(OuterProducts {
            windows: g.windows(image, &extras[b * image.len()..], [0, 0], 1),
            rows,
            cols,
            values: &scratch.grad[b * grad_image.len()..],
            cells: grad_image.cells(),
            columns: g.outputs,
            ld,
            sums: table,
        });
    }
    for (from, tap) in table.chunks_exact(g.extra * ld).zip(g.taps()) {
        let start = g.tap_start(tap, g.outputs) + g.inputs * g.outputs;
        add_rows(from, ld, &mut sums[start..][..g.extra * g.outputs], g.outputs);
    }
}

/// Writes the gradient of the input, given the padded gradient of the output in `scratch.grad`.
pub(super) fn input_grad(g: &ConvGeometry, weight: &[f32], grad: &mut [f32], scratch: &mut Scratch) {
    let Scratch {
        grad: output_grad,
        weights,
        kernel: buffer,
        ..
    } = scratch;
    let width = g.input[1];
    let image = g.padded_grad();
    let ld = padded_row(g.inputs);
    let block = g.outputs * ld;
    let transposed = sized(weights, g.kernel.pow(2) * block);
    for (to, tap) in transposed.chunks_exact_mut(block).zip(g.taps()) {
        let from = &weight[g.tap_start(tap, g.outputs)..][..g.inputs * g.outputs];
        transpose(from, g.outputs, to, ld);
    }
    for (y, x) in pairs(&g.input_phases(0), &g.input_phases(1)) {
        let kernel = sized(buffer, y.taps() * x.taps() * block);
        kernel.fill(0.0);
        for (from, tap) in transposed.chunks_exact(block).zip(g.taps()) {
            for i in window_taps((y, x), tap) {
                add(&mut kernel[i * block..][..block], from);
            }
        }
        for (b, out) in grad.chunks_exact_mut(g.input_len()).enumerate() {
            dispatch(Correlate {
                inputs: &[(
                    grad_windows(image, &output_grad[b * image.len()..], (&y, &x)),
                    kernel,
                )],
                ld,
                bias: &[],
                negative_slope: 1.0,
                rows: y.count,
                cols: x.count,
                outputs: g.inputs,
                out,
                cells: Cells {
                    start: (y.first * width + x.first) * g.inputs,
                    step: [width * g.inputs, g.inputs],
                },
            });
        }
    }
}

/// One axis where both parities are computed at once: a window that holds the windows of both.
struct PackedAxis {
    phases: [OutputPhase; 2],
    window: usize,
    taps: usize,
}

impl PackedAxis {
    /// `None` unless there are two phases of the same length that lack no tap.
    fn new(phases: &[OutputPhase]) -> Option<Self> {
        let &[even, odd] = phases else {
            return None;
        };
        let window = even.window.min(odd.window);
        let end = (even.window + even.taps).max(odd.window + odd.taps);
        let is_regular = even.missing.or(odd.missing).is_none() && even.count == odd.count;
        is_regular.then_some(Self {
            phases: [even, odd],
            window,
            taps: end - window,
        })
    }

    /// The tap of the window that the kernel's tap `t` is added to.
    fn window_tap(&self, parity: usize, t: usize) -> usize {
        let phase = &self.phases[parity];
        phase.window - self.window + phase.window_tap(t).expect("no tap is missing")
    }

    /// Outputs of each parity.
    fn count(&self) -> usize {
        self.phases[0].count
    }
}

/// Both axes where four times the outputs fit into a vector, so that the outputs of all four parities of row and column
/// are computed as one. Windows are larger than those of single parities, and some of their weights zero, but each value
/// is multiplied once instead of four times.
fn packed_axes(g: &ConvGeometry) -> Option<[PackedAxis; 2]> {
    if 4 * g.outputs > simd::best_lanes() || g.extra > 0 {
        return None;
    }
    Some([
        PackedAxis::new(&g.output_phases(0))?,
        PackedAxis::new(&g.output_phases(1))?,
    ])
}

fn forward_packed(
    g: &ConvGeometry,
    [y, x]: [PackedAxis; 2],
    [input, weight, bias]: [&[f32]; 3],
    output: &mut [f32],
    scratch: &mut Scratch,
) {
    let (rows, cols) = (y.count(), x.count());
    let outputs = 4 * g.outputs;
    let ld = padded_row(outputs);
    let image = g.padded_before_upsampling();
    let inputs = image.copy(&mut scratch.inputs, input, (g.batch, g.input));
    let kernel = packed_kernel(g, weight, ld, (&y, &x), &mut scratch.kernel);
    let packed_bias = sized(&mut scratch.bias, ld);
    packed_bias.fill(0.0);
    for part in packed_bias[..outputs].chunks_exact_mut(g.outputs) {
        part.copy_from_slice(bias);
    }
    let packed = sized(&mut scratch.sums, g.output_len());
    let images = inputs.chunks_exact(image.len());
    for (values, out) in images.zip(output.chunks_exact_mut(g.output_len())) {
        let windows = Windows {
            values,
            start: y.window * image.pitch() + x.window * g.inputs,
            step: [image.pitch(), g.inputs],
            runs: y.taps,
            run: x.taps * g.inputs,
            pitch: image.pitch(),
        };
        dispatch(Correlate {
            inputs: &[(windows, kernel)],
            ld,
            bias: packed_bias,
            negative_slope: g.negative_slope,
            rows,
            cols,
            outputs,
            out: packed,
            cells: Cells {
                start: 0,
                step: [cols * outputs, outputs],
            },
        });
        unpack(packed, cols, 2 * g.outputs, out);
    }
}

/// `[taps, taps, inputs, (parity of row, parity of column, output)]`, rows padded to `ld`.
fn packed_kernel<'a>(
    g: &ConvGeometry,
    weight: &[f32],
    ld: usize,
    (y, x): (&PackedAxis, &PackedAxis),
    buffer: &'a mut Vec<f32>,
) -> &'a [f32] {
    let block = g.inputs * ld;
    let out = sized(buffer, y.taps * x.taps * block);
    out.fill(0.0);
    for ((ty, tx), weight) in g.taps().zip(weight.chunks_exact(g.inputs * g.outputs)) {
        for (py, px) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let tap = y.window_tap(py, ty) * x.taps + x.window_tap(px, tx);
            let column = (2 * py + px) * g.outputs;
            let rows = out[tap * block..][..block].chunks_exact_mut(ld);
            for (row, weight) in rows.zip(weight.chunks_exact(g.outputs)) {
                row[column..].iter_mut().zip(weight).for_each(|(r, w)| *r += w);
            }
        }
    }
    out
}

/// `[rows, cols, parity of row, pair]` -> `[2 rows, cols, pair]`, where a pair is `[parity of column, output]`.
fn unpack(packed: &[f32], cols: usize, pair: usize, out: &mut [f32]) {
    let rows = packed
        .chunks_exact(2 * cols * pair)
        .zip(out.chunks_exact_mut(2 * cols * pair));
    for (packed, out) in rows {
        let (even, odd) = out.split_at_mut(cols * pair);
        let pairs = even.chunks_exact_mut(pair).zip(odd.chunks_exact_mut(pair));
        for (packed, (even, odd)) in packed.chunks_exact(2 * pair).zip(pairs) {
            let (upper, lower) = packed.split_at(pair);
            even.copy_from_slice(upper);
            odd.copy_from_slice(lower);
        }
    }
}
