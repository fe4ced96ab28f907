/* hashing: bit order and signs by hand, then every variant against the reference. */
#include "codelets/hashing/hashing.h"
#include "tests/unit/codelets/kernel_test.h"

static hashing_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = hashing_ref,
#ifdef __x86_64__
    [MP_ISA_AVX2] = hashing_avx2,
    [MP_ISA_AVX512] = hashing_avx512,
#endif
};

/* W = [1 0 -1 1; 0 1 1 -1]: two tables of two bits. */
static void test_bits_by_hand(void **state)
{
    (void)state;
    const float w[2 * 4] = {1, 0, -1, 1, 0, 1, 1, -1};
    const float x[3 * 2] = {2, 1, 0, -1, 0, 0};
    /* dots: (2 1 -1 1), (0 -1 -1 1), (0 0 0 0); a dot of 0 gives bit 0. */
    const uint16_t expected[3 * 2] = {3, 2, 0, 2, 0, 0};
    FOR_EACH_VARIANT(isa, variants)
    {
        uint16_t codes[3 * 2];
        memset(codes, 0xff, sizeof codes);
        variants[isa](&(struct hashing_args){.x = x,
                                             .dtype = MP_F32,
                                             .x_vec_stride = 2,
                                             .count = 3,
                                             .num_heads = 1,
                                             .head_dim = 2,
                                             .K = 2,
                                             .L = 2,
                                             .w = w,
                                             .heads_per_projection = 1,
                                             .codes = codes,
                                             .code_vec_stride = 2,
                                             .code_table_stride = 1});
        assert_memory_equal(codes, expected, sizeof expected);
    }
}

struct hash_case {
    int head_dim, K, L, num_heads, heads_per_projection;
    int64_t count;
    enum mp_dtype dtype;
};

/* Where two codes differ, the dot product of the differing bit must be within rounding of 0. */
static void assert_within_rounding(const struct hashing_args *a, int h, int64_t i, int l,
                                   unsigned difference)
{
    const float *w = a->w + (int64_t)(h / a->heads_per_projection) * a->head_dim * a->K * a->L;
    for (int k = 0; k < a->K; k++) {
        double dot = 0.0;
        double size = 0.0;
        for (int c = 0; c < a->head_dim; c++) {
            size_t at = (size_t)(h * a->x_head_stride + i * a->x_vec_stride + c);
            double term = (double)mp_load(a->x, a->dtype, at) *
                          (double)w[(int64_t)c * a->K * a->L + l * a->K + k];
            dot += term;
            size += fabs(term);
        }
        assert_true((difference >> k & 1) == 0 || fabs(dot) <= 1e-5 * size);
    }
}

static void compare_case(const struct hash_case *t, bool query_layout)
{
    size_t vectors = (size_t)t->num_heads * (size_t)t->count;
    size_t cells = vectors * (size_t)t->L;
    int projections = t->num_heads / t->heads_per_projection;
    void *x = random_tensor(t->dtype, vectors * (size_t)t->head_dim, 1.0f, 1);
    float *w = random_floats((size_t)(projections * t->head_dim * t->K * t->L), 1.0f, 2);
    uint16_t *expected = mp_xcalloc(cells + 1, sizeof *expected);
    uint16_t *codes = mp_xcalloc(cells + 1, sizeof *codes);
    struct hashing_args a = {.x = x,
                             .dtype = t->dtype,
                             .count = t->count,
                             .num_heads = t->num_heads,
                             .head_dim = t->head_dim,
                             .K = t->K,
                             .L = t->L,
                             .w = w,
                             .heads_per_projection = t->heads_per_projection,
                             .codes = expected};
    if (query_layout) { /* [count][heads] vectors and codes */
        a.x_head_stride = t->head_dim;
        a.x_vec_stride = (int64_t)t->num_heads * t->head_dim;
        a.code_head_stride = t->L;
        a.code_vec_stride = (int64_t)t->num_heads * t->L;
        a.code_table_stride = 1;
    } else { /* [heads][count] vectors, [heads][L][count] codes */
        a.x_head_stride = t->count * t->head_dim;
        a.x_vec_stride = t->head_dim;
        a.code_head_stride = t->L * t->count;
        a.code_vec_stride = 1;
        a.code_table_stride = t->count;
    }
    hashing_ref(&a);
    a.codes = codes;
    FOR_EACH_VARIANT(isa, variants)
    {
        memset(codes, 0xff, (cells + 1) * sizeof *codes);
        variants[isa](&a);
        assert_int_equal(codes[cells], 0xffff);
        for (int h = 0; h < t->num_heads; h++) {
            for (int64_t i = 0; i < t->count; i++) {
                for (int l = 0; l < t->L; l++) {
                    int64_t at =
                        h * a.code_head_stride + i * a.code_vec_stride + l * a.code_table_stride;
                    unsigned difference = (unsigned)(codes[at] ^ expected[at]);
                    if (difference != 0) {
                        assert_within_rounding(&a, h, i, l, difference);
                    }
                }
            }
        }
    }
    free(x);
    free(w);
    free(expected);
    free(codes);
}

static void test_variants_agree(void **state)
{
    (void)state;
    const struct hash_case cases[] = {
        {.head_dim = 128,
         .K = 10,
         .L = 150,
         .num_heads = 2,
         .heads_per_projection = 1,
         .count = 197,
         .dtype = MP_BF16},
        {.head_dim = 64,
         .K = 16,
         .L = 33,
         .num_heads = 4,
         .heads_per_projection = 2,
         .count = 7,
         .dtype = MP_F32},
        {.head_dim = 33,
         .K = 1,
         .L = 1,
         .num_heads = 1,
         .heads_per_projection = 1,
         .count = 1,
         .dtype = MP_F32},
        {.head_dim = 80,
         .K = 7,
         .L = 65,
         .num_heads = 3,
         .heads_per_projection = 3,
         .count = 130,
         .dtype = MP_BF16},
        {.head_dim = 16,
         .K = 11,
         .L = 32,
         .num_heads = 2,
         .heads_per_projection = 1,
         .count = 0,
         .dtype = MP_BF16},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        compare_case(&cases[i], true);
        compare_case(&cases[i], false);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits_by_hand),
        cmocka_unit_test(test_variants_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
