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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_variants_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
