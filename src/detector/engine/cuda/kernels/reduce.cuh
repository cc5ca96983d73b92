// Area averages of a frame on two small grids, as `frame/image/reduce.rs` computes them on the CPU.
//
// All sums are of whole numbers: every overlap of a sample with a cell is counted in the parts into which the borders of
// the grid divide the samples. They are exact, whatever their order.

#pragma once

#include "block.cuh"

// One stored component of the pixels; `frame/image/cuda.rs` has the same structures.
struct Component {
    const unsigned char* first;
    // Bytes from one row of samples to the next, and from one sample to the next.
    long long stride;
    int step;
    // Bytes of a sample, 1 or 2 (little endian).
    int bytes;
    // Pixels that share a sample.
    int shared_x, shared_y;
};

// A small image, and the blocks that compute it: `tiles` for each row of cells.
struct Grid {
    float* out;
    int width, height, tiles, blocks;
};

enum Family { GREY = 0, YUV = 1, RGB = 2 };

struct Reduction {
    // Y, Cb, Cr or R, G, B; grey video has the first one alone.
    Component component[3];
    // [H, W], 0..1
    Grid grey;
    // Y, Cr, Cb: [H, W, 3], 0..255
    Grid colour;
    // Pixels.
    int width, height;
    int family, components;
    // Stored black, and white minus black; stored zero of the chroma, and the distance that stands for 1.
    float black, luma_span, zero, chroma_span;
    float kr, kb;
};

// Cells of a row that a block computes; `frame/image/cuda.rs` has the same number.
constexpr int TILE = 32;
// Rows of samples whose sums a block holds at a time.
constexpr int ROWS = 32;

// The sum of a row's samples in a cell, each times its overlap: at most 16,384 * 65,535.
DEVICE unsigned row_sum(const Component& component, const unsigned char* row, int cell, int cells, int extent) {
    const int parts = cells * component.shared_x;
    const int from = cell * extent, to = from + extent;
    unsigned sum = 0;
    for (int sample = from / parts; sample * parts < to; sample++) {
        const unsigned overlap = smaller(to, (sample + 1) * parts) - larger(from, sample * parts);
        const unsigned char* at = row + (long long)sample * component.step;
        const unsigned value = component.bytes == 2 ? at[0] | at[1] << 8 : at[0];
        sum += overlap * value;
    }
    return sum;
}

DEVICE float clamped(float value, float most) { return fminf(fmaxf(value, 0.0f), most); }

// Full-range BT.601 of R', G', B'.
DEVICE void store_ycrcb(float* out, float red, float green, float blue) {
    const float y = 0.299f * red + 0.587f * green + 0.114f * blue;
    out[0] = clamped(y, 255.0f);
    out[1] = clamped((red - y) * 0.713f + 128.0f, 255.0f);
    out[2] = clamped((blue - y) * 0.564f + 128.0f, 255.0f);
}

DEVICE void store_colour(const Reduction& r, float* out, const float* mean) {
    if (r.family == RGB) {
        store_ycrcb(out, mean[0], mean[1], mean[2]);
        return;
    }
    const float y = (mean[0] - r.black) * (255.0f / r.luma_span);
    if (r.family == GREY) {
        out[0] = clamped(y, 255.0f);
        out[1] = out[2] = 128.0f;
        return;
    }
    // The inverse of Y' = kr R' + kg G' + kb B', Cb = (B' - Y') / (2 - 2 kb), Cr = (R' - Y') / (2 - 2 kr) (ITU-T H.273).
    const float cb = (mean[1] - r.zero) * (255.0f / r.chroma_span), cr = (mean[2] - r.zero) * (255.0f / r.chroma_span);
    const float red = y + 2.0f * (1.0f - r.kr) * cr, blue = y + 2.0f * (1.0f - r.kb) * cb;
    const float green = (y - r.kr * red - r.kb * blue) / (1.0f - r.kr - r.kb);
    store_ycrcb(out, clamped(red, 255.0f), clamped(green, 255.0f), clamped(blue, 255.0f));
}

// The rows of samples that a row of cells touches.
struct Span {
    int first, count, parts;
};
DEVICE Span span_of(const Component& component, int from, int to, int cells) {
    const int parts = cells * component.shared_y, first = from / parts;
    return Span{first, (to + parts - 1) / parts - first, parts};
}

// Part of one row of cells of one of the images. `partial` has 3 * ROWS * TILE values, `sums` 3 * TILE.
DEVICE void reduce_block(const Reduction& r, int block, unsigned* partial, unsigned long long* sums) {
    const bool is_grey = block < r.grey.blocks;
    const Grid& grid = is_grey ? r.grey : r.colour;
    const int tile = is_grey ? block : block - r.grey.blocks;
    const int row = tile / grid.tiles, first = tile % grid.tiles * TILE, cells = smaller(TILE, grid.width - first);
    const int components = is_grey && r.family != RGB ? 1 : r.components;
    const int from = row * r.height, to = from + r.height;
    // The first component has a sample for each pixel, and the others no more.
    const int rows = span_of(r.component[0], from, to, grid.height).count;
    FOR_EACH(i, 3 * TILE) sums[i] = 0;
    for (int start = 0; start < rows; start += ROWS) {
        BARRIER();
        FOR_EACH(i, components * ROWS * cells) {
            const int cell = i % cells, k = i / cells % ROWS, c = i / (cells * ROWS);
            const Component& component = r.component[c];
            const Span span = span_of(component, from, to, grid.height);
            if (start + k < span.count) {
                const unsigned char* at = component.first + (span.first + start + k) * component.stride;
                partial[(c * ROWS + k) * TILE + cell] = row_sum(component, at, first + cell, grid.width, r.width);
            }
        }
        BARRIER();
        FOR_EACH(i, components * cells) {
            const int cell = i % cells, c = i / cells;
            const Span span = span_of(r.component[c], from, to, grid.height);
            unsigned long long sum = sums[c * TILE + cell];
            for (int k = 0; k < ROWS && start + k < span.count; k++) {
                const int sample = span.first + start + k;
                const unsigned overlap = smaller(to, (sample + 1) * span.parts) - larger(from, sample * span.parts);
                sum += (unsigned long long)overlap * partial[(c * ROWS + k) * TILE + cell];
            }
            sums[c * TILE + cell] = sum;
        }
    }
    BARRIER();
    FOR_EACH(cell, cells) {
        float mean[3];
        for (int c = 0; c < components; c++) mean[c] = (float)((double)sums[c * TILE + cell] / ((double)r.width * r.height));
        const long long at = (long long)row * grid.width + first + cell;
        if (!is_grey) store_colour(r, grid.out + 3 * at, mean);
        else if (r.family == RGB) grid.out[at] = clamped((0.299f * mean[0] + 0.587f * mean[1] + 0.114f * mean[2]) / 255.0f, 1.0f);
        else grid.out[at] = clamped((mean[0] - r.black) / r.luma_span, 1.0f);
    }
}
