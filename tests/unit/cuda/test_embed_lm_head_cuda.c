/* embed and lm_head on the GPU against the references. */
#include "codelets/embed/embed.h"
#include "codelets/lm_head/lm_head.h"
#include "tests/unit/codelets/dense_test.h"
#include "tests/unit/cuda/cuda_test.h"

static void check_embed(int64_t rows, int hidden)
{
    enum { VOCAB = 11 };
    const size_t table_bytes = (size_t)(VOCAB * hidden) * sizeof(uint16_t);
    const size_t x_bytes = (size_t)(rows * hidden) * sizeof(float);
    int32_t *ids = mp_xmalloc((size_t)rows * sizeof *ids);
    for (int64_t r = 0; r < rows; r++) {
        ids[r] = (int32_t)((r * 7 + VOCAB - 1) % VOCAB);
    }
    uint16_t *table = random_tensor(MP_BF16, (size_t)(VOCAB * hidden), 1.0f, 1);
    float *expected = mp_xmalloc(x_bytes);
    embed_ref(&(struct embed_args){ids, table, expected, rows, hidden});

    int32_t *device_ids = device_copy(ids, (size_t)rows * sizeof *ids);
    uint16_t *device_table = device_copy(table, table_bytes);
    float *device_x = device_copy(NULL, x_bytes);
    cuda_op_begin("embed");
    embed_cuda(&(struct embed_args){device_ids, device_table, device_x, rows, hidden});
    cuda_op_end();
    float *x = host_copy(device_x, x_bytes);
    assert_memory_equal(x, expected, x_bytes);

    free(ids);
    free(table);
    free(expected);
    free(x);
    ASSERT_CUDA(cudaFree(device_ids));
    ASSERT_CUDA(cudaFree(device_table));
    ASSERT_CUDA(cudaFree(device_x));
}

static void test_embed(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    check_embed(1, 4096);
    check_embed(5, 7);
    check_embed(600, 257);
}

/* The logits go to pinned host memory, as they do in the engine. */
static void check_lm_head(int hidden, int vocab, int64_t rows)
{
    struct mp_shape shape = {.hidden_size = hidden, .vocab_size = vocab, .rms_norm_eps = 1e-6f};
    const size_t n = (size_t)rows * (size_t)vocab;
    const size_t x_size = (size_t)rows * (size_t)hidden;
    const size_t w_size = (size_t)hidden * (size_t)vocab;
    float *norm = random_floats((size_t)hidden, 1.0f, 1);
    uint16_t *w = random_tensor(MP_BF16, w_size, 0.1f, 2);
    float *x = random_floats(x_size, 1.0f, 3);
    float *expected = mp_xcalloc(n, sizeof *expected);
    lm_head_ref(&(struct lm_head_args){&shape, norm, w, x, expected, rows});

    float *device_norm = device_copy(norm, (size_t)hidden * sizeof *norm);
    uint16_t *device_w = device_copy(w, w_size * sizeof *w);
    float *device_x = device_copy(x, x_size * sizeof *x);
    float *logits = NULL;
    ASSERT_CUDA(cudaMallocHost((void **)&logits, n * sizeof *logits));
    memset(logits, 0xff, n * sizeof *logits);
    cuda_op_begin("lm_head");
    lm_head_cuda(&(struct lm_head_args){&shape, device_norm, device_w, device_x, logits, rows});
    cuda_op_end();
    cuda_synchronize();
    assert_close(logits, expected, n, 1e-4, "lm_head");

    free(norm);
    free(w);
    free(x);
    free(expected);
    ASSERT_CUDA(cudaFree(device_norm));
    ASSERT_CUDA(cudaFree(device_w));
    ASSERT_CUDA(cudaFree(device_x));
    ASSERT_CUDA(cudaFreeHost(logits));
}

static void test_lm_head(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (int i = 0; i < NUM_ROW_COUNTS; i++) {
        check_lm_head(96, 301, row_counts[i]);
    }
    check_lm_head(45, 6, 3);
}

static int teardown(void **state)
{
    release_kernels(state);
    return cuda_test_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed),
        cmocka_unit_test(test_lm_head),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, teardown);
}
