// A block of threads, or a team of blocks, that goes through phases together: on a GPU, or in plain C++ on one thread or
// several.
//
// A phase is a FOR_EACH over independent tasks; BARRIER separates phases. In C++ the tasks of a phase run in either order,
// or, with EMULATED_THREADS, on that many threads: a race between tasks, or a missing barrier, changes results or is
// found by ThreadSanitizer.

#pragma once

#include <cmath>
#include <cstdint>

#include "layout.cuh"

// Threads of a block; `descriptor.rs` has the same number.
constexpr int THREADS = 512;
// Blocks that work on a job together, each on an equal share of a phase's neighbouring tasks: see `team.cu`.
#ifndef TEAM
#define TEAM 1
#endif
constexpr int JOB_THREADS = TEAM * THREADS;

// Bounds of a share of `count` tasks.
#define SHARE_FROM(count, rank, shares) (((count) + (shares) - 1) / (shares) * (rank))
#define SHARE_TO(count, rank, shares) (SHARE_FROM(count, (rank) + 1, shares) < (count) ? SHARE_FROM(count, (rank) + 1, shares) : (count))

#ifdef __CUDACC__

#define DEVICE __device__ __forceinline__
// A function of its own: inlined into one kernel, the phases would share registers, and some would be kept in memory.
// In it the compiler has to know of addresses what it would see otherwise.
#define PHASE __device__ __noinline__
#define GLOBAL(p) __builtin_assume(__isGlobal(p))
#define SHARED(p) __builtin_assume(__isShared(p))
// Over all tasks in every block: what it writes is the block's own.
#define FOR_EACH_OF_BLOCK(i, n) for (int i = threadIdx.x, i##_count = (n); i < i##_count; i += THREADS)
#if TEAM == 1
#define BARRIER() __syncthreads()
#define FOR_EACH(i, n) FOR_EACH_OF_BLOCK(i, n)
#define FIRST_THREAD (threadIdx.x == 0)
#else
// The blocks of a team are a cluster: the device runs them at the same time.
#define TEAM_RANK ((int)(blockIdx.x % TEAM))
#define BARRIER() team_barrier()
#define FOR_EACH(i, n)                                                                                       \
    for (int i##_all = (n), i##_count = SHARE_TO(i##_all, TEAM_RANK, TEAM), i = SHARE_FROM(i##_all, TEAM_RANK, TEAM) + threadIdx.x; \
         i < i##_count; i += THREADS)
#define FIRST_THREAD (threadIdx.x == 0 && TEAM_RANK == 0)
#endif
// A variable that the threads of a block share; of a team's blocks, each has its own.
#define OF_BLOCK __shared__
#define UNROLL _Pragma("unroll")
#define UNROLL2 _Pragma("unroll 2")
#define UNROLL3 _Pragma("unroll 3")
#define UNROLL4 _Pragma("unroll 4")
#define UNROLL8 _Pragma("unroll 8")
#define ROLLED _Pragma("unroll 1")

#else

struct alignas(16) float4 {
    float x, y, z, w;
};
#define DEVICE static inline
#define PHASE static inline
#define GLOBAL(p)
#define SHARED(p)
#define UNROLL
#define UNROLL2
#define UNROLL3
#define UNROLL4
#define UNROLL8
#define ROLLED
#ifdef EMULATED_THREADS
// Of all blocks of a team.
#include <pthread.h>
#define OF_BLOCK static
static pthread_barrier_t emulated_barrier;
static thread_local int emulated_thread;
constexpr int EMULATED_BLOCK = EMULATED_THREADS / TEAM;
static_assert(EMULATED_BLOCK * TEAM == EMULATED_THREADS, "every block has as many threads");
#define BARRIER() pthread_barrier_wait(&emulated_barrier)
#define TEAM_RANK (emulated_thread / EMULATED_BLOCK)
#define FOR_EACH_OF_BLOCK(i, n) for (int i = emulated_thread % EMULATED_BLOCK, i##_count = (n); i < i##_count; i += EMULATED_BLOCK)
#define FOR_EACH(i, n)                                                                                       \
    for (int i##_all = (n), i##_count = SHARE_TO(i##_all, TEAM_RANK, TEAM),                                   \
             i = SHARE_FROM(i##_all, TEAM_RANK, TEAM) + emulated_thread % EMULATED_BLOCK;                      \
         i < i##_count; i += EMULATED_BLOCK)
#define FIRST_THREAD (emulated_thread == 0)
#else
#define OF_BLOCK static thread_local
static thread_local bool emulated_reverse = false;
#define BARRIER()
#define FOR_EACH(i, n)                                                                                       \
    for (int i##_count = (n), i##_at = 0, i = emulated_reverse ? i##_count - 1 : 0; i##_at < i##_count;      \
         i##_at++, i += emulated_reverse ? -1 : 1)
#define FOR_EACH_OF_BLOCK(i, n) FOR_EACH(i, n)
#define FIRST_THREAD true
#endif

#endif

#if defined __CUDACC__ && TEAM > 1
// What the team's blocks wrote before is seen behind it by all of them.
DEVICE void team_barrier() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;" ::: "memory");
#endif
}
#endif

// ---- small helpers -------------------------------------------------------------------------------------------------

// Quotients by multiplication, where that is exact: for the numbers of tasks that usual nets have. (x + 1/2) / d is at least
// 1 / (2 d) from any integer; below 2^21 that is more than the errors of the reciprocal and the product.
DEVICE float reciprocal(int d) {
#ifdef __CUDACC__
    // Made anew where it is used: a register for longer would be one too few elsewhere.
    float inverse;
    asm volatile("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"((float)d));
    return inverse;
#else
    return 1.0f / (float)d;
#endif
}
DEVICE int divide(int x, int d) { return x < (1 << 21) ? (int)(((float)x + 0.5f) * reciprocal(d)) : x / d; }
// Divides `x`; the remainder.
DEVICE int split_off(int& x, int d) {
    const int quotient = divide(x, d), remainder = x - quotient * d;
    x = quotient;
    return remainder;
}
// A task of [image][row][tile][quad], by its number; the quad.
DEVICE int locate(int task, int quads, int tiles, int rows, int& tile, int& row, int& image) {
    const int quad = split_off(task, quads);
    tile = split_off(task, tiles);
    row = split_off(task, rows);
    image = task;
    return quad;
}

DEVICE int smaller(int a, int b) { return a < b ? a : b; }
DEVICE int larger(int a, int b) { return a > b ? a : b; }
DEVICE float leaky_relu(float x, float slope) { return x > 0.0f ? x : x * slope; }
// Gradient of what went in, from that of what came out, `y`.
DEVICE float leaky_relu_grad(float grad, float y, float slope) { return y > 0.0f ? grad : grad * slope; }
// Moments this small cannot move a weight; as denormals they would slow a CPU's later steps down.
DEVICE float flush_denormal(float x) { return fabsf(x) < 1e-30f ? 0.0f : x; }

DEVICE float4 load4(const float* from) { return *reinterpret_cast<const float4*>(from); }
DEVICE void store4(float* to, float x, float y, float z, float w) { *reinterpret_cast<float4*>(to) = float4{x, y, z, w}; }
DEVICE float4 zero4() { return float4{0.0f, 0.0f, 0.0f, 0.0f}; }
DEVICE void add4(float4& sum, float4 a) {
    sum.x += a.x;
    sum.y += a.y;
    sum.z += a.z;
    sum.w += a.w;
}
DEVICE void fma4(float* acc, float x, float4 w) {
    acc[0] += x * w.x;
    acc[1] += x * w.y;
    acc[2] += x * w.z;
    acc[3] += x * w.w;
}
DEVICE float dot4(float4 a, float4 b, float sum) {
    sum += a.x * b.x;
    sum += a.y * b.y;
    sum += a.z * b.z;
    sum += a.w * b.w;
    return sum;
}
// In single precision, to be added up in double: many GPUs have few units for that.
DEVICE float squares4(float4 a) { return a.x * a.x + a.y * a.y + (a.z * a.z + a.w * a.w); }
// The value at `o` of `count` partial sums of `size` floats each, in quads.
DEVICE float4 sum_partials(const float* partial, int count, int size, int o) {
    float4 sum = zero4();
    UNROLL8 for (int s = 0; s < count; s++) add4(sum, load4(partial + s * size + 4 * o));
    return sum;
}

// An address that came out of memory, for the compiler one of global memory, as the kernel's argument `work` is: loads
// through generic addresses are slower.
template <class T> DEVICE T* in_global_memory(T* address, float* work) {
#ifdef __CUDACC__
    long long offset = reinterpret_cast<const char*>(address) - reinterpret_cast<const char*>(work);
    asm("" : "+l"(offset));
    return reinterpret_cast<T*>(reinterpret_cast<char*>(work) + offset);
#else
    (void)work;
    return address;
#endif
}

// Adds up three values over all threads, in a fixed order; every thread gets the sums.
DEVICE void block_sums(double* values) {
#ifdef __CUDACC__
    __shared__ double sums[THREADS / 32][3];
    BARRIER();
    UNROLL for (int i = 0; i < 3; i++) {
        double x = values[i];
        UNROLL for (int o = 16; o > 0; o >>= 1) x += __shfl_xor_sync(~0u, x, o);
        if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32][i] = x;
    }
    BARRIER();
    UNROLL for (int i = 0; i < 3; i++) {
        double x = 0.0;
        for (int k = 0; k < THREADS / 32; k++) x += sums[k][i];
        values[i] = x;
    }
#elif defined EMULATED_THREADS
    static double sums[EMULATED_THREADS][3];
    for (int i = 0; i < 3; i++) sums[emulated_thread][i] = values[i];
    BARRIER();
    for (int i = 0; i < 3; i++) {
        values[i] = 0.0;
        for (auto& sum : sums) values[i] += sum[i];
    }
    BARRIER();
#else
    (void)values;
#endif
}
