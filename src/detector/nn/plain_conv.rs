//! Convolution without upsampling: the output, and the gradients of weights and input.

use super::correlate::{self, Cells, Correlate, DotProducts, OuterProducts, Windows};
use super::geometry::ConvGeometry;
use super::scratch::{
    PaddedImage, Scratch, add_rows, add_transposed, pad_rows, padded_row, sized, spread_row, transpose,
};
use super::simd::dispatch;

/// Writes the output of `[input, weight, bias]`.
pub(super) fn forward(g: &ConvGeometry, inputs: [&[f32]; 3], output: &mut [f32], scratch: &mut Scratch) {
    if has_few_outputs(g) {
        forward_few_outputs(g, inputs, output, scratch);
    } else {
        forward_many_outputs(g, inputs, output, scratch);
    }
}

/// Whether there are so few outputs that vectors are better laid along the windows than along the outputs.
fn has_few_outputs(g: &ConvGeometry) -> bool {
    correlate::is_faster_with_dot_products(g.kernel, g.kernel * g.inputs, g.outputs)
}

fn forward_many_outputs(
    g: &ConvGeometry,
    [input, weight, bias]: [&[f32]; 3],
    output: &mut [f32],
    scratch: &mut Scratch,
) {
    let [rows, cols] = g.output();
    let (weights, ld) = pad_rows(weight, g.outputs, &mut scratch.weights);
    let (bias, _) = pad_rows(bias, g.outputs, &mut scratch.bias);
    // Without padding no window reaches beyond the image.
    let (image, values) = match g.padding {
        0 => {
            let image = PaddedImage {
                margin: 0,
                height: g.input[0],
                width: g.input[1],
                channels: g.inputs,
            };
            (image, input)
        }
        _ => {
            let image = g.padded(g.inputs);
            (image, image.copy(&mut scratch.inputs, input, (g.batch, g.input)))
        }
    };
    for (b, out) in output.chunks_exact_mut(g.output_len()).enumerate() {
        let windows = g.windows(image, &values[b * image.len()..], [0, 0], g.stride);
        dispatch(Correlate {
            inputs: &[(windows, weights)],
            ld,
            bias,
            negative_slope: g.negative_slope,
            rows,
            cols,
            outputs: g.outputs,
            out,
            cells: g.output_cells(),
        });
    }
}

fn forward_few_outputs(
    g: &ConvGeometry,
    [input, weight, bias]: [&[f32]; 3],
    output: &mut [f32],
    scratch: &mut Scratch,
) {
    let [rows, cols] = g.output();
    let run = g.kernel * g.inputs;
    let weights = sized(&mut scratch.weights, g.outputs * g.kernel * padded_row(run));
    correlate::weights_by_output(weight, run, g.outputs, weights);
    let image = g.padded(g.inputs);
    let values = image.copy(&mut scratch.inputs, input, (g.batch, g.input));
    for (b, out) in output.chunks_exact_mut(g.output_len()).enumerate() {
        dispatch(DotProducts {
            windows: g.windows(image, &values[b * image.len()..], [0, 0], g.stride),
            weights,
            bias,
            negative_slope: g.negative_slope,
            rows,
            cols,
            outputs: g.outputs,
            out,
            cells: g.output_cells(),
        });
    }
}

/// Adds the gradient of the weights to `sums`, given the padded gradient in `scratch.grad`.
pub(super) fn weight_grad(g: &ConvGeometry, input: &[f32], sums: &mut [f32], scratch: &mut Scratch) {
    let Scratch {
        inputs,
        grad,
        sums: table,
        ..
    } = scratch;
    let inputs = g.padded(g.inputs).copy(inputs, input, (g.batch, g.input));
    if has_few_outputs(g) {
        weight_grad_few_outputs(g, inputs, grad, sums, table);
    } else {
        weight_grad_many_outputs(g, inputs, grad, sums, table);
    }
}

fn weight_grad_many_outputs(
    g: &ConvGeometry,
    inputs: &[f32],
    grad: &[f32],
    sums: &mut [f32],
    buffer: &mut Vec<f32>,
) {
    let (image, grad_image) = (g.padded(g.inputs), g.padded_grad());
    let [rows, cols] = g.output();
    let ld = padded_row(g.outputs);
    let is_direct = ld == g.outputs;
    let len = sums.len() / g.outputs * ld;
    let padded = if is_direct { &mut *sums } else { sized(buffer, len) };
    if !is_direct {
        padded.fill(0.0);
    }
    for b in 0..g.batch {
        dispatch(OuterProducts {
            windows: g.windows(image, &inputs[b * image.len()..], [0, 0], g.stride),
            rows,
            cols,
            values: &grad[b * grad_image.len()..],
            cells: grad_image.cells(),
            columns: g.outputs,
            ld,
            sums: padded,
        });
    }
    if !is_direct {
        add_rows(&buffer[..len], ld, sums, g.outputs);
    }
}

/// With vectors along the windows and single outputs.
fn weight_grad_few_outputs(
    g: &ConvGeometry,
    inputs: &[f32],
    grad: &[f32],
    sums: &mut [f32],
    buffer: &mut Vec<f32>,
) {
    let (image, grad_image) = (g.padded(g.inputs), g.padded_grad());
    let [rows, cols] = g.output();
    let run = g.kernel * g.inputs;
    let ld = padded_row(run);
    let Cells { start, step } = grad_image.cells();
    // One row of the kernel at a time: [outputs, ld].
    let table = sized(buffer, g.outputs * ld);
    for (y, sums) in sums.chunks_exact_mut(run * g.outputs).enumerate() {
        table.fill(0.0);
        for b in 0..g.batch {
            dispatch(OuterProducts {
                windows: Windows {
                    values: &grad[b * grad_image.len()..],
                    start,
                    step,
                    runs: 1,
                    run: g.outputs,
                    pitch: 0,
                },
                rows,
                cols,
                values: &inputs[b * image.len()..],
                cells: Cells {
                    start: y * image.pitch(),
                    step: [g.stride * image.pitch(), g.stride * g.inputs],
                },
                columns: run,
                ld,
                sums: table,
            });
        }
        add_transposed(table, ld, sums, g.outputs);
    }
}

/// Writes the gradient of the input, given the padded gradient of the output in `scratch.grad`: its correlation with the
/// mirrored kernel. With a stride, input rows (and columns) fall into as many phases, each of which uses only every
/// `stride`-th tap.
pub(super) fn input_grad(g: &ConvGeometry, weight: &[f32], grad: &mut [f32], scratch: &mut Scratch) {
    let image = g.padded_grad();
    let width = g.input[1];
    if g.kernel < g.stride {
        // Some inputs contribute to no output.
        grad.fill(0.0);
    }
    for (py, px) in (0..g.stride).flat_map(|y| (0..g.stride).map(move |x| (y, x))) {
        let (y, x) = (g.stride_phase(0, py), g.stride_phase(1, px));
        if y.taps * y.count * x.taps * x.count == 0 {
            continue;
        }
        let (weights, ld) = mirrored_weights(g, weight, (py, y.taps), (px, x.taps), &mut scratch.weights);
        for (b, out) in grad.chunks_exact_mut(g.input_len()).enumerate() {
            let windows = Windows {
                values: &scratch.grad[b * image.len()..],
                start: y.window * image.pitch() + x.window * g.outputs,
                step: [image.pitch(), g.outputs],
                runs: y.taps,
                run: x.taps * g.outputs,
                pitch: image.pitch(),
            };
            dispatch(Correlate {
                inputs: &[(windows, weights)],
                ld,
                bias: &[],
                negative_slope: 1.0,
                rows: y.count,
                cols: x.count,
                outputs: g.inputs,
                out,
                cells: Cells {
                    start: (y.first * width + x.first) * g.inputs,
                    step: [g.stride * width * g.inputs, g.stride * g.inputs],
                },
            });
        }
    }
}

/// Weights of one phase, given its first tap and the number of taps on each axis: taps in reverse order, inputs and
/// outputs exchanged, `[taps * taps * outputs, inputs]`. Rows are padded to the length that is returned.
fn mirrored_weights<'a>(
    g: &ConvGeometry,
    weight: &[f32],
    (py, taps_y): (usize, usize),
    (px, taps_x): (usize, usize),
    buffer: &'a mut Vec<f32>,
) -> (&'a [f32], usize) {
    let ld = spread_row(g.inputs);
    let block = g.outputs * ld;
    let all = sized(buffer, taps_y * taps_x * block);
    let taps = (0..taps_y)
        .rev()
        .flat_map(|y| (0..taps_x).rev().map(move |x| (y, x)));
    for (to, (y, x)) in all.chunks_exact_mut(block).zip(taps) {
        let start = g.tap_start((py + g.stride * y, px + g.stride * x), g.outputs);
        transpose(&weight[start..][..g.inputs * g.outputs], g.outputs, to, ld);
    }
    (all, ld)
}
