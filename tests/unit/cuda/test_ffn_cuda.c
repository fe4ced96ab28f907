/* ffn on the GPU against the reference. */
#include "codelets/common/linear/linear_cuda.h"
#include "codelets/ffn/ffn.h"
#include "tests/unit/codelets/dense_test.h"
#include "tests/unit/cuda/cuda_test.h"

static void check(int hidden, int width, bool bias, int64_t rows)
{
    const struct mp_shape shape = {
        .hidden_size = hidden, .intermediate_size = width, .rms_norm_eps = 1e-5f, .mlp_bias = bias};
    const size_t bytes = ffn_weights_at(&shape, NULL, NULL);
    const size_t matrix = (size_t)hidden * (size_t)width;
    const size_t n = (size_t)rows * (size_t)hidden;
    void *block = alloc_block(bytes);
    struct ffn_weights weights;
    ffn_weights_at(&shape, block, &weights);
    fill_f32(weights.norm, (size_t)hidden, 1.0f, 0.2f, 1);
    fill_bf16(weights.gate_up, 2 * matrix, 0.1f, 2);
    fill_bf16(weights.down, matrix, 0.1f, 3);
    fill_f32(weights.gate_up_bias, 2 * (size_t)width, 0.0f, 0.5f, 4);
    fill_f32(weights.down_bias, (size_t)hidden, 0.0f, 0.5f, 5);
    float *expected = random_floats(n, 1.0f, 6);
    void *device_block = device_copy(block, bytes);
    float *device_x = device_copy(expected, n * sizeof *expected);

    ffn_ref(&(struct ffn_args){&shape, weights, expected, rows});
    ffn_weights_at(&shape, device_block, &weights);
    cuda_op_begin("ffn");
    ffn_cuda(&(struct ffn_args){&shape, weights, device_x, rows});
    cuda_op_end();
    float *x = host_copy(device_x, n * sizeof *x);
    assert_close(x, expected, n, 1e-4, "ffn");

    free(expected);
    free(x);
    mp_free(block);
    ASSERT_CUDA(cudaFree(device_block));
    ASSERT_CUDA(cudaFree(device_x));
}

static void test_rows(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (int i = 0; i < NUM_ROW_COUNTS; i++) {
        check(64, 176, false, row_counts[i]);
        check(64, 176, true, row_counts[i]);
        check(50, 37, true, row_counts[i]);
    }
}

static void test_wide(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    check(16, 5003, false, 1);
    check(16, 5003, true, 19);
    check(2048, 1024, false, 8);
    check(2048, 1024, false, 9);
}

static void test_row_blocks(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    check(32, 48, true, LINEAR_CUDA_ROW_BLOCK + 5);
}

static int teardown(void **state)
{
    release_kernels(state);
    return cuda_test_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_wide),
        cmocka_unit_test(test_row_blocks),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, teardown);
}
