// Whole nets: a scoring job, from inputs to anomaly map, and a training job, from inputs to moved weights.

#pragma once

#include "recurrent.cuh"

// Inputs are in the host's memory: each value is read once and in order (it comes over the bus), several loads at a time,
// all of a job's in one round where it is small. Arrays are aligned to, and may be read up to, multiples of 16 bytes.

// Target and condition to the encoder's input, the condition to the decoder's, and the filling of both to zero.
template <int LOADS> PHASE void load_inputs(const Net& n, const Job& job, float* work, int batch) {
    GLOBAL(work);
    SHARED(&n);
    SHARED(&job);
    const int pixels = batch * n.height * n.width, channels = n.channels, conditions = n.condition_channels, pitch = 4 * n.image_quads, condition_pitch = 4 * n.condition_quads;
    const int targets = (pixels * channels + 3) / 4, quads = targets + (pixels * conditions + 3) / 4, tasks = (quads + LOADS - 1) / LOADS;
    const float *target = in_global_memory(job.target, work), *given = in_global_memory(job.condition, work);
    float *image = work + n.image, *condition = work + n.condition;
    FOR_EACH(t, tasks) {
        float4 loaded[LOADS];
        UNROLL for (int u = 0; u < LOADS; u++) {
            const int q = t + u * tasks;
            if (q < quads) loaded[u] = load4(q < targets ? target + 4 * q : given + 4 * (q - targets));
        }
        UNROLL for (int u = 0; u < LOADS; u++) {
            const int q = t + u * tasks;
            if (q >= quads) continue;
            const float values[4] = {loaded[u].x, loaded[u].y, loaded[u].z, loaded[u].w};
            const bool is_target = q < targets;
            const int width = is_target ? channels : conditions;
            int p = 4 * (is_target ? q : q - targets), c = split_off(p, width);
            UNROLL for (int i = 0; i < 4; i++) {
                if (p >= pixels) continue;
                image[p * pitch + (is_target ? c : channels + c)] = values[i];
                if (!is_target) condition[p * condition_pitch + c] = values[i];
                if (++c == width) {
                    c = 0;
                    p++;
                }
            }
        }
    }
    if (channels + conditions < pitch) {
        FOR_EACH(p, pixels) {
            for (int c = channels + conditions; c < pitch; c++) image[p * pitch + c] = 0.0f;
        }
    }
    if (conditions == 0 || conditions == condition_pitch) return;
    FOR_EACH(p, pixels) {
        for (int c = conditions; c < condition_pitch; c++) condition[p * condition_pitch + c] = 0.0f;
    }
}

// Noise and dropout mask of a training job; both parts of the workspace start on a multiple of 16 bytes.
PHASE void load_random(const Net& n, const Job& job, float* work, int batch) {
    GLOBAL(work);
    SHARED(&n);
    SHARED(&job);
    constexpr int LOADS = 4;
    const Layer& last = n.layer[n.heads - 1];
    const int noises = batch * n.cells * n.latent_dim, masks = job.mask ? batch * last.output_height * last.output_width * n.features : 0;
    const int noise_quads = (noises + 3) / 4, quads = noise_quads + (masks + 3) / 4, tasks = (quads + LOADS - 1) / LOADS;
    const float *noise = in_global_memory(job.noise, work), *mask = in_global_memory(job.mask, work);
    FOR_EACH(t, tasks) {
        float4 loaded[LOADS];
        UNROLL for (int u = 0; u < LOADS; u++) {
            const int q = t + u * tasks;
            if (q < quads) loaded[u] = load4(q < noise_quads ? noise + 4 * q : mask + 4 * (q - noise_quads));
        }
        UNROLL for (int u = 0; u < LOADS; u++) {
            const int q = t + u * tasks;
            if (q < quads) *reinterpret_cast<float4*>(work + (q < noise_quads ? n.noise + 4 * q : n.mask + 4 * (q - noise_quads))) = loaded[u];
        }
    }
}

DEVICE float clamp_log_var(const Net& n, float x) { return x < n.log_var_min ? n.log_var_min : (x > n.log_var_max ? n.log_var_max : x); }
// KL(q || N(0, 1)) of one latent value, twice: mean^2 + variance - 1 - log_var (Kingma & Welling 2014, appendix B).
DEVICE float twice_kl(float mean, float log_var) { return fmaf(mean, mean, expf(log_var)) - 1.0f - log_var; }

// ---- training ------------------------------------------------------------------------------------------------------

// z = mean + exp(log_var / 2) * noise (Kingma & Welling 2014, section 2.4); adds to twice the divergence.
DEVICE void sample_latent(const Net& n, float* work, int batch, double& kl) {
    const int dims = 4 * n.latent_quads;
    const float *heads = work + n.layer[n.heads].output, *noise = work + n.noise;
    FOR_EACH(t, batch * n.cells * dims) {
        int cell = t, k = split_off(cell, dims);
        float z = 0.0f;
        if (k < n.latent_dim) {
            float mean = heads[2 * dims * cell + k], log_var = clamp_log_var(n, heads[2 * dims * cell + dims + k]);
            z = mean + expf(0.5f * log_var) * noise[cell * n.latent_dim + k];
            kl += twice_kl(mean, log_var);
        }
        work[n.latent + t] = z;
    }
}

// From the gradient of z, and that of the divergence, to that of both heads. None passes where log_var is clamped.
DEVICE void sample_latent_grad(const Net& n, float* work, int batch, float kl_share) {
    const int dims = 4 * n.latent_quads;
    float* heads = work + n.layer[n.heads].output;
    const float* noise = work + n.noise;
    FOR_EACH(t, batch * n.cells * dims) {
        int cell = t, k = split_off(cell, dims);
        float *mean = heads + 2 * dims * cell + k, *log_var = mean + dims, dz = work[n.latent + t];
        if (k < n.latent_dim) {
            float raw = *log_var, v = clamp_log_var(n, raw);
            bool inside = raw >= n.log_var_min && raw <= n.log_var_max;
            *mean = dz + kl_share * *mean;
            *log_var = inside ? 0.5f * expf(0.5f * v) * noise[cell * n.latent_dim + k] * dz + 0.5f * kl_share * (expf(v) - 1.0f) : 0.0f;
        } else {
            *mean = 0.0f;
            *log_var = 0.0f;
        }
    }
}

// Negative log-likelihood 2 log(1 + r^2 / (3 scale^2)) of the residuals, a Student t distribution's with three degrees of
// freedom. Adds its logarithms to `sum`; its gradient overwrites the prediction, and summed over the batch it is that
// of the base image.
PHASE void student_t_grad(const Net& n, const float* weights, float* work, int batch, double& sum, double& squares) {
    GLOBAL(work);
    GLOBAL(weights);
    SHARED(&n);
    const Layer& last = n.layer[n.layers - 1];
    const int pixels = n.height * n.width, quads = last.output_quads, pitch = 4 * n.image_quads;
    const float factor = 4.0f * n.inverse_scale * n.reconstruction_weight / (float)(batch * pixels * n.channels);
    FOR_EACH(t, pixels * quads) {
        int p = t;
        const int c = 4 * split_off(p, quads);
        float base[4] = {0.0f, 0.0f, 0.0f, 0.0f}, total[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (n.base_image >= 0) {
            float4 q = load4(weights + n.base_image + 4 * t);
            base[0] = q.x;
            base[1] = q.y;
            base[2] = q.z;
            base[3] = q.w;
        }
        for (int b = 0; b < batch; b++) {
            float* prediction = work + last.output + 4 * (b * pixels * quads + t);
            const float4 y = load4(prediction), x = load4(work + n.image + (b * pixels + p) * pitch + c);
            float grad[4] = {y.x, y.y, y.z, y.w};
            const float target[4] = {x.x, x.y, x.z, x.w};
            float logs[4];
            UNROLL for (int i = 0; i < 4; i++) {
                float residual = c + i < n.channels ? grad[i] + base[i] - target[i] : 0.0f, s = residual * residual * n.inverse_scale + 1.0f;
                logs[i] = logf(s);
                grad[i] = factor * residual / s;
                total[i] += grad[i];
            }
            sum += logs[0] + logs[1] + (logs[2] + logs[3]);
            store4(prediction, grad[0], grad[1], grad[2], grad[3]);
        }
        if (n.base_image >= 0) {
            store4(work + n.grad + n.base_image + 4 * t, total[0], total[1], total[2], total[3]);
            squares += squares4(float4{total[0], total[1], total[2], total[3]});
        }
    }
}

// Adam (Kingma & Ba 2015, algorithm 1) on a gradient scaled by `clip`; then the moving average.
PHASE void adam(const Net& n, const Job& job, float* work, float clip) {
    GLOBAL(work);
    SHARED(&n);
    SHARED(&job);
    const bool follow = n.moving_average != 0;
    const float* grad = work + n.grad;
    float *const weights = in_global_memory(job.weights, work), *const first = in_global_memory(job.first_moment, work), *const second = in_global_memory(job.second_moment, work), *const average = in_global_memory(job.average, work);
    UNROLL2 FOR_EACH(i, n.parameters / 4) {
        const float4 g4 = load4(grad + 4 * i), w4 = load4(weights + 4 * i), m4 = load4(first + 4 * i), v4 = load4(second + 4 * i);
        float4 a4 = zero4();
        if (follow) a4 = load4(average + 4 * i);
        const float g[4] = {g4.x, g4.y, g4.z, g4.w};
        float w[4] = {w4.x, w4.y, w4.z, w4.w}, m[4] = {m4.x, m4.y, m4.z, m4.w}, v[4] = {v4.x, v4.y, v4.z, v4.w}, a[4] = {a4.x, a4.y, a4.z, a4.w};
        UNROLL for (int j = 0; j < 4; j++) {
            float h = g[j] * clip;
            m[j] = flush_denormal(n.beta1 * m[j] + n.one_minus_beta1 * h);
            v[j] = flush_denormal(n.beta2 * v[j] + n.one_minus_beta2 * h * h);
            w[j] -= job.step_size * m[j] / (sqrtf(v[j]) * job.inv_sqrt_bias2 + n.epsilon);
            a[j] += job.average_rate * (w[j] - a[j]);
        }
        store4(weights + 4 * i, w[0], w[1], w[2], w[3]);
        store4(first + 4 * i, m[0], m[1], m[2], m[3]);
        store4(second + 4 * i, v[0], v[1], v[2], v[3]);
        if (follow) store4(average + 4 * i, a[0], a[1], a[2], a[3]);
    }
}

// One step of the optimiser. Where a value is not finite, the slot does not change.
DEVICE void training_job(const Net& n, const Job& job, float* shared, float* work) {
    const int batch = job.batch;
    double squares = 0.0, likelihood = 0.0, kl = 0.0;
    float* const weights = in_global_memory(job.weights, work);
    load_inputs<5>(n, job, work, batch);
    load_random(n, job, work, batch);
    stage_weights(n, weights, shared);
    const float *mask = job.mask ? work + n.mask : nullptr, *state = job.state ? in_global_memory(job.state, work) : nullptr;
    BARRIER();
    ROLLED for (int l = 0; l < n.layers; l++) {
        if (l == n.gates) {
            recurrent_forward(n, weights, state, shared, work, batch);
        } else {
            forward(n, n.layer[l], weights, shared, work, batch);
            BARRIER();
        }
        if (l == n.heads - 1 && mask) {
            const Layer& last = n.layer[l];
            const int channels = 4 * bottleneck_quads(n), bottleneck = n.layer[n.heads].input;
            FOR_EACH(t, batch * last.output_height * last.output_width * channels) {
                if (t % channels < n.features) work[bottleneck + t] *= mask[t / channels * n.features + t % channels];
            }
            BARRIER();
        }
        if (l == n.heads) {
            sample_latent(n, work, batch, kl);
            BARRIER();
        }
    }
    student_t_grad(n, weights, work, batch, likelihood, squares);
    stage_transposed(n, weights, shared);
    BARRIER();
    const int distributions = batch * n.cells;
    ROLLED for (int l = n.layers - 1; l >= 0; l--) {
        if (l == n.heads) {
            sample_latent_grad(n, work, batch, job.kl_weight / (float)distributions);
            BARRIER();
        }
        if (l == n.gates) recurrent_backward(n, weights, state, shared, work, batch, squares);
        else if (n.layer[l].dense) dense_backward(n, l, weights, work, batch, mask, squares);
        else conv_backward(n, l, weights, shared, work, batch, mask, squares);
        BARRIER();
    }
    double sums[3] = {squares, likelihood, kl};
    block_sums(sums);
    const double norm = sqrt(sums[0]), clip = (double)n.max_norm / (norm + 1e-6);
    const float reconstruction = (float)(sums[1] * 2.0 / ((double)batch * n.height * n.width * n.channels)), divergence = (float)(sums[2] * 0.5 / distributions);
    const float loss = n.reconstruction_weight * reconstruction + job.kl_weight * divergence;
    const bool accepted = std::isfinite(norm) && std::isfinite(loss);
    if (FIRST_THREAD) {
        Report* report = reinterpret_cast<Report*>(in_global_memory(job.output, work));
        report->loss = loss;
        report->reconstruction = reconstruction;
        report->kl = divergence;
        report->grad_norm = (float)norm;
        report->accepted = accepted ? 1.0f : 0.0f;
    }
    if (accepted) adam(n, job, work, clip < 1.0 ? (float)clip : 1.0f);
    BARRIER();
}

// ---- scoring (the kernel of a team has the same contractions: they are written out where there is a choice) -------------------------------------------------------------------------------------------------------

// Index `i` mirrored at the edges of 0..n, which are not repeated.
DEVICE int reflect(int i, int n) {
    if (n == 1) return 0;
    while (i < 0 || i >= n) i = i < 0 ? -i : 2 * (n - 1) - i;
    return i;
}

// The anomaly map before it is averaged, and the prediction where it is wanted.
PHASE void score_map(const Net& n, const float* weights, float* work, float* prediction) {
    GLOBAL(work);
    GLOBAL(weights);
    SHARED(&n);
    const Layer &last = n.layer[n.layers - 1], &heads = n.layer[n.heads];
    const int dims = 4 * n.latent_quads, pitch = 4 * n.image_quads, output_pitch = 4 * last.output_quads;
    FOR_EACH(p, n.height * n.width) {
        const float *target = work + n.image + p * pitch, *output = work + last.output + p * output_pitch;
        float errors = 0.0f, targets = 0.0f, predictions = 0.0f;
        for (int c = 0; c < n.channels; c += 4) {
            const float4 x4 = load4(target + c), y4 = load4(output + c), base4 = n.base_image >= 0 ? load4(weights + n.base_image + p * output_pitch + c) : zero4();
            const float x[4] = {x4.x, x4.y, x4.z, x4.w}, y[4] = {y4.x, y4.y, y4.z, y4.w}, base[4] = {base4.x, base4.y, base4.z, base4.w};
            UNROLL for (int i = 0; i < 4; i++) {
                if (c + i >= n.channels) continue;
                const float predicted = y[i] + base[i], error = x[i] - predicted;
                if (prediction) prediction[p * n.channels + c + i] = predicted;
                errors += error * error;
                targets += x[i];
                predictions += predicted;
            }
        }
        float value = errors;
        if (n.score_map == LEVEL) {
            // A cell of the latent map has two rows and columns of the image.
            int y = p, x = split_off(y, n.width), cell = y / 2 * heads.output_width + x / 2;
            const float share = 1.0f / (float)n.channels;
            value = fmaf(share, targets, fmaf(share, predictions, n.kl_share * work[heads.output + 2 * dims * cell]));
        }
        work[n.map + p] = value;
    }
}

DEVICE void scoring_job(const Net& n, const Job& job, float* shared, float* work) {
    const float* weights = in_global_memory(n.moving_average ? job.average : job.weights, work);
    const int dims = 4 * n.latent_quads;
    load_inputs<5>(n, job, work, 1);
    stage_weights(n, weights, shared);
    BARRIER();
    ROLLED for (int l = 0; l < n.layers; l++) {
        const float* state = l == n.gates && job.state ? in_global_memory(job.state, work) : nullptr;
        if (l == n.gates) {
            join_state(n, state, work, 0, 1);
            BARRIER();
        }
        forward(n, n.layer[l], weights, shared, work, 1);
        BARRIER();
        if (l == n.gates) {
            advance_cells(n, state, in_global_memory(job.next_state, work), work, 0, 1);
            BARRIER();
        }
        if (l != n.heads) continue;
        float* heads = work + n.layer[l].output;
        FOR_EACH(t, n.cells * dims) work[n.latent + t] = t % dims < n.latent_dim ? heads[t / dims * 2 * dims + t % dims] : 0.0f;
        BARRIER();
        if (n.score_map != LEVEL) continue;
        // Each cell's divergence overwrites its first mean.
        FOR_EACH(cell, n.cells) {
            float* mean = heads + 2 * dims * cell;
            float sum = 0.0f;
            for (int k = 0; k < n.latent_dim; k++) sum = fmaf(0.5f, twice_kl(mean[k], clamp_log_var(n, mean[dims + k])), sum);
            mean[0] = sum;
        }
        BARRIER();
    }
    score_map(n, weights, work, job.prediction ? in_global_memory(job.prediction, work) : nullptr);
    BARRIER();
    const float* map = work + n.map;
    float* output = in_global_memory(job.output, work);
    const int reach = n.score_box / 2;
    const float share = 1.0f / (float)(n.score_box * n.score_box);
    FOR_EACH(p, n.height * n.width) {
        int y = p, x = split_off(y, n.width);
        float total = 0.0f;
        for (int dx = -reach; dx <= reach; dx++) {
            float column = 0.0f;
            for (int dy = -reach; dy <= reach; dy++) column += map[reflect(y + dy, n.height) * n.width + reflect(x + dx, n.width)];
            total += column;
        }
        output[p] = total * share;
    }
    BARRIER();
}
