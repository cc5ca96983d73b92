// The kernels' jobs as C functions, and the layout of the structures that they read.

#include "run.h"

extern "C" void emulated_run(int train, int reverse, const Job* job, float* shared, float* work) {
    run_job(train != 0, reverse != 0, job, shared, 0, work);
}

extern "C" void emulated_reduce(int reverse, int blocks, const Reduction* reduction) {
    run_reduction(reverse != 0, blocks, *reduction);
}

#define FIELD(type, field) offsetof(type, field)
extern "C" const size_t emulated_layout[] = {
    sizeof(Layer), FIELD(Layer, kernel), FIELD(Layer, input), FIELD(Layer, extra), FIELD(Layer, upsampled_height), FIELD(Layer, output), FIELD(Layer, weight),
    FIELD(Layer, staged), FIELD(Layer, last_rows), FIELD(Layer, box_height), FIELD(Layer, output_splits), FIELD(Layer, bias_splits), FIELD(Layer, negative_slope),
    sizeof(Net), FIELD(Net, heads), FIELD(Net, gates), FIELD(Net, joined), FIELD(Net, cell_grad), FIELD(Net, condition_channels), FIELD(Net, image), FIELD(Net, condition), FIELD(Net, latent), FIELD(Net, cells), FIELD(Net, features),
    FIELD(Net, noise), FIELD(Net, base_image), FIELD(Net, moving_average), FIELD(Net, score_map), FIELD(Net, kl_share), FIELD(Net, parameters), FIELD(Net, grad), FIELD(Net, map),
    FIELD(Net, log_var_min), FIELD(Net, inverse_scale), FIELD(Net, reconstruction_weight), FIELD(Net, beta1), FIELD(Net, epsilon), FIELD(Net, max_norm), FIELD(Net, layer),
    sizeof(Job), FIELD(Job, weights), FIELD(Job, average), FIELD(Job, prediction), FIELD(Job, target), FIELD(Job, mask), FIELD(Job, state), FIELD(Job, next_state), FIELD(Job, output), FIELD(Job, batch), FIELD(Job, step_size),
    FIELD(Job, inv_sqrt_bias2), FIELD(Job, kl_weight), FIELD(Job, average_rate),
    sizeof(Report), FIELD(Report, reconstruction), FIELD(Report, kl), FIELD(Report, grad_norm), FIELD(Report, accepted),
};
extern "C" const size_t emulated_reduction_layout[] = {
    sizeof(Component), FIELD(Component, stride), FIELD(Component, step), FIELD(Component, offset), FIELD(Component, shared_x), FIELD(Component, shared_y),
    FIELD(Component, other_rows), FIELD(Component, divisor), FIELD(Component, factor),
    sizeof(Grid), FIELD(Grid, width), FIELD(Grid, height), FIELD(Grid, channels), FIELD(Grid, tiles), FIELD(Grid, blocks), FIELD(Grid, components), FIELD(Grid, taps), FIELD(Grid, offset_x), FIELD(Grid, offset_y),
    FIELD(Grid, component),
    sizeof(Reduction), FIELD(Reduction, grey), FIELD(Reduction, colour), FIELD(Reduction, width), FIELD(Reduction, height), (size_t)TILE, (size_t)MAX_ROWS,
};
extern "C" const size_t emulated_reduction_layout_len = sizeof emulated_reduction_layout / sizeof *emulated_reduction_layout;
extern "C" const size_t emulated_layout_len = sizeof emulated_layout / sizeof *emulated_layout;
extern "C" const int emulated_threads_of_a_block = THREADS;
