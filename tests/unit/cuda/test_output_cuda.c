/* output on the GPU against the reference: merge, O projection, residual. */
#include "codelets/common/linear/linear_cuda.h"
#include "tests/unit/codelets/output_test.h"
#include "tests/unit/cuda/cuda_test.h"

/* A copy in pinned host memory, where parts of the CPU lie. Free with cudaFreeHost. */
static float *pinned_copy(const float *x, size_t bytes)
{
    void *copy = NULL;
    ASSERT_CUDA(cudaMallocHost(&copy, bytes));
    memcpy(copy, x, bytes);
    return copy;
}

/* merged, here and below: out, in memory of the host. */
static float *run_ref(const struct problem *p, struct output_merged merged)
{
    float *x = copy_floats(p->x, (size_t)(p->rows * p->shape.hidden_size));
    struct output_args a = {.shape = &p->shape,
                            .parts = p->parts,
                            .num_parts = p->num_parts,
                            .x = x,
                            .merged = merged,
                            .rows = p->rows};
    output_weights_at(&p->shape, p->block, &a.weights);
    output_ref(&a);
    return x;
}

/* The first part in device memory, the others in pinned host memory. */
static struct attention_part place_part(const struct problem *p, int i)
{
    const size_t lse_bytes = part_heads(p, i) * sizeof(float);
    const size_t o_bytes = lse_bytes * (size_t)p->shape.head_dim;
    struct attention_part part = p->parts[i];
    if (i == 0) {
        part.o = device_copy(part.o, o_bytes);
        part.lse = device_copy(part.lse, lse_bytes);
    } else {
        part.o = pinned_copy(part.o, o_bytes);
        part.lse = pinned_copy(part.lse, lse_bytes);
    }
    return part;
}

static void release_part(const struct attention_part *part, int i)
{
    ASSERT_CUDA(i == 0 ? cudaFree((void *)part->o) : cudaFreeHost((void *)part->o));
    ASSERT_CUDA(i == 0 ? cudaFree((void *)part->lse) : cudaFreeHost((void *)part->lse));
}

static float *run_cuda(const struct problem *p, struct output_merged merged)
{
    const size_t heads = (size_t)(p->rows * p->shape.num_attention_heads);
    const size_t o_bytes = heads * (size_t)p->shape.head_dim * sizeof(float);
    struct output_merged pinned = {pinned_copy(merged.o, o_bytes),
                                   pinned_copy(merged.lse, heads * sizeof(float))};
    const size_t x_bytes = (size_t)(p->rows * p->shape.hidden_size) * sizeof(float);
    void *block = device_copy(p->block, output_weights_at(&p->shape, NULL, NULL));
    float *x = device_copy(p->x, x_bytes);
    struct attention_part parts[ATTENTION_MAX_PARTS];
    for (int i = 0; i < p->num_parts; i++) {
        parts[i] = place_part(p, i);
    }
    struct output_args a = {.shape = &p->shape,
                            .parts = parts,
                            .num_parts = p->num_parts,
                            .x = x,
                            .merged = pinned,
                            .rows = p->rows};
    output_weights_at(&p->shape, block, &a.weights);
    cuda_op_begin("output");
    output_cuda(&a);
    cuda_op_end();
    float *result = host_copy(x, x_bytes);
    memcpy(merged.o, pinned.o, o_bytes);
    memcpy(merged.lse, pinned.lse, heads * sizeof(float));
    ASSERT_CUDA(cudaFreeHost(pinned.o));
    ASSERT_CUDA(cudaFreeHost(pinned.lse));
    for (int i = 0; i < p->num_parts; i++) {
        release_part(&parts[i], i);
    }
    ASSERT_CUDA(cudaFree(block));
    ASSERT_CUDA(cudaFree(x));
    return result;
}

static void check_problem(const struct problem *p)
{
    const size_t heads = (size_t)(p->rows * p->shape.num_attention_heads);
    const size_t width = heads * (size_t)p->shape.head_dim;
    struct output_merged merged[2];
    for (int i = 0; i < 2; i++) {
        merged[i] = (struct output_merged){mp_xcalloc(width, sizeof(float)),
                                           mp_xcalloc(heads, sizeof(float))};
    }
    float *expected = run_ref(p, merged[0]);
    float *x = run_cuda(p, merged[1]);
    assert_close(x, expected, (size_t)(p->rows * p->shape.hidden_size), 1e-4, "output");
    assert_close(merged[1].o, merged[0].o, width, 1e-5, "merged");
    for (size_t i = 0; i < heads; i++) {
        float off = fabsf(merged[1].lse[i] - merged[0].lse[i]);
        assert_true(merged[1].lse[i] == merged[0].lse[i] || off < 1e-3f);
    }
    for (int i = 0; i < 2; i++) {
        free(merged[i].o);
        free(merged[i].lse);
    }
    free(expected);
    free(x);
}

static void test_shapes(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (int i = 0; i < NUM_ROW_COUNTS; i++) {
        check_parts(check_problem, 2, 32, 40, false, row_counts[i]);
        check_parts(check_problem, 1, 80, 33, true, row_counts[i]);
    }
    check_parts(check_problem, 3, 64, 70, true, 5);
    check_parts(check_problem, 2, 128, 50, false, 21);
    check_parts(check_problem, 2, 256, 50, false, 3);
    check_parts(check_problem, 3, 2, 10, false, 4);
    check_parts(check_problem, 1, 32, 24, true, LINEAR_CUDA_ROW_BLOCK + 3);
}

/* Rows some or all of whose parts are empty; an empty part may hold anything. */
static void test_empty_parts(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (int num_parts = 2; num_parts <= 5; num_parts++) {
        for (int subsets = 0; subsets < 2; subsets++) {
            struct problem p = problem_create(3, 32, 24, true, 18, num_parts, subsets == 1);
            problem_empty_parts(&p);
            check_problem(&p);
            problem_free(&p);
        }
    }
}

/* As many parts as there may be, of some heads each and of all heads. */
static void test_most_parts(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (int subsets = 0; subsets < 2; subsets++) {
        struct problem p = problem_create(4, 80, 24, true, 5, ATTENTION_MAX_PARTS, subsets == 1);
        problem_empty_parts(&p);
        check_problem(&p);
        problem_free(&p);
    }
}

/* Log-sum-exps far beyond the range of exp: the larger part is all. */
static void test_large_lse(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    struct problem p = problem_create(1, 32, 24, false, 2, 2, false);
    part_lse(&p, 0)[0] = 5000.0f;
    part_lse(&p, 1)[0] = -5000.0f;
    part_lse(&p, 0)[1] = 4000.0f;
    part_lse(&p, 1)[1] = 4500.0f;
    check_problem(&p);
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
        cmocka_unit_test(test_most_parts),
        cmocka_unit_test(test_large_lse),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, teardown);
}
