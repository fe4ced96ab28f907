/* A static cache from which tokens leave, for the tests of evict on the CPU and on the GPU. */
#ifndef MP_TESTS_EVICT_H
#define MP_TESTS_EVICT_H

#include "codelets/evict/evict.h"
#include "tests/unit/codelets/kernel_test.h"

struct evict_case {
    int64_t first, count, used; /* as in the op's arguments */
    int64_t offloaded;          /* tokens before */
    int num_kv_heads, head_dim;
    enum mp_dtype cache, dtype; /* of the cache, and of the offloaded tokens */
};

static const struct evict_case EVICT_CASES[] = {
    {4, 128, 324, 1000, 2, 64, MP_BF16, MP_BF16}, {4, 128, 324, 1000, 2, 128, MP_BF16, MP_I8},
    {0, 1, 40, 0, 1, 80, MP_BF16, MP_I8},         {0, 1, 2, 5, 3, 256, MP_BF16, MP_BF16},
    {7, 30, 37, 3, 2, 96, MP_BF16, MP_I8},        {2, 16, 100, 0, 8, 16, MP_BF16, MP_BF16},
    {3, 5, 90, 31, 2, 24, MP_BF16, MP_I8},
};
enum { NUM_EVICT_CASES = sizeof EVICT_CASES / sizeof EVICT_CASES[0], EVICT_SLACK = 3 };

struct evict_fixture {
    struct kv_cache cache;
    struct offloaded_kv offloaded; /* its count includes those that will have left */
};

static inline size_t evict_cache_bytes(const struct evict_fixture *f)
{
    return kv_bytes(f->cache.num_kv_heads, f->cache.head_dim, f->cache.dtype, f->cache.capacity);
}

static inline size_t evict_offloaded_bytes(const struct evict_fixture *f)
{
    const struct offloaded_kv *off = &f->offloaded;
    return kv_bytes(off->num_kv_heads, off->head_dim, off->dtype, off->capacity);
}

static inline size_t evict_scale_bytes(const struct evict_fixture *f)
{
    const struct offloaded_kv *off = &f->offloaded;
    return kv_scale_bytes(off->num_kv_heads, off->dtype, off->capacity);
}

/* Each fifth row of the cache is 0; the offloaded tokens' memory is 0xa5. */
static inline struct evict_fixture evict_make(const struct evict_case *t)
{
    struct evict_fixture f = {
        .cache = {.capacity = t->used + EVICT_SLACK,
                  .num_kv_heads = t->num_kv_heads,
                  .head_dim = t->head_dim,
                  .dtype = t->cache},
        .offloaded = {.count = t->offloaded + t->count,
                      .capacity = t->offloaded + t->count + EVICT_SLACK,
                      .num_kv_heads = t->num_kv_heads,
                      .head_dim = t->head_dim,
                      .dtype = t->dtype},
    };
    size_t d = (size_t)t->head_dim;
    size_t n = (size_t)(t->num_kv_heads * f.cache.capacity) * d;
    f.cache.k = random_tensor(t->cache, n, 1.0f, 81);
    f.cache.v = random_tensor(t->cache, n, 3.0f, 82);
    for (size_t i = 0; i < n; i++) {
        if (i / d % 5 == 0) {
            mp_store(f.cache.k, t->cache, i, 0.0f);
        }
    }
    f.offloaded.k = mp_xmalloc(evict_offloaded_bytes(&f));
    f.offloaded.v = mp_xmalloc(evict_offloaded_bytes(&f));
    f.offloaded.scales = mp_xmalloc(evict_scale_bytes(&f) + 1);
    memset(f.offloaded.k, 0xa5, evict_offloaded_bytes(&f));
    memset(f.offloaded.v, 0xa5, evict_offloaded_bytes(&f));
    memset(f.offloaded.scales, 0xa5, evict_scale_bytes(&f));
    return f;
}

static inline void evict_release(struct evict_fixture *f)
{
    free(f->cache.k);
    free(f->cache.v);
    free(f->offloaded.k);
    free(f->offloaded.v);
    free(f->offloaded.scales);
}

static inline struct evict_args evict_args_of(const struct evict_case *t, struct evict_fixture *f)
{
    return (struct evict_args){.cache = &f->cache,
                               .first = t->first,
                               .count = t->count,
                               .used = t->used,
                               .offloaded = &f->offloaded};
}

#endif
