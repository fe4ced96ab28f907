/* offload: where tokens go, centering, norms; every variant against what is computed here. */
#include "codelets/offload/offload.h"
#include "core/machine/shard.h"
#include "tests/unit/codelets/heads_test.h"
#include "tests/unit/codelets/kernel_test.h"

#include <stdbool.h>

static offload_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = offload_ref,
#ifdef __x86_64__
    [MP_ISA_AVX2] = offload_avx2,
    [MP_ISA_AVX512] = offload_avx512,
#endif
};

enum { HEADS = 2, SINK = 4, WINDOW = 64 };

struct fixture {
    int64_t tokens;
    struct kv_cache staging, static_cache;
    struct offloaded_kv off;
    struct offloaded_kv keys; /* the same keys once more */
    bool dropped; /* nothing is offloaded: the tokens between sink and window are dropped */
    bool center;
    bool mean_given;
};

static int64_t offloaded_tokens(int64_t tokens)
{
    return tokens > SINK + WINDOW ? tokens - SINK - WINDOW : 0;
}

static struct kv_cache make_cache(int64_t capacity, int head_dim, enum mp_dtype dtype)
{
    size_t n = (size_t)(HEADS * capacity * head_dim);
    return (struct kv_cache){.k = random_tensor(dtype, n, 1.0f, 90),
                             .v = random_tensor(dtype, n, 1.0f, 91),
                             .k_mean = random_floats((size_t)(HEADS * head_dim), 1.0f, 92),
                             .capacity = capacity,
                             .num_kv_heads = HEADS,
                             .head_dim = head_dim,
                             .dtype = dtype};
}

static void check_key(const struct fixture *f, int h, int64_t i, const void *k, size_t row)
{
    enum mp_dtype t = f->staging.dtype;
    size_t d = (size_t)f->staging.head_dim;
    size_t from = (size_t)(h * f->staging.capacity + i) * d;
    for (size_t c = 0; c < d; c++) {
        float expected =
            mp_load(f->staging.k, t, from + c) - f->static_cache.k_mean[(size_t)h * d + c];
        float key = mp_load(k, t, row * d + c);
        assert_true(fabsf(key - expected) <= fabsf(expected) / 256.0f + 1e-30f);
    }
}

static void check_token(const struct fixture *f, int h, int64_t i, const void *k, const void *v,
                        size_t row)
{
    enum mp_dtype t = f->staging.dtype;
    size_t d = (size_t)f->staging.head_dim;
    size_t from = (size_t)(h * f->staging.capacity + i) * d;
    check_key(f, h, i, k, row);
    for (size_t c = 0; c < d; c++) {
        assert_true(mp_load(v, t, row * d + c) == mp_load(f->staging.v, t, from + c));
    }
}

static void check_keys(const struct fixture *f)
{
    for (int h = 0; h < HEADS; h++) {
        for (int64_t i = 0; i < f->keys.count; i++) {
            check_key(f, h, SINK + i, f->keys.k, (size_t)(h * f->keys.capacity + i));
        }
    }
}

static void check_mean(const struct fixture *f, int h, int64_t count)
{
    int d = f->staging.head_dim;
    for (int c = 0; c < d; c++) {
        double sum = 0.0;
        for (int64_t i = SINK; i < SINK + count; i++) {
            sum += (double)mp_load(f->staging.k, f->staging.dtype,
                                   (size_t)((h * f->staging.capacity + i) * d + c));
        }
        double mean = count > 0 ? sum / (double)count : 0.0;
        assert_true(fabs((double)f->static_cache.k_mean[h * d + c] - mean) <=
                    1e-6 * (1.0 + fabs(mean)));
    }
}

/* Each token is where it belongs, its key less the mean. */
static void check_tokens(const struct fixture *f)
{
    int64_t count = offloaded_tokens(f->tokens);
    check_keys(f);
    for (int h = 0; h < HEADS; h++) {
        int64_t slot = 0;
        for (int64_t i = 0; i < f->tokens; i++) {
            if (count > 0 && i >= SINK && i < SINK + count) {
                size_t row = (size_t)(h * f->off.capacity + i - SINK);
                if (!f->dropped) {
                    check_token(f, h, i, f->off.k, f->off.v, row);
                }
            } else {
                check_token(f, h, i, f->static_cache.k, f->static_cache.v,
                            (size_t)(h * f->static_cache.capacity + slot));
                slot++;
            }
        }
    }
}

static void check(const struct fixture *f)
{
    int64_t count = offloaded_tokens(f->tokens);
    assert_int_equal(f->off.count, count);
    check_tokens(f);
    for (int h = 0; h < HEADS; h++) {
        check_mean(f, h, f->center ? count : 0);
    }
}

static struct fixture make_fixture(int64_t tokens, int head_dim, enum mp_dtype dtype)
{
    struct kv_cache off = make_cache(tokens + 2, head_dim, dtype);
    size_t keys = (size_t)(HEADS * (tokens + 5) * head_dim);
    free(off.k_mean);
    return (struct fixture){.tokens = tokens,
                            .center = true,
                            .staging = make_cache(tokens + 9, head_dim, dtype),
                            .static_cache = make_cache(SINK + WINDOW + 10, head_dim, dtype),
                            .off = {.k = off.k,
                                    .v = off.v,
                                    .count = offloaded_tokens(tokens),
                                    .capacity = tokens + 2,
                                    .num_kv_heads = HEADS,
                                    .head_dim = head_dim,
                                    .dtype = dtype},
                            .keys = {.k = random_tensor(dtype, keys, 1.0f, 95),
                                     .count = offloaded_tokens(tokens),
                                     .capacity = tokens + 5,
                                     .num_kv_heads = HEADS,
                                     .head_dim = head_dim,
                                     .dtype = dtype}};
}

static void release_fixture(struct fixture *f)
{
    free(f->staging.k);
    free(f->staging.v);
    free(f->staging.k_mean);
    free(f->static_cache.k);
    free(f->static_cache.v);
    free(f->static_cache.k_mean);
    free(f->off.k);
    free(f->off.v);
    free(f->keys.k);
}

/* The heads from `first` on by themselves. */
static void run_heads(offload_kernel *variant, const struct fixture *f, int first, int count)
{
    struct kv_cache staging = kv_cache_heads(&f->staging, first, count);
    struct kv_cache static_cache = kv_cache_heads(&f->static_cache, first, count);
    struct offloaded_kv off = offloaded_heads(&f->off, first, count);
    struct offloaded_kv keys = f->keys;
    keys.k = (char *)f->keys.k + kv_bytes(first, keys.head_dim, keys.dtype, keys.capacity);
    keys.num_kv_heads = count;
    variant(&(struct offload_args){.staging = &staging,
                                   .tokens = f->tokens,
                                   .sink = SINK,
                                   .window = WINDOW,
                                   .center = f->center,
                                   .mean_given = f->mean_given,
                                   .static_cache = &static_cache,
                                   .offloaded = f->dropped ? NULL : &off,
                                   .keys = &keys});
}

static void run_case(int64_t tokens, int head_dim, enum mp_dtype dtype)
{
    FOR_EACH_SUPPORTED(isa, variants, dtype, head_dim)
    {
        for (int how = 0; how < 3; how++) {
            struct fixture f = make_fixture(tokens, head_dim, dtype);
            f.dropped = how == 1;
            f.center = how != 2;
            run_heads(variants[isa], &f, 0, HEADS);
            check(&f);
            release_fixture(&f);
        }
    }
}

static void assert_same_cache(const void *k, const void *v, const void *expected_k,
                              const void *expected_v, int64_t capacity, int head_dim)
{
    size_t bytes = (size_t)(HEADS * capacity * head_dim) * sizeof(uint16_t);
    assert_memory_equal(k, expected_k, bytes);
    assert_memory_equal(v, expected_v, bytes);
}

/* Head by head, through views of the caches, gives what all heads at once give, bit by bit. */
static void test_views_of_heads(void **state)
{
    (void)state;
    enum { D = 32, TOKENS = 5000 };
    FOR_EACH_VARIANT(isa, variants)
    {
        struct fixture all = make_fixture(TOKENS, D, MP_BF16);
        struct fixture parts = make_fixture(TOKENS, D, MP_BF16);
        run_heads(variants[isa], &all, 0, HEADS);
        for (int h = 0; h < HEADS; h++) {
            run_heads(variants[isa], &parts, h, 1);
        }
        assert_same_cache(parts.static_cache.k, parts.static_cache.v, all.static_cache.k,
                          all.static_cache.v, all.static_cache.capacity, D);
        assert_same_cache(parts.off.k, parts.off.v, all.off.k, all.off.v, all.off.capacity, D);
        assert_memory_equal(parts.static_cache.k_mean, all.static_cache.k_mean,
                            HEADS * D * sizeof(float));
        release_fixture(&all);
        release_fixture(&parts);
    }
    struct kv_cache plain = {.dtype = MP_F32, .num_kv_heads = 2, .capacity = 3, .head_dim = 4};
    assert_null(kv_cache_heads(&plain, 1, 1).k_mean);
}

/* ---- a mean that is given ---- */

/* It stays as it is, and what is stored is less it, whether the tokens between sink and window are
 * offloaded or dropped. */
static void run_mean_given(int64_t tokens, int head_dim, enum mp_dtype dtype)
{
    FOR_EACH_SUPPORTED(isa, variants, dtype, head_dim)
    {
        for (int how = 0; how < 4; how++) {
            struct fixture f = make_fixture(tokens, head_dim, dtype);
            float *mean = random_floats((size_t)(HEADS * head_dim), 1.0f, 97);
            memcpy(f.static_cache.k_mean, mean, (size_t)(HEADS * head_dim) * sizeof *mean);
            f.mean_given = true;
            f.dropped = how % 2 == 1;
            f.center = how / 2 == 1;
            run_heads(variants[isa], &f, 0, HEADS);
            check_tokens(&f);
            assert_memory_equal(f.static_cache.k_mean, mean,
                                (size_t)(HEADS * head_dim) * sizeof *mean);
            free(mean);
            release_fixture(&f);
        }
    }
}

static void test_mean_given(void **state)
{
    (void)state;
    run_mean_given(SINK - 1, 64, MP_BF16);
    run_mean_given(SINK + WINDOW, 64, MP_BF16);
    run_mean_given(SINK + WINDOW + 1, 64, MP_BF16);
    run_mean_given(5001, 128, MP_BF16);
    run_mean_given(500, 18, MP_BF16);
    run_mean_given(500, 64, MP_F32);
}

/* As a dense layer's tokens that follow a prefix which another request keeps: no sink, all before
 * the window dropped, no slot beyond it touched. */
static void test_window_alone(void **state)
{
    (void)state;
    enum { D = 32, TOKENS = 300, LAST = 70 };
    FOR_EACH_VARIANT(isa, variants)
    {
        struct fixture f = make_fixture(TOKENS, D, MP_BF16);
        struct kv_cache before = make_cache(f.static_cache.capacity, D, MP_BF16);
        variants[isa](&(struct offload_args){.staging = &f.staging,
                                             .tokens = TOKENS,
                                             .window = LAST,
                                             .mean_given = true,
                                             .static_cache = &f.static_cache});
        for (int h = 0; h < HEADS; h++) {
            int64_t first = h * f.static_cache.capacity;
            size_t end = (size_t)(first + LAST) * D;
            size_t rest = (size_t)((f.static_cache.capacity - LAST) * D) * sizeof(uint16_t);
            for (int64_t i = 0; i < LAST; i++) {
                check_token(&f, h, TOKENS - LAST + i, f.static_cache.k, f.static_cache.v,
                            (size_t)(first + i));
            }
            assert_memory_equal((uint16_t *)f.static_cache.k + end, (uint16_t *)before.k + end,
                                rest);
            assert_memory_equal((uint16_t *)f.static_cache.v + end, (uint16_t *)before.v + end,
                                rest);
        }
        assert_memory_equal(f.static_cache.k_mean, before.k_mean, HEADS * D * sizeof(float));
        free(before.k);
        free(before.v);
        free(before.k_mean);
        release_fixture(&f);
    }
}

/* Who allocates has counted the tokens. */
static void test_wrong_count(void **state)
{
    (void)state;
    struct fixture f = make_fixture(100, 32, MP_BF16);
    f.off.count--;
    FOR_EACH_VARIANT(isa, variants)
    {
        ASSERT_PANICS(run_heads(variants[isa], &f, 0, HEADS));
    }
    release_fixture(&f);
}

/* ---- int8 ---- */

/* A fixture whose offloaded tokens are MP_I8. Free with release_int8_fixture. */
static struct fixture make_int8_fixture(int64_t tokens, int head_dim, enum mp_dtype dtype)
{
    struct fixture f = make_fixture(tokens, head_dim, dtype);
    f.off.dtype = MP_I8;
    f.off.scales = mp_xcalloc(1, kv_scale_bytes(HEADS, MP_I8, f.off.capacity));
    return f;
}

static void release_int8_fixture(struct fixture *f)
{
    free(f->off.scales);
    release_fixture(f);
}

/* A row of d elements is x to half a step, the largest one exactly +-127 steps. x = 0: so is the
 * row. */
static void check_int8_row(const int8_t *row, float scale, const float *x, int d)
{
    float largest = 0.0f;
    int most = 0;
    for (int c = 0; c < d; c++) {
        largest = fmaxf(largest, fabsf(x[c]));
        most = abs(row[c]) > most ? abs(row[c]) : most;
        assert_true(fabsf(scale * (float)row[c] - x[c]) <= 0.5f * scale * 1.0001f);
    }
    assert_true(scale == largest / 127.0f);
    assert_int_equal(most, largest > 0.0f ? 127 : 0);
}

static void check_int8(const struct fixture *f)
{
    int d = f->staging.head_dim;
    float k[MP_MAX_HEAD_DIM], v[MP_MAX_HEAD_DIM];
    check_keys(f);
    for (int h = 0; h < HEADS; h++) {
        for (int64_t i = 0; i < f->off.count; i++) {
            size_t from = (size_t)(h * f->staging.capacity + SINK + i) * (size_t)d;
            for (int c = 0; c < d; c++) {
                k[c] = mp_load(f->staging.k, f->staging.dtype, from + (size_t)c) -
                       f->static_cache.k_mean[h * d + c];
                v[c] = mp_load(f->staging.v, f->staging.dtype, from + (size_t)c);
            }
            int64_t to = h * f->off.capacity + i;
            check_int8_row((int8_t *)f->off.k + to * d, f->off.scales[to].k, k, d);
            check_int8_row((int8_t *)f->off.v + to * d, f->off.scales[to].v, v, d);
        }
    }
}

static void run_int8_case(int64_t tokens, int head_dim, enum mp_dtype dtype)
{
    FOR_EACH_SUPPORTED(isa, variants, dtype, head_dim)
    {
        struct fixture f = make_int8_fixture(tokens, head_dim, dtype);
        size_t row = (size_t)head_dim * mp_dtype_size(dtype);
        memset((char *)f.staging.v + (size_t)SINK * row, 0, row); /* a value that is 0 */
        run_heads(variants[isa], &f, 0, HEADS);
        check_int8(&f);
        release_int8_fixture(&f);
    }
}

static void test_int8(void **state)
{
    (void)state;
    run_int8_case(SINK + WINDOW, 64, MP_BF16);
    run_int8_case(SINK + WINDOW + 1, 64, MP_BF16); /* one offloaded token: centered to 0 */
    run_int8_case(SINK + WINDOW + 1, 64, MP_F32);
    run_int8_case(3001, 128, MP_BF16);
    run_int8_case(300, 80, MP_BF16);
    run_int8_case(300, 24, MP_BF16);
    run_int8_case(200, 18, MP_BF16);
    run_int8_case(200, 256, MP_F32);
}

/* Head by head, through views; and what is kept in the static cache is what it is beside bf16. */
static void test_int8_views_of_heads(void **state)
{
    (void)state;
    enum { D = 32, TOKENS = 500 };
    FOR_EACH_VARIANT(isa, variants)
    {
        struct fixture all = make_int8_fixture(TOKENS, D, MP_BF16);
        struct fixture parts = make_int8_fixture(TOKENS, D, MP_BF16);
        struct fixture bf16 = make_fixture(TOKENS, D, MP_BF16);
        run_heads(variants[isa], &all, 0, HEADS);
        run_heads(variants[isa], &bf16, 0, HEADS);
        for (int h = 0; h < HEADS; h++) {
            run_heads(variants[isa], &parts, h, 1);
        }
        assert_same_cache(all.static_cache.k, all.static_cache.v, bf16.static_cache.k,
                          bf16.static_cache.v, bf16.static_cache.capacity, D);
        size_t bytes = kv_bytes(HEADS, D, MP_I8, all.off.capacity);
        size_t scales = kv_scale_bytes(HEADS, MP_I8, all.off.capacity);
        assert_memory_equal(parts.off.k, all.off.k, bytes);
        assert_memory_equal(parts.off.v, all.off.v, bytes);
        assert_memory_equal(parts.off.scales, all.off.scales, scales);
        release_int8_fixture(&all);
        release_int8_fixture(&parts);
        release_fixture(&bf16);
    }
    assert_int_equal(kv_bytes(2, 64, MP_I8, 10), 2 * 64 * 10);
    assert_int_equal(kv_scale_bytes(2, MP_I8, 10), 2 * 10 * 2 * sizeof(float));
    assert_int_equal(kv_scale_bytes(2, MP_BF16, 10), 0);
}

/* What is not a number stays none: its scale says so. Rows too small for a scale are 0. */
static void test_int8_limits(void **state)
{
    (void)state;
    enum { D = 32, FIRST = SINK };
    FOR_EACH_VARIANT(isa, variants)
    {
        struct fixture f = make_int8_fixture(SINK + WINDOW + 3, D, MP_BF16);
        f.center = false;
        mp_store(f.staging.v, MP_BF16, (FIRST + 0) * D + 7, NAN);
        mp_store(f.staging.v, MP_BF16, (FIRST + 1) * D + 30, -INFINITY);
        for (size_t c = 0; c < D; c++) {
            mp_store(f.staging.v, MP_BF16, (FIRST + 2) * D + c, c == 5 ? -1e-37f : 0.0f);
        }
        run_heads(variants[isa], &f, 0, HEADS);
        assert_true(isnan(f.off.scales[0].v));
        assert_true(isinf(f.off.scales[1].v));
        assert_true(f.off.scales[2].v == 0.0f);
        for (int i = 0; i < 3 * D; i++) {
            assert_int_equal(((int8_t *)f.off.v)[i], 0);
        }
        release_int8_fixture(&f);
    }
}

static void test_short_prompts(void **state)
{
    (void)state;
    run_case(1, 64, MP_BF16);
    run_case(SINK + WINDOW - 1, 64, MP_BF16);
    run_case(SINK + WINDOW, 64, MP_BF16);
    run_case(SINK + WINDOW + 1, 64, MP_BF16); /* one offloaded token: centered to 0 */
    run_case(SINK + WINDOW + 1, 64, MP_F32);
}

static void test_long_prompts(void **state)
{
    (void)state;
    run_case(5001, 128, MP_BF16);
    run_case(500, 18, MP_BF16);
    run_case(500, 64, MP_F32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_prompts),  cmocka_unit_test(test_long_prompts),
        cmocka_unit_test(test_views_of_heads), cmocka_unit_test(test_mean_given),
        cmocka_unit_test(test_window_alone),   cmocka_unit_test(test_wrong_count),
        cmocka_unit_test(test_int8),           cmocka_unit_test(test_int8_views_of_heads),
        cmocka_unit_test(test_int8_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
