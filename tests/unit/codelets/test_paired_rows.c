/* Tokens whose key and value lie side by side: every op that reads or writes them does the same, to
 * the bit, as on two arrays. */
#include "codelets/offload/offload.h"
#include "tests/unit/codelets/codes_test.h"
#include "tests/unit/codelets/evict_test.h"
#include "tests/unit/codelets/keys_test.h"
#include "tests/unit/codelets/pages_test.h"
#include "tests/unit/codelets/paired_test.h"
#include "tests/unit/codelets/sampling_error_test.h"

#ifdef __x86_64__
#define VARIANTS(op)                                                                               \
    {                                                                                              \
        [MP_ISA_REF] = op##_ref, [MP_ISA_AVX2] = op##_avx2, [MP_ISA_AVX512] = op##_avx512          \
    }
#else
#define VARIANTS(op)                                                                               \
    {                                                                                              \
        [MP_ISA_REF] = op##_ref                                                                    \
    }
#endif

static const enum mp_dtype dtypes[] = {MP_BF16, MP_I8};

static void test_attention(void **state)
{
    (void)state;
    sampled_attention_kernel *const attend[MP_ISA_COUNT] = VARIANTS(sampled_attention);
    sampling_error_kernel *const estimate[MP_ISA_COUNT] = VARIANTS(sampling_error);
    for (int i = 0; i < 2; i++) {
        const struct shared_case t = {300, 2, 4, 64, dtypes[i], 1.0f};
        struct shared_rows *s = make_drawn_rows(&t);
        struct shared_rows paired = *s;
        paired.kv = paired_of(&s->kv);
        struct error_output out = make_error_output(&t, s);
        float o[2][SHARED_ROWS * 8 * 64];
        float lse[2][SHARED_ROWS * 8];
        float error[2][SHARED_ROWS * 8] = {{0}};
        FOR_EACH_SUPPORTED(isa, attend, MP_BF16, t.head_dim)
        {
            shared_call(attend[isa], &t, s, SHARED_LISTED, true, o[0], lse[0]);
            shared_call(attend[isa], &t, &paired, SHARED_LISTED, true, o[1], lse[1]);
            assert_memory_equal(o[0], o[1], sizeof o[0]);
            assert_memory_equal(lse[0], lse[1], sizeof lse[0]);
            sampling_error_call(estimate[isa], &t, s, &out, error[0]);
            sampling_error_call(estimate[isa], &t, &paired, &out, error[1]);
            assert_memory_equal(error[0], error[1], sizeof error[0]);
        }
        free(paired.kv.k);
        free(out.o);
        free(out.lse);
        release_shared_rows(s);
    }
}

static void test_key_select(void **state)
{
    (void)state;
    key_select_kernel *const variants[MP_ISA_COUNT] = VARIANTS(key_select);
    const struct keys_case t = {700, 2, 3, 64, 50};
    for (int i = 0; i < 2; i++) {
        struct keys_fixture f = keys_make(&t, 2.0f);
        if (dtypes[i] == MP_I8) {
            keys_to_int8(&f);
        }
        void *values = f.kv.v; /* no rows of the keys' type */
        f.kv.v = NULL;
        struct keys_fixture paired = f;
        paired.kv = paired_of(&f.kv);
        FOR_EACH_SUPPORTED(isa, variants, MP_BF16, t.head_dim)
        {
            struct keys_selection out[2] = {keys_selection_make(&t), keys_selection_make(&t)};
            keys_call(variants[isa], KEY_SELECT_LARGEST, &t, &f, &out[0]);
            keys_call(variants[isa], KEY_SELECT_LARGEST, &t, &paired, &out[1]);
            assert_int_equal(out[0].nnz[5], t.budget);
            assert_memory_equal(out[0].ids, out[1].ids, (size_t)(6 * t.budget) * sizeof(uint32_t));
            keys_selection_release(&out[0]);
            keys_selection_release(&out[1]);
        }
        free(paired.kv.k);
        f.kv.v = values;
        keys_release(&f);
    }
}

static void test_codes(void **state)
{
    (void)state;
    encode_keys_kernel *const variants[MP_ISA_COUNT] = VARIANTS(encode_keys);
    struct codes_fixture f = codes_fixture_make(&(struct codes_case){100, 2, 64, 2});
    struct offloaded_kv paired = paired_of(&f.kv);
    struct key_codes codes = codes_make(&f.codes);
    FOR_EACH_SUPPORTED(isa, variants, MP_BF16, f.kv.head_dim)
    {
        variants[isa](&(struct encode_keys_args){&f.kv, f.rotation, &f.codes, 0});
        variants[isa](&(struct encode_keys_args){&paired, f.rotation, &codes, 0});
        assert_memory_equal(f.codes.words, codes.words, codes_word_bytes(&codes));
        assert_memory_equal(f.codes.factors, codes.factors, codes_factor_bytes(&codes));
    }
    free(paired.k);
    codes_release(&codes);
    codes_fixture_release(&f);
}

static void test_bounds(void **state)
{
    (void)state;
    page_bounds_kernel *const variants[MP_ISA_COUNT] = VARIANTS(page_bounds);
    struct pages_fixture f = pages_make(&(struct pages_case){97, 2, 2, 32, 16, 2});
    struct offloaded_kv paired = paired_of(&f.kv);
    struct key_pages pages = f.pages;
    pages.bounds = mp_xmalloc(key_pages_bytes(&pages));
    FOR_EACH_SUPPORTED(isa, variants, MP_BF16, f.kv.head_dim)
    {
        memset(pages.bounds, 0xff, key_pages_bytes(&pages));
        variants[isa](&(struct page_bounds_args){.kv = &paired, .pages = &pages});
        assert_memory_equal(pages.bounds, f.pages.bounds, key_pages_bytes(&pages));
    }
    free(pages.bounds);
    free(paired.k);
    pages_release(&f);
}

static void test_evict(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_EVICT_CASES; i++) {
        struct evict_fixture f = evict_make(&EVICT_CASES[i]);
        struct evict_fixture g = evict_make(&EVICT_CASES[i]);
        struct offloaded_kv plain = g.offloaded;
        g.offloaded = paired_of(&plain);
        struct evict_args a = evict_args_of(&EVICT_CASES[i], &f);
        struct evict_args b = evict_args_of(&EVICT_CASES[i], &g);
        evict_any(&a);
        evict_any(&b);
        copy_rows_of(&g.offloaded, &plain);
        assert_memory_equal(plain.k, f.offloaded.k, evict_offloaded_bytes(&f));
        assert_memory_equal(plain.v, f.offloaded.v, evict_offloaded_bytes(&f));
        assert_memory_equal(plain.scales, f.offloaded.scales, evict_scale_bytes(&f));
        free(g.offloaded.k);
        g.offloaded = plain;
        evict_release(&f);
        evict_release(&g);
    }
}

static struct kv_cache make_cache(int64_t capacity)
{
    size_t n = (size_t)(2 * capacity * 64);
    return (struct kv_cache){.k = random_tensor(MP_BF16, n, 1.0f, 90),
                             .v = random_tensor(MP_BF16, n, 1.0f, 91),
                             .k_mean = random_floats(2 * 64, 1.0f, 92),
                             .capacity = capacity,
                             .num_kv_heads = 2,
                             .head_dim = 64,
                             .dtype = MP_BF16};
}

static void release_cache(struct kv_cache *c)
{
    free(c->k);
    free(c->v);
    free(c->k_mean);
}

static void test_offload(void **state)
{
    (void)state;
    offload_kernel *const variants[MP_ISA_COUNT] = VARIANTS(offload);
    struct kv_cache staging = make_cache(200);
    struct kv_cache kept = make_cache(70);
    for (int i = 0; i < 2; i++) {
        size_t bytes = kv_bytes(2, 64, dtypes[i], 140);
        struct kv_scale scales[2][2 * 140] = {{{0}}};
        struct offloaded_kv plain = {.k = mp_xcalloc(1, bytes),
                                     .v = mp_xcalloc(1, bytes),
                                     .scales = scales[0],
                                     .count = 132,
                                     .capacity = 140,
                                     .num_kv_heads = 2,
                                     .head_dim = 64,
                                     .dtype = dtypes[i]};
        struct offloaded_kv paired = paired_of(&plain);
        paired.scales = scales[1];
        struct offloaded_kv expected = paired_of(&plain);
        FOR_EACH_SUPPORTED(isa, variants, MP_BF16, 64)
        {
            struct offload_args a = {.staging = &staging,
                                     .static_cache = &kept,
                                     .offloaded = &plain,
                                     .tokens = 200,
                                     .sink = 4,
                                     .window = 64,
                                     .center = true};
            variants[isa](&a);
            a.offloaded = &paired;
            variants[isa](&a);
            copy_rows_of(&plain, &expected);
            assert_memory_equal(paired.k, expected.k, 2 * bytes);
            assert_memory_equal(scales[0], scales[1], sizeof scales[0]);
        }
        free(plain.k);
        free(plain.v);
        free(paired.k);
        free(expected.k);
    }
    release_cache(&staging);
    release_cache(&kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention), cmocka_unit_test(test_key_select),
        cmocka_unit_test(test_codes),     cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_evict),     cmocka_unit_test(test_offload),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
