/* Prompts that have been offloaded and what is to be restored of them, for the tests of restore on
 * the CPU and on the GPU. */
#ifndef MP_TESTS_RESTORE_H
#define MP_TESTS_RESTORE_H

#include "codelets/offload/offload.h"
#include "codelets/restore/restore.h"
#include "tests/unit/codelets/kernel_test.h"

enum { RESTORE_SINK = 4, RESTORE_WINDOW = 64 };

/* How a layer keeps its tokens. */
enum restore_layer {
    RESTORE_DENSE,  /* all of them in the static cache */
    RESTORE_SPARSE, /* those between sink and window are offloaded, keys and values in two arrays */
    RESTORE_PAIRED, /* the same, the value of a token behind its key */
};

struct restore_case {
    enum restore_layer layer;
    enum mp_dtype offloaded; /* dtype of what is offloaded; that of the caches unless MP_I8 */
    int64_t tokens;          /* of the prompt */
    int64_t restored;        /* of them, from the first one on */
    int num_kv_heads, head_dim;
};

static const struct restore_case RESTORE_CASES[] = {
    {RESTORE_DENSE, MP_BF16, 1, 1, 1, 16},
    {RESTORE_DENSE, MP_BF16, 5001, 5001, 3, 128},
    {RESTORE_DENSE, MP_BF16, 300, 77, 2, 80},
    {RESTORE_DENSE, MP_F32, 300, 299, 2, 18},
    {RESTORE_SPARSE, MP_BF16, 67, 66, 2, 64}, /* all are in the static cache */
    {RESTORE_SPARSE, MP_BF16, 69, 5, 2, 64},  /* one is offloaded */
    {RESTORE_SPARSE, MP_BF16, 5001, 5001 - RESTORE_WINDOW, 2, 128},
    {RESTORE_SPARSE, MP_BF16, 1000, 260, 3, 24},
    {RESTORE_SPARSE, MP_BF16, 300, 3, 2, 64}, /* less than the sink */
    {RESTORE_SPARSE, MP_BF16, 300, 4, 2, 64},
    {RESTORE_SPARSE, MP_BF16, 300, 5, 2, 256},
    {RESTORE_SPARSE, MP_F32, 1001, 900, 2, 50},
    {RESTORE_SPARSE, MP_I8, 3001, 2500, 2, 128},
    {RESTORE_SPARSE, MP_I8, 69, 5, 1, 64}, /* centered to 0 */
    {RESTORE_SPARSE, MP_I8, 333, 2, 1, 80},
    {RESTORE_PAIRED, MP_BF16, 2500, 2436, 3, 128},
    {RESTORE_PAIRED, MP_BF16, 300, 131, 2, 80},
    {RESTORE_PAIRED, MP_F32, 300, 131, 2, 18},
    {RESTORE_PAIRED, MP_I8, 2500, 2048 + 4 + 1, 2, 128},
    {RESTORE_PAIRED, MP_I8, 300, 101, 3, 24},
};
enum { NUM_RESTORE_CASES = sizeof RESTORE_CASES / sizeof RESTORE_CASES[0] };

static inline enum mp_dtype restore_dtype(const struct restore_case *t)
{
    return t->offloaded == MP_I8 ? MP_BF16 : t->offloaded;
}

struct restore_fixture {
    struct kv_cache prompt;   /* the staging area that is offloaded */
    struct kv_cache kept;     /* static cache; its values and mean are offload's to write */
    struct offloaded_kv off;  /* count 0: nothing is offloaded */
    struct kv_cache restored; /* the staging area that is written, full of 0xff */
};

static inline size_t restore_cache_bytes(const struct kv_cache *c)
{
    return kv_bytes(c->num_kv_heads, c->head_dim, c->dtype, c->capacity);
}

/* Bytes of keys and values, of which two arrays use the second half for the values. */
static inline size_t restore_off_bytes(const struct offloaded_kv *off)
{
    return 2 * kv_bytes(off->num_kv_heads, off->head_dim, off->dtype, off->capacity);
}

/* Memory that is full of 0xff. */
static inline void *restore_memory(size_t bytes)
{
    return memset(mp_xmalloc(bytes), 0xff, bytes);
}

static inline struct kv_cache restore_cache(const struct restore_case *t, int64_t capacity)
{
    struct kv_cache c = {.capacity = capacity,
                         .num_kv_heads = t->num_kv_heads,
                         .head_dim = t->head_dim,
                         .dtype = restore_dtype(t)};
    c.k = restore_memory(restore_cache_bytes(&c));
    c.v = restore_memory(restore_cache_bytes(&c));
    return c;
}

/* Where the values of what is offloaded lie. */
static inline void *restore_values(const struct offloaded_kv *off)
{
    size_t row = (size_t)off->head_dim * mp_dtype_size(off->dtype);
    return (char *)off->k + (off->paired ? row : restore_off_bytes(off) / 2);
}

/* No two of its arrays have the same capacity. The mean of the keys is far from 0. */
static inline struct restore_fixture restore_make(const struct restore_case *t)
{
    int64_t in_cache = RESTORE_SINK + RESTORE_WINDOW;
    bool fits = t->layer == RESTORE_DENSE || t->tokens <= in_cache;
    struct restore_fixture f = {
        .prompt = restore_cache(t, t->tokens + 9),
        .kept = restore_cache(t, fits ? t->tokens + 3 : in_cache + 10),
        .off = {.count = fits ? 0 : t->tokens - in_cache,
                .capacity = t->tokens + 2,
                .num_kv_heads = t->num_kv_heads,
                .head_dim = t->head_dim,
                .dtype = t->offloaded,
                .paired = t->layer == RESTORE_PAIRED},
        .restored = restore_cache(t, t->restored + 5),
    };
    size_t n = restore_cache_bytes(&f.prompt) / mp_dtype_size(f.prompt.dtype);
    float *k = random_floats(n, 1.0f, 61);
    float *v = random_floats(n, 1.0f, 62);
    for (size_t i = 0; i < n; i++) {
        mp_store(f.prompt.k, f.prompt.dtype, i, k[i] + (float)(i % (size_t)t->head_dim % 5) - 1.0f);
        mp_store(f.prompt.v, f.prompt.dtype, i, v[i]);
    }
    free(k);
    free(v);
    f.kept.k_mean = restore_memory((size_t)(t->num_kv_heads * t->head_dim) * sizeof(float));
    f.off.k = restore_memory(restore_off_bytes(&f.off));
    f.off.v = restore_values(&f.off);
    f.off.scales = t->offloaded == MP_I8
                       ? mp_xmalloc(kv_scale_bytes(t->num_kv_heads, MP_I8, f.off.capacity))
                       : NULL;
    return f;
}

static inline void restore_release(struct restore_fixture *f)
{
    void *arrays[] = {f->prompt.k, f->prompt.v,   f->kept.k,     f->kept.v,    f->kept.k_mean,
                      f->off.k,    f->off.scales, f->restored.k, f->restored.v};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        free(arrays[i]);
    }
}

/* As the prompt's own prefill ends. */
static inline void restore_offload(offload_kernel *variant, const struct restore_case *t,
                                   struct restore_fixture *f)
{
    bool dense = t->layer == RESTORE_DENSE;
    variant(&(struct offload_args){.staging = &f->prompt,
                                   .tokens = t->tokens,
                                   .sink = dense ? 0 : RESTORE_SINK,
                                   .window = dense ? t->tokens : RESTORE_WINDOW,
                                   .center = true,
                                   .static_cache = &f->kept,
                                   .offloaded = dense ? NULL : &f->off});
}

static inline struct restore_args restore_args_of(const struct restore_case *t,
                                                  struct restore_fixture *f)
{
    return (struct restore_args){.kept = &f->kept,
                                 .offloaded = f->off.count > 0 ? &f->off : NULL,
                                 .tokens = t->restored,
                                 .sink = RESTORE_SINK,
                                 .staging = &f->restored};
}

/* Keys to a rounding of the caches' dtype, values to the bit; of int8 both to a rounding. */
static inline void restore_assert_agree(const struct restore_case *t, const struct kv_cache *x,
                                        const struct kv_cache *expected)
{
    size_t n = restore_cache_bytes(x) / mp_dtype_size(x->dtype);
    assert_int_equal(restore_cache_bytes(x), restore_cache_bytes(expected));
    if (t->offloaded != MP_I8) {
        assert_memory_equal(x->v, expected->v, restore_cache_bytes(x));
    }
    for (size_t i = 0; i < n; i++) {
        const float k[2] = {mp_load(x->k, x->dtype, i), mp_load(expected->k, x->dtype, i)};
        const float v[2] = {mp_load(x->v, x->dtype, i), mp_load(expected->v, x->dtype, i)};
        if (isnan(k[1])) { /* beyond what is restored */
            assert_true(isnan(k[0]) && isnan(v[0]) && isnan(v[1]));
            continue;
        }
        assert_true(fabsf(k[0] - k[1]) <= fabsf(k[1]) / 128.0f + 1e-6f);
        assert_true(fabsf(v[0] - v[1]) <= fabsf(v[1]) / 128.0f);
    }
}

#endif
