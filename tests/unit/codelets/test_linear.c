/* linear: y = x W^T against sums in double, every size class and variant. */
#include "codelets/common/elementwise.h"
#include "tests/unit/codelets/dense_test.h"

#include <omp.h>

struct problem {
    int64_t rows;
    int in;
    int out;
    int x_pad; /* x_stride - in */
    int y_pad; /* y_stride - out */
    bool bias;
    bool accumulate;
};

static const double ROUNDED = 2e-2;    /* activations in one bf16 part keep 8 bits */
static const float PADDING = 12345.0f; /* what lies between the rows of y */

static float start_value(const float *start, const struct problem *p, int64_t i)
{
    int64_t stride = p->out + p->y_pad;
    return i % stride < p->out ? start[i] : PADDING;
}

/* Compares one function with sums in double. */
static void check_function(void (*linear)(const struct linear_args *), const struct problem *p,
                           double tolerance, const char *what)
{
    int64_t x_stride = p->in + p->x_pad;
    int64_t y_stride = p->out + p->y_pad;
    float *x = random_floats((size_t)(p->rows * x_stride), 1.0f, 1);
    uint16_t *w = random_tensor(MP_BF16, (size_t)p->in * (size_t)p->out, 0.1f, 2);
    float *bias = random_floats((size_t)p->out, 1.0f, 3);
    size_t y_size = (size_t)(p->rows * y_stride);
    float *y = random_floats(y_size, 1.0f, 4);
    float *expected = mp_xmalloc(y_size * sizeof *expected);
    for (int64_t i = 0; i < (int64_t)y_size; i++) {
        y[i] = start_value(y, p, i);
        expected[i] = y[i];
    }
    for (int64_t r = 0; r < p->rows; r++) {
        for (int o = 0; o < p->out; o++) {
            double sum = p->bias ? bias[o] : 0.0;
            for (int c = 0; c < p->in; c++) {
                sum += (double)x[r * x_stride + c] * mp_bf16_to_f32(w[(int64_t)o * p->in + c]);
            }
            float *e = &expected[r * y_stride + o];
            *e = (float)((p->accumulate ? *e : 0.0) + sum);
        }
    }

    mp_scratch_reset();
    linear(&(struct linear_args){
        .x = x,
        .x_stride = x_stride,
        .w = w,
        .bias = p->bias ? bias : NULL,
        .y = y,
        .y_stride = y_stride,
        .rows = p->rows,
        .in = p->in,
        .out = p->out,
        .accumulate = p->accumulate,
    });
    for (int64_t r = 0; r < p->rows; r++) {
        assert_close(y + r * y_stride, expected + r * y_stride, (size_t)p->out, tolerance, what);
        for (int64_t i = r * y_stride + p->out; i < (r + 1) * y_stride; i++) {
            assert_true(y[i] == PADDING);
        }
    }
    free(x);
    free(w);
    free(bias);
    free(y);
    free(expected);
}

static void check_all(const struct problem *p)
{
    check_function(linear_ref, p, 1e-5, "ref");
    FOR_EACH_ISA(isa)
    {
        check_function(linear_fast, p, f32_tolerance(isa, p->rows), mp_isa_name(isa));
        linear_set_parts(1);
        check_function(linear_fast, p, ROUNDED, mp_isa_name(isa));
        linear_set_parts(2);
    }
}

/* A product small enough to check by hand. */
static void test_known_values(void **state)
{
    (void)state;
    const float x[] = {1.0f, 2.0f, 3.0f, -1.0f, 0.5f, 4.0f};
    const float w[] = {1.0f, 0.0f, -1.0f, 2.0f, 0.5f, 0.25f};
    const float bias[] = {10.0f, 20.0f};
    uint16_t w_bf16[6];
    for (int i = 0; i < 6; i++) {
        w_bf16[i] = mp_f32_to_bf16(w[i]);
    }
    FOR_EACH_ISA(isa)
    {
        float y[] = {100.0f, 200.0f, 300.0f, 400.0f};
        struct linear_args a = {
            .x = x,
            .x_stride = 3,
            .w = w_bf16,
            .y = y,
            .y_stride = 2,
            .rows = 2,
            .in = 3,
            .out = 2,
        };
        linear_fast(&a);
        assert_true(y[0] == -2.0f && y[1] == 3.75f && y[2] == -5.0f && y[3] == -0.75f);
        a.bias = bias;
        a.accumulate = true;
        linear_fast(&a);
        assert_true(y[0] == 6.0f && y[1] == 27.5f && y[2] == 0.0f && y[3] == 18.5f);
    }
}

static void test_sizes(void **state)
{
    (void)state;
    static const int sizes[][2] = {{1, 1}, {7, 3}, {33, 5}, {64, 130}, {257, 71}};
    for (int i = 0; i < NUM_ROW_COUNTS; i++) {
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            struct problem p = {.rows = row_counts[i], .in = sizes[s][0], .out = sizes[s][1]};
            check_all(&p);
        }
    }
}

static void test_bias_accumulate_strides(void **state)
{
    (void)state;
    for (int i = 0; i < NUM_ROW_COUNTS; i++) {
        for (int mode = 0; mode < 8; mode++) {
            struct problem p = {
                .rows = row_counts[i],
                .in = 96,
                .out = 37,
                .x_pad = mode & 4 ? 5 : 0,
                .y_pad = mode & 4 ? 3 : 0,
                .bias = mode & 1,
                .accumulate = mode & 2,
            };
            check_all(&p);
        }
    }
}

/* Every row count our own kernel takes, so that each of its tiles runs. */
static void test_every_decode_row_count(void **state)
{
    (void)state;
    for (int64_t rows = 1; rows <= LINEAR_GEMV_MAX_ROWS + 1; rows++) {
        check_all(&(struct problem){.rows = rows, .in = 80, .out = 9});
    }
}

/* More products than the cache of primitives holds, twice over. */
static void test_many_shapes(void **state)
{
    (void)state;
    for (int64_t i = 0; i < 80; i++) {
        struct problem p = {.rows = 17 + i % 40, .in = 16, .out = 8};
        check_all(&p);
    }
}

/* W is widened in more than one block. */
/* The same bits from any number of threads. oneDNN, which has the products of many rows, keeps to
 * that with AVX-512; below it splits sums among threads. */
static void test_threads(void **state)
{
    (void)state;
    enum { IN = 4096, OUT = 264, MOST_ROWS = 300 };
    static const int64_t rows[] = {1, 5, 16, 17, 64, MOST_ROWS};
    enum { OWN = 3 };
    const int before = omp_get_max_threads();
    float *x = random_floats((size_t)MOST_ROWS * IN, 1.0f, 1);
    uint16_t *w = random_tensor(MP_BF16, (size_t)IN * OUT, 0.1f, 2);
    float *y[2] = {random_floats((size_t)MOST_ROWS * OUT, 0.0f, 3),
                   random_floats((size_t)MOST_ROWS * OUT, 0.0f, 3)};
    FOR_EACH_ISA(isa)
    {
        size_t count = isa < MP_ISA_AVX512 ? OWN : sizeof rows / sizeof rows[0];
        for (size_t r = 0; r < count; r++) {
            for (int threads = 1; threads <= 16; threads += 1 + threads / 4) {
                struct linear_args a = {.x = x,
                                        .x_stride = IN,
                                        .w = w,
                                        .y = y[threads > 1],
                                        .y_stride = OUT,
                                        .rows = rows[r],
                                        .in = IN,
                                        .out = OUT};
                omp_set_num_threads(threads);
                mp_scratch_reset();
                linear_fast(&a);
                if (memcmp(y[0], a.y, (size_t)(rows[r] * OUT) * sizeof *a.y) != 0) {
                    fail_msg("%s, %d rows: other bits from %d threads", mp_isa_name(isa),
                             (int)rows[r], threads);
                }
            }
        }
    }
    omp_set_num_threads(before);
    free(x);
    free(w);
    free(y[0]);
    free(y[1]);
}

static void test_large_weights(void **state)
{
    (void)state;
    check_all(&(struct problem){.rows = 18, .in = 1500, .out = 1403, .bias = true});
}

/* Compares every row primitive with its plain C twin, at lengths around the vector sizes. */
static void check_elementwise(const struct elementwise *e, int n)
{
    const struct elementwise *ref = &elementwise_ref;
    size_t size = (size_t)n + 1;
    float *a = random_floats(size, 3.0f, 1);
    float *b = random_floats(size, 3.0f, 2);
    float *y = mp_xcalloc(size, sizeof *y);
    float *expected = mp_xcalloc(size, sizeof *expected);
    y[n] = PADDING;
    expected[n] = PADDING;

    e->rms_norm(y, a, b, n, 1e-5f);
    ref->rms_norm(expected, a, b, n, 1e-5f);
    assert_close(y, expected, size, 1e-6, "rms_norm");
    e->silu_mul(y, a, b, n);
    ref->silu_mul(expected, a, b, n);
    assert_close(y, expected, size, 1e-6, "silu_mul");
    e->blend(y, a, 0.25f, b, -1.5f, n);
    ref->blend(expected, a, 0.25f, b, -1.5f, n);
    assert_close(y, expected, size, 1e-6, "blend");

    int even = n - n % 2;
    memcpy(y, a, (size_t)n * sizeof *y);
    memcpy(expected, a, (size_t)n * sizeof *y);
    e->rope(y, b, b + even / 2, even);
    ref->rope(expected, b, b + even / 2, even);
    assert_close(y, expected, size, 1e-6, "rope");

    uint16_t *half = mp_xcalloc(size, sizeof *half);
    uint16_t *half_expected = mp_xcalloc(size, sizeof *half_expected);
    e->to_bf16(half, a, n);
    ref->to_bf16(half_expected, a, n);
    assert_memory_equal(half, half_expected, size * sizeof *half);
    uint16_t *low = mp_xcalloc(size, sizeof *low);
    e->split_bf16(half, low, a, n);
    assert_memory_equal(half, half_expected, size * sizeof *half);
    for (int i = 0; i < n; i++) {
        float sum = mp_bf16_to_f32(half[i]) + mp_bf16_to_f32(low[i]);
        assert_true(fabsf(sum - a[i]) <= fabsf(a[i]) / 65536.0f);
    }
    assert_int_equal(low[n], 0);
    free(low);
    e->from_bf16(y, half, n);
    for (int i = 0; i < n; i++) {
        assert_true(y[i] == mp_bf16_to_f32(half[i]));
    }
    assert_true(y[n] == PADDING);
    free(a);
    free(b);
    free(y);
    free(expected);
    free(half);
    free(half_expected);
}

static void test_elementwise(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        for (int n = 1; n < 70; n++) {
            check_elementwise(elementwise_current(), n);
        }
    }
}

/* SiLU of numbers whose exponential overflows or vanishes. */
static void test_silu_extremes(void **state)
{
    (void)state;
    FOR_EACH_ISA(isa)
    {
        float gate[16];
        float up[16];
        float y[16];
        for (int i = 0; i < 16; i++) {
            gate[i] = i % 2 == 0 ? 1000.0f : -1000.0f;
            up[i] = 2.0f;
        }
        elementwise_current()->silu_mul(y, gate, up, 16);
        for (int i = 0; i < 16; i++) {
            assert_true(i % 2 == 0 ? y[i] == 2000.0f : fabsf(y[i]) < 1e-30f);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_values),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_bias_accumulate_strides),
        cmocka_unit_test(test_every_decode_row_count),
        cmocka_unit_test(test_many_shapes),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_large_weights),
        cmocka_unit_test(test_elementwise),
        cmocka_unit_test(test_silu_extremes),
    };
    return cmocka_run_group_tests(tests, NULL, release_kernels);
}
