/* offload on the GPU against the reference. */
#include "codelets/offload/offload.h"
#include "core/machine/shard.h"
#include "tests/unit/codelets/heads_test.h"
#include "tests/unit/cuda/cuda_test.h"

enum { HEADS = 3, SINK = 4, WINDOW = 64 };

/* What offload writes, in one memory or the other. */
struct result {
    struct kv_cache static_cache;
    struct offloaded_kv off;
    struct offloaded_kv keys; /* the same keys once more */
};

static size_t static_elements(const struct result *r)
{
    return (size_t)(HEADS * r->static_cache.capacity * r->static_cache.head_dim);
}

static size_t off_bytes_of(const struct result *r)
{
    return kv_bytes(HEADS, r->off.head_dim, r->off.dtype, r->off.capacity);
}

static size_t keys_bytes_of(const struct result *r)
{
    return kv_bytes(HEADS, r->keys.head_dim, MP_BF16, r->keys.capacity);
}

/* At least one, so that there is something to allocate. */
static size_t scale_bytes_of(const struct result *r)
{
    return kv_scale_bytes(HEADS, r->off.dtype, r->off.capacity) + sizeof(struct kv_scale);
}

static size_t off_elements(const struct result *r)
{
    return (size_t)(HEADS * r->off.capacity * r->off.head_dim);
}

static int64_t offloaded_tokens(int64_t tokens)
{
    return tokens > SINK + WINDOW ? tokens - SINK - WINDOW : 0;
}

static struct result make_result(int64_t tokens, int head_dim, enum mp_dtype offloaded)
{
    struct result r = {.static_cache = {.capacity = SINK + WINDOW + 10,
                                        .num_kv_heads = HEADS,
                                        .head_dim = head_dim,
                                        .dtype = MP_BF16},
                       .off = {.count = offloaded_tokens(tokens),
                               .capacity = tokens + 2,
                               .num_kv_heads = HEADS,
                               .head_dim = head_dim,
                               .dtype = offloaded},
                       .keys = {.count = offloaded_tokens(tokens),
                                .capacity = tokens + 3,
                                .num_kv_heads = HEADS,
                                .head_dim = head_dim,
                                .dtype = MP_BF16}};
    r.static_cache.k = mp_xcalloc(static_elements(&r), sizeof(uint16_t));
    r.static_cache.v = mp_xcalloc(static_elements(&r), sizeof(uint16_t));
    r.static_cache.k_mean = mp_xcalloc((size_t)(HEADS * head_dim), sizeof(float));
    r.off.k = mp_xcalloc(1, off_bytes_of(&r));
    r.off.v = mp_xcalloc(1, off_bytes_of(&r));
    r.off.scales = mp_xcalloc(1, scale_bytes_of(&r));
    r.keys.k = mp_xcalloc(1, keys_bytes_of(&r));
    return r;
}

static void release_result(struct result *r)
{
    free(r->static_cache.k);
    free(r->static_cache.v);
    free(r->static_cache.k_mean);
    free(r->off.k);
    free(r->off.v);
    free(r->off.scales);
    free(r->keys.k);
}

static void *pinned_copy(const void *host, size_t bytes)
{
    void *pinned = NULL;
    ASSERT_CUDA(cudaMallocHost(&pinned, bytes));
    memcpy(pinned, host, bytes);
    return pinned;
}

/* Replaces *host by what is in device memory, which is freed. */
static void take_back(void *host, void *device, size_t bytes)
{
    ASSERT_CUDA(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost));
    ASSERT_CUDA(cudaFree(device));
}

/* The heads from `first` on by themselves. */
static void run_heads(const struct offload_args *a, int first, int count)
{
    struct offload_args part = *a;
    struct kv_cache staging = kv_cache_heads(a->staging, first, count);
    struct kv_cache static_cache = kv_cache_heads(a->static_cache, first, count);
    struct mp_shard shard = {.first_kv_head = first, .num_kv_heads = count};
    struct offloaded_kv off;
    struct offloaded_kv keys;
    if (a->keys != NULL) {
        keys = *a->keys;
        keys.k = (char *)keys.k + kv_bytes(first, keys.head_dim, keys.dtype, keys.capacity);
        keys.num_kv_heads = count;
        part.keys = &keys;
    }
    part.staging = &staging;
    part.static_cache = &static_cache;
    if (a->offloaded != NULL) {
        off = offloaded_heads(a->offloaded, shard.first_kv_head, shard.num_kv_heads);
        part.offloaded = &off;
    }
    cuda_op_begin("offload");
    offload_cuda(&part);
    cuda_op_end();
}

/* Runs it, `heads` at a time, with the static cache in device memory and the offloaded tokens in
 * pinned memory. */
static void run_on_gpu(struct offload_args a, int heads, struct result *r)
{
    size_t static_bytes = static_elements(r) * sizeof(uint16_t);
    size_t off_bytes = off_bytes_of(r);
    size_t scale_bytes = scale_bytes_of(r);
    size_t mean_bytes = (size_t)(HEADS * r->static_cache.head_dim) * sizeof(float);
    size_t staging_bytes =
        (size_t)(HEADS * a.staging->capacity * a.staging->head_dim) * sizeof(uint16_t);
    struct kv_cache staging = *a.staging;
    struct kv_cache static_cache = r->static_cache;
    struct offloaded_kv off = r->off;
    struct offloaded_kv keys = r->keys;
    staging.k = device_copy(a.staging->k, staging_bytes);
    staging.v = device_copy(a.staging->v, staging_bytes);
    static_cache.k = device_copy(r->static_cache.k, static_bytes);
    static_cache.v = device_copy(r->static_cache.v, static_bytes);
    static_cache.k_mean = device_copy(a.mean_given ? r->static_cache.k_mean : NULL, mean_bytes);
    keys.k = device_copy(r->keys.k, keys_bytes_of(r));
    off.k = pinned_copy(r->off.k, off_bytes);
    off.v = pinned_copy(r->off.v, off_bytes);
    off.scales = pinned_copy(r->off.scales, scale_bytes);
    a.staging = &staging;
    a.static_cache = &static_cache;
    a.offloaded = a.offloaded != NULL ? &off : NULL;
    a.keys = a.keys != NULL ? &keys : NULL;
    for (int h = 0; h < HEADS; h += heads) {
        run_heads(&a, h, heads);
    }
    cuda_synchronize();
    memcpy(r->off.k, off.k, off_bytes);
    memcpy(r->off.v, off.v, off_bytes);
    memcpy(r->off.scales, off.scales, scale_bytes);
    take_back(r->keys.k, keys.k, keys_bytes_of(r));
    take_back(r->static_cache.k, static_cache.k, static_bytes);
    take_back(r->static_cache.v, static_cache.v, static_bytes);
    take_back(r->static_cache.k_mean, static_cache.k_mean, mean_bytes);
    ASSERT_CUDA(cudaFree(staging.k));
    ASSERT_CUDA(cudaFree(staging.v));
    ASSERT_CUDA(cudaFreeHost(off.k));
    ASSERT_CUDA(cudaFreeHost(off.v));
    ASSERT_CUDA(cudaFreeHost(off.scales));
}

/* Means may differ in the last bits, and keys by their rounding; values are copies. */
static void check_keys(const uint16_t *k, const uint16_t *expected, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float key = mp_bf16_to_f32(k[i]);
        float reference = mp_bf16_to_f32(expected[i]);
        assert_true(fabsf(key - reference) <= fabsf(reference) / 128.0f + 1e-6f);
    }
}

/* The same of int8: by a step, where the mean or the scale is on the edge. Values are equal. */
static void check_int8(const struct result *r, const struct result *expected)
{
    const int d = r->off.head_dim;
    const int8_t *k = r->off.k;
    const int8_t *expected_k = expected->off.k;
    for (int h = 0; h < HEADS; h++) {
        for (int64_t i = 0; i < r->off.count; i++) {
            int64_t token = h * r->off.capacity + i;
            float scale = expected->off.scales[token].k;
            assert_true(fabsf(r->off.scales[token].k - scale) <= 1e-5f * scale + 1e-8f);
            assert_true(r->off.scales[token].v == expected->off.scales[token].v);
            for (int c = 0; c < d; c++) {
                assert_true(scale < 1e-6f ||
                            abs(k[token * d + c] - expected_k[token * d + c]) <= 1);
            }
        }
    }
    assert_memory_equal(r->off.v, expected->off.v, off_bytes_of(r));
}

static void check(const struct result *r, const struct result *expected)
{
    for (int i = 0; i < HEADS * r->static_cache.head_dim; i++) {
        float mean = expected->static_cache.k_mean[i];
        assert_true(fabsf(r->static_cache.k_mean[i] - mean) <= 1e-6f * (1.0f + fabsf(mean)));
    }
    check_keys(r->static_cache.k, expected->static_cache.k, static_elements(r));
    check_keys(r->keys.k, expected->keys.k, keys_bytes_of(r) / sizeof(uint16_t));
    assert_memory_equal(r->static_cache.v, expected->static_cache.v,
                        static_elements(r) * sizeof(uint16_t));
    if (r->off.dtype == MP_I8) {
        check_int8(r, expected);
        return;
    }
    check_keys(r->off.k, expected->off.k, off_elements(r));
    assert_memory_equal(r->off.v, expected->off.v, off_bytes_of(r));
}

/* Head by head, through views of the caches, gives the same bits. */
static void check_same(const struct result *r, const struct result *expected)
{
    assert_memory_equal(r->static_cache.k, expected->static_cache.k,
                        static_elements(r) * sizeof(uint16_t));
    assert_memory_equal(r->static_cache.v, expected->static_cache.v,
                        static_elements(r) * sizeof(uint16_t));
    assert_memory_equal(r->static_cache.k_mean, expected->static_cache.k_mean,
                        (size_t)(HEADS * r->static_cache.head_dim) * sizeof(float));
    assert_memory_equal(r->keys.k, expected->keys.k, keys_bytes_of(r));
    assert_memory_equal(r->off.k, expected->off.k, off_bytes_of(r));
    assert_memory_equal(r->off.v, expected->off.v, off_bytes_of(r));
    assert_memory_equal(r->off.scales, expected->off.scales, scale_bytes_of(r));
}

static struct kv_cache make_staging(int64_t tokens, int head_dim)
{
    size_t n = (size_t)(HEADS * (tokens + 9) * head_dim);
    return (struct kv_cache){.k = random_tensor(MP_BF16, n, 1.0f, 90),
                             .v = random_tensor(MP_BF16, n, 1.0f, 91),
                             .capacity = tokens + 9,
                             .num_kv_heads = HEADS,
                             .head_dim = head_dim,
                             .dtype = MP_BF16};
}

static void run_offload(int64_t tokens, int head_dim, enum mp_dtype offloaded, bool dropped)
{
    struct kv_cache staging = make_staging(tokens, head_dim);
    struct result expected = make_result(tokens, head_dim, offloaded);
    struct result result = make_result(tokens, head_dim, offloaded);
    struct result by_head = make_result(tokens, head_dim, offloaded);
    struct offload_args a = {.staging = &staging,
                             .tokens = tokens,
                             .sink = SINK,
                             .window = WINDOW,
                             .center = true,
                             .static_cache = &expected.static_cache,
                             .offloaded = dropped ? NULL : &expected.off,
                             .keys = dropped || offloaded == MP_I8 ? &expected.keys : NULL};
    offload_ref(&a);
    run_on_gpu(a, HEADS, &result);
    check(&result, &expected);
    run_on_gpu(a, 1, &by_head);
    check_same(&by_head, &result);
    release_result(&expected);
    release_result(&result);
    release_result(&by_head);
    free(staging.k);
    free(staging.v);
}

/* A mean that is given: it stays to the bit, beside what is offloaded and where that is dropped. */
static void run_mean_given(int64_t tokens, int64_t sink, int64_t window, int head_dim, bool dropped)
{
    size_t means = (size_t)(HEADS * head_dim) * sizeof(float);
    float *mean = random_floats((size_t)(HEADS * head_dim), 1.0f, 97);
    struct kv_cache staging = make_staging(tokens, head_dim);
    struct result expected = make_result(tokens, head_dim, MP_BF16);
    struct result result = make_result(tokens, head_dim, MP_BF16);
    memcpy(expected.static_cache.k_mean, mean, means);
    memcpy(result.static_cache.k_mean, mean, means);
    struct offload_args a = {.staging = &staging,
                             .tokens = tokens,
                             .sink = sink,
                             .window = window,
                             .center = true,
                             .mean_given = true,
                             .static_cache = &expected.static_cache,
                             .offloaded = dropped ? NULL : &expected.off};
    offload_ref(&a);
    run_on_gpu(a, HEADS, &result);
    assert_memory_equal(result.static_cache.k_mean, mean, means);
    check_same(&result, &expected);
    free(mean);
    release_result(&expected);
    release_result(&result);
    free(staging.k);
    free(staging.v);
}

static void test_mean_given(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    run_mean_given(SINK - 1, SINK, WINDOW, 64, true);
    run_mean_given(SINK + WINDOW + 1, SINK, WINDOW, 64, false);
    run_mean_given(SINK + WINDOW + 1, SINK, WINDOW, 64, true);
    run_mean_given(5001, SINK, WINDOW, 128, false);
    run_mean_given(5001, SINK, WINDOW, 128, true);
    run_mean_given(300, 0, SINK + WINDOW + 2, 96, true); /* as in a dense layer */
}

/* With the tokens between sink and window offloaded, as bf16 and as int8, and dropped. */
static void run_case(int64_t tokens, int head_dim)
{
    run_offload(tokens, head_dim, MP_BF16, false);
    run_offload(tokens, head_dim, MP_I8, false);
    run_offload(tokens, head_dim, MP_BF16, true);
}

static void test_short_prompts(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    run_case(1, 64);
    run_case(SINK + WINDOW - 1, 128);
    run_case(SINK + WINDOW, 64);
    run_case(SINK + WINDOW + 1, 64); /* one offloaded token: centered to 0 */
    run_case(SINK + WINDOW + 2, 96);
}

static void test_long_prompts(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    run_case(5001, 128);
    run_case(70000, 64);
    run_case(1000, 96);
    run_case(500, 24);
    run_case(333, 256);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_prompts),
        cmocka_unit_test(test_long_prompts),
        cmocka_unit_test(test_mean_given),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, cuda_test_teardown);
}
