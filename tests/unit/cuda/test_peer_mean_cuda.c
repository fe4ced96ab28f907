/* peer_mean on the GPU against the reference, of arrays on every GPU that it has access to. */
#include "codelets/peer_mean/peer_mean.h"
#include "tests/unit/cuda/cuda_test.h"

/* The device that source s is on: the next one that can be read. */
static int device_of(int s)
{
    int device = s % cuda_device_count();
    return device == 0 || cuda_device_reads(0, device) ? device : 0;
}

static void check(int num_from, size_t count)
{
    struct peer_mean_args a = {.num_from = num_from, .scale = 0.5f, .count = (int64_t)count};
    struct peer_mean_args on_gpu = a;
    float *from[MP_MAX_GPUS];
    float *device_from[MP_MAX_GPUS];
    float *expected = mp_xcalloc(count, sizeof *expected);
    a.to = expected;
    for (int s = 0; s < num_from; s++) {
        a.from[s] = from[s] = random_floats(count, 1.0f, (uint64_t)s + 1);
        ASSERT_CUDA(cudaSetDevice(device_of(s)));
        on_gpu.from[s] = device_from[s] = device_copy(from[s], count * sizeof(float));
    }
    ASSERT_CUDA(cudaSetDevice(0));
    peer_mean_ref(&a);
    on_gpu.to = device_copy(NULL, count * sizeof(float));
    cuda_op_begin("peer_mean");
    peer_mean_cuda(&on_gpu);
    cuda_op_end();
    float *to = host_copy(on_gpu.to, count * sizeof(float));
    assert_memory_equal(to, expected, count * sizeof(float));
    for (int s = 0; s < num_from; s++) {
        free(from[s]);
        ASSERT_CUDA(cudaFree(device_from[s]));
    }
    ASSERT_CUDA(cudaFree(on_gpu.to));
    free(to);
    free(expected);
}

static void test_mean(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (int d = 1; d < cuda_device_count(); d++) {
        if (cuda_device_reads(0, d)) {
            ASSERT_CUDA(cudaDeviceEnablePeerAccess(d, 0));
        }
    }
    check(1, 5);
    check(2, 4096);
    check(4, 1000003);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mean),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, cuda_test_teardown);
}
