// Area averages of a frame on two small grids: the numbers of `frame/image/pass.rs`, to the last bit.
//
// The rows of a plane are cut into runs at the borders of both grids. The bytes of a run that a cell covers are added up as
// whole numbers, whatever their order; the few roundings after that are the CPU's, in its order, none of them contracted.

#pragma once

#include "block.cuh"

// Bytes of a sample that count.
constexpr int MAX_TAPS = 3;

// One stored component of the pixels, on one grid; `frame/image/cuda.rs` has the same structures.
struct Component {
    const unsigned char* first;
    // Bytes from one row of samples to the next, and from one sample to the next.
    long long stride;
    int step;
    // The bytes of a sample.
    int offset[MAX_TAPS];
    // Pixels that share a sample.
    int shared_x, shared_y;
    // Rows of the other grid, where its borders cut the plane too; or 0.
    int other_rows;
    // Greatest common divisor of all overlaps of a row's samples with cells.
    int divisor;
    // From the sum of a row's bytes in a cell to their part of a sample's mean.
    float factor[MAX_TAPS];
};

// A small image, and the blocks that compute it: `tiles` for each row of cells.
struct Grid {
    // [H, W, channels]
    float* out;
    int width, height, channels;
    int tiles, blocks;
    // One for each channel, or fewer: the other channels are 0. All have as many taps.
    int components, taps;
    // Parts by which the grid is displaced, see `frame/image/cells.rs`. Cells that are not entirely in the frame are 0.
    int offset_x, offset_y;
    Component component[3];
};

struct Reduction {
    Grid grey, colour;
    // Pixels.
    int width, height;
};

// Cells of a row that a block computes; `frame/image/cuda.rs` has the same number.
constexpr int TILE = 32;
// Rows of samples whose sums a block holds at a time.
constexpr int ROWS = 32;
// Sums of a cell: two taps of three components, or three taps of one.
constexpr int SUMS = 6;
// Rows of a run at most; `frame/image/columns.rs` has the same number.
constexpr int MAX_ROWS = 128;

// What a block shares.
struct ReductionBlock {
    // Sums of the single rows' bytes.
    int partial[SUMS * ROWS * TILE];
    // The same of the current run, and its first row; and the mean of the runs before.
    int sum[SUMS * TILE];
    int run[3 * TILE];
    float mean[3 * TILE];
};

#ifdef __CUDACC__
DEVICE float rounded_product(float a, float b) { return __fmul_rn(a, b); }
DEVICE float rounded_sum(float a, float b) { return __fadd_rn(a, b); }
#else
// Contraction is off.
DEVICE float rounded_product(float a, float b) { return a * b; }
DEVICE float rounded_sum(float a, float b) { return a + b; }
#endif

// Whether these parts are in an image of `extent` pixels.
DEVICE bool is_inside(int from, int to, int cells, int extent) {
    return from >= 0 && to <= cells * extent;
}

// One byte of a row's samples in a cell, each times its overlap: at most 16,384 * 255.
DEVICE int row_sum(const unsigned char* row, int step, int shared, int cell, int cells, int extent, int offset) {
    const int parts = cells * shared;
    const int from = cell * extent + offset, to = from + extent;
    int sum = 0;
    if (!is_inside(from, to, cells, extent)) return 0;
    for (int sample = from / parts; sample * parts < to; sample++) {
        const int overlap = smaller(to, (sample + 1) * parts) - larger(from, sample * parts);
        sum += overlap * row[(long long)sample * step];
    }
    return sum;
}

// The first end of a run after row `at`, as a grid of `rows` rows has it: before or behind a border.
DEVICE int next_stop(int at, int rows, int shared, int extent, int offset) {
    // The first border behind the row's beginning; the offset is at most all parts of the image.
    const int parts = rows * shared, cells = (at * parts - offset + rows * extent) / extent + 1 - rows;
    const int border = (cells * extent + offset) / parts;
    return border > at ? border : at + 1;
}

// Where the run that starts at row `at` ends.
DEVICE int end_of_run(const Component& component, int at, const Grid& grid, const Grid& other, int extent) {
    int end = smaller(at + MAX_ROWS, next_stop(at, grid.height, component.shared_y, extent, grid.offset_y));
    if (component.other_rows) end = smaller(end, next_stop(at, component.other_rows, component.shared_y, extent, other.offset_y));
    return end;
}

// The rows of samples that a row of cells touches.
struct Span {
    int first, count, parts;
};
DEVICE Span span_of(const Component& component, int from, int to, int cells) {
    const int parts = cells * component.shared_y, first = from / parts;
    return Span{first, (to + parts - 1) / parts - first, parts};
}

// Part of one row of cells of one of the images.
DEVICE void reduce_block(const Reduction& r, int block, ReductionBlock& shared) {
    const bool is_grey = block < r.grey.blocks;
    const Grid &grid = is_grey ? r.grey : r.colour, &other = is_grey ? r.colour : r.grey;
    const int tile = is_grey ? block : block - r.grey.blocks, taps = grid.taps;
    const int row = tile / grid.tiles, first = tile % grid.tiles * TILE, cells = smaller(TILE, grid.width - first);
    const int from = row * r.height + grid.offset_y, to = from + r.height;
    // The first component has a sample for each pixel, and the others no more.
    const int rows = is_inside(from, to, grid.height, r.height) ? span_of(grid.component[0], from, to, grid.height).count : 0;
    FOR_EACH(i, SUMS * TILE) shared.sum[i] = 0;
    FOR_EACH(i, 3 * TILE) {
        shared.mean[i] = 0.0f;
        if (i / TILE < grid.components) shared.run[i] = span_of(grid.component[i / TILE], from, to, grid.height).first;
    }
    for (int start = 0; start < rows; start += ROWS) {
        BARRIER();
        FOR_EACH(i, grid.components * taps * ROWS * cells) {
            const int cell = i % cells, k = i / cells % ROWS, s = i / (cells * ROWS);
            const Component& component = grid.component[s / taps];
            const Span span = span_of(component, from, to, grid.height);
            if (start + k < span.count) {
                const unsigned char* at = component.first + (span.first + start + k) * component.stride + component.offset[s % taps];
                shared.partial[(s * ROWS + k) * TILE + cell] = row_sum(at, component.step, component.shared_x, first + cell, grid.width, r.width, grid.offset_x);
            }
        }
        BARRIER();
        FOR_EACH(i, grid.components * cells) {
            const int cell = i % cells, c = i / cells, at = c * TILE + cell;
            const Component& component = grid.component[c];
            const Span span = span_of(component, from, to, grid.height);
            int* sum = shared.sum + c * taps * TILE + cell;
            int run = shared.run[at], end = end_of_run(component, run, grid, other, r.height);
            float mean = shared.mean[at];
            for (int k = 0; k < ROWS && start + k < span.count; k++) {
                for (int tap = 0; tap < taps; tap++) sum[tap * TILE] += shared.partial[((c * taps + tap) * ROWS + k) * TILE + cell];
                if (span.first + start + k + 1 < end) continue;
                float total = 0.0f;
                for (int tap = 0; tap < taps; tap++) {
                    total = rounded_sum(total, rounded_product(component.factor[tap], (float)(sum[tap * TILE] / component.divisor)));
                    sum[tap * TILE] = 0;
                }
                const int overlap = smaller(end * span.parts, to) - larger(run * span.parts, from);
                const float weight = (float)((double)overlap / (double)((end - run) * r.height));
                mean = rounded_sum(mean, rounded_product(weight, total));
                run = end;
                end = end_of_run(component, run, grid, other, r.height);
            }
            shared.run[at] = run;
            shared.mean[at] = mean;
        }
    }
    BARRIER();
    FOR_EACH(i, grid.channels * cells) {
        const int channel = i % grid.channels, cell = i / grid.channels;
        grid.out[((long long)row * grid.width + first) * grid.channels + i] = shared.mean[channel * TILE + cell];
    }
}
