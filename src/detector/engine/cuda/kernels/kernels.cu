// Both kernels of the CUDA engine: a launch runs the jobs of many cameras, a block works on one job after the other.
//
// What a job computes depends on the job alone: every sum has a fixed order, whoever else is in the launch.

#include "vae.cuh"

#ifdef __CUDACC__

// Where the blocks of a launch take their jobs; one for each kernel, zero before the first launch.
struct Queue {
    unsigned next, finished;
    // Time that blocks have worked, in ns, over all launches.
    unsigned long long busy;
};

// The first jobs go to the blocks in order; the counter is for the rest.
template <bool TRAIN> DEVICE void run_jobs(const Job* jobs, int count, float* workspaces, long long pitch, Queue* queue) {
    extern __shared__ __align__(16) float shared[];
    __shared__ Net net;
    __shared__ Job job;
    __shared__ int next;
    const bool more = count > (int)gridDim.x;
    unsigned long long from = 0, to = 0;
    if (threadIdx.x == 0) asm volatile("mov.u64 %0, %globaltimer;" : "=l"(from));
    int j = blockIdx.x;
    while (j < count) {
        for (int i = threadIdx.x; i < (int)(sizeof(Job) / 4); i += THREADS) reinterpret_cast<int*>(&job)[i] = reinterpret_cast<const int*>(jobs + j)[i];
        BARRIER();
        for (int i = threadIdx.x; i < (int)(sizeof(Net) / 4); i += THREADS) reinterpret_cast<int*>(&net)[i] = reinterpret_cast<const int*>(job.net)[i];
        BARRIER();
        float* work = workspaces + blockIdx.x * pitch;
        if (TRAIN) training_job(net, job, shared, work);
        else scoring_job(net, job, shared, work);
        if (!more) break;
        if (threadIdx.x == 0) next = (int)(gridDim.x + atomicAdd(&queue->next, 1u));
        BARRIER();
        j = next;
    }
    if (threadIdx.x == 0) {
        asm volatile("mov.u64 %0, %globaltimer;" : "=l"(to));
        atomicAdd(&queue->busy, to - from);
        if (!more) return;
        __threadfence();
        // The last block readies the queue for the next launch.
        if (atomicAdd(&queue->finished, 1u) == gridDim.x - 1) {
            queue->next = 0;
            queue->finished = 0;
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) score(const Job* jobs, int count, float* workspaces, long long pitch, Queue* queue) { run_jobs<false>(jobs, count, workspaces, pitch, queue); }
extern "C" __global__ void __launch_bounds__(THREADS, 1) step(const Job* jobs, int count, float* workspaces, long long pitch, Queue* queue) { run_jobs<true>(jobs, count, workspaces, pitch, queue); }

#endif
