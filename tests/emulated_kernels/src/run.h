// Runs one job on this machine: on one thread, or, with EMULATED_THREADS, on that many.

#pragma once

#include "kernels.cu"

#ifdef EMULATED_THREADS
#include <mutex>
#include <thread>
#include <vector>
#endif

static void run_job(bool train, bool reverse, const Job* job, float* shared, float* work) {
    const auto run = [=] {
        if (train) training_job(*job->net, *job, shared, work);
        else scoring_job(*job->net, *job, shared, work);
    };
#ifdef EMULATED_THREADS
    (void)reverse;
    // One barrier, so one job at a time.
    static std::mutex one;
    std::lock_guard<std::mutex> guard(one);
    pthread_barrier_init(&emulated_barrier, nullptr, EMULATED_THREADS);
    std::vector<std::thread> threads;
    for (int i = 0; i < EMULATED_THREADS; i++)
        threads.emplace_back([=] {
            emulated_thread = i;
            run();
        });
    for (auto& thread : threads) thread.join();
    pthread_barrier_destroy(&emulated_barrier);
#else
    emulated_reverse = reverse;
    run();
#endif
}
