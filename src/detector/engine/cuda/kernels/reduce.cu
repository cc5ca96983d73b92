// The kernel that reduces a frame in device memory to both small images: a block for each part of a row of cells.

#include "reduce.cuh"

extern "C" __global__ void __launch_bounds__(THREADS) reduce(const __grid_constant__ Reduction reduction) {
    __shared__ ReductionBlock shared;
    reduce_block(reduction, blockIdx.x, shared);
}
