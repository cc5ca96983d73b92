// The kernel of a launch with few scores, on a device that has little else to do: four multiprocessors work on each job.
// Needs clusters of blocks: compute capability 9.0.

#define TEAM 4
#include "kernels.cu"
