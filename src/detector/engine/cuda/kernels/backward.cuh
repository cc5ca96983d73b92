// Backward passes of the layers. The gradient of a layer's sums (before its activation) overwrites its output; the pass
// of a layer overwrites its input with the gradient of the layer before.
//
// A layer on an upsampled image never sees that image here. An input pixel meets tap (ky, kx) at `upsample`^2 neighbouring
// outputs, so both gradients need the sum of the output's gradient over a box of that side. Boxes that start at every row
// and column are made once: 1 of upsample^2 products is left.

#pragma once

#include "forward.cuh"

// ---- box sums ------------------------------------------------------------------------------------------------------
// Box rows 0..whole are those of input rows that were upsampled in full, by where they start. The last input row of a
// cropped image has boxes of its own behind them, one for each tap. Columns alike.

DEVICE int box_row(const Layer& L, int y, int tap) {
    return L.last_rows < L.upsample && y == L.input_height - 1 ? L.upsample * (L.input_height - 1) + L.kernel + tap : L.upsample * y + L.kernel - 1 - tap;
}
DEVICE int box_column(const Layer& L, int x, int tap) {
    return L.last_columns < L.upsample && x == L.input_width - 1 ? L.upsample * (L.input_width - 1) + L.kernel + tap : L.upsample * x + L.kernel - 1 - tap;
}
// Outputs of box row (column) `i`, for an input of `inputs` rows and `size` outputs.
DEVICE void box_range(const Layer& L, int i, int inputs, int last, int size, int& from, int& to) {
    const int start = L.upsample * (inputs - 1), whole = start + L.kernel;
    from = i < whole ? i + L.padding - L.kernel + 1 : start + L.padding - (i - whole);
    to = from + (i < whole ? L.upsample : last);
    from = larger(from, 0);
    to = smaller(to, size);
}
PHASE void box_sums(const Layer& L, float* work, float* boxes, int batch) {
    GLOBAL(work);
    GLOBAL(boxes);
    SHARED(&L);
    const int quads = L.output_quads, outputs = 4 * quads;
    FOR_EACH(t, batch * L.box_height * L.box_width * quads) {
        int i, j, b, y0, y1, x0, x1;
        const int g = locate(t, quads, L.box_width, L.box_height, j, i, b);
        box_range(L, i, L.input_height, L.last_rows, L.output_height, y0, y1);
        box_range(L, j, L.input_width, L.last_columns, L.output_width, x0, x1);
        float4 sum = zero4();
        for (int y = y0; y < y1; y++)
            for (int x = x0; x < x1; x++) add4(sum, load4(work + L.output + ((b * L.output_height + y) * L.output_width + x) * outputs + 4 * g));
        store4(boxes + 4 * t, sum.x, sum.y, sum.z, sum.w);
    }
}

// ---- gradients of weights ------------------------------------------------------------------------------------------

// acc[i] += in[i] * d, for each of four inputs.
DEVICE void multiply_outer(float* acc, float4 in, float4 d) {
    fma4(acc, in.x, d);
    fma4(acc + 4, in.y, d);
    fma4(acc + 8, in.z, d);
    fma4(acc + 12, in.w, d);
}

// A task has four inputs, four outputs, TAPS taps of a row and a share of the positions; partial sums, for add_up. The
// input is upsampled by nothing; with BOX, by the layer's factor, and `grad` are its box sums.
template <int TAPS, bool BOX>
PHASE void weight_grad(const Layer& L, const float* input, int input_quads, int input_height, int input_width, const float* grad, float* partial, int splits, int batch) {
    GLOBAL(input);
    GLOBAL(grad);
    GLOBAL(partial);
    SHARED(&L);
    const int quads = L.output_quads, outputs = 4 * quads, inputs = 4 * input_quads, k = L.kernel, tasks = TAPS == 3 ? k : k * k;
    const int rows = BOX ? L.input_height : L.output_height, columns = BOX ? L.input_width : L.output_width, positions = batch * rows * columns;
    FOR_EACH(t, quads * input_quads * tasks * splits) {
        int g = t % quads, r = t / quads, q = r % input_quads, tap, s;
        r /= input_quads;
        tap = r % tasks;
        s = r / tasks;
        const int ky = TAPS == 3 ? tap : tap / k, kx0 = TAPS == 3 ? 0 : tap % k;
        float acc[16 * TAPS];
        UNROLL for (int i = 0; i < 16 * TAPS; i++) acc[i] = 0.0f;
        int i = (int)((long long)positions * s / splits), to = (int)((long long)positions * (s + 1) / splits);
        while (i < to) {
            int x = i % columns, y = i / columns % rows, b = i / columns / rows, end = smaller(columns, x + to - i);
            i += end - x;
            if (BOX) {
                const float *value = input + ((b * rows + y) * columns + x) * inputs + 4 * q, *line = grad + (b * L.box_height + box_row(L, y, ky)) * L.box_width * outputs + 4 * g;
                if constexpr (TAPS == 3) if (L.upsample == 2) {
                    // Neighbouring positions share a box sum.
                    const float* boxes = line + 2 * x * outputs;
                    float4 shared = load4(boxes);
                    UNROLL2 for (; x < end; x++, value += inputs, boxes += 2 * outputs) {
                        const float4 in = load4(value);
                        float4 d[3] = {load4(boxes + 2 * outputs), load4(boxes + outputs), shared};
                        shared = d[0];
                        if (L.last_columns < 2 && x == L.input_width - 1) {
                            UNROLL for (int kx = 0; kx < TAPS; kx++) d[kx] = load4(line + box_column(L, x, kx) * outputs);
                        }
                        UNROLL for (int kx = 0; kx < TAPS; kx++) multiply_outer(acc + 16 * kx, in, d[kx]);
                    }
                    continue;
                }
                ROLLED for (; x < end; x++, value += inputs) {
                    float4 in = load4(value), d[TAPS];
                    UNROLL for (int kx = 0; kx < TAPS; kx++) d[kx] = load4(line + box_column(L, x, kx0 + kx) * outputs);
                    UNROLL for (int kx = 0; kx < TAPS; kx++) multiply_outer(acc + 16 * kx, in, d[kx]);
                }
            } else {
                int row = y * L.stride + ky - L.padding;
                if (row < 0 || row >= input_height) continue;
                const float *at = grad + ((b * rows + y) * columns + x) * outputs + 4 * g, *line = input + (b * input_height + row) * input_width * inputs + 4 * q;
                if constexpr (TAPS == 3) if (L.stride == 1) {
                    // The window slides: one new column at a time.
                    float4 left = x > 0 ? load4(line + (x - 1) * inputs) : zero4(), middle = load4(line + x * inputs);
                    UNROLL3 for (; x < end; x++, at += outputs) {
                        const float4 d = load4(at), right = x + 1 < input_width ? load4(line + (x + 1) * inputs) : zero4(), in[3] = {left, middle, right};
                        UNROLL for (int kx = 0; kx < TAPS; kx++) multiply_outer(acc + 16 * kx, in[kx], d);
                        left = middle;
                        middle = right;
                    }
                    continue;
                }
                if constexpr (TAPS == 3) if (L.stride == 2) {
                    // Neighbouring windows share a column.
                    float4 left = x > 0 ? load4(line + (2 * x - 1) * inputs) : zero4();
                    UNROLL2 for (; x < end; x++, at += outputs) {
                        const float4 d = load4(at), middle = load4(line + 2 * x * inputs), right = 2 * x + 1 < input_width ? load4(line + (2 * x + 1) * inputs) : zero4(), in[3] = {left, middle, right};
                        UNROLL for (int kx = 0; kx < TAPS; kx++) multiply_outer(acc + 16 * kx, in[kx], d);
                        left = right;
                    }
                    continue;
                }
                UNROLL2 for (; x < end; x++, at += outputs) {
                    float4 d = load4(at), in[TAPS];
                    UNROLL for (int kx = 0; kx < TAPS; kx++) {
                        int column = x * L.stride + kx0 + kx - L.padding;
                        in[kx] = column >= 0 && column < input_width ? load4(line + column * inputs) : zero4();
                    }
                    UNROLL for (int kx = 0; kx < TAPS; kx++) multiply_outer(acc + 16 * kx, in[kx], d);
                }
            }
        }
        float* out = partial + ((s * k * k + ky * k + kx0) * inputs + 4 * q) * outputs + 4 * g;
        UNROLL for (int kx = 0; kx < TAPS; kx++)
            UNROLL for (int j = 0; j < 4; j++) {
                float* a = acc + 16 * kx + 4 * j;
                store4(out + (kx * inputs + j) * outputs, a[0], a[1], a[2], a[3]);
            }
    }
}

// Adds up the partial sums of `inputs` inputs that are rows first.. of each tap's `rows`, and their squares.
PHASE void add_up(const float* partial, int splits, int taps, int inputs, int first, int rows, int quads, float* grad, double& squares) {
    GLOBAL(partial);
    GLOBAL(grad);
    const int each = inputs * quads;
    FOR_EACH(o, taps * each) {
        float4 sum = sum_partials(partial, splits, taps * each * 4, o);
        float* to = grad + ((o / each * rows + first) * quads + o % each) * 4;
        store4(to, sum.x, sum.y, sum.z, sum.w);
        squares += squares4(sum);
    }
}

// ---- gradients of inputs -------------------------------------------------------------------------------------------

// Stores the gradient of P positions' four inputs over the inputs themselves, taken back through dropout and activation.
template <int P> DEVICE void store_input_grad(float* x, int pitch, int count, const float* acc, float slope, const float* mask, int channel, int features) {
    UNROLL for (int p = 0; p < P; p++)
        if (p < count) {
            float4 y = load4(x + p * pitch);
            const float* a = acc + 4 * p;
            float r[4] = {leaky_relu_grad(a[0], y.x, slope), leaky_relu_grad(a[1], y.y, slope), leaky_relu_grad(a[2], y.z, slope), leaky_relu_grad(a[3], y.w, slope)};
            if (mask) {
                UNROLL for (int i = 0; i < 4; i++)
                    if (channel + i < features) r[i] *= mask[p * features + channel + i];
            }
            store4(x + p * pitch, r[0], r[1], r[2], r[3]);
        }
}

// acc[p][i] += d[p] . row i of the weights.
template <int P> DEVICE void multiply_add_transposed(float* acc, const float4* d, const float* w, int outputs) {
    UNROLL for (int i = 0; i < 4; i++) {
        float4 row = load4(w + i * outputs);
        UNROLL for (int p = 0; p < P; p++) acc[4 * p + i] = dot4(d[p], row, acc[4 * p + i]);
    }
}

// Any kernel and stride; with BOX, any upsampling, and `grad` are the box sums. `w` are the weights, or, STAGED, those of
// stage_transposed.
template <int P, bool BOX, bool STAGED> PHASE void input_grad_any(const Layer& L, const float* w, const float* grad, float* work, int batch, float slope, const float* mask, int features) {
    GLOBAL(work);
    GLOBAL(grad);
    if (STAGED) {
        SHARED(w);
    } else {
        GLOBAL(w);
    }
    SHARED(&L);
    const int inputs = 4 * L.input_quads, outputs = 4 * L.output_quads, quads = L.input_quads, rows = inputs + 4 * L.extra_quads;
    const int tiles = (L.input_width + P - 1) / P, k = L.kernel;
    FOR_EACH(t, quads * tiles * L.input_height * batch) {
        int tile, y, b;
        const int g = locate(t, quads, tiles, L.input_height, tile, y, b), x0 = tile * P;
        float acc[4 * P];
        fill<P>(acc, zero4());
        ROLLED for (int ky = 0; ky < k; ky++) {
            int row = y + L.padding - ky;
            if (BOX) {
                row = box_row(L, y, ky);
            } else {
                if (row < 0 || row % L.stride) continue;
                row /= L.stride;
                if (row >= L.output_height) continue;
            }
            ROLLED for (int kx = 0; kx < k; kx++) {
                int at[P];
                bool some = false;
                UNROLL for (int p = 0; p < P; p++) {
                    if (BOX) {
                        at[p] = x0 + p < L.input_width ? ((b * L.box_height + row) * L.box_width + box_column(L, x0 + p, kx)) * outputs : -1;
                    } else {
                        int column = x0 + p + L.padding - kx;
                        bool met = column >= 0 && column % L.stride == 0 && column / L.stride < L.output_width;
                        at[p] = met ? ((b * L.output_height + row) * L.output_width + column / L.stride) * outputs : -1;
                    }
                    some |= at[p] >= 0;
                }
                if (!some) continue;
                const float* tap = STAGED ? w + (ky * k + kx) * outputs * inputs + 4 * g : w + ((ky * k + kx) * rows + 4 * g) * outputs;
                ROLLED for (int q = 0; q < L.output_quads; q++) {
                    float4 d[P];
                    UNROLL for (int p = 0; p < P; p++) d[p] = at[p] >= 0 ? load4(grad + at[p] + 4 * q) : zero4();
                    if (STAGED) multiply_add<P>(acc, d, tap + 4 * q * inputs, inputs);
                    else multiply_add_transposed<P>(acc, d, tap + 4 * q, outputs);
                }
            }
        }
        int position = (b * L.input_height + y) * L.input_width + x0;
        store_input_grad<P>(work + L.input + position * inputs + 4 * g, inputs, L.input_width - x0, acc, slope, mask ? mask + position * features : nullptr, 4 * g, features);
    }
}

// Kernel 3, stride 1 or 2, without upsampling or condition; `w` are the weights of stage_transposed.
template <int S, int P> PHASE void input_grad_window(const Layer& L, const float* w, float* work, int batch, float slope, const float* mask, int features) {
    GLOBAL(work);
    SHARED(&L);
    SHARED(w);
    static_assert(P % S == 0, "every task starts at the same phase of the stride");
    const int inputs = 4 * L.input_quads, outputs = 4 * L.output_quads, quads = L.input_quads, tiles = (L.input_width + P - 1) / P;
    constexpr int N = S == 1 ? P + 2 : P / 2 + 1;
    FOR_EACH(t, quads * tiles * L.input_height * batch) {
        int tile, y, b;
        const int g = locate(t, quads, tiles, L.input_height, tile, y, b), x0 = tile * P;
        float acc[4 * P];
        fill<P>(acc, zero4());
        const int first = S == 1 ? x0 - 1 : x0 / 2;
        unsigned inside = 0;
        UNROLL for (int n = 0; n < N; n++) inside |= (unsigned)(first + n >= 0 && first + n < L.output_width) << n;
        ROLLED for (int ky = 0; ky < 3; ky++) {
            int row = y + 1 - ky;
            if (row < 0 || row % S) continue;
            row /= S;
            if (row >= L.output_height) continue;
            const float *at = work + L.output + ((b * L.output_height + row) * L.output_width + first) * outputs, *tap = w + ky * 3 * outputs * inputs + 4 * g;
            ROLLED for (int q = 0; q < L.output_quads; q++) {
                float4 d[N];
                UNROLL for (int n = 0; n < N; n++) d[n] = inside >> n & 1 ? load4(at + n * outputs) : zero4();
                UNROLL for (int kx = 0; kx < 3; kx++) {
                    // Positions that tap kx meets an output at.
                    constexpr int MET = P / S;
                    float4 here[MET];
                    float sums[4 * MET];
                    const int from = (kx + 1) % S;
                    UNROLL for (int m = 0; m < MET; m++) {
                        const int p = S * m + from;
                        here[m] = d[S == 1 ? p + 2 - kx : (p + 3 - kx) / 2 - 1];
                        UNROLL for (int i = 0; i < 4; i++) sums[4 * m + i] = acc[4 * p + i];
                    }
                    multiply_add<MET>(sums, here, tap + kx * outputs * inputs, inputs);
                    UNROLL for (int m = 0; m < MET; m++)
                        UNROLL for (int i = 0; i < 4; i++) acc[4 * (S * m + from) + i] = sums[4 * m + i];
                }
                at += 4;
                tap += 4 * inputs;
            }
        }
        int position = (b * L.input_height + y) * L.input_width + x0;
        store_input_grad<P>(work + L.input + position * inputs + 4 * g, inputs, L.input_width - x0, acc, slope, mask ? mask + position * features : nullptr, 4 * g, features);
    }
}

// Kernel 3 on an image that is upsampled by 2; `w` are the weights of stage_transposed. Neighbouring positions share box sums.
template <int P> PHASE void input_grad_upsample2(const Layer& L, const float* w, const float* boxes, float* work, int batch, float slope, const float* mask, int features) {
    GLOBAL(work);
    GLOBAL(boxes);
    SHARED(&L);
    SHARED(w);
    const int inputs = 4 * L.input_quads, outputs = 4 * L.output_quads, quads = L.input_quads, tiles = (L.input_width + P - 1) / P;
    FOR_EACH(t, quads * tiles * L.input_height * batch) {
        int tile, y, b;
        const int g = locate(t, quads, tiles, L.input_height, tile, y, b), x0 = tile * P, left = L.input_width - x0;
        // The position whose box sums are apart: the last column of a cropped image.
        const int last = L.last_columns < 2 && left <= P ? left - 1 : -1;
        unsigned inside = 0;
        UNROLL for (int n = 0; n < 2 * P + 1; n++) inside |= (unsigned)(n <= 2 * left) << n;
        float acc[4 * P];
        fill<P>(acc, zero4());
        ROLLED for (int ky = 0; ky < 3; ky++) {
            const float *at = boxes + ((b * L.box_height + box_row(L, y, ky)) * L.box_width + 2 * x0) * outputs, *tap = w + ky * 3 * outputs * inputs + 4 * g;
            ROLLED for (int q = 0; q < L.output_quads; q++) {
                float4 d[2 * P + 1];
                UNROLL for (int n = 0; n < 2 * P + 1; n++) d[n] = inside >> n & 1 ? load4(at + n * outputs) : zero4();
                UNROLL for (int kx = 0; kx < 3; kx++) {
                    float4 here[P];
                    UNROLL for (int p = 0; p < P; p++) here[p] = d[2 * p + 2 - kx];
                    if (last >= 0) {
                        const float4 apart = load4(at + (2 * left + 1 + kx) * outputs);
                        UNROLL for (int p = 0; p < P; p++)
                            if (p == last) here[p] = apart;
                    }
                    multiply_add<P>(acc, here, tap + kx * outputs * inputs, inputs);
                }
                at += 4;
                tap += 4 * inputs;
            }
        }
        int position = (b * L.input_height + y) * L.input_width + x0;
        store_input_grad<P>(work + L.input + position * inputs + 4 * g, inputs, L.input_width - x0, acc, slope, mask ? mask + position * features : nullptr, 4 * g, features);
    }
}

// ---- layers --------------------------------------------------------------------------------------------------------

// Channels of what the heads' input is made of, in fours.
DEVICE int bottleneck_quads(const Net& n) { return n.layer[n.heads - 1].output_quads / (n.gates >= 0 ? 4 : 1); }
// Negative slope of the activation that made the layer's input; 1 where the latent values are the input.
DEVICE float slope_before(const Net& n, int l) { return l == n.heads + 1 ? 1.0f : n.layer[l - 1].negative_slope; }

// Gradients of a layer's weights. The sums of an upsampled layer's boxes are left for conv_input_grad.
DEVICE void conv_weight_grad(const Net& n, const Layer& L, float* work, int batch, double& squares) {
    const int inputs = 4 * L.input_quads, extras = 4 * L.extra_quads, quads = L.output_quads, outputs = 4 * quads, taps = L.kernel * L.kernel, rows = inputs + extras;
    const int positions = batch * L.output_height * L.output_width;
    float *partial = work + n.partial, *extra_partial = work + n.extra_partial, *bias_partial = work + n.bias_partial, *boxes = work + n.boxes, *grad = work + n.grad, *d = work + L.output;
    const bool upsampled = L.upsample > 1;
    FOR_EACH(t, quads * L.bias_splits) {
        int g = t % quads, s = t / quads;
        float4 sum = zero4();
        UNROLL4 for (int p = s; p < positions; p += L.bias_splits) add4(sum, load4(d + p * outputs + 4 * g));
        store4(bias_partial + 4 * t, sum.x, sum.y, sum.z, sum.w);
    }
    if (upsampled) box_sums(L, work, boxes, batch);
    else if (L.kernel == 3) weight_grad<3, false>(L, work + L.input, L.input_quads, L.input_height, L.input_width, d, partial, L.weight_splits, batch);
    else weight_grad<1, false>(L, work + L.input, L.input_quads, L.input_height, L.input_width, d, partial, L.weight_splits, batch);
    if (extras) {
        if (L.kernel == 3) weight_grad<3, false>(L, work + L.extra, L.extra_quads, L.upsampled_height, L.upsampled_width, d, extra_partial, L.extra_splits, batch);
        else weight_grad<1, false>(L, work + L.extra, L.extra_quads, L.upsampled_height, L.upsampled_width, d, extra_partial, L.extra_splits, batch);
    }
    BARRIER();
    FOR_EACH(g, quads) {
        float4 sum = sum_partials(bias_partial, L.bias_splits, outputs, g);
        store4(grad + L.bias + 4 * g, sum.x, sum.y, sum.z, sum.w);
        squares += squares4(sum);
    }
    if (extras) add_up(extra_partial, L.extra_splits, taps, extras, inputs, rows, quads, grad + L.weight, squares);
    if (upsampled) {
        if (L.kernel == 3) weight_grad<3, true>(L, work + L.input, L.input_quads, L.input_height, L.input_width, boxes, partial, L.weight_splits, batch);
        else weight_grad<1, true>(L, work + L.input, L.input_quads, L.input_height, L.input_width, boxes, partial, L.weight_splits, batch);
        BARRIER();
    }
    add_up(partial, L.weight_splits, taps, inputs, 0, rows, quads, grad + L.weight, squares);
}

// Gradient of a layer's input, taken back through dropout and the activation before.
DEVICE void conv_input_grad(const Net& n, const Layer& L, const float* weights, float* shared, float* work, int batch, float slope, const float* dropped) {
    const int extras = 4 * L.extra_quads;
    float *boxes = work + n.boxes, *d = work + L.output;
    const bool upsampled = L.upsample > 1;
    const float *w = weights + L.weight, *staged = shared + L.staged;
    const int tasks = L.input_quads * L.input_height * batch, width = L.input_width;
    const bool window = L.staged >= 0 && L.kernel == 3 && !extras;
    if (L.staged >= 0 && is_upsample2(L)) {
        if (tiled_time<5>(tasks, width) < tiled_time<4>(tasks, width)) input_grad_upsample2<5>(L, staged, boxes, work, batch, slope, dropped, n.features);
        else input_grad_upsample2<4>(L, staged, boxes, work, batch, slope, dropped, n.features);
    } else if (upsampled) {
        if (fills_four(tasks, width)) input_grad_any<4, true, false>(L, w, boxes, work, batch, slope, dropped, n.features);
        else input_grad_any<1, true, false>(L, w, boxes, work, batch, slope, dropped, n.features);
    } else if (window && L.stride == 1) {
        const int four = tiled_time<4>(tasks, width), five = tiled_time<5>(tasks, width), seven = tiled_time<7>(tasks, width);
        if (seven < four && seven < five) input_grad_window<1, 7>(L, staged, work, batch, slope, dropped, n.features);
        else if (five < four) input_grad_window<1, 5>(L, staged, work, batch, slope, dropped, n.features);
        else input_grad_window<1, 4>(L, staged, work, batch, slope, dropped, n.features);
    } else if (window && L.stride == 2) {
        input_grad_window<2, 4>(L, staged, work, batch, slope, dropped, n.features);
    } else if (L.staged >= 0) {
        if (fills_four(tasks, width)) input_grad_any<4, false, true>(L, staged, d, work, batch, slope, dropped, n.features);
        else input_grad_any<1, false, true>(L, staged, d, work, batch, slope, dropped, n.features);
    } else if (fills_four(tasks, width)) {
        input_grad_any<4, false, false>(L, w, d, work, batch, slope, dropped, n.features);
    } else {
        input_grad_any<1, false, false>(L, w, d, work, batch, slope, dropped, n.features);
    }
}

DEVICE void conv_backward(const Net& n, int l, const float* weights, float* shared, float* work, int batch, const float* mask, double& squares) {
    conv_weight_grad(n, n.layer[l], work, batch, squares);
    if (l > 0) conv_input_grad(n, n.layer[l], weights, shared, work, batch, slope_before(n, l), l == n.heads ? mask : nullptr);
}

PHASE void dense_backward(const Net& n, int l, const float* weights, float* work, int batch, const float* mask, double& squares) {
    GLOBAL(work);
    GLOBAL(weights);
    SHARED(&n);
    const Layer& L = n.layer[l];
    const int inputs = 4 * L.input_quads, outputs = 4 * L.output_quads, quads = L.output_quads, splits = L.input_grad_splits;
    float *grad = work + n.grad, *partial = work + n.partial, *x = work + L.input;
    const float *d = work + L.output, *w = weights + L.weight;
    FOR_EACH(t, inputs * quads) {
        int i = t / quads, g = t % quads;
        float acc[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        UNROLL4 for (int b = 0; b < batch; b++) fma4(acc, x[b * inputs + i], load4(d + b * outputs + 4 * g));
        store4(grad + L.weight + 4 * t, acc[0], acc[1], acc[2], acc[3]);
        squares += squares4(float4{acc[0], acc[1], acc[2], acc[3]});
    }
    FOR_EACH(g, quads) {
        float4 sum = sum_partials(d, batch, outputs, g);
        store4(grad + L.bias + 4 * g, sum.x, sum.y, sum.z, sum.w);
        squares += squares4(sum);
    }
    for (int b0 = 0; b0 < batch; b0 += 4)
        FOR_EACH(t, inputs * splits) {
            int s = t % splits, i = t / splits;
            float acc[4] = {0.0f, 0.0f, 0.0f, 0.0f};
            UNROLL2 for (int q = s; q < quads; q += splits) {
                float4 r = load4(w + i * outputs + 4 * q);
                UNROLL for (int b = 0; b < 4; b++)
                    if (b0 + b < batch) acc[b] = dot4(r, load4(d + (b0 + b) * outputs + 4 * q), acc[b]);
            }
            UNROLL for (int b = 0; b < 4; b++)
                if (b0 + b < batch) partial[((b0 + b) * splits + s) * inputs + i] = acc[b];
        }
    BARRIER();
    const float slope = slope_before(n, l), *dropped = l == n.heads ? mask : nullptr;
    // Channels with their filling: a flattened image has that behind every position.
    const int channels = 4 * bottleneck_quads(n);
    FOR_EACH(t, batch * inputs) {
        int b = t / inputs, i = t % inputs;
        float sum = 0.0f;
        UNROLL4 for (int s = 0; s < splits; s++) sum += partial[(b * splits + s) * inputs + i];
        float r = leaky_relu_grad(sum, x[t], slope);
        if (dropped && t % channels < n.features) r *= dropped[t / channels * n.features + t % channels];
        x[t] = r;
    }
}
