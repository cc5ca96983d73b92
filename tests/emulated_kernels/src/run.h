// Runs the blocks of a launch on this machine: on one thread, or, with EMULATED_THREADS, on that many.

#pragma once

#include <cstring>

#include "kernels.cu"
#include "reduce.cuh"

#ifdef EMULATED_THREADS
#include <mutex>
#include <thread>
#include <vector>
#endif

template <class Block> static void run_block(bool reverse, Block block) {
#ifdef EMULATED_THREADS
    (void)reverse;
    // One barrier, so one block at a time.
    static std::mutex one;
    std::lock_guard<std::mutex> guard(one);
    pthread_barrier_init(&emulated_barrier, nullptr, EMULATED_THREADS);
    std::vector<std::thread> threads;
    for (int i = 0; i < EMULATED_THREADS; i++)
        threads.emplace_back([=] {
            emulated_thread = i;
            block();
        });
    for (auto& thread : threads) thread.join();
    pthread_barrier_destroy(&emulated_barrier);
#else
    emulated_reverse = reverse;
    block();
#endif
}

static inline void run_job(bool train, bool reverse, const Job* job, float* shared, float* work) {
    run_block(reverse, [=] {
        if (train) training_job(*job->net, *job, shared, work);
        else scoring_job(*job->net, *job, shared, work);
    });
}

// Shared memory has arbitrary values at first.
static inline void run_reduction(bool reverse, int blocks, const Reduction& reduction) {
    static thread_local unsigned partial_values[3 * ROWS * TILE];
    static thread_local unsigned long long sum_values[3 * TILE];
    unsigned* partial = partial_values;
    unsigned long long* sums = sum_values;
    const Reduction* argument = &reduction;
    for (int block = 0; block < blocks; block++) {
        std::memset(partial_values, 0xff, sizeof partial_values);
        std::memset(sum_values, 0xff, sizeof sum_values);
        run_block(reverse, [=] { reduce_block(*argument, block, partial, sums); });
    }
}
