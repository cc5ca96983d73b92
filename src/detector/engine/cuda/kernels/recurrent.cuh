// The temporal layer between encoder and latent heads: a convolutional LSTM (Shi et al., *Convolutional LSTM Network*, NIPS
// 2015). The images of a job are in the order [step][clip], so that those of a step are neighbours; a job without such a
// layer, and a scoring job, has one step.
//
// The layer `gates` convolves the encoder's output and the previous hidden state, side by side in `joined`, to the gates:
// input, forget, candidate, output. The heads' input are the hidden states.

#pragma once

#include "backward.cuh"

// Added to the forget gate, as on the CPU.
constexpr float FORGET_BIAS = 1.0f;

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// Where a step's values are, for the loops over its clips, positions and quads of channels.
struct StepValues {
    // Of an image, and of those of a step.
    int positions, step_positions, quads;
    // First position of the step.
    int first;
};
DEVICE StepValues values_of_step(const Net& n, int step, int clips) {
    const Layer& gates = n.layer[n.gates];
    const int positions = gates.output_height * gates.output_width;
    return StepValues{positions, clips * positions, gates.output_quads / 4, step * clips * positions};
}

// `state` is [h, c] of the first clip before its first step, or null for zero: as of all other clips.
DEVICE float4 previous(const float* of_steps, const float* state, int step, int p, int position, int q, const StepValues& v) {
    if (step > 0) return load4(of_steps + 4 * ((position - v.step_positions) * v.quads + q));
    return state && p < v.positions ? load4(state + 4 * (p * v.quads + q)) : zero4();
}

// Input and previous hidden state of a step.
PHASE void join_state(const Net& n, const float* state, float* work, int step, int clips) {
    GLOBAL(work);
    SHARED(&n);
    const StepValues v = values_of_step(n, step, clips);
    const float *x = work + n.layer[n.gates - 1].output, *hidden = work + n.layer[n.heads].input;
    FOR_EACH(t, v.step_positions * v.quads) {
        int p = t;
        const int q = split_off(p, v.quads), position = v.first + p;
        const float4 in = load4(x + 4 * (position * v.quads + q)), h = previous(hidden, state, step, p, position, q, v);
        float* to = work + n.joined + 4 * (2 * position * v.quads + q);
        store4(to, in.x, in.y, in.z, in.w);
        store4(to + 4 * v.quads, h.x, h.y, h.z, h.w);
    }
}

// Cell and hidden states of a step, from its gates; of a scoring job also to `next_state`.
PHASE void advance_cells(const Net& n, const float* state, float* next_state, float* work, int step, int clips) {
    GLOBAL(work);
    SHARED(&n);
    const StepValues v = values_of_step(n, step, clips);
    const float *gates = work + n.layer[n.gates].output, *cell_state = state ? state + 4 * v.positions * v.quads : nullptr;
    float *cells = work + n.cell_states, *hidden = work + n.layer[n.heads].input;
    FOR_EACH(t, v.step_positions * v.quads) {
        int p = t;
        const int q = split_off(p, v.quads), position = v.first + p;
        const float* gate = gates + 4 * (4 * position * v.quads + q);
        const float4 i4 = load4(gate), f4 = load4(gate + 4 * v.quads), g4 = load4(gate + 8 * v.quads), o4 = load4(gate + 12 * v.quads);
        const float4 c4 = previous(cells, cell_state, step, p, position, q, v);
        const float i[4] = {i4.x, i4.y, i4.z, i4.w}, f[4] = {f4.x, f4.y, f4.z, f4.w}, g[4] = {g4.x, g4.y, g4.z, g4.w}, o[4] = {o4.x, o4.y, o4.z, o4.w};
        float c[4] = {c4.x, c4.y, c4.z, c4.w}, h[4];
        UNROLL for (int k = 0; k < 4; k++) {
            c[k] = fmaf(sigmoid(f[k] + FORGET_BIAS), c[k], sigmoid(i[k]) * tanhf(g[k]));
            h[k] = sigmoid(o[k]) * tanhf(c[k]);
        }
        const int at = 4 * (position * v.quads + q);
        store4(cells + at, c[0], c[1], c[2], c[3]);
        store4(hidden + at, h[0], h[1], h[2], h[3]);
        if (next_state) {
            store4(next_state + at, h[0], h[1], h[2], h[3]);
            store4(next_state + 4 * v.positions * v.quads + at, c[0], c[1], c[2], c[3]);
        }
    }
}

// A layer on the images of one step.
DEVICE void on_step(Layer& step, const Layer& layer, int input, int output) {
    FOR_EACH_OF_BLOCK(i, 1) {
        step = layer;
        step.input = input;
        step.output = output;
    }
}

PHASE void recurrent_forward(const Net& n, const float* weights, const float* state, float* shared, float* work, int batch) {
    GLOBAL(work);
    GLOBAL(weights);
    SHARED(&n);
    SHARED(shared);
    OF_BLOCK Layer gates;
    const Layer& L = n.layer[n.gates];
    const int clips = batch / n.clip;
    ROLLED for (int step = 0; step < n.clip; step++) {
        const int first = values_of_step(n, step, clips).first;
        on_step(gates, L, n.joined + 4 * first * L.input_quads, L.output + 4 * first * L.output_quads);
        join_state(n, state, work, step, clips);
        BARRIER();
        forward(n, gates, weights, shared, work, clips);
        BARRIER();
        advance_cells(n, state, nullptr, work, step, clips);
        BARRIER();
    }
}

// The gradient of a step's gates overwrites them. That of the hidden states, in their place, is the heads'; what the next
// step adds to it is behind the gradient of its input, and `cell_grad` is passed on from step to step.
PHASE void cells_grad(const Net& n, const float* state, float* work, int step, int clips) {
    GLOBAL(work);
    SHARED(&n);
    const StepValues v = values_of_step(n, step, clips);
    const float *hidden = work + n.layer[n.heads].input, *cells = work + n.cell_states, *joined_grad = work + n.joined_grad;
    const float* cell_state = state ? state + 4 * v.positions * v.quads : nullptr;
    float *gates = work + n.layer[n.gates].output, *cell_grad = work + n.cell_grad;
    const bool last = step + 1 == n.clip;
    FOR_EACH(t, v.step_positions * v.quads) {
        int p = t;
        const int q = split_off(p, v.quads), position = v.first + p, at = 4 * (position * v.quads + q);
        float* gate = gates + 4 * (4 * position * v.quads + q);
        const float4 i4 = load4(gate), f4 = load4(gate + 4 * v.quads), g4 = load4(gate + 8 * v.quads), o4 = load4(gate + 12 * v.quads);
        const float4 c4 = load4(cells + at), before4 = previous(cells, cell_state, step, p, position, q, v);
        float4 dh4 = load4(hidden + at), dc4 = zero4();
        if (!last) {
            add4(dh4, load4(joined_grad + 4 * ((2 * p + 1) * v.quads + q)));
            dc4 = load4(cell_grad + 4 * t);
        }
        float i[4] = {i4.x, i4.y, i4.z, i4.w}, f[4] = {f4.x, f4.y, f4.z, f4.w}, g[4] = {g4.x, g4.y, g4.z, g4.w}, o[4] = {o4.x, o4.y, o4.z, o4.w};
        const float c[4] = {c4.x, c4.y, c4.z, c4.w}, before[4] = {before4.x, before4.y, before4.z, before4.w}, dh[4] = {dh4.x, dh4.y, dh4.z, dh4.w};
        float dc[4] = {dc4.x, dc4.y, dc4.z, dc4.w};
        UNROLL for (int k = 0; k < 4; k++) {
            const float in = sigmoid(i[k]), forget = sigmoid(f[k] + FORGET_BIAS), candidate = tanhf(g[k]), out = sigmoid(o[k]), squashed = tanhf(c[k]);
            const float d = dc[k] + dh[k] * out * (1.0f - squashed * squashed);
            i[k] = d * candidate * in * (1.0f - in);
            f[k] = d * before[k] * forget * (1.0f - forget);
            g[k] = d * in * (1.0f - candidate * candidate);
            o[k] = dh[k] * squashed * out * (1.0f - out);
            dc[k] = d * forget;
        }
        store4(gate, i[0], i[1], i[2], i[3]);
        store4(gate + 4 * v.quads, f[0], f[1], f[2], f[3]);
        store4(gate + 8 * v.quads, g[0], g[1], g[2], g[3]);
        store4(gate + 12 * v.quads, o[0], o[1], o[2], o[3]);
        store4(cell_grad + 4 * t, dc[0], dc[1], dc[2], dc[3]);
    }
}

// The gradient of a step's input, to the encoder's output, taken back through its activation.
PHASE void encoder_grad(const Net& n, float* work, int step, int clips) {
    GLOBAL(work);
    SHARED(&n);
    const StepValues v = values_of_step(n, step, clips);
    const Layer& encoder = n.layer[n.gates - 1];
    FOR_EACH(t, v.step_positions * v.quads) {
        int p = t;
        const int q = split_off(p, v.quads);
        float* x = work + encoder.output + 4 * ((v.first + p) * v.quads + q);
        const float4 d = load4(work + n.joined_grad + 4 * (2 * p * v.quads + q)), y = load4(x);
        const float slope = encoder.negative_slope;
        store4(x, leaky_relu_grad(d.x, y.x, slope), leaky_relu_grad(d.y, y.y, slope), leaky_relu_grad(d.z, y.z, slope), leaky_relu_grad(d.w, y.w, slope));
    }
}

PHASE void recurrent_backward(const Net& n, const float* weights, const float* state, float* shared, float* work, int batch, double& squares) {
    GLOBAL(work);
    GLOBAL(weights);
    SHARED(&n);
    SHARED(shared);
    OF_BLOCK Layer gates;
    const Layer& L = n.layer[n.gates];
    const int clips = batch / n.clip;
    ROLLED for (int step = n.clip - 1; step >= 0; step--) {
        // Not over the joined values: the gradient of the weights needs them.
        on_step(gates, L, n.joined_grad, L.output + 4 * values_of_step(n, step, clips).first * L.output_quads);
        cells_grad(n, state, work, step, clips);
        if (step + 1 < n.clip) encoder_grad(n, work, step + 1, clips);
        BARRIER();
        conv_input_grad(n, gates, weights, shared, work, clips, 1.0f, nullptr);
        BARRIER();
    }
    encoder_grad(n, work, 0, clips);
    conv_weight_grad(n, L, work, batch, squares);
}
