/* restore: what offload did, undone, to rounding; a case by hand, then every variant of both. */
#include "tests/unit/codelets/heads_test.h"
#include "tests/unit/codelets/restore_test.h"

static offload_kernel *const offload_variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = offload_ref,
#ifdef __x86_64__
    [MP_ISA_AVX2] = offload_avx2,
    [MP_ISA_AVX512] = offload_avx512,
#endif
};

static restore_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = restore_ref,
#ifdef __x86_64__
    [MP_ISA_AVX2] = restore_avx2,
    [MP_ISA_AVX512] = restore_avx512,
#endif
};

/* A token of the sink, and two of three offloaded ones. */
static void test_by_hand(void **state)
{
    (void)state;
    float kept_k[2 * 2] = {1, 2, 7, 7};
    float kept_v[2 * 2] = {3, 4, 7, 7};
    float mean[2] = {10, -20};
    int8_t off_k[3 * 2] = {-3, 4, 127, 0, 7, 7};
    int8_t off_v[3 * 2] = {1, -2, 0, 8, 7, 7};
    struct kv_scale scales[3] = {{0.5f, 0.25f}, {2.0f, 4.0f}, {7, 7}};
    float k[3 * 2], v[3 * 2];
    struct kv_cache kept = {.k = kept_k,
                            .v = kept_v,
                            .k_mean = mean,
                            .capacity = 2,
                            .num_kv_heads = 1,
                            .head_dim = 2,
                            .dtype = MP_F32};
    struct offloaded_kv off = {.k = off_k,
                               .v = off_v,
                               .scales = scales,
                               .count = 3,
                               .capacity = 3,
                               .num_kv_heads = 1,
                               .head_dim = 2,
                               .dtype = MP_I8};
    struct kv_cache staging = kept;
    staging.k = k;
    staging.v = v;
    staging.capacity = 3;
    restore_ref(&(struct restore_args){
        .kept = &kept, .offloaded = &off, .tokens = 3, .sink = 1, .staging = &staging});
    const float expected_k[3 * 2] = {11, -18, 8.5f, -18, 264, -20};
    const float expected_v[3 * 2] = {3, 4, 0.25f, -0.5f, 0, 32};
    assert_memory_equal(k, expected_k, sizeof k);
    assert_memory_equal(v, expected_v, sizeof v);
}

/* How far rounding may have taken a channel: to the caches' dtype where it was stored, less `mean`
 * and with `scale` if as int8, and where it was restored. */
static double allowed(const struct restore_case *t, double x, double mean, double scale)
{
    double rounding = restore_dtype(t) == MP_F32 ? 0x1p-24 : 0x1p-8;
    double stored = scale > 0.0 ? 0.5 * scale : mean != 0.0 ? rounding * fabs(x - mean) : 0.0;
    double restored = scale > 0.0 || mean != 0.0 ? rounding * fabs(x) : 0.0;
    return 1.01 * (stored + restored);
}

/* One token of a KV head; slots beyond the last are as they were. */
static void check_token(const struct restore_case *t, const struct restore_fixture *f, int h,
                        int64_t i)
{
    int64_t offloaded = i - RESTORE_SINK;
    struct kv_scale scale = {0.0f, 0.0f};
    if (t->offloaded == MP_I8 && f->off.count > 0 && offloaded >= 0) {
        scale = f->off.scales[h * f->off.capacity + offloaded];
    }
    enum mp_dtype dtype = f->prompt.dtype;
    for (int c = 0; c < t->head_dim; c++) {
        size_t from = (size_t)((h * f->prompt.capacity + i) * t->head_dim + c);
        size_t to = (size_t)((h * f->restored.capacity + i) * t->head_dim + c);
        double mean = (double)f->kept.k_mean[h * t->head_dim + c];
        double k = (double)mp_load(f->prompt.k, dtype, from);
        double v = (double)mp_load(f->prompt.v, dtype, from);
        double k_error = fabs((double)mp_load(f->restored.k, dtype, to) - k);
        double v_error = fabs((double)mp_load(f->restored.v, dtype, to) - v);
        assert_true(t->layer != RESTORE_DENSE || mean == 0.0);
        assert_true(k_error <= allowed(t, k, mean, (double)scale.k));
        assert_true(v_error <= allowed(t, v, 0.0, (double)scale.v));
    }
}

static void check(const struct restore_case *t, const struct restore_fixture *f)
{
    size_t row = (size_t)t->head_dim * mp_dtype_size(f->restored.dtype);
    for (int h = 0; h < t->num_kv_heads; h++) {
        for (int64_t i = 0; i < t->restored; i++) {
            check_token(t, f, h, i);
        }
        size_t beyond = (size_t)(h * f->restored.capacity + t->restored) * row;
        size_t end = (size_t)((h + 1) * f->restored.capacity) * row;
        for (; beyond < end; beyond++) {
            assert_int_equal(((uint8_t *)f->restored.k)[beyond], 0xff);
            assert_int_equal(((uint8_t *)f->restored.v)[beyond], 0xff);
        }
    }
}

static void run_case(const struct restore_case *t)
{
    FOR_EACH_SUPPORTED(isa, variants, restore_dtype(t), t->head_dim)
    {
        struct restore_fixture f = restore_make(t);
        struct kv_cache expected = restore_cache(t, f.restored.capacity);
        restore_offload(offload_variants[isa], t, &f);
        struct restore_args a = restore_args_of(t, &f);
        variants[isa](&a);
        check(t, &f);
        a.staging = &expected;
        restore_ref(&a);
        restore_assert_agree(t, &f.restored, &expected);
        free(expected.k);
        free(expected.v);
        restore_release(&f);
    }
}

static void test_undoes_offload(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_RESTORE_CASES; i++) {
        run_case(&RESTORE_CASES[i]);
    }
}

/* Head by head, through views of the caches, gives what all heads at once give, bit by bit. */
static void test_views_of_heads(void **state)
{
    (void)state;
    const struct restore_case t = {RESTORE_SPARSE, MP_I8, 3001, 2500, 3, 32};
    struct restore_fixture f = restore_make(&t);
    restore_offload(offload_ref, &t, &f);
    FOR_EACH_VARIANT(isa, variants)
    {
        struct kv_cache parts = restore_cache(&t, f.restored.capacity);
        struct restore_args a = restore_args_of(&t, &f);
        variants[isa](&a);
        for (int h = 0; h < t.num_kv_heads; h++) {
            struct kv_cache kept = kv_cache_heads(&f.kept, h, 1);
            struct kv_cache staging = kv_cache_heads(&parts, h, 1);
            struct offloaded_kv off = offloaded_heads(&f.off, h, 1);
            variants[isa](&(struct restore_args){.kept = &kept,
                                                 .offloaded = &off,
                                                 .tokens = t.restored,
                                                 .sink = RESTORE_SINK,
                                                 .staging = &staging});
        }
        assert_memory_equal(parts.k, f.restored.k, restore_cache_bytes(&parts));
        assert_memory_equal(parts.v, f.restored.v, restore_cache_bytes(&parts));
        free(parts.k);
        free(parts.v);
    }
    restore_release(&f);
}

/* More than the staging area has room for, than is offloaded, and than the static cache holds. */
static void test_too_many_tokens(void **state)
{
    (void)state;
    const struct restore_case t = {RESTORE_SPARSE, MP_BF16, 300, 200, 2, 32};
    struct restore_fixture f = restore_make(&t);
    restore_offload(offload_ref, &t, &f);
    FOR_EACH_VARIANT(isa, variants)
    {
        struct restore_args a = restore_args_of(&t, &f);
        struct offloaded_kv few = f.off;
        a.tokens = f.restored.capacity + 1;
        ASSERT_PANICS(variants[isa](&a));
        a.tokens = t.restored;
        few.count = t.restored - RESTORE_SINK - 1;
        a.offloaded = &few;
        ASSERT_PANICS(variants[isa](&a));
        a.offloaded = NULL;
        ASSERT_PANICS(variants[isa](&a));
        a.tokens = f.kept.capacity;
        variants[isa](&a);
    }
    restore_release(&f);
}

/* The fast kernels refuse what they do not support. */
static void test_demands(void **state)
{
    (void)state;
    const struct restore_case t = {RESTORE_DENSE, MP_BF16, 3, 3, 1, 20};
    struct restore_fixture f = restore_make(&t);
    restore_offload(offload_ref, &t, &f);
    FOR_EACH_VARIANT(isa, variants)
    {
        struct restore_args a = restore_args_of(&t, &f);
        if (isa != MP_ISA_REF) {
            ASSERT_PANICS(variants[isa](&a));
        }
    }
    restore_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),        cmocka_unit_test(test_undoes_offload),
        cmocka_unit_test(test_views_of_heads), cmocka_unit_test(test_too_many_tokens),
        cmocka_unit_test(test_demands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
