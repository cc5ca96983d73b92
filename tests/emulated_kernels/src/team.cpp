// Scores in a team of blocks, each of them a thread: what a block sees of the others passes a barrier first.

#define TEAM 4
#define EMULATED_THREADS 4
#include "run.h"

extern "C" void emulated_score_in_team(const Job* job, float* shared, size_t pitch, float* work) {
    run_job(false, false, job, shared, pitch, work);
}
extern "C" const int emulated_blocks_of_a_team = TEAM;
