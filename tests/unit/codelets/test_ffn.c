/* ffn: the fast kernel against the reference, and the reference against sums in double. */
#include "codelets/ffn/ffn.h"
#include "tests/unit/codelets/dense_test.h"

struct model {
    struct mp_shape shape;
    void *block;
    struct ffn_weights weights;
};

static struct model model_create(int hidden, int width, bool bias)
{
    struct model m = {.shape = {.hidden_size = hidden,
                                .intermediate_size = width,
                                .rms_norm_eps = 1e-5f,
                                .mlp_bias = bias}};
    m.block = alloc_block(ffn_weights_at(&m.shape, NULL, NULL));
    ffn_weights_at(&m.shape, m.block, &m.weights);
    size_t matrix = (size_t)hidden * (size_t)width;
    fill_f32(m.weights.norm, (size_t)hidden, 1.0f, 0.2f, 1);
    fill_bf16(m.weights.gate_up, 2 * matrix, 0.1f, 2);
    fill_bf16(m.weights.down, matrix, 0.1f, 3);
    fill_f32(m.weights.gate_up_bias, 2 * (size_t)width, 0.0f, 0.5f, 4);
    fill_f32(m.weights.down_bias, (size_t)hidden, 0.0f, 0.5f, 5);
    return m;
}

static double dot(const double *x, const uint16_t *w, int n, const float *bias, int o)
{
    double sum = bias != NULL ? bias[o] : 0.0;
    for (int i = 0; i < n; i++) {
        sum += x[i] * (double)mp_bf16_to_f32(w[(int64_t)o * n + i]);
    }
    return sum;
}

/* One row in double, straight from the definition. */
static void naive_row(const struct model *m, float *x)
{
    int hidden = m->shape.hidden_size;
    int width = m->shape.intermediate_size;
    double *normed = mp_xcalloc((size_t)hidden, sizeof *normed);
    double *act = mp_xcalloc((size_t)width, sizeof *act);
    double square = 0.0;
    for (int i = 0; i < hidden; i++) {
        square += (double)x[i] * x[i] / hidden;
    }
    for (int i = 0; i < hidden; i++) {
        normed[i] = x[i] / sqrt(square + (double)m->shape.rms_norm_eps) * m->weights.norm[i];
    }
    for (int i = 0; i < width; i++) {
        double gate = dot(normed, m->weights.gate_up, hidden, m->weights.gate_up_bias, i);
        double up = dot(normed, m->weights.gate_up, hidden, m->weights.gate_up_bias, width + i);
        act[i] = gate / (1.0 + exp(-gate)) * up;
    }
    for (int i = 0; i < hidden; i++) {
        x[i] = (float)(x[i] + dot(act, m->weights.down, width, m->weights.down_bias, i));
    }
    free(normed);
    free(act);
}

static void check(int hidden, int width, bool bias, int64_t rows)
{
    struct model m = model_create(hidden, width, bias);
    size_t n = (size_t)rows * (size_t)hidden;
    float *x = random_floats(n, 1.0f, 6);
    float *naive = copy_floats(x, n);
    float *expected = copy_floats(x, n);
    for (int64_t r = 0; r < rows; r++) {
        naive_row(&m, naive + r * hidden);
    }
    ffn_ref(&(struct ffn_args){&m.shape, m.weights, expected, rows});
    assert_close(expected, naive, n, 1e-5, "ref");
    FOR_EACH_ISA(isa)
    {
        float *y = copy_floats(x, n);
        ffn_fast(&(struct ffn_args){&m.shape, m.weights, y, rows});
        assert_close(y, expected, n, f32_tolerance(isa, rows), mp_isa_name(isa));
        free(y);
    }
    free(x);
    free(naive);
    free(expected);
    mp_free(m.block);
}

static void test_rows(void **state)
{
    (void)state;
    for (int i = 0; i < NUM_ROW_COUNTS; i++) {
        check(64, 176, false, row_counts[i]);
        check(50, 37, true, row_counts[i]);
    }
}

/* Wider than one piece of the activation. */
static void test_wide(void **state)
{
    (void)state;
    check(16, 5003, false, 1);
    check(16, 5003, true, 19);
}

/* The arrays of a block are aligned, do not overlap and fill it. */
static void test_layout(void **state)
{
    (void)state;
    struct model m = model_create(50, 37, true);
    const char *base = m.block;
    assert_ptr_equal(m.weights.norm, base);
    assert_ptr_equal(m.weights.gate_up, base + 256);              /* 50 * 4 */
    assert_ptr_equal(m.weights.down, base + 256 + 7424);          /* 2 * 37 * 50 * 2 = 7400 */
    assert_ptr_equal(m.weights.gate_up_bias, base + 7680 + 3712); /* 37 * 50 * 2 = 3700 */
    assert_ptr_equal(m.weights.down_bias, base + 11392 + 320);    /* 2 * 37 * 4 = 296 */
    assert_int_equal(ffn_weights_at(&m.shape, NULL, NULL), 11712 + 256);
    mp_free(m.block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_wide),
        cmocka_unit_test(test_layout),
    };
    return cmocka_run_group_tests(tests, NULL, release_kernels);
}
