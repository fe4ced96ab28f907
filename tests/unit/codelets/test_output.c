/* output: merge of attention parts, O projection, residual. */
#include "tests/unit/codelets/output_test.h"

/* The op's result in fresh memory. */
static float *run(output_kernel *op, const struct problem *p, bool merge)
{
    float *x = copy_floats(p->x, (size_t)(p->rows * p->shape.hidden_size));
    struct output_args a = {
        .shape = &p->shape, .weights = p->weights, .o_static = p->o[0], .x = x, .rows = p->rows};
    if (merge) {
        a.lse_static = p->lse[0];
        a.o_sampled = p->o[1];
        a.lse_sampled = p->lse[1];
    }
    op(&a);
    return x;
}

/* In double, from the definition: weights exp(lse) without a maximum (the lse are small). */
static float *naive(const struct problem *p, bool merge)
{
    int width = mp_shape_q_width(&p->shape);
    int hidden = p->shape.hidden_size;
    float *x = copy_floats(p->x, (size_t)(p->rows * hidden));
    for (int64_t i = 0; i < p->rows * hidden; i++) {
        int64_t r = i / hidden;
        int64_t row = i % hidden;
        double sum = x[i];
        for (int64_t c = 0; c < width; c++) {
            int64_t h = r * p->shape.num_attention_heads + c / p->shape.head_dim;
            double w0 = merge ? exp(p->lse[0][h]) : 1.0;
            double w1 = merge ? exp(p->lse[1][h]) : 0.0;
            double o =
                w0 + w1 == 0.0
                    ? 0.0
                    : (w0 * p->o[0][r * width + c] + w1 * p->o[1][r * width + c]) / (w0 + w1);
            sum += o * mp_bf16_to_f32(p->weights.o[row * width + c]);
        }
        x[i] = (float)(sum + (p->weights.bias != NULL ? p->weights.bias[row] : 0.0f));
    }
    return x;
}

static void check_problem(const struct problem *p, bool merge)
{
    size_t n = (size_t)(p->rows * p->shape.hidden_size);
    float *oracle = naive(p, merge);
    float *expected = run(output_ref, p, merge);
    assert_close(expected, oracle, n, 1e-5, "ref");
    FOR_EACH_ISA(isa)
    {
        float *x = run(output_fast, p, merge);
        assert_close(x, expected, n, f32_tolerance(isa, p->rows), mp_isa_name(isa));
        free(x);
    }
    free(oracle);
    free(expected);
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
    for (int i = 0; i < NUM_ROW_COUNTS; i++) {
        check(2, 32, 40, false, row_counts[i]);
        check(1, 80, 33, true, row_counts[i]);
    }
    check(3, 64, 70, true, 5);
    check(2, 128, 50, false, 21);
}

/* Rows whose static, sampled or both parts are empty. */
static void test_empty_parts(void **state)
{
    (void)state;
    enum { ROWS = 18, HEADS = 2 };
    struct problem p = problem_create(HEADS, 32, 24, true, ROWS);
    for (int i = 0; i < ROWS * HEADS; i++) {
        if (i % 3 != 0) {
            p.lse[i % 3 - 1][i] = -INFINITY;
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
    struct problem p = problem_create(1, 32, 24, false, 2);
    p.lse[0][0] = 5000.0f;
    p.lse[1][0] = -5000.0f;
    p.lse[0][1] = 4000.0f;
    p.lse[1][1] = 4500.0f;
    float *fast = run(output_fast, &p, true);
    float *ref = run(output_ref, &p, true);
    memcpy(p.o[0] + 32, p.o[1] + 32, 32 * sizeof(float));
    float *expected = run(output_ref, &p, false);
    assert_close(fast, expected, 2 * 24, 1e-5, "fast");
    assert_close(ref, expected, 2 * 24, 1e-5, "ref");
    free(fast);
    free(ref);
    free(expected);
    problem_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_empty_parts),
        cmocka_unit_test(test_large_lse),
    };
    return cmocka_run_group_tests(tests, NULL, release_kernels);
}
