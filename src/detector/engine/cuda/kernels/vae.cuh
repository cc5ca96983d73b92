// Whole nets: a scoring job, from inputs to anomaly map, and a training job, from inputs to moved weights.

#pragma once

#include "backward.cuh"

// Reads an array in the host's memory, each value once and in order (it comes over the bus), several loads at a time.
// `put(i, value)` stores value i. The array is aligned to, and may be read up to, a multiple of 16 bytes.
template <class Put> DEVICE void read_host(const float* from, int count, Put put) {
    constexpr int LOADS = 4;
    const int quads = (count + 3) / 4, tasks = (quads + LOADS - 1) / LOADS;
    FOR_EACH(t, tasks) {
        float4 values[LOADS];
        UNROLL for (int u = 0; u < LOADS; u++)
            if (t + u * tasks < quads) values[u] = load4(from + 4 * (t + u * tasks));
        UNROLL for (int u = 0; u < LOADS; u++) {
            const int i = 4 * (t + u * tasks);
            if (i < count) put(i, values[u].x);
            if (i + 1 < count) put(i + 1, values[u].y);
            if (i + 2 < count) put(i + 2, values[u].z);
            if (i + 3 < count) put(i + 3, values[u].w);
        }
    }
}

// Target and condition to the encoder's input, the condition to the decoder's, and the filling of both to zero.
DEVICE void load_inputs(const Net& n, const Job& job, float* work, int batch) {
    const int pixels = batch * n.height * n.width, channels = n.channels, conditions = n.condition_channels, pitch = 4 * n.image_quads, condition_pitch = 4 * n.condition_quads;
    float *image = work + n.image, *condition = work + n.condition;
    read_host(in_global_memory(job.target, work), pixels * channels, [=](int i, float value) { image[i / channels * pitch + i % channels] = value; });
    FOR_EACH(p, pixels) {
        for (int c = channels + conditions; c < pitch; c++) image[p * pitch + c] = 0.0f;
    }
    if (conditions == 0) return;
    read_host(in_global_memory(job.condition, work), pixels * conditions, [=](int i, float value) {
        image[i / conditions * pitch + channels + i % conditions] = value;
        condition[i / conditions * condition_pitch + i % conditions] = value;
    });
    FOR_EACH(p, pixels) {
        for (int c = conditions; c < condition_pitch; c++) condition[p * condition_pitch + c] = 0.0f;
    }
}

// Noise and dropout mask of a training job; whether there is a mask.
DEVICE bool load_random(const Net& n, const Job& job, float* work, int batch) {
    float *noise = work + n.noise, *mask = work + n.mask;
    read_host(in_global_memory(job.noise, work), batch * n.cells * n.latent_dim, [=](int i, float value) { noise[i] = value; });
    if (!job.mask) return false;
    const Layer& last = n.layer[n.heads - 1];
    read_host(in_global_memory(job.mask, work), batch * last.output_height * last.output_width * n.features, [=](int i, float value) { mask[i] = value; });
    return true;
}

DEVICE float clamp_log_var(const Net& n, float x) { return x < n.log_var_min ? n.log_var_min : (x > n.log_var_max ? n.log_var_max : x); }
// KL(q || N(0, 1)) of one latent value, twice: mean^2 + variance - 1 - log_var (Kingma & Welling 2014, appendix B).
DEVICE float twice_kl(float mean, float log_var) { return mean * mean + expf(log_var) - 1.0f - log_var; }

// ---- training ------------------------------------------------------------------------------------------------------

// z = mean + exp(log_var / 2) * noise (Kingma & Welling 2014, section 2.4); adds to twice the divergence.
DEVICE void sample_latent(const Net& n, float* work, int batch, double& kl) {
    const int dims = 4 * n.latent_quads;
    const float *heads = work + n.layer[n.heads].output, *noise = work + n.noise;
    FOR_EACH(t, batch * n.cells * dims) {
        int k = t % dims, cell = t / dims;
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
        int k = t % dims, cell = t / dims;
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
DEVICE void student_t_grad(const Net& n, const float* weights, float* work, int batch, double& sum, double& squares) {
    const Layer& last = n.layer[n.layers - 1];
    const int pixels = n.height * n.width, quads = last.output_quads, pitch = 4 * n.image_quads;
    const float factor = 4.0f * n.inverse_scale * n.reconstruction_weight / (float)(batch * pixels * n.channels);
    FOR_EACH(t, pixels * quads) {
        const int p = t / quads, c = 4 * (t % quads);
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
            UNROLL for (int i = 0; i < 4; i++) {
                float residual = c + i < n.channels ? grad[i] + base[i] - target[i] : 0.0f, s = residual * residual * n.inverse_scale + 1.0f;
                sum += (double)logf(s);
                grad[i] = factor * residual / s;
                total[i] += grad[i];
            }
            store4(prediction, grad[0], grad[1], grad[2], grad[3]);
        }
        if (n.base_image >= 0) {
            store4(work + n.grad + n.base_image + 4 * t, total[0], total[1], total[2], total[3]);
            squares += squares4(float4{total[0], total[1], total[2], total[3]});
        }
    }
}

// Adam (Kingma & Ba 2015, algorithm 1) on a gradient scaled by `clip`; then the moving average.
DEVICE void adam(const Net& n, const Job& job, const float* grad, float clip, float* weights, float* first, float* second, float* average) {
    const bool follow = n.moving_average != 0;
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
    float *const weights = in_global_memory(job.weights, work), *const first = in_global_memory(job.first_moment, work), *const second = in_global_memory(job.second_moment, work);
    float *const average = in_global_memory(job.average, work), *const output = in_global_memory(job.output, work);
    stage_weights(n, weights, shared);
    load_inputs(n, job, work, batch);
    const float* mask = load_random(n, job, work, batch) ? work + n.mask : nullptr;
    BARRIER();
    ROLLED for (int l = 0; l < n.layers; l++) {
        forward(n, n.layer[l], weights, shared, work, batch);
        BARRIER();
        if (l == n.heads - 1 && mask) {
            const Layer& last = n.layer[l];
            const int channels = 4 * last.output_quads;
            FOR_EACH(t, batch * last.output_height * last.output_width * channels) {
                if (t % channels < n.features) work[last.output + t] *= mask[t / channels * n.features + t % channels];
            }
            BARRIER();
        }
        if (l == n.heads) {
            sample_latent(n, work, batch, kl);
            BARRIER();
        }
    }
    student_t_grad(n, weights, work, batch, likelihood, squares);
    BARRIER();
    const int distributions = batch * n.cells;
    ROLLED for (int l = n.layers - 1; l >= 0; l--) {
        if (l == n.heads) {
            sample_latent_grad(n, work, batch, job.kl_weight / (float)distributions);
            BARRIER();
        }
        if (n.layer[l].dense) dense_backward(n, l, weights, work, batch, mask, squares);
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
        Report* report = reinterpret_cast<Report*>(output);
        report->loss = loss;
        report->reconstruction = reconstruction;
        report->kl = divergence;
        report->grad_norm = (float)norm;
        report->accepted = accepted ? 1.0f : 0.0f;
    }
    if (accepted) adam(n, job, work + n.grad, clip < 1.0 ? (float)clip : 1.0f, weights, first, second, average);
    BARRIER();
}

// ---- scoring -------------------------------------------------------------------------------------------------------

// Index `i` mirrored at the edges of 0..n, which are not repeated.
DEVICE int reflect(int i, int n) {
    if (n == 1) return 0;
    while (i < 0 || i >= n) i = i < 0 ? -i : 2 * (n - 1) - i;
    return i;
}

// The anomaly map before it is averaged, and the prediction where it is wanted.
DEVICE void score_map(const Net& n, const float* weights, float* work, float* prediction) {
    const Layer &last = n.layer[n.layers - 1], &heads = n.layer[n.heads];
    const int dims = 4 * n.latent_quads, pitch = 4 * n.image_quads, output_pitch = 4 * last.output_quads;
    FOR_EACH(p, n.height * n.width) {
        const float *target = work + n.image + p * pitch, *y = work + last.output + p * output_pitch;
        float errors = 0.0f, targets = 0.0f, predictions = 0.0f;
        for (int c = 0; c < n.channels; c++) {
            float predicted = y[c] + (n.base_image >= 0 ? weights[n.base_image + p * output_pitch + c] : 0.0f), error = target[c] - predicted;
            if (prediction) prediction[p * n.channels + c] = predicted;
            errors += error * error;
            targets += target[c];
            predictions += predicted;
        }
        float value = errors;
        if (n.score_map == LEVEL) {
            // A cell of the latent map has two rows and columns of the image.
            int cell = p / n.width / 2 * heads.output_width + p % n.width / 2;
            const float share = 1.0f / (float)n.channels;
            value = share * targets + (share * predictions + n.kl_share * work[heads.output + 2 * dims * cell]);
        }
        work[n.map + p] = value;
    }
}

DEVICE void scoring_job(const Net& n, const Job& job, float* shared, float* work) {
    const float* weights = in_global_memory(n.moving_average ? job.average : job.weights, work);
    float *output = in_global_memory(job.output, work), *prediction = job.prediction ? in_global_memory(job.prediction, work) : nullptr;
    const int dims = 4 * n.latent_quads;
    stage_weights(n, weights, shared);
    load_inputs(n, job, work, 1);
    BARRIER();
    ROLLED for (int l = 0; l < n.layers; l++) {
        forward(n, n.layer[l], weights, shared, work, 1);
        BARRIER();
        if (l != n.heads) continue;
        float* heads = work + n.layer[l].output;
        FOR_EACH(t, n.cells * dims) work[n.latent + t] = t % dims < n.latent_dim ? heads[t / dims * 2 * dims + t % dims] : 0.0f;
        BARRIER();
        if (n.score_map != LEVEL) continue;
        // Each cell's divergence overwrites its first mean.
        FOR_EACH(cell, n.cells) {
            float* mean = heads + 2 * dims * cell;
            float sum = 0.0f;
            for (int k = 0; k < n.latent_dim; k++) sum += 0.5f * twice_kl(mean[k], clamp_log_var(n, mean[dims + k]));
            mean[0] = sum;
        }
        BARRIER();
    }
    score_map(n, weights, work, prediction);
    BARRIER();
    const float* map = work + n.map;
    const int reach = n.score_box / 2;
    const float share = 1.0f / (float)(n.score_box * n.score_box);
    FOR_EACH(p, n.height * n.width) {
        int y = p / n.width, x = p % n.width;
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
