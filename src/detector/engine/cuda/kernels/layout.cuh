// What the host describes to the kernels: a net as a list of layers, and a job. `descriptor.rs` has the same structures
// and fills them in; a test compares both, field by field.
//
// # Layout
// All images are channels-last, their channels filled up with zeros to a multiple of four: every inner loop works on four
// inputs by four outputs. "Quads" counts channels in fours. A weight is [tap (y, x)][input][output], filled up alike; the
// filling is zero and remains so, since its gradient is zero. Offsets count floats.

#pragma once

constexpr int MAX_LAYERS = 15;

// A convolution over an image that may be upsampled first (nearest neighbour), or a dense layer.
struct Layer {
    int dense;
    int kernel, stride, upsample, padding;
    // Input: offset in the workspace, size before upsampling.
    int input, input_height, input_width, input_quads;
    // Condition that joins the upsampled input: offset in the workspace.
    int extra, extra_quads;
    // Size after upsampling and cropping, over which the kernel moves.
    int upsampled_height, upsampled_width;
    int output, output_height, output_width, output_quads;
    // Offsets in each array of the net's slot.
    int weight, bias;
    // Offset of the staged weights in shared memory, or -1: the layer reads them from global memory.
    int staged;
    // Upsampled rows (columns) of the last input row (column): fewer than `upsample` where the image was cropped.
    int last_rows, last_columns;
    // Size of the box sums of the gradient: see backward.cuh.
    int box_height, box_width;
    // Into how many partial sums a long sum is split, so that all threads have work.
    int output_splits, input_grad_splits, weight_splits, extra_splits, bias_splits;
    float negative_slope;
};

enum ScoreMap { SQUARED_ERROR = 0, LEVEL = 1 };

struct Net {
    int layers;
    // Index of the layer with both latent heads, mean | log_var; the encoder is before it.
    int heads;
    // Index of the temporal layer, which is then the one before the heads; -1 without one. Images of a clip.
    int gates, clip;
    int height, width, channels, condition_channels;
    // Offsets in the workspace. Encoder's input: target, then condition.
    int image, image_quads;
    // The condition alone, for the decoder; -1 without one.
    int condition, condition_quads;
    // Sampled latent values [cell][dim]: one cell for a flat latent vector, one a cell of the bottleneck otherwise.
    int latent, latent_dim, latent_quads, cells;
    // Offsets in the workspace, of a temporal layer: see recurrent.cuh. The gradients are those of one step.
    int joined, joined_grad, cell_states, cell_grad;
    // Channels at the bottleneck, without the filling.
    int features;
    // The job's noise and dropout mask.
    int noise, mask;
    // Offset of the base image in each array of the slot; -1 without one.
    int base_image;
    // Whether there is a moving average of the weights, which then scores.
    int moving_average;
    int score_map, score_box;
    float kl_share;
    // Floats of each array of the slot.
    int parameters;
    // Offsets in the workspace: gradient of all parameters, partial sums, box sums; the map before it is averaged.
    int grad, partial, extra_partial, bias_partial, boxes, map;
    float log_var_min, log_var_max;
    // 1 / (3 scale^2) of the residuals' Student t distribution, and the weight of its likelihood.
    float inverse_scale, reconstruction_weight;
    // Adam.
    float beta1, one_minus_beta1, beta2, one_minus_beta2, epsilon, max_norm;
    Layer layer[MAX_LAYERS];
};

// Addresses of a slot are in the device's memory; those of inputs and output in the host's, mapped for the device.
struct Job {
    const Net* net;
    // Slot: parameters, moments of the gradient, moving average of the parameters (or null).
    float *weights, *first_moment, *second_moment, *average;
    // Slot: [H, W, C], written by a scoring job; or null.
    float* prediction;
    // [B, H, W, C], [B, H, W, D], [B, latent values], [B, features of all cells] or null.
    const float *target, *condition, *noise, *mask;
    // Slot, with a temporal layer: [h, c] before the image, or before the first clip; null for zero. Scoring writes those
    // after the image.
    const float* state;
    float* next_state;
    // Scoring: anomaly map [H, W]. Training: see `Report`.
    float* output;
    int batch;
    // Learning rate over the bias correction of the first moment; inverse square root of that of the second.
    float step_size, inv_sqrt_bias2;
    float kl_weight, average_rate;
    int unused;
};

// What a training job writes to its output.
struct Report {
    float loss, reconstruction, kl, grad_norm;
    // 0: a value was not finite; parameters and moments are as before.
    float accepted;
};

static_assert(sizeof(Layer) == 4 * 30 && sizeof(Net) == 4 * 45 + MAX_LAYERS * sizeof(Layer) && sizeof(Job) == 128, "descriptor.rs has the same");
