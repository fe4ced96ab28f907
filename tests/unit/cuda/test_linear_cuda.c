/* linear on the GPU against the plain C reference: every size class, row count and option. */
#include "codelets/common/elementwise.h"
#include "codelets/common/linear/linear_cuda.h"
#include "tests/unit/codelets/dense_test.h"
#include "tests/unit/cuda/cuda_test.h"

struct problem {
    int64_t rows;
    int in;
    int out;
    int x_pad; /* x_stride - in */
    int y_pad; /* y_stride - out */
    bool bias;
    bool accumulate;
    bool norm;
    bool gated; /* linear_gemv_gated_cuda: W has 2 * out rows */
};

/* Activations keep 16 bits. */
static const double TOLERANCE = 1e-4;
/* In one part many rows of them keep 8. */
static const double ROUNDED = 2e-2;
static const float EPS = 1e-5f;

/* y by linear_ref, after the norm and before the gate that the problem asks for. */
static void reference(const struct problem *p, struct linear_args a, const float *gain)
{
    float *normed = mp_xcalloc((size_t)(p->rows * p->in), sizeof *normed);
    float *wide = mp_xcalloc((size_t)(p->rows * 2 * p->out), sizeof *wide);
    float *y = a.y;
    int64_t y_stride = a.y_stride;
    if (p->norm) {
        for (int64_t r = 0; r < p->rows; r++) {
            elementwise_ref.rms_norm(normed + r * p->in, a.x + r * a.x_stride, gain, p->in, EPS);
        }
        a.x = normed;
        a.x_stride = p->in;
    }
    if (p->gated) {
        a.y = wide;
        a.y_stride = 2 * p->out;
        a.out = 2 * p->out;
    }
    linear_ref(&a);
    for (int64_t r = 0; p->gated && r < p->rows; r++) {
        const float *gate = wide + r * 2 * p->out;
        elementwise_ref.silu_mul(y + r * y_stride, gate, gate + p->out, p->out);
    }
    free(normed);
    free(wide);
}

static void run_cuda(const struct problem *p, const struct linear_args *a, const float *gain)
{
    const struct linear_norm norm = {gain, EPS};
    cuda_op_begin("linear");
    if (p->gated) {
        linear_gemv_gated_cuda(a, &norm);
    } else {
        struct linear_parts parts = linear_cuda_take_parts(a->rows, a->in);
        linear_cuda(a, p->norm ? &norm : NULL, &parts);
    }
    cuda_op_end();
}

static void check_parts(const struct problem *p, int parts)
{
    const size_t weight_rows = (size_t)p->out * (p->gated ? 2 : 1);
    const size_t x_size = (size_t)p->rows * (size_t)(p->in + p->x_pad);
    const size_t y_size = (size_t)p->rows * (size_t)(p->out + p->y_pad);
    float *x = random_floats(x_size, 1.0f, 1);
    uint16_t *w = random_tensor(MP_BF16, weight_rows * (size_t)p->in, 0.1f, 2);
    float *bias = random_floats(weight_rows, 1.0f, 3);
    float *gain = random_floats((size_t)p->in, 1.0f, 4);
    float *expected = random_floats(y_size, 1.0f, 5);
    float *device_x = device_copy(x, x_size * sizeof *x);
    uint16_t *device_w = device_copy(w, weight_rows * (size_t)p->in * sizeof *w);
    float *device_bias = device_copy(bias, weight_rows * sizeof *bias);
    float *device_gain = device_copy(gain, (size_t)p->in * sizeof *gain);
    float *device_y = device_copy(expected, y_size * sizeof *expected);
    struct linear_args a = {
        .x = x,
        .x_stride = p->in + p->x_pad,
        .w = w,
        .bias = p->bias ? bias : NULL,
        .y = expected,
        .y_stride = p->out + p->y_pad,
        .rows = p->rows,
        .in = p->in,
        .out = p->out,
        .accumulate = p->accumulate,
    };
    reference(p, a, gain);
    a.x = device_x;
    a.w = device_w;
    a.bias = p->bias ? device_bias : NULL;
    a.y = device_y;
    linear_set_parts(parts);
    run_cuda(p, &a, device_gain);
    linear_set_parts(2);

    /* What lies between the rows must stay as it was. */
    float *y = host_copy(device_y, y_size * sizeof *y);
    assert_close(y, expected, y_size, parts == 2 ? TOLERANCE : ROUNDED, "linear");
    for (int64_t r = 0; r < p->rows; r++) {
        int64_t padding = r * a.y_stride + p->out;
        assert_memory_equal(y + padding, expected + padding, (size_t)p->y_pad * sizeof *y);
    }
    free(x);
    free(w);
    free(bias);
    free(gain);
    free(expected);
    free(y);
    ASSERT_CUDA(cudaFree(device_x));
    ASSERT_CUDA(cudaFree(device_w));
    ASSERT_CUDA(cudaFree(device_bias));
    ASSERT_CUDA(cudaFree(device_gain));
    ASSERT_CUDA(cudaFree(device_y));
}

static void check(const struct problem *p)
{
    check_parts(p, 2);
    if (p->rows > LINEAR_GEMV_MAX_ROWS) {
        check_parts(p, 1);
    }
}

/* Around a lane's 8 elements, a block of 32, a warp's chunk and a CTA's 8 chunks. */
static void test_sizes(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    static const int sizes[][2] = {{1, 1},    {7, 3},     {8, 16},    {33, 5},
                                   {64, 130}, {136, 17},  {1024, 31}, {1032, 33},
                                   {257, 71}, {4096, 48}, {14336, 9}};
    for (int i = 0; i < NUM_ROW_COUNTS; i++) {
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            check(&(struct problem){.rows = row_counts[i], .in = sizes[s][0], .out = sizes[s][1]});
        }
    }
}

static void test_bias_accumulate_strides_norm(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (int i = 0; i < NUM_ROW_COUNTS; i++) {
        for (int mode = 0; mode < 32; mode++) {
            check(&(struct problem){
                .rows = row_counts[i],
                .in = 96,
                .out = 37,
                .x_pad = mode & 4    ? 5
                         : mode & 16 ? 8
                                     : 0,
                .y_pad = mode & 4 ? 3 : 0,
                .bias = mode & 1,
                .accumulate = mode & 2,
                .norm = mode & 8,
            });
        }
    }
}

/* Every row count our own kernel takes, so that each of its tiles runs. */
static void test_every_decode_row_count(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (int64_t rows = 1; rows <= LINEAR_GEMV_MAX_ROWS + 1; rows++) {
        check(&(struct problem){.rows = rows, .in = 2120, .out = 41, .norm = true});
        check(&(struct problem){.rows = rows, .in = 77, .out = 9, .norm = true});
    }
}

/* A row's bits do not depend on the rows beside it, up to the most that our own kernel takes. */
static void test_rows_alone(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    enum { ROWS = LINEAR_GEMV_MAX_ROWS, IN = 2120, OUT = 41 };
    float *x = random_floats(ROWS * IN, 1.0f, 1);
    uint16_t *w = random_tensor(MP_BF16, OUT * IN, 0.1f, 2);
    float *gain = random_floats(IN, 1.0f, 3);
    float *device_x = device_copy(x, ROWS * IN * sizeof *x);
    uint16_t *device_w = device_copy(w, OUT * IN * sizeof *w);
    float *device_gain = device_copy(gain, IN * sizeof *gain);
    float *device_y = device_copy(NULL, ROWS * OUT * sizeof *device_y);
    const struct problem all = {.rows = ROWS, .in = IN, .out = OUT, .norm = true};
    struct linear_args a = {.x = device_x,
                            .x_stride = IN,
                            .w = device_w,
                            .y = device_y,
                            .y_stride = OUT,
                            .rows = ROWS,
                            .in = IN,
                            .out = OUT};
    run_cuda(&all, &a, device_gain);
    float *together = host_copy(device_y, ROWS * OUT * sizeof *together);
    for (int64_t rows = 1; rows < ROWS; rows++) {
        a.rows = rows;
        a.x = device_x + (ROWS - rows) * IN;
        run_cuda(&all, &a, device_gain);
        float *y = host_copy(device_y, (size_t)rows * OUT * sizeof *y);
        assert_memory_equal(y, together + (ROWS - rows) * OUT, (size_t)rows * OUT * sizeof *y);
        free(y);
    }
    ASSERT_CUDA(cudaFree(device_x));
    ASSERT_CUDA(cudaFree(device_w));
    ASSERT_CUDA(cudaFree(device_gain));
    ASSERT_CUDA(cudaFree(device_y));
    free(x);
    free(w);
    free(gain);
    free(together);
}

static void test_gated(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    static const int outs[] = {3, 7, 8, 9, 16, 17, 100};
    for (int64_t rows = 1; rows <= LINEAR_GEMV_MAX_ROWS; rows++) {
        for (size_t i = 0; i < sizeof outs / sizeof outs[0]; i++) {
            struct problem p = {.rows = rows, .in = 192, .out = outs[i], .norm = true};
            p.gated = true;
            p.bias = i % 2 == 0;
            check(&p);
            p.in = 45;
            check(&p);
        }
    }
}

/* More rows than a block; the second block has few enough for the GEMV. */
static void test_row_blocks(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    struct problem p = {.rows = LINEAR_CUDA_ROW_BLOCK + 3, .in = 64, .out = 40, .bias = true};
    p.norm = true;
    p.accumulate = true;
    check(&p);
    p.rows = LINEAR_CUDA_ROW_BLOCK + 100;
    check(&p);
}

static int teardown(void **state)
{
    release_kernels(state);
    return cuda_test_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_bias_accumulate_strides_norm),
        cmocka_unit_test(test_every_decode_row_count),
        cmocka_unit_test(test_rows_alone),
        cmocka_unit_test(test_gated),
        cmocka_unit_test(test_row_blocks),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, teardown);
}
