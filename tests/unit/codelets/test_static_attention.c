/* static_attention: a case by hand, then every variant against the reference. */
#include "codelets/static_attention/static_attention.h"
#include "tests/unit/codelets/kernel_test.h"

static static_attention_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = static_attention_ref,
#ifdef __x86_64__
    [MP_ISA_AVX2] = static_attention_avx2,
    [MP_ISA_AVX512] = static_attention_avx512,
#endif
};

/* Logits 0 and ln 3: weights 1/4 and 3/4. */
static void test_by_hand(void **state)
{
    (void)state;
    float k[2 * 2] = {0, 5, 1, 5};
    float v[2 * 2] = {4, 8, 0, -8};
    struct kv_cache cache = {
        .k = k, .v = v, .capacity = 2, .num_kv_heads = 1, .head_dim = 2, .dtype = MP_F32};
    const struct kv_cache *caches[1] = {&cache};
    const int64_t length[1] = {2};
    const float q[2] = {2.0f * logf(3.0f), 0.0f};
    FOR_EACH_SUPPORTED(isa, variants, MP_F32, 2)
    {
        float o[2];
        float lse[1];
        variants[isa](&(struct static_attention_args){.q = q,
                                                      .cache = caches,
                                                      .length = length,
                                                      .o = o,
                                                      .lse = lse,
                                                      .rows = 1,
                                                      .num_heads = 1,
                                                      .head_dim = 2,
                                                      .scale = 0.5f});
        assert_true(fabsf(o[0] - 1.0f) < 1e-6f && fabsf(o[1] + 4.0f) < 1e-6f);
        assert_true(fabsf(lse[0] - logf(4.0f)) < 1e-6f);
    }
}

struct attention_case {
    int64_t length[2]; /* of two rows; capacity is a little more than the longer one */
    int num_kv_heads, group, head_dim;
    enum mp_dtype dtype;
    float scale_q; /* of the queries: large ones make a peaked softmax */
};

static void run_case(const struct attention_case *t)
{
    int num_heads = t->num_kv_heads * t->group;
    size_t width = (size_t)num_heads * (size_t)t->head_dim;
    struct kv_cache cache[2];
    for (int r = 0; r < 2; r++) {
        int64_t capacity = t->length[r] + 3;
        size_t size = (size_t)t->num_kv_heads * (size_t)capacity * (size_t)t->head_dim;
        cache[r] = (struct kv_cache){.k = random_tensor(t->dtype, size, 1.0f, 10 + (uint64_t)r),
                                     .v = random_tensor(t->dtype, size, 1.0f, 20 + (uint64_t)r),
                                     .capacity = capacity,
                                     .num_kv_heads = t->num_kv_heads,
                                     .head_dim = t->head_dim,
                                     .dtype = t->dtype};
    }
    const struct kv_cache *caches[2] = {&cache[0], &cache[1]};
    float *q = random_floats(2 * width, t->scale_q, 30);
    float *expected = mp_xcalloc(2 * width, sizeof *expected);
    float *o = mp_xcalloc(2 * width, sizeof *o);
    float *expected_lse = mp_xcalloc((size_t)(2 * num_heads), sizeof *expected_lse);
    float *lse = mp_xcalloc((size_t)(2 * num_heads), sizeof *lse);
    struct static_attention_args a = {.q = q,
                                      .cache = caches,
                                      .length = t->length,
                                      .o = expected,
                                      .lse = expected_lse,
                                      .rows = 2,
                                      .num_heads = num_heads,
                                      .head_dim = t->head_dim,
                                      .scale = 1.0f / sqrtf((float)t->head_dim)};
    static_attention_ref(&a);
    a.o = o;
    a.lse = lse;
    FOR_EACH_SUPPORTED(isa, variants, t->dtype, t->head_dim)
    {
        memset(o, 0xff, 2 * width * sizeof *o);
        variants[isa](&a);
        assert_close(o, expected, 2 * width, 1e-5, mp_isa_name(isa));
        assert_close(lse, expected_lse, (size_t)(2 * num_heads), 1e-5, "lse");
    }
    for (int r = 0; r < 2; r++) {
        free(cache[r].k);
        free(cache[r].v);
    }
    free(q);
    free(expected);
    free(o);
    free(expected_lse);
    free(lse);
}

static void test_variants_agree(void **state)
{
    (void)state;
    const struct attention_case cases[] = {
        {.length = {1, 5000},
         .num_kv_heads = 2,
         .group = 4,
         .head_dim = 128,
         .dtype = MP_BF16,
         .scale_q = 1.0f},
        {.length = {65, 300},
         .num_kv_heads = 1,
         .group = 3,
         .head_dim = 64,
         .dtype = MP_BF16,
         .scale_q = 30.0f},
        {.length = {63, 64},
         .num_kv_heads = 3,
         .group = 1,
         .head_dim = 80,
         .dtype = MP_BF16,
         .scale_q = 1.0f},
        {.length = {2, 130},
         .num_kv_heads = 1,
         .group = 1,
         .head_dim = 24,
         .dtype = MP_BF16,
         .scale_q = 1.0f},
        {.length = {7, 77},
         .num_kv_heads = 2,
         .group = 2,
         .head_dim = 18,
         .dtype = MP_BF16,
         .scale_q = 1.0f},
        {.length = {7, 77},
         .num_kv_heads = 2,
         .group = 2,
         .head_dim = 64,
         .dtype = MP_F32,
         .scale_q = 1.0f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run_case(&cases[i]);
    }
}

/* ---- rows without tokens ---- */

enum { ROWS = 5, KV_HEADS = 2, GROUP = 3, NUM_HEADS = KV_HEADS * GROUP };

/* Rows first .. first + rows - 1 of a step, over NaN, into the same rows of o and lse. */
static void attend_rows(static_attention_kernel *variant, const struct static_attention_args *all,
                        int64_t first, int64_t rows)
{
    int64_t heads = first * NUM_HEADS;
    struct static_attention_args a = *all;
    a.q += heads * a.head_dim;
    a.cache += first;
    a.length += first;
    a.o += heads * a.head_dim;
    a.lse += heads;
    a.rows = rows;
    memset(a.o, 0xff, (size_t)(rows * NUM_HEADS * a.head_dim) * sizeof *a.o);
    memset(a.lse, 0xff, (size_t)(rows * NUM_HEADS) * sizeof *a.lse);
    variant(&a);
}

/* All rows of one step, of which those without tokens have o = 0 and lse = -INFINITY and the others
 * the bits that they have alone. */
static void run_rows(const int64_t length[ROWS], int head_dim, enum mp_dtype dtype)
{
    enum { MOST = 1300 };
    size_t width = NUM_HEADS * (size_t)head_dim;
    size_t n = (size_t)KV_HEADS * MOST * (size_t)head_dim;
    struct kv_cache cache = {.k = random_tensor(dtype, n, 1.0f, 11),
                             .v = random_tensor(dtype, n, 1.0f, 12),
                             .capacity = MOST,
                             .num_kv_heads = KV_HEADS,
                             .head_dim = head_dim,
                             .dtype = dtype};
    const struct kv_cache *caches[ROWS] = {&cache, &cache, &cache, &cache, &cache};
    float lse[ROWS * NUM_HEADS], lse_alone[ROWS * NUM_HEADS];
    float *o = mp_xcalloc(ROWS * width, sizeof *o);
    float *o_alone = mp_xcalloc(ROWS * width, sizeof *o_alone);
    struct static_attention_args together = {.q = random_floats(ROWS * width, 1.0f, 13),
                                             .cache = caches,
                                             .length = length,
                                             .o = o,
                                             .lse = lse,
                                             .num_heads = NUM_HEADS,
                                             .head_dim = head_dim,
                                             .scale = 0.1f};
    struct static_attention_args alone = together;
    alone.o = o_alone;
    alone.lse = lse_alone;
    FOR_EACH_SUPPORTED(isa, variants, dtype, head_dim)
    {
        attend_rows(variants[isa], &together, 0, ROWS);
        for (int64_t r = 0; r < ROWS; r++) {
            attend_rows(variants[isa], &alone, r, 1);
            for (size_t i = (size_t)r * width; length[r] == 0 && i < (size_t)(r + 1) * width; i++) {
                assert_true(o[i] == 0.0f && lse[i / (size_t)head_dim] == -INFINITY);
            }
            assert_true(length[r] == 0 || isfinite(lse[r * NUM_HEADS]));
        }
        assert_memory_equal(o, o_alone, ROWS * width * sizeof *o);
        assert_memory_equal(lse, lse_alone, sizeof lse);
    }
    free((float *)together.q);
    free(o);
    free(o_alone);
    free(cache.k);
    free(cache.v);
}

static void test_rows_without_tokens(void **state)
{
    (void)state;
    const int64_t lengths[][ROWS] = {
        {0, 300, 0, 1, 1300}, {1300, 0, 0, 64, 0}, {0, 0, 0, 0, 1}, {0, 0, 0, 0, 0}};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        run_rows(lengths[i], 64, MP_BF16);
        run_rows(lengths[i], 128, MP_BF16);
        run_rows(lengths[i], 24, MP_BF16);
        run_rows(lengths[i], 18, MP_F32);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_variants_agree),
        cmocka_unit_test(test_rows_without_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
