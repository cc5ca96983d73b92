// Runs the blocks of a launch on this machine: on one thread, or, with EMULATED_THREADS, on that many.

#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "kernels.cu"
#include "reduce.cuh"

#ifdef EMULATED_THREADS
// One of the threads of a block. Without the C++ library, which a program for another machine would need there.
template <class Block> struct EmulatedThread {
    pthread_t handle;
    int number;
    const Block* block;
    static void* run(void* thread) {
        const auto* self = static_cast<EmulatedThread*>(thread);
        emulated_thread = self->number;
        (*self->block)();
        return nullptr;
    }
};
#endif

template <class Block> static void run_block(bool reverse, Block block) {
#ifdef EMULATED_THREADS
    (void)reverse;
    // One barrier, so one block at a time.
    static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&one);
    pthread_barrier_init(&emulated_barrier, nullptr, EMULATED_THREADS);
    EmulatedThread<Block> threads[EMULATED_THREADS];
    for (int i = 0; i < EMULATED_THREADS; i++) {
        threads[i].number = i;
        threads[i].block = &block;
        if (pthread_create(&threads[i].handle, nullptr, threads[i].run, &threads[i])) abort();
    }
    for (auto& thread : threads) pthread_join(thread.handle, nullptr);
    pthread_barrier_destroy(&emulated_barrier);
    pthread_mutex_unlock(&one);
#else
    emulated_reverse = reverse;
    block();
#endif
}

// With TEAM, each of its blocks has shared memory of its own, `pitch` floats apart.
static inline void run_job(bool train, bool reverse, const Job* job, float* shared, size_t pitch, float* work) {
    run_block(reverse, [=] {
#if TEAM > 1
        float* own = shared + TEAM_RANK * pitch;
#else
        float* own = shared;
        (void)pitch;
#endif
        if (train) training_job(*job->net, *job, own, work);
        else scoring_job(*job->net, *job, own, work);
    });
}

// Shared memory has arbitrary values at first.
static inline void run_reduction(bool reverse, int blocks, const Reduction& reduction) {
    static thread_local ReductionBlock values;
    ReductionBlock* shared = &values;
    const Reduction* argument = &reduction;
    for (int block = 0; block < blocks; block++) {
        std::memset(static_cast<void*>(shared), 0xff, sizeof *shared);
        run_block(reverse, [=] { reduce_block(*argument, block, *shared); });
    }
}
