// The nets' operations on the GPU. Everything is float and channels-last, as on the CPU.
//
// A kernel takes its arrays, the one it writes last, then the number of values it makes (or, where it adds up, of
// those it reads), then its sizes and numbers. Each value is made by one thread, and sums are added up in an order
// that depends on nothing but their length: the same input gives the same output, bit for bit.

#define THREADS 256

static __device__ int place() {
    return blockIdx.x * blockDim.x + threadIdx.x;
}

// Adds up one value of each thread of a block; all threads must call it, the first one gets the sum.
static __device__ double block_sum(double value, double* sums) {
    int t = threadIdx.x;
    sums[t] = value;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (t < half) sums[t] += sums[t + half];
        __syncthreads();
    }
    return sums[0];
}

// Between layers.

extern "C" __global__ void ones(const float* x, float* out, int n) {
    int i = place();
    if (i < n) out[i] = 1.0f;
}

extern "C" __global__ void sum(const float* a, const float* b, float* out, int n) {
    int i = place();
    if (i < n) out[i] = a[i] + b[i];
}

extern "C" __global__ void scale(const float* x, float* out, int n, float factor) {
    int i = place();
    if (i < n) out[i] = factor * x[i];
}

extern "C" __global__ void multiply(const float* a, const float* b, float* out, int n) {
    int i = place();
    if (i < n) out[i] = a[i] * b[i];
}

// NaN stays NaN.
extern "C" __global__ void clamp(const float* x, float* out, int n, float low, float high) {
    int i = place();
    if (i < n) out[i] = x[i] < low ? low : (x[i] > high ? high : x[i]);
}

extern "C" __global__ void clamp_slope(const float* x, const float* gradient, float* out, int n, float low, float high) {
    int i = place();
    if (i < n) out[i] = x[i] >= low && x[i] <= high ? gradient[i] : 0.0f;
}

extern "C" __global__ void add_to_each(const float* x, const float* picture, float* out, int n, int size) {
    int i = place();
    if (i < n) out[i] = x[i] + picture[i % size];
}

extern "C" __global__ void sum_of_each(const float* gradient, float* out, int n, int batch) {
    int i = place();
    if (i >= n) return;
    float total = 0.0f;
    for (int b = 0; b < batch; b++) total += gradient[b * n + i];
    out[i] = total;
}

extern "C" __global__ void weighted_sum(const float* a, const float* b, float* out, int n, float first, float second) {
    int i = place();
    if (i < n) out[i] = first * a[i] + second * b[i];
}

// Channels of two pictures side by side.
extern "C" __global__ void join(const float* a, const float* b, float* out, int n, int left, int right) {
    int i = place();
    if (i >= n) return;
    int pixel = i / (left + right);
    int c = i % (left + right);
    out[i] = c < left ? a[pixel * left + c] : b[pixel * right + c - left];
}

// One array behind the other.
extern "C" __global__ void append(const float* a, const float* b, float* out, int n, int first) {
    int i = place();
    if (i < n) out[i] = i < first ? a[i] : b[i - first];
}

// Nearest-neighbour enlargement; sizes are the small picture's.

extern "C" __global__ void enlarge(const float* x, float* out, int n, int height, int width, int channels, int factor) {
    int i = place();
    if (i >= n) return;
    int c = i % channels;
    int col = i / channels % (width * factor) / factor;
    int line = i / (channels * width * factor);
    int row = line % (height * factor) / factor;
    int b = line / (height * factor);
    out[i] = x[((b * height + row) * width + col) * channels + c];
}

extern "C" __global__ void enlarge_slope(const float* gradient, float* out, int n, int width, int channels, int factor) {
    int i = place();
    if (i >= n) return;
    int c = i % channels;
    int col = i / channels % width;
    int line = i / (channels * width);
    float total = 0.0f;
    for (int y = 0; y < factor; y++) {
        for (int x = 0; x < factor; x++) {
            int at = (line * factor + y) * width * factor + col * factor + x;
            total += gradient[at * channels + c];
        }
    }
    out[i] = total;
}

// Sampling and losses. A gradient of a single value is read where it is: nothing waits for it.

extern "C" __global__ void reparameterize(const float* mean, const float* log_var, const float* noise, float* out, int n) {
    int i = place();
    if (i < n) out[i] = mean[i] + expf(0.5f * log_var[i]) * noise[i];
}

extern "C" __global__ void reparameterize_slope(const float* log_var, const float* noise, const float* gradient, float* out, int n) {
    int i = place();
    if (i < n) out[i] = 0.5f * expf(0.5f * log_var[i]) * noise[i] * gradient[i];
}

extern "C" __global__ void student_t_loss(const float* prediction, const float* target, float* out, int n, float spread) {
    __shared__ double sums[THREADS];
    double total = 0.0;
    for (int i = threadIdx.x; i < n; i += THREADS) {
        float r = prediction[i] - target[i];
        total += logf(r * r * spread + 1.0f);
    }
    total = block_sum(total, sums);
    if (threadIdx.x == 0) out[0] = (float)(total * 2.0 / n);
}

extern "C" __global__ void student_t_slope(const float* prediction, const float* target, const float* gradient, float* out, int n, float spread) {
    int i = place();
    if (i >= n) return;
    float factor = 4.0f * spread * gradient[0] / (float)n;
    float r = prediction[i] - target[i];
    out[i] = factor * r / (r * r * spread + 1.0f);
}

extern "C" __global__ void kl_each(const float* mean, const float* log_var, float* out, int n, int size) {
    int i = place();
    if (i >= n) return;
    float total = 0.0f;
    for (int k = i * size; k < (i + 1) * size; k++) {
        total += 0.5f * (mean[k] * mean[k] + expf(log_var[k]) - 1.0f - log_var[k]);
    }
    out[i] = total;
}

extern "C" __global__ void kl_loss(const float* mean, const float* log_var, float* out, int n, float share) {
    __shared__ double sums[THREADS];
    double total = 0.0;
    for (int i = threadIdx.x; i < n; i += THREADS) {
        total += mean[i] * mean[i] + expf(log_var[i]) - 1.0f - log_var[i];
    }
    total = block_sum(total, sums);
    if (threadIdx.x == 0) out[0] = (float)(0.5 * total * share);
}

extern "C" __global__ void kl_mean_slope(const float* mean, const float* gradient, float* out, int n, float share) {
    int i = place();
    if (i < n) out[i] = mean[i] * (share * gradient[0]);
}

extern "C" __global__ void kl_log_var_slope(const float* log_var, const float* gradient, float* out, int n, float share) {
    int i = place();
    if (i < n) out[i] = 0.5f * (share * gradient[0]) * (expf(log_var[i]) - 1.0f);
}

// Maps of where a net was wrong.

extern "C" __global__ void squared_error(const float* x, const float* expected, float* out, int n, int channels) {
    int i = place();
    if (i >= n) return;
    float total = 0.0f;
    for (int c = i * channels; c < (i + 1) * channels; c++) {
        float error = x[c] - expected[c];
        total += error * error;
    }
    out[i] = total;
}

extern "C" __global__ void motion_score(const float* target, const float* prediction, const float* divergence, float* out, int n, int width, float share) {
    int i = place();
    if (i >= n) return;
    int latent = i / width / 2 * ((width + 1) / 2) + i % width / 2;
    float seen = 0.5f * (target[2 * i] + target[2 * i + 1]);
    float expected = 0.5f * (prediction[2 * i] + prediction[2 * i + 1]);
    out[i] = seen + (expected + share * divergence[latent]);
}

static __device__ int reflect(int i, int length) {
    int last = length - 1;
    if (last == 0) return 0;
    i = abs(i) % (2 * last);
    return i > last ? 2 * last - i : i;
}

extern "C" __global__ void box_mean(const float* x, float* out, int n, int height, int width, int side) {
    int i = place();
    if (i >= n) return;
    float total = 0.0f;
    for (int dx = -(side / 2); dx <= side / 2; dx++) {
        int col = reflect(i % width + dx, width);
        float column = 0.0f;
        for (int dy = -(side / 2); dy <= side / 2; dy++) {
            column += x[reflect(i / width + dy, height) * width + col];
        }
        total += column;
    }
    out[i] = total * (1.0f / (side * side));
}

// Convolution as a product. The picture has height x width pixels, of which the small one that `x` holds has every
// `1 << shift`-th each way; behind its channels stand `extra` channels in full size. Windows of kernel x kernel pixels
// lie `stride` apart and begin `padding` outside.

extern "C" __global__ void windows(const float* x, const float* behind, float* out, int n, int height, int width, int channels, int extra, int shift, int kernel, int stride, int padding, int rows, int cols) {
    int i = place();
    if (i >= n) return;
    int all = channels + extra;
    int c = i % all;
    int tap = i / all % (kernel * kernel);
    int cell = i / (all * kernel * kernel);
    int row = cell / cols % rows * stride + tap / kernel - padding;
    int col = cell % cols * stride + tap % kernel - padding;
    int b = cell / (rows * cols);
    float value = 0.0f;
    if (row >= 0 && row < height && col >= 0 && col < width) {
        int h = (height + shift) >> shift;
        int w = (width + shift) >> shift;
        value = c < channels
            ? x[((b * h + (row >> shift)) * w + (col >> shift)) * channels + c]
            : behind[((b * height + row) * width + col) * extra + c - channels];
    }
    out[i] = value;
}

// The sum of all that `windows` made of each value of `x`.
extern "C" __global__ void windows_slope(const float* gradient, float* out, int n, int height, int width, int channels, int extra, int shift, int kernel, int stride, int padding, int rows, int cols) {
    int i = place();
    if (i >= n) return;
    int h = (height + shift) >> shift;
    int w = (width + shift) >> shift;
    int all = channels + extra;
    int c = i % channels;
    int left = i / channels % w << shift;
    int top = i / (channels * w) % h << shift;
    int b = i / (channels * w * h);
    float total = 0.0f;
    for (int y = top; y < top + (1 << shift) && y < height; y++) {
        for (int x = left; x < left + (1 << shift) && x < width; x++) {
            for (int tap = 0; tap < kernel * kernel; tap++) {
                int row = y + padding - tap / kernel;
                int col = x + padding - tap % kernel;
                if (row < 0 || col < 0 || row % stride != 0 || col % stride != 0) continue;
                row /= stride;
                col /= stride;
                if (row >= rows || col >= cols) continue;
                int cell = (b * rows + row) * cols + col;
                total += gradient[(cell * kernel * kernel + tap) * all + c];
            }
        }
    }
    out[i] = total;
}

extern "C" __global__ void bias_activation(const float* bias, float* values, int n, int outputs, float slope) {
    int i = place();
    if (i >= n) return;
    float sum = values[i] + bias[i % outputs];
    values[i] = sum > 0.0f ? sum : sum * slope;
}

// The gradient before the activation, and its sum over all cells added to the bias's: a block for each output.
extern "C" __global__ void before_activation(const float* gradient, const float* result, float* delta, float* bias, int cells, int outputs, float slope, int train) {
    __shared__ double sums[THREADS];
    double total = 0.0;
    for (int cell = threadIdx.x; cell < cells; cell += THREADS) {
        int i = cell * outputs + blockIdx.x;
        float value = result[i] > 0.0f ? gradient[i] : gradient[i] * slope;
        delta[i] = value;
        total += value;
    }
    total = block_sum(total, sums);
    if (train && threadIdx.x == 0) bias[blockIdx.x] += (float)total;
}

// The optimiser. Parameter j has the values from starts[j] to starts[j + 1] of the flat arrays.

extern "C" __global__ void accumulate(const float* x, float* sums, int n) {
    int i = place();
    if (i < n) sums[i] += x[i];
}

// A partial sum of squares from each block; in double precision no finite gradient overflows.
extern "C" __global__ void squares(const float* gradient, double* partials, int n) {
    __shared__ double sums[THREADS];
    double total = 0.0;
    for (int i = place(); i < n; i += gridDim.x * THREADS) {
        double g = gradient[i];
        total += g * g;
    }
    total = block_sum(total, sums);
    if (threadIdx.x == 0) partials[blockIdx.x] = total;
}

// What the host is told of a step: loss, reconstruction, KL, norm, whether the step is made; and the step's scale.
extern "C" __global__ void report(const double* partials, const float* loss, const float* reconstruction, const float* kl, float* out, int count, float max_norm) {
    if (place() != 0) return;
    double total = 0.0;
    for (int i = 0; i < count; i++) total += partials[i];
    double norm = sqrt(total);
    double clip = max_norm / (norm + 1e-6);
    out[0] = loss[0];
    out[1] = reconstruction[0];
    out[2] = kl[0];
    out[3] = (float)norm;
    out[4] = isfinite(norm) && isfinite(loss[0]) ? 1.0f : 0.0f;
    out[5] = clip < 1.0 ? (float)clip : 1.0f;
}

static __device__ int parameter(const int* starts, int count, int i) {
    int low = 0;
    while (count > 1) {
        int half = count / 2;
        if (starts[low + half] <= i) {
            low += half;
            count -= half;
        } else {
            count = half;
        }
    }
    return low;
}

// As denormals, moments that cannot move a weight would cost the CPU dearly after a move there.
static __device__ float flush(float x) {
    return fabsf(x) < 1e-30f ? 0.0f : x;
}

extern "C" __global__ void adam(const float* report, const float* gradient, const int* starts, const unsigned long long* weights, float* first, float* second, int n, int count, float keep_first, float keep_second, float take_first, float take_second, float step, float root, float eps) {
    int i = place();
    if (i >= n || report[4] == 0.0f) return;
    int j = parameter(starts, count, i);
    float* weight = (float*)weights[j] + (i - starts[j]);
    float g = gradient[i] * report[5];
    float m = flush(keep_first * first[i] + take_first * g);
    float v = flush(keep_second * second[i] + take_second * g * g);
    first[i] = m;
    second[i] = v;
    *weight -= step * m / (sqrtf(v) * root + eps);
}

// Every value goes a part of the way to the other set's, unless the step there was not made.
extern "C" __global__ void follow(const float* report, const int* starts, const unsigned long long* from, const unsigned long long* to, int n, int count, float rate) {
    int i = place();
    if (i >= n || report[4] == 0.0f) return;
    int j = parameter(starts, count, i);
    const float* other = (const float*)from[j] + (i - starts[j]);
    float* mine = (float*)to[j] + (i - starts[j]);
    *mine += rate * (*other - *mine);
}
