/* Views of some KV heads of what a test has made for all of them. */
#ifndef MP_TESTS_HEADS_H
#define MP_TESTS_HEADS_H

#include "codelets/common/attention/kv.h"

static inline struct offloaded_kv offloaded_heads(const struct offloaded_kv *kv, int first,
                                                  int count)
{
    size_t skip = kv_bytes(first, kv->head_dim, kv->dtype, kv->capacity);
    struct offloaded_kv part = *kv;
    part.k = (char *)kv->k + skip;
    part.v = (char *)kv->v + skip;
    if (kv->dtype == MP_I8) {
        part.scales = kv->scales + first * kv->capacity;
    }
    part.num_kv_heads = count;
    return part;
}

static inline struct lsh_tables table_heads(const struct lsh_tables *t, int first, int count)
{
    struct lsh_tables part = *t;
    part.ids = lsh_ids(t, first, 0, 0);
    part.offsets = lsh_offsets(t, first, 0, 0);
    part.num_kv_heads = count;
    return part;
}

#endif
