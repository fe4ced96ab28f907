/* offload: where tokens go, centering, norms; every variant against what is computed here. */
#include "codelets/offload/offload.h"
#include "kernel_test.h"

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
    struct kv_cache staging, fixed;
    struct offloaded_kv off;
};

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

static void check_token(const struct fixture *f, int h, int64_t i, const void *k, const void *v,
                        size_t row)
{
    enum mp_dtype t = f->staging.dtype;
    size_t d = (size_t)f->staging.head_dim;
    size_t from = (size_t)(h * f->staging.capacity + i) * d;
    for (size_t c = 0; c < d; c++) {
        float expected = mp_load(f->staging.k, t, from + c) - f->fixed.k_mean[(size_t)h * d + c];
        float key = mp_load(k, t, row * d + c);
        assert_true(fabsf(key - expected) <= fabsf(expected) / 256.0f + 1e-30f);
        assert_true(mp_load(v, t, row * d + c) == mp_load(f->staging.v, t, from + c));
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
        assert_true(fabs((double)f->fixed.k_mean[h * d + c] - mean) <= 1e-6 * (1.0 + fabs(mean)));
    }
}

static void check(const struct fixture *f)
{
    int64_t count = f->tokens > SINK + WINDOW ? f->tokens - SINK - WINDOW : 0;
    assert_int_equal(f->off.count, count);
    for (int h = 0; h < HEADS; h++) {
        check_mean(f, h, count);
        int64_t slot = 0;
        for (int64_t i = 0; i < f->tokens; i++) {
            if (count > 0 && i >= SINK && i < SINK + count) {
                size_t row = (size_t)(h * f->off.capacity + i - SINK);
                check_token(f, h, i, f->off.k, f->off.v, row);
            } else {
                check_token(f, h, i, f->fixed.k, f->fixed.v,
                            (size_t)(h * f->fixed.capacity + slot));
                slot++;
            }
        }
    }
}

static void run_case(int64_t tokens, int head_dim, enum mp_dtype dtype)
{
    FOR_EACH_VARIANT(isa, variants)
    {
        struct kv_cache off = make_cache(tokens + 2, head_dim, dtype);
        struct fixture f = {.tokens = tokens,
                            .staging = make_cache(tokens + 9, head_dim, dtype),
                            .fixed = make_cache(SINK + WINDOW + 10, head_dim, dtype),
                            .off = {.k = off.k,
                                    .v = off.v,
                                    .count = -1,
                                    .capacity = tokens + 2,
                                    .num_kv_heads = HEADS,
                                    .head_dim = head_dim,
                                    .dtype = dtype}};
        variants[isa](&(struct offload_args){.staging = &f.staging,
                                             .tokens = tokens,
                                             .sink = SINK,
                                             .window = WINDOW,
                                             .fixed = &f.fixed,
                                             .offloaded = &f.off});
        check(&f);
        struct kv_cache *caches[3] = {&f.staging, &f.fixed, &off};
        for (int i = 0; i < 3; i++) {
            free(caches[i]->k);
            free(caches[i]->v);
            free(caches[i]->k_mean);
        }
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
        cmocka_unit_test(test_short_prompts),
        cmocka_unit_test(test_long_prompts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
