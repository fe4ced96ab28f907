/* random on the GPU: a thread draws what one 16-byte store writes. */
#include "codelets/common/cuda/cuda_internal.h"

extern "C" {
#include "codelets/random/random.h"
#include "core/base/rng.h"
}

#include "codelets/random/random_element.h"

namespace
{

constexpr int THREADS = 256;
constexpr int CTAS_PER_MULTIPROCESSOR = 8;

template <typename T> __device__ T rounded(float x);

template <> __device__ float rounded<float>(float x)
{
    return x;
}

template <> __device__ uint16_t rounded<uint16_t>(float x)
{
    return float_to_bf16(x);
}

/* out [count]: the part alone. */
template <typename T>
__global__ void __launch_bounds__(THREADS)
    draw(T *out, int64_t count, const random_numbers numbers, uint64_t state)
{
    constexpr int WIDTH = sizeof(uint4) / sizeof(T);
    const int64_t thread = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    const int64_t threads = (int64_t)gridDim.x * THREADS;
    const int64_t vectors = (uintptr_t)out % sizeof(uint4) == 0 ? count / WIDTH : 0;
    for (int64_t v = thread; v < vectors; v += threads) {
        alignas(uint4) T x[WIDTH];
#pragma unroll
        for (int j = 0; j < WIDTH; j++) {
            x[j] = rounded<T>(random_element(&numbers, state, v * WIDTH + j));
        }
        reinterpret_cast<uint4 *>(out)[v] = *reinterpret_cast<const uint4 *>(x);
    }
    for (int64_t i = vectors * WIDTH + thread; i < count; i += threads) {
        out[i] = rounded<T>(random_element(&numbers, state, i));
    }
}

template <typename T> void launch(const random_args *a)
{
    mp_rng rng;
    mp_rng_init(&rng, a->numbers.seed, 0);
    int64_t needed = (a->count + THREADS - 1) / THREADS;
    int64_t most = (int64_t)cuda_multiprocessors() * CTAS_PER_MULTIPROCESSOR;
    draw<<<(unsigned)(needed < most ? needed : most), THREADS, 0, cuda_stream()>>>(
        static_cast<T *>(a->out) + a->offset, a->count, a->numbers, rng.state);
    CUDA_CHECK_LAUNCH();
}

} // namespace

void random_cuda(const struct random_args *a)
{
    if (a->count == 0) {
        return;
    }
    if (a->dtype == MP_F32) {
        launch<float>(a);
    } else {
        launch<uint16_t>(a);
    }
}
