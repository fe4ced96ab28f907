/* memory_read on the GPU against the reference, with the sum in device and in pinned memory. */
#include "codelets/memory_read/memory_read.h"
#include "tests/unit/cuda/cuda_test.h"

static void check(int64_t bytes)
{
    size_t count = (size_t)bytes / sizeof(uint64_t);
    uint64_t *data = mp_xmalloc((count + 1) * sizeof *data);
    struct mp_rng rng;
    mp_rng_init(&rng, (uint64_t)bytes, 0);
    for (size_t i = 0; i <= count; i++) { /* the last is not to be read */
        data[i] = mp_rng_next(&rng);
    }
    uint64_t expected = 0;
    memory_read_ref(&(struct memory_read_args){data, bytes, &expected});

    uint64_t *device_data = device_copy(data, (count + 1) * sizeof *data);
    uint64_t *device_sum = device_copy(NULL, sizeof *device_sum);
    uint64_t *pinned_sum = NULL;
    ASSERT_CUDA(cudaMallocHost((void **)&pinned_sum, sizeof *pinned_sum));
    *pinned_sum = 99;
    cuda_op_begin("memory_read");
    memory_read_cuda(&(struct memory_read_args){device_data, bytes, device_sum});
    cuda_op_end();
    cuda_op_begin("memory_read");
    memory_read_cuda(&(struct memory_read_args){device_data, bytes, pinned_sum});
    cuda_op_end();
    uint64_t *sum = host_copy(device_sum, sizeof *sum);
    assert_true(*sum == expected);
    assert_true(*pinned_sum == expected);

    free(data);
    free(sum);
    ASSERT_CUDA(cudaFree(device_data));
    ASSERT_CUDA(cudaFree(device_sum));
    ASSERT_CUDA(cudaFreeHost(pinned_sum));
}

/* Fewer words than threads, one round of each loop, several of both. */
static void test_sum(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    const int64_t lines[] = {0, 1, 3, 1001, 65537, 1048583};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        check(64 * lines[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, cuda_test_teardown);
}
