// Both kernels of the CUDA engine: a launch runs the jobs of many cameras, a block works on one job after the other. With
// TEAM, see `team.cu`, the kernel of a launch with few jobs.
//
// What a job computes depends on the job alone: every sum has a fixed order, whoever else is in the launch, and however many
// blocks work on it.

#include "vae.cuh"

#ifdef __CUDACC__

// Where the blocks of a launch take their jobs; one for each kernel, zero before the first launch.
struct Queue {
    unsigned next, finished;
    // Time that blocks have worked, in ns, over all launches; a team counts as one.
    unsigned long long busy;
};

// The first jobs go to the blocks, or teams, in order; the counter is for the rest, which no team has.
template <bool TRAIN> DEVICE void run_jobs(const Job* jobs, int count, float* workspaces, long long pitch, Queue* queue) {
    extern __shared__ __align__(16) float shared[];
    __shared__ Net net;
    __shared__ Job job;
    __shared__ int next;
    const int rank = blockIdx.x / TEAM;
    const bool more = TEAM == 1 && count > (int)gridDim.x;
    unsigned long long from = 0, to = 0;
    if (threadIdx.x == 0) asm volatile("mov.u64 %0, %globaltimer;" : "=l"(from));
    int j = rank;
    while (j < count) {
        FOR_EACH_OF_BLOCK(i, (int)(sizeof(Job) / 4)) reinterpret_cast<int*>(&job)[i] = reinterpret_cast<const int*>(jobs + j)[i];
        __syncthreads();
        FOR_EACH_OF_BLOCK(i, (int)(sizeof(Net) / 4)) reinterpret_cast<int*>(&net)[i] = reinterpret_cast<const int*>(job.net)[i];
        __syncthreads();
        float* work = workspaces + rank * pitch;
        if (TRAIN) training_job(net, job, shared, work);
        else scoring_job(net, job, shared, work);
        if (!more) break;
        if (threadIdx.x == 0) next = (int)(gridDim.x + atomicAdd(&queue->next, 1u));
        __syncthreads();
        j = next;
    }
    if (FIRST_THREAD) {
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

#if TEAM == 1
extern "C" __global__ void __launch_bounds__(THREADS, 1) score(const Job* jobs, int count, float* workspaces, long long pitch, Queue* queue) { run_jobs<false>(jobs, count, workspaces, pitch, queue); }
extern "C" __global__ void __launch_bounds__(THREADS, 1) step(const Job* jobs, int count, float* workspaces, long long pitch, Queue* queue) { run_jobs<true>(jobs, count, workspaces, pitch, queue); }
#else
extern "C" __global__ void __cluster_dims__(TEAM, 1, 1) __launch_bounds__(THREADS, 1) score_in_teams(const Job* jobs, int count, float* workspaces, long long pitch, Queue* queue) { run_jobs<false>(jobs, count, workspaces, pitch, queue); }
#endif

#endif
