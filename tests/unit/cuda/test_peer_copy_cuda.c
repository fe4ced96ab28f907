/* peer_copy on the GPU: within its memory, and into that of every other GPU there is. */
#include "codelets/peer_copy/peer_copy.h"
#include "tests/unit/cuda/cuda_test.h"

enum { COUNT = 70001 };

static void check_copy(int to_device)
{
    const size_t bytes = COUNT * sizeof(float);
    float *from = random_floats(COUNT, 1.0f, 1);
    float *device_from = device_copy(from, bytes);
    ASSERT_CUDA(cudaSetDevice(to_device));
    float *device_to = device_copy(NULL, bytes + sizeof(float));
    ASSERT_CUDA(cudaSetDevice(0));
    cuda_op_begin("peer_copy");
    peer_copy_cuda(&(struct peer_copy_args){device_from, device_to, COUNT});
    cuda_op_end();
    float *to = host_copy(device_to, bytes + sizeof(float));
    assert_memory_equal(to, from, bytes);
    assert_true(to[COUNT] != to[COUNT]); /* NaN, as it was */
    free(from);
    free(to);
    ASSERT_CUDA(cudaFree(device_from));
    ASSERT_CUDA(cudaFree(device_to));
}

static void test_copy(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (int d = 0; d < cuda_device_count(); d++) {
        check_copy(d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, cuda_test_teardown);
}
