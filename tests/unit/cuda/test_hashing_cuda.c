/* hashing on the GPU against the reference: float32 queries and bf16 keys. */
#include "codelets/hashing/hashing.h"
#include "tests/unit/cuda/cuda_test.h"

struct hash_case {
    int head_dim, K, L, num_heads, heads_per_projection;
    int64_t count;
};

/* Elements between the last vector of a head and the first of the next, as in a cache with room. */
enum { SPARE_VECTORS = 3 };

/* Queries: x [count][heads][head_dim], codes [count][heads][L].
 * Keys: x [heads][count + SPARE_VECTORS][head_dim], codes [heads][L][count]. */
static struct hashing_args layout(const struct hash_case *t, enum mp_dtype dtype)
{
    struct hashing_args a = {.dtype = dtype,
                             .count = t->count,
                             .num_heads = t->num_heads,
                             .head_dim = t->head_dim,
                             .K = t->K,
                             .L = t->L,
                             .heads_per_projection = t->heads_per_projection};
    if (dtype == MP_F32) {
        a.x_head_stride = t->head_dim;
        a.x_vec_stride = (int64_t)t->num_heads * t->head_dim;
        a.code_head_stride = t->L;
        a.code_vec_stride = (int64_t)t->num_heads * t->L;
        a.code_table_stride = 1;
    } else {
        a.x_head_stride = (t->count + SPARE_VECTORS) * t->head_dim;
        a.x_vec_stride = t->head_dim;
        a.code_head_stride = t->L * t->count;
        a.code_vec_stride = 1;
        a.code_table_stride = t->count;
    }
    return a;
}

/* The codes at `at` may differ only in bits whose dot product is within rounding of 0. */
static void assert_within_rounding(const struct hashing_args *a, int h, int64_t i, int l,
                                   unsigned difference)
{
    int64_t columns = (int64_t)a->K * a->L;
    const float *w = a->w + h / a->heads_per_projection * a->head_dim * columns;
    for (int k = 0; k < a->K; k++) {
        double dot = 0.0;
        double xx = 0.0;
        double ww = 0.0;
        for (int c = 0; c < a->head_dim; c++) {
            size_t at = (size_t)(h * a->x_head_stride + i * a->x_vec_stride + c);
            double x = (double)mp_load(a->x, a->dtype, at);
            double y = (double)w[c * columns + l * a->K + k];
            dot += x * y;
            xx += x * x;
            ww += y * y;
        }
        if ((difference >> k & 1) != 0 && !(fabs(dot) <= 1e-4 * sqrt(xx * ww))) {
            fail_msg("K %d, L %d, head_dim %d: bit %d of head %d, vector %lld, table %d is wrong",
                     a->K, a->L, a->head_dim, k, h, (long long)i, l);
        }
    }
}

static void compare_codes(const struct hashing_args *a, const uint16_t *expected,
                          const uint16_t *codes)
{
    for (int h = 0; h < a->num_heads; h++) {
        for (int64_t i = 0; i < a->count; i++) {
            for (int l = 0; l < a->L; l++) {
                int64_t at =
                    h * a->code_head_stride + i * a->code_vec_stride + l * a->code_table_stride;
                unsigned difference = (unsigned)(codes[at] ^ expected[at]);
                if (difference != 0) {
                    assert_within_rounding(a, h, i, l, difference);
                }
            }
        }
    }
}

static void compare_case(const struct hash_case *t, enum mp_dtype dtype)
{
    struct hashing_args host = layout(t, dtype);
    size_t vectors = (size_t)t->num_heads * (size_t)(t->count + SPARE_VECTORS);
    size_t cells = (size_t)t->num_heads * (size_t)t->count * (size_t)t->L;
    size_t x_size = vectors * (size_t)t->head_dim;
    size_t w_size = (size_t)(t->num_heads / t->heads_per_projection * t->head_dim) * (size_t)t->K *
                    (size_t)t->L;
    void *x = random_tensor(dtype, x_size, 1.0f, 1);
    float *w = random_floats(w_size, 1.0f, 2);
    uint16_t *expected = mp_xcalloc(cells + 1, sizeof *expected);
    host.x = x;
    host.w = w;
    host.codes = expected;
    hashing_ref(&host);

    struct hashing_args device = host;
    void *device_x = device_copy(x, x_size * mp_dtype_size(dtype));
    float *device_w = device_copy(w, w_size * sizeof *w);
    device.x = device_x;
    device.w = device_w;
    device.codes = device_copy(NULL, (cells + 1) * sizeof *expected);
    cuda_op_begin("hashing");
    hashing_cuda(&device);
    cuda_op_end();
    uint16_t *codes = host_copy(device.codes, (cells + 1) * sizeof *codes);
    assert_int_equal(codes[cells], 0xffff);
    compare_codes(&host, expected, codes);

    ASSERT_CUDA(cudaFree(device_x));
    ASSERT_CUDA(cudaFree(device_w));
    ASSERT_CUDA(cudaFree(device.codes));
    free(codes);
    free(expected);
    free(x);
    free(w);
}

/* {head_dim, K, L, num_heads, heads_per_projection, count} */
static void test_queries(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    const struct hash_case cases[] = {
        {128, 10, 150, 32, 4, 1}, {128, 10, 150, 8, 4, 9}, {256, 16, 3, 4, 1, 70},
        {64, 4, 7, 8, 8, 33},     {33, 1, 1, 1, 1, 1},     {2, 1, 100, 1, 1, 2},
        {80, 11, 300, 4, 4, 5},   {128, 8, 75, 8, 1, 3},   {96, 12, 16, 8, 4, 63},
        {128, 10, 150, 32, 4, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        compare_case(&cases[i], MP_F32);
    }
}

static void test_keys(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    const struct hash_case cases[] = {
        {128, 10, 150, 2, 1, 1000}, {128, 10, 150, 8, 8, 63}, {128, 16, 3, 8, 1, 257},
        {256, 4, 7, 8, 1, 1000},    {64, 1, 1, 1, 1, 70001},  {64, 2, 5, 1, 1, 2},
        {80, 11, 300, 2, 2, 130},   {8, 8, 75, 8, 1, 1},      {200, 12, 16, 8, 4, 512},
        {16, 3, 9, 4, 2, 255},      {128, 10, 150, 8, 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        compare_case(&cases[i], MP_BF16);
    }
}

/* W = [1 0 -1 1; 0 1 1 -1]: two tables of two bits. x and codes stay in pinned host memory. */
static void test_bits_by_hand(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    const float w[2 * 4] = {1, 0, -1, 1, 0, 1, 1, -1};
    const float vectors[3 * 2] = {2, 1, 0, -1, 0, 0};
    /* dots: (2 1 -1 1), (0 -1 -1 1), (0 0 0 0); a dot of 0 gives bit 0. */
    const uint16_t expected[3 * 2] = {3, 2, 0, 2, 0, 0};
    float *device_w = device_copy(w, sizeof w);
    float *x = NULL;
    uint16_t *codes = NULL;
    ASSERT_CUDA(cudaMallocHost((void **)&x, sizeof vectors));
    ASSERT_CUDA(cudaMallocHost((void **)&codes, sizeof expected));
    memcpy(x, vectors, sizeof vectors);
    memset(codes, 0xff, sizeof expected);
    cuda_op_begin("hashing");
    hashing_cuda(&(struct hashing_args){.x = x,
                                        .dtype = MP_F32,
                                        .x_vec_stride = 2,
                                        .count = 3,
                                        .num_heads = 1,
                                        .head_dim = 2,
                                        .K = 2,
                                        .L = 2,
                                        .w = device_w,
                                        .heads_per_projection = 1,
                                        .codes = codes,
                                        .code_vec_stride = 2,
                                        .code_table_stride = 1});
    cuda_op_end();
    cuda_synchronize();
    assert_memory_equal(codes, expected, sizeof expected);
    ASSERT_CUDA(cudaFree(device_w));
    ASSERT_CUDA(cudaFreeHost(x));
    ASSERT_CUDA(cudaFreeHost(codes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits_by_hand),
        cmocka_unit_test(test_queries),
        cmocka_unit_test(test_keys),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, cuda_test_teardown);
}
