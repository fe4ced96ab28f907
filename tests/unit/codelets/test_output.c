/* output: merge of attention parts, O projection, residual. */
#include "tests/unit/codelets/output_test.h"

/* The op's result in fresh memory. merged: out, if wanted. */
static float *run_merged(output_kernel *op, const struct problem *p, struct output_merged merged)
{
    float *x = copy_floats(p->x, (size_t)(p->rows * p->shape.hidden_size));
    op(&(struct output_args){.shape = &p->shape,
                             .weights = p->weights,
                             .parts = p->parts,
                             .num_parts = p->num_parts,
                             .x = x,
                             .merged = merged,
                             .rows = p->rows});
    return x;
}

static float *run(output_kernel *op, const struct problem *p)
{
    return run_merged(op, p, (struct output_merged){0});
}

/* Channel c of row r of the attention output, in double, from the definition: weights exp(lse)
 * without a maximum (the lse are small). */
static double naive_merge(const struct problem *p, int64_t r, int64_t c)
{
    int64_t d = p->shape.head_dim;
    int64_t head = c / d;
    double sum = 0.0;
    double total = 0.0;
    for (int i = 0; i < p->num_parts; i++) {
        const struct attention_part *part = &p->parts[i];
        int64_t at = r * part->num_heads + head - part->first_head;
        bool covers = head >= part->first_head && head < part->first_head + part->num_heads;
        if (covers && part->lse[at] > -INFINITY) {
            double w = exp((double)part->lse[at]);
            sum += w * (double)part->o[at * d + c % d];
            total += w;
        }
    }
    return total == 0.0 ? 0.0 : sum / total;
}

/* The sum over all parts' weights, as it is without a maximum. */
static double naive_total(const struct problem *p, int64_t r, int head)
{
    double total = 0.0;
    for (int i = 0; i < p->num_parts; i++) {
        const struct attention_part *part = &p->parts[i];
        int64_t at = r * part->num_heads + head - part->first_head;
        if (attention_part_covers(part, head)) {
            total += exp((double)part->lse[at]);
        }
    }
    return total;
}

/* The merge that is wanted beside x, which stays as it was. */
static void check_merged(output_kernel *op, const struct problem *p)
{
    int heads = p->shape.num_attention_heads;
    int width = mp_shape_q_width(&p->shape);
    struct output_merged merged = {mp_xmalloc((size_t)(p->rows * width) * sizeof(float)),
                                   mp_xmalloc((size_t)(p->rows * heads) * sizeof(float))};
    float *x = run(op, p);
    float *beside = run_merged(op, p, merged);
    assert_close(beside, x, (size_t)(p->rows * p->shape.hidden_size), 1e-5, "x");
    for (int64_t i = 0; i < p->rows * width; i++) {
        assert_float_equal(merged.o[i], naive_merge(p, i / width, i % width), 1e-5);
    }
    for (int64_t i = 0; i < p->rows * heads; i++) {
        double total = naive_total(p, i / heads, (int)(i % heads));
        assert_true(total > 0.0 ? fabs((double)merged.lse[i] - log(total)) < 1e-5
                                : merged.lse[i] == -INFINITY);
    }
    free(merged.o);
    free(merged.lse);
    free(x);
    free(beside);
}

static float *naive(const struct problem *p)
{
    int width = mp_shape_q_width(&p->shape);
    int hidden = p->shape.hidden_size;
    float *x = copy_floats(p->x, (size_t)(p->rows * hidden));
    for (int64_t r = 0; r < p->rows; r++) {
        double *merged = mp_xcalloc((size_t)width, sizeof *merged);
        for (int64_t c = 0; c < width; c++) {
            merged[c] = naive_merge(p, r, c);
        }
        for (int64_t i = 0; i < hidden; i++) {
            double sum = (double)x[r * hidden + i];
            for (int64_t c = 0; c < width; c++) {
                sum += merged[c] * (double)mp_bf16_to_f32(p->weights.o[i * width + c]);
            }
            x[r * hidden + i] =
                (float)(sum + (double)(p->weights.bias != NULL ? p->weights.bias[i] : 0.0f));
        }
        free(merged);
    }
    return x;
}

static void check_problem(const struct problem *p)
{
    size_t n = (size_t)(p->rows * p->shape.hidden_size);
    float *oracle = naive(p);
    float *expected = run(output_ref, p);
    assert_close(expected, oracle, n, 1e-5, "ref");
    FOR_EACH_ISA(isa)
    {
        float *x = run(output_fast, p);
        assert_close(x, expected, n, f32_tolerance(isa, p->rows), mp_isa_name(isa));
        free(x);
        check_merged(output_fast, p);
    }
    check_merged(output_ref, p);
    free(oracle);
    free(expected);
}

static void test_shapes(void **state)
{
    (void)state;
    for (int i = 0; i < NUM_ROW_COUNTS; i++) {
        check_parts(check_problem, 2, 32, 40, false, row_counts[i]);
        check_parts(check_problem, 1, 80, 33, true, row_counts[i]);
    }
    check_parts(check_problem, 3, 64, 70, true, 5);
    check_parts(check_problem, 2, 128, 50, false, 21);
    check_parts(check_problem, 7, 18, 20, false, 3);
}

/* Rows some or all of whose parts are empty; an empty part may hold anything. One part alone is not
 * asked whether it is empty. */
static void test_empty_parts(void **state)
{
    (void)state;
    for (int num_parts = 2; num_parts <= 5; num_parts++) {
        for (int subsets = 0; subsets < 2; subsets++) {
            struct problem p = problem_create(3, 32, 24, true, 18, num_parts, subsets == 1);
            problem_empty_parts(&p);
            check_problem(&p);
            problem_free(&p);
        }
    }
}

/* Log-sum-exps far beyond the range of exp: the larger part is all. */
static void test_large_lse(void **state)
{
    (void)state;
    struct problem p = problem_create(1, 32, 24, false, 2, 2, false);
    part_lse(&p, 0)[0] = 5000.0f;
    part_lse(&p, 1)[0] = -5000.0f;
    part_lse(&p, 0)[1] = 4000.0f;
    part_lse(&p, 1)[1] = 4500.0f;
    float *fast = run(output_fast, &p);
    float *ref = run(output_ref, &p);
    memcpy(part_o(&p, 0) + 32, part_o(&p, 1) + 32, 32 * sizeof(float));
    p.num_parts = 1;
    float *expected = run(output_ref, &p);
    assert_close(fast, expected, 2 * 24, 1e-5, "fast");
    assert_close(ref, expected, 2 * 24, 1e-5, "ref");
    free(fast);
    free(ref);
    free(expected);
    p.num_parts = 2;
    problem_free(&p);
}

/* Parts that share no heads need no lse, and give what one part of all heads gives, bit by bit. */
static void test_parts_side_by_side(void **state)
{
    (void)state;
    enum { HEADS = 5, D = 32, ROWS = 3, HIDDEN = 24 };
    struct problem p = problem_create(HEADS, D, HIDDEN, false, ROWS, 1, false);
    struct problem sides = p;
    float first[ROWS * 2 * D], rest[ROWS * 3 * D];
    copy_heads(first, 2, p.parts[0].o, HEADS, 2, D * sizeof(float), ROWS);
    copy_heads(rest, 3, p.parts[0].o + 2 * D, HEADS, 3, D * sizeof(float), ROWS);
    sides.num_parts = 2;
    sides.parts[0] = (struct attention_part){.o = first, .num_heads = 2};
    sides.parts[1] = (struct attention_part){.o = rest, .first_head = 2, .num_heads = 3};
    output_kernel *const kernels[] = {output_ref, output_fast};
    for (int i = 0; i < 2; i++) {
        float *expected = run(kernels[i], &p);
        float *x = run(kernels[i], &sides);
        assert_memory_equal(x, expected, ROWS * HIDDEN * sizeof *x);
        free(expected);
        free(x);
        sides.parts[1].first_head = 1; /* two parts of head 1, and no lse */
        sides.parts[1].num_heads = 3;
        ASSERT_PANICS(run(kernels[i], &sides));
        sides.parts[1].first_head = 2;
    }
    problem_free(&p);
}

static void test_most_parts(void **state)
{
    (void)state;
    struct problem p = problem_create(4, 32, 24, true, 5, ATTENTION_MAX_PARTS, true);
    problem_empty_parts(&p);
    check_problem(&p);
    struct problem more = p;
    more.num_parts++;
    ASSERT_PANICS(run(output_ref, &more));
    ASSERT_PANICS(run(output_fast, &more));
    problem_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),     cmocka_unit_test(test_empty_parts),
        cmocka_unit_test(test_large_lse),  cmocka_unit_test(test_parts_side_by_side),
        cmocka_unit_test(test_most_parts),
    };
    return cmocka_run_group_tests(tests, NULL, release_kernels);
}
