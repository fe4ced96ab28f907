/* output on the GPU against the reference: merge, O projection, residual. */
#include "codelets/common/linear/linear_cuda.h"
#include "tests/unit/codelets/cuda_test.h"
#include "tests/unit/codelets/output_test.h"

/* A copy in pinned host memory, where the sampled part lies. Free with cudaFreeHost. */
static float *pinned_copy(const float *x, size_t bytes)
{
    void *copy = NULL;
    ASSERT_CUDA(cudaMallocHost(&copy, bytes));
    memcpy(copy, x, bytes);
    return copy;
}

static float *run_ref(const struct problem *p, bool merge)
{
    float *x = copy_floats(p->x, (size_t)(p->rows * p->shape.hidden_size));
    struct output_args a = {.shape = &p->shape, .o_static = p->o[0], .x = x, .rows = p->rows};
    output_weights_at(&p->shape, p->block, &a.weights);
    if (merge) {
        a.lse_static = p->lse[0];
        a.o_sampled = p->o[1];
        a.lse_sampled = p->lse[1];
    }
    output_ref(&a);
    return x;
}

static float *run_cuda(const struct problem *p, bool merge)
{
    const size_t x_bytes = (size_t)(p->rows * p->shape.hidden_size) * sizeof(float);
    const size_t lse_bytes = (size_t)(p->rows * p->shape.num_attention_heads) * sizeof(float);
    const size_t o_bytes = lse_bytes * (size_t)p->shape.head_dim;
    void *block = device_copy(p->block, output_weights_at(&p->shape, NULL, NULL));
    float *x = device_copy(p->x, x_bytes);
    float *o_static = device_copy(p->o[0], o_bytes);
    float *lse_static = device_copy(p->lse[0], lse_bytes);
    float *o_sampled = pinned_copy(p->o[1], o_bytes);
    float *lse_sampled = pinned_copy(p->lse[1], lse_bytes);
    struct output_args a = {.shape = &p->shape, .o_static = o_static, .x = x, .rows = p->rows};
    output_weights_at(&p->shape, block, &a.weights);
    if (merge) {
        a.lse_static = lse_static;
        a.o_sampled = o_sampled;
        a.lse_sampled = lse_sampled;
    }
    cuda_op_begin("output");
    output_cuda(&a);
    cuda_op_end();
    float *result = host_copy(x, x_bytes);
    ASSERT_CUDA(cudaFree(block));
    ASSERT_CUDA(cudaFree(x));
    ASSERT_CUDA(cudaFree(o_static));
    ASSERT_CUDA(cudaFree(lse_static));
    ASSERT_CUDA(cudaFreeHost(o_sampled));
    ASSERT_CUDA(cudaFreeHost(lse_sampled));
    return result;
}

static void check_problem(const struct problem *p, bool merge)
{
    float *expected = run_ref(p, merge);
    float *x = run_cuda(p, merge);
    assert_close(x, expected, (size_t)(p->rows * p->shape.hidden_size), 1e-4, "output");
    free(expected);
    free(x);
}

static void check(int heads, int head_dim, int hidden, bool bias, int64_t rows)
{
    struct problem p = problem_create(heads, head_dim, hidden, bias, rows);
    check_problem(&p, true);
    check_problem(&p, false);
    problem_free(&p);
}

static void test_shapes(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (int i = 0; i < NUM_ROW_COUNTS; i++) {
        check(2, 32, 40, false, row_counts[i]);
        check(1, 80, 33, true, row_counts[i]);
    }
    check(3, 64, 70, true, 5);
    check(2, 128, 50, false, 21);
    check(2, 256, 50, false, 3);
    check(3, 2, 10, false, 4);
    check(1, 32, 24, true, LINEAR_CUDA_ROW_BLOCK + 3);
}

/* Rows whose static, sampled or both parts are empty; an empty part may hold anything. */
static void test_empty_parts(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    enum { ROWS = 18, HEADS = 2, HEAD_DIM = 32 };
    struct problem p = problem_create(HEADS, HEAD_DIM, 24, true, ROWS);
    for (int i = 0; i < ROWS * HEADS; i++) {
        if (i % 3 != 0) {
            p.lse[i % 3 - 1][i] = -INFINITY;
            p.o[i % 3 - 1][i * HEAD_DIM] = NAN;
        }
        if (i % 7 == 0) {
            p.lse[0][i] = -INFINITY;
            p.lse[1][i] = -INFINITY;
        }
    }
    check_problem(&p, true);
    problem_free(&p);
}

/* Log-sum-exps far beyond the range of exp: the larger part is all. */
static void test_large_lse(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    struct problem p = problem_create(1, 32, 24, false, 2);
    p.lse[0][0] = 5000.0f;
    p.lse[1][0] = -5000.0f;
    p.lse[0][1] = 4000.0f;
    p.lse[1][1] = 4500.0f;
    check_problem(&p, true);
    problem_free(&p);
}

static int teardown(void **state)
{
    release_kernels(state);
    return cuda_test_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_empty_parts),
        cmocka_unit_test(test_large_lse),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, teardown);
}
