// Forward passes of the layers. Each task makes four output channels of one or several neighbouring positions.

#pragma once

#include "block.cuh"

// Relative time of `rows` rows of `width` positions in tasks of P: in rounds of all threads, each a task's own work and that
// of its positions.
template <int P> DEVICE int tiled_time(int rows, int width) {
    const int tasks = rows * ((width + P - 1) / P);
    return (tasks + JOB_THREADS - 1) / JOB_THREADS * (2 * P + 3);
}

template <int P> DEVICE void fill(float* acc, float4 value) {
    UNROLL for (int p = 0; p < P; p++) {
        acc[4 * p] = value.x;
        acc[4 * p + 1] = value.y;
        acc[4 * p + 2] = value.z;
        acc[4 * p + 3] = value.w;
    }
}

// Activates and stores the first `count` of P positions.
template <int P> DEVICE void store_activated(float* to, int pitch, int count, const float* acc, float slope) {
    UNROLL for (int p = 0; p < P; p++)
        if (p < count) {
            const float* a = acc + 4 * p;
            store4(to + p * pitch, leaky_relu(a[0], slope), leaky_relu(a[1], slope), leaky_relu(a[2], slope), leaky_relu(a[3], slope));
        }
}

// acc[p] += in[p] times the 4 x 4 block of weights at `w`.
template <int P> DEVICE void multiply_add(float* acc, const float4* in, const float* w, int outputs) {
    float4 w0 = load4(w), w1 = load4(w + outputs), w2 = load4(w + 2 * outputs), w3 = load4(w + 3 * outputs);
    UNROLL for (int p = 0; p < P; p++) {
        fma4(acc + 4 * p, in[p].x, w0);
        fma4(acc + 4 * p, in[p].y, w1);
        fma4(acc + 4 * p, in[p].z, w2);
        fma4(acc + 4 * p, in[p].w, w3);
    }
}

// One row of a K x K kernel over P outputs that are S apart. Bit n of `inside`: column n of the window is in the image.
template <int K, int S, int P>
DEVICE void window_row(float* acc, const float* row, int pitch, int x0, unsigned inside, const float* w, int tap, int outputs, int quads) {
    constexpr int N = (P - 1) * S + K;
    const float* at = row + (x0 * S - K / 2) * pitch;
    ROLLED for (int q = 0; q < quads; q++) {
        float4 in[N];
        UNROLL for (int n = 0; n < N; n++) in[n] = inside >> n & 1 ? load4(at + n * pitch) : zero4();
        UNROLL for (int kx = 0; kx < K; kx++) {
            float4 here[P];
            UNROLL for (int p = 0; p < P; p++) here[p] = in[p * S + kx];
            multiply_add<P>(acc, here, w + kx * tap, outputs);
        }
        at += 4;
        w += 4 * outputs;
    }
}

// Kernel K, stride S, without upsampling: the inputs of a window are in registers for all taps of a row.
template <int K, int S, int P> PHASE void conv_window(const Layer& L, const float* w, const float* bias, float* work, int batch) {
    GLOBAL(work);
    GLOBAL(bias);
    SHARED(&L);
    SHARED(w);
    const int inputs = 4 * L.input_quads, outputs = 4 * L.output_quads, tap = inputs * outputs;
    const int tiles = (L.output_width + P - 1) / P, quads = L.output_quads;
    FOR_EACH(t, quads * tiles * L.output_height * batch) {
        int tile, y, b;
        const int g = locate(t, quads, tiles, L.output_height, tile, y, b), x0 = tile * P;
        float acc[4 * P];
        fill<P>(acc, load4(bias + 4 * g));
        unsigned inside = 0;
        UNROLL for (int n = 0; n < (P - 1) * S + K; n++) {
            int column = x0 * S + n - K / 2;
            inside |= (unsigned)(column >= 0 && column < L.input_width) << n;
        }
        ROLLED for (int ky = 0; ky < K; ky++) {
            int row = y * S + ky - K / 2;
            if (row < 0 || row >= L.input_height) continue;
            const float* at = work + L.input + (b * L.input_height + row) * L.input_width * inputs;
            window_row<K, S, P>(acc, at, inputs, x0, inside, w + ky * K * tap + 4 * g, tap, outputs, L.input_quads);
        }
        store_activated<P>(work + L.output + ((b * L.output_height + y) * L.output_width + x0) * outputs + 4 * g, outputs, L.output_width - x0, acc, L.negative_slope);
    }
}

// Any kernel, stride and upsampling, or, UPSAMPLE2, those of is_upsample2: P neighbouring outputs from (y, x0).
template <int P, bool UPSAMPLE2> DEVICE void conv_at(const Layer& L, const float* w, const float* bias, float* work, int b, int y, int x0, int g) {
    const int inputs = 4 * L.input_quads, extras = 4 * L.extra_quads, outputs = 4 * L.output_quads;
    const int kernel = UPSAMPLE2 ? 3 : L.kernel, padding = UPSAMPLE2 ? 1 : L.padding, stride = UPSAMPLE2 ? 1 : L.stride, upsample = UPSAMPLE2 ? 2 : L.upsample;
    float acc[4 * P];
    fill<P>(acc, load4(bias + 4 * g));
    ROLLED for (int ky = 0; ky < kernel; ky++) {
        int row = y * stride + ky - padding;
        if (row < 0 || row >= L.upsampled_height) continue;
        ROLLED for (int kx = 0; kx < kernel; kx++) {
            const float* tap = w + (ky * kernel + kx) * (inputs + extras) * outputs + 4 * g;
            int at[P], extra_at[P];
            UNROLL for (int p = 0; p < P; p++) {
                int column = (x0 + p) * stride + kx - padding;
                bool inside = column >= 0 && column < L.upsampled_width;
                at[p] = inside ? L.input + ((b * L.input_height + row / upsample) * L.input_width + column / upsample) * inputs : -1;
                extra_at[p] = inside ? L.extra + ((b * L.upsampled_height + row) * L.upsampled_width + column) * extras : -1;
            }
            UNROLL2 for (int q = 0; q < L.input_quads; q++) {
                float4 in[P];
                UNROLL for (int p = 0; p < P; p++) in[p] = at[p] >= 0 ? load4(work + at[p] + 4 * q) : zero4();
                multiply_add<P>(acc, in, tap, outputs);
                tap += 4 * outputs;
            }
            UNROLL2 for (int q = 0; q < L.extra_quads; q++) {
                float4 in[P];
                UNROLL for (int p = 0; p < P; p++) in[p] = extra_at[p] >= 0 ? load4(work + extra_at[p] + 4 * q) : zero4();
                multiply_add<P>(acc, in, tap, outputs);
                tap += 4 * outputs;
            }
        }
    }
    store_activated<P>(work + L.output + ((b * L.output_height + y) * L.output_width + x0) * outputs + 4 * g, outputs, L.output_width - x0, acc, L.negative_slope);
}
template <int P> PHASE void conv_any(const Layer& L, const float* w, const float* bias, float* work, int batch) {
    GLOBAL(work);
    GLOBAL(bias);
    SHARED(&L);
    const int tiles = (L.output_width + P - 1) / P, quads = L.output_quads;
    FOR_EACH(t, quads * tiles * L.output_height * batch) {
        int tile, y, b;
        const int g = locate(t, quads, tiles, L.output_height, tile, y, b), x0 = tile * P;
        conv_at<P, false>(L, w, bias, work, b, y, x0, g);
    }
}

// ---- kernel 3 on an image that is upsampled by 2 -------------------------------------------------------------------
// An output of even (odd) row sees two input rows: the kernel's rows that fall on the same one are added up first, columns
// alike: 4 of 9 products remain. Staged: [row parity][input row][kx][input][output], then the taps of the condition.

// `Sized::staged` in `descriptor.rs` has the same condition.
DEVICE bool is_upsample2(const Layer& L) { return L.kernel == 3 && L.upsample == 2 && L.stride == 1; }

DEVICE void stage_upsample2(const Layer& L, const float* w, float* shared) {
    const int inputs = 4 * L.input_quads, extras = 4 * L.extra_quads, outputs = 4 * L.output_quads, rows = inputs + extras;
    const int quads = inputs * L.output_quads, extra_quads = extras * L.output_quads;
    float* to = shared + L.staged;
    UNROLL2 FOR_EACH_OF_BLOCK(t, 12 * quads) {
        int r = t, at = split_off(r, quads), kx = r % 3, j = r / 3 % 2, parity = r / 6;
        int first = parity ? 2 * j : j, second = parity ? (j ? 2 : 1) : (j ? 2 : 0);
        float4 sum = load4(w + (first * 3 + kx) * rows * outputs + 4 * at);
        if (second > first) add4(sum, load4(w + (second * 3 + kx) * rows * outputs + 4 * at));
        store4(to + 4 * t, sum.x, sum.y, sum.z, sum.w);
    }
    FOR_EACH_OF_BLOCK(t, 9 * extra_quads) {
        float4 a = load4(w + (t / extra_quads * rows + inputs) * outputs + 4 * (t % extra_quads));
        store4(to + 4 * (12 * quads + t), a.x, a.y, a.z, a.w);
    }
}

template <int P> PHASE void conv_upsample2(const Layer& L, const float* staged, const float* w, const float* bias, float* work, int batch) {
    GLOBAL(work);
    GLOBAL(bias);
    GLOBAL(w);
    SHARED(&L);
    SHARED(staged);
    const int inputs = 4 * L.input_quads, extras = 4 * L.extra_quads, outputs = 4 * L.output_quads, quads = L.output_quads;
    const int crop_rows = L.last_rows < 2, crop_columns = L.last_columns < 2;
    const int height = L.output_height - crop_rows, width = L.output_width - crop_columns, tiles = (width + P - 1) / P;
    FOR_EACH(t, quads * tiles * height * batch) {
        int tile, y, b;
        const int g = locate(t, quads, tiles, height, tile, y, b), x0 = tile * P;
        float acc[4 * P];
        fill<P>(acc, load4(bias + 4 * g));
        const int first = x0 / 2 - 1;
        unsigned inside = 0;
        UNROLL for (int n = 0; n < P / 2 + 2; n++) inside |= (unsigned)(first + n >= 0 && first + n < L.input_width) << n;
        ROLLED for (int j = 0; j < 2; j++) {
            int row = y / 2 + j - (y % 2 ? 0 : 1);
            if (row < 0 || row >= L.input_height) continue;
            const float* at = work + L.input + ((b * L.input_height + row) * L.input_width + first) * inputs;
            const float* wk = staged + (y % 2 * 2 + j) * 3 * inputs * outputs + 4 * g;
            ROLLED for (int q = 0; q < L.input_quads; q++) {
                float4 in[P / 2 + 2];
                UNROLL for (int n = 0; n < P / 2 + 2; n++) in[n] = inside >> n & 1 ? load4(at + n * inputs) : zero4();
                UNROLL for (int i = 0; i < 4; i++) {
                    float4 w0 = load4(wk + i * outputs), w1 = load4(wk + (inputs + i) * outputs), w2 = load4(wk + (2 * inputs + i) * outputs);
                    float4 w01{w0.x + w1.x, w0.y + w1.y, w0.z + w1.z, w0.w + w1.w}, w12{w1.x + w2.x, w1.y + w2.y, w1.z + w2.z, w1.w + w2.w};
                    UNROLL for (int p = 0; p < P; p++) {
                        float4 l = in[p / 2 + p % 2], m = in[p / 2 + 1 + p % 2];
                        float left = i == 0 ? l.x : i == 1 ? l.y : i == 2 ? l.z : l.w, right = i == 0 ? m.x : i == 1 ? m.y : i == 2 ? m.z : m.w;
                        fma4(acc + 4 * p, left, p % 2 ? w01 : w0);
                        fma4(acc + 4 * p, right, p % 2 ? w2 : w12);
                    }
                }
                at += 4;
                wk += 4 * outputs;
            }
        }
        if (extras) {
            inside = 0;
            UNROLL for (int n = 0; n < P + 2; n++) {
                int column = x0 + n - 1;
                inside |= (unsigned)(column >= 0 && column < L.upsampled_width) << n;
            }
            ROLLED for (int ky = 0; ky < 3; ky++) {
                int row = y + ky - 1;
                if (row < 0 || row >= L.upsampled_height) continue;
                const float* at = work + L.extra + (b * L.upsampled_height + row) * L.upsampled_width * extras;
                window_row<3, 1, P>(acc, at, extras, x0, inside, staged + 12 * inputs * outputs + ky * 3 * extras * outputs + 4 * g, extras * outputs, outputs, L.extra_quads);
            }
        }
        store_activated<P>(work + L.output + ((b * L.output_height + y) * L.output_width + x0) * outputs + 4 * g, outputs, width - x0, acc, L.negative_slope);
    }
    // At the last row and column of a cropped image some taps fall outside, so the sums of rows do not hold.
    const int bottom = crop_rows ? L.output_width : 0, edge = bottom + (crop_columns ? height : 0), positions = edge ? edge : 1;
    FOR_EACH(t, quads * edge * batch) {
        int g = t % quads, r = t / quads, e = r % positions, b = r / positions;
        conv_at<1, true>(L, w, bias, work, b, e < bottom ? L.output_height - 1 : e - bottom, e < bottom ? e : L.output_width - 1, g);
    }
}

PHASE void dense_forward(const Layer& L, const float* w, const float* bias, float* work, float* partial, int batch) {
    GLOBAL(work);
    GLOBAL(bias);
    GLOBAL(w);
    GLOBAL(partial);
    SHARED(&L);
    const int inputs = 4 * L.input_quads, outputs = 4 * L.output_quads, quads = L.output_quads, splits = L.output_splits;
    for (int b0 = 0; b0 < batch; b0 += 4)
        FOR_EACH(t, quads * splits) {
            int g = t % quads, s = t / quads;
            float acc[16];
            fill<4>(acc, zero4());
            const float* x = work + L.input + b0 * inputs;
            UNROLL2 for (int i = s; i < inputs; i += splits) {
                float4 q = load4(w + i * outputs + 4 * g);
                UNROLL for (int b = 0; b < 4; b++)
                    if (b0 + b < batch) fma4(acc + 4 * b, x[b * inputs + i], q);
            }
            UNROLL for (int b = 0; b < 4; b++)
                if (b0 + b < batch) store4(partial + ((b0 + b) * splits + s) * outputs + 4 * g, acc[4 * b], acc[4 * b + 1], acc[4 * b + 2], acc[4 * b + 3]);
        }
    BARRIER();
    FOR_EACH(t, batch * outputs) {
        int b = t / outputs, o = t % outputs;
        float sum = bias[o];
        UNROLL4 for (int s = 0; s < splits; s++) sum += partial[(b * splits + s) * outputs + o];
        work[L.output + t] = leaky_relu(sum, L.negative_slope);
    }
}

// Whether tiles of four positions make enough for half of them.
DEVICE bool fills_four(int tasks, int width) { return tasks * ((width + 3) / 4) * 2 >= JOB_THREADS; }

#if TEAM > 1
// A team has so many threads that most of them have work with few positions a task only. Whether it is such a layer.
DEVICE bool forward_in_team(const Layer& L, const float* staged, const float* w, const float* bias, float* work, int batch, int tasks) {
    const int two = tiled_time<2>(tasks, L.output_width), three = tiled_time<3>(tasks, L.output_width), four = tiled_time<4>(tasks, L.output_width);
    if (is_upsample2(L)) {
        if (two < four) conv_upsample2<2>(L, staged, w, bias, work, batch);
        else conv_upsample2<4>(L, staged, w, bias, work, batch);
        return true;
    }
    if (L.kernel != 3 || L.upsample != 1 || L.extra_quads != 0 || L.stride > 2) return false;
    if (L.stride == 2) {
        if (two < four) conv_window<3, 2, 2>(L, staged, bias, work, batch);
        else conv_window<3, 2, 4>(L, staged, bias, work, batch);
    } else if (two <= three && two < four) {
        conv_window<3, 1, 2>(L, staged, bias, work, batch);
    } else if (three < four) {
        conv_window<3, 1, 3>(L, staged, bias, work, batch);
    } else {
        conv_window<3, 1, 4>(L, staged, bias, work, batch);
    }
    return true;
}
#endif

// One layer on `batch` images; `weights` are those of the slot, `shared` the staged ones.
DEVICE void forward(const Net& n, const Layer& L, const float* weights, float* shared, float* work, int batch) {
    const float *bias = weights + L.bias, *w = weights + L.weight;
    if (L.dense) {
        dense_forward(L, w, bias, work, work + n.partial, batch);
        return;
    }
    const int tasks = L.output_quads * L.output_height * batch;
    if (L.staged >= 0) {
        const float* staged = shared + L.staged;
        const bool plain = L.kernel == 3 && L.upsample == 1 && L.extra_quads == 0;
#if TEAM > 1
        if (forward_in_team(L, staged, w, bias, work, batch, tasks)) return;
#endif
        if (is_upsample2(L)) {
            if (tiled_time<6>(tasks, L.output_width) < tiled_time<4>(tasks, L.output_width)) conv_upsample2<6>(L, staged, w, bias, work, batch);
            else conv_upsample2<4>(L, staged, w, bias, work, batch);
        } else if (plain && L.stride == 1) {
            const int four = tiled_time<4>(tasks, L.output_width), five = tiled_time<5>(tasks, L.output_width), seven = tiled_time<7>(tasks, L.output_width);
            if (seven < four && seven < five) conv_window<3, 1, 7>(L, staged, bias, work, batch);
            else if (five < four) conv_window<3, 1, 5>(L, staged, bias, work, batch);
            else conv_window<3, 1, 4>(L, staged, bias, work, batch);
        } else if (plain && L.stride == 2) {
            if (tiled_time<5>(tasks, L.output_width) < tiled_time<4>(tasks, L.output_width)) conv_window<3, 2, 5>(L, staged, bias, work, batch);
            else conv_window<3, 2, 4>(L, staged, bias, work, batch);
        } else if (fills_four(tasks, L.output_width)) {
            conv_any<4>(L, staged, bias, work, batch);
        } else {
            conv_any<1>(L, staged, bias, work, batch);
        }
    } else if (fills_four(tasks, L.output_width)) {
        conv_any<4>(L, w, bias, work, batch);
    } else {
        conv_any<1>(L, w, bias, work, batch);
    }
}

// Copies the weights of convolutions to shared memory, as far as they fit.
PHASE void stage_weights(const Net& n, const float* weights, float* shared) {
    GLOBAL(weights);
    SHARED(&n);
    SHARED(shared);
    for (int l = 0; l < n.layers; l++) {
        const Layer& L = n.layer[l];
        if (L.staged < 0) continue;
        if (is_upsample2(L)) {
            stage_upsample2(L, weights + L.weight, shared);
            continue;
        }
        UNROLL4 FOR_EACH_OF_BLOCK(i, L.kernel * L.kernel * (L.input_quads + L.extra_quads) * 4 * L.output_quads) {
            *reinterpret_cast<float4*>(shared + L.staged + 4 * i) = load4(weights + L.weight + 4 * i);
        }
    }
}

// The same for the backward pass, over those of the forward pass: [tap][output][input], without the taps of the condition.
PHASE void stage_transposed(const Net& n, const float* weights, float* shared) {
    GLOBAL(weights);
    SHARED(&n);
    SHARED(shared);
    for (int l = 1; l < n.layers; l++) {
        const Layer& L = n.layer[l];
        if (L.staged < 0) continue;
        const int inputs = 4 * L.input_quads, rows = inputs + 4 * L.extra_quads, outputs = 4 * L.output_quads;
        const float* w = weights + L.weight;
        UNROLL2 FOR_EACH_OF_BLOCK(t, L.kernel * L.kernel * L.input_quads * outputs) {
            int q = t, o = split_off(q, outputs), tap = q;
            q = split_off(tap, L.input_quads);
            const float* from = w + (tap * rows + 4 * q) * outputs + o;
            store4(shared + L.staged + (tap * outputs + o) * inputs + 4 * q, from[0], from[outputs], from[2 * outputs], from[3 * outputs]);
        }
    }
}
