// The kernels' jobs as C functions, and the layout of the structures that they read.

#include <cstddef>

#include "kernels.cu"

#ifdef EMULATED_THREADS
#include <thread>
#include <vector>
#endif

extern "C" void emulated_run(int train, int reverse, const Job* job, float* shared, float* work) {
    const auto run = [=] {
        if (train) training_job(*job->net, *job, shared, work);
        else scoring_job(*job->net, *job, shared, work);
    };
#ifdef EMULATED_THREADS
    (void)reverse;
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
    emulated_reverse = reverse != 0;
    run();
#endif
}

#define FIELD(type, field) offsetof(type, field)
extern "C" const size_t emulated_layout[] = {
    sizeof(Layer), FIELD(Layer, kernel), FIELD(Layer, input), FIELD(Layer, extra), FIELD(Layer, upsampled_height), FIELD(Layer, output), FIELD(Layer, weight),
    FIELD(Layer, staged), FIELD(Layer, last_rows), FIELD(Layer, box_height), FIELD(Layer, output_splits), FIELD(Layer, bias_splits), FIELD(Layer, negative_slope),
    sizeof(Net), FIELD(Net, heads), FIELD(Net, condition_channels), FIELD(Net, image), FIELD(Net, condition), FIELD(Net, latent), FIELD(Net, cells), FIELD(Net, features),
    FIELD(Net, noise), FIELD(Net, base_image), FIELD(Net, moving_average), FIELD(Net, score_map), FIELD(Net, kl_share), FIELD(Net, parameters), FIELD(Net, grad), FIELD(Net, map),
    FIELD(Net, log_var_min), FIELD(Net, inverse_scale), FIELD(Net, reconstruction_weight), FIELD(Net, beta1), FIELD(Net, epsilon), FIELD(Net, max_norm), FIELD(Net, layer),
    sizeof(Job), FIELD(Job, weights), FIELD(Job, average), FIELD(Job, prediction), FIELD(Job, target), FIELD(Job, mask), FIELD(Job, output), FIELD(Job, batch), FIELD(Job, step_size),
    FIELD(Job, inv_sqrt_bias2), FIELD(Job, kl_weight), FIELD(Job, average_rate),
    sizeof(Report), FIELD(Report, reconstruction), FIELD(Report, kl), FIELD(Report, grad_norm), FIELD(Report, accepted),
};
extern "C" const size_t emulated_layout_len = sizeof emulated_layout / sizeof *emulated_layout;
extern "C" const int emulated_threads_of_a_block = THREADS;
