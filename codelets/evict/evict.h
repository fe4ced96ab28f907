/* evict: tokens of a static cache -> the offloaded ones, and the cache closes the gap: how
 * generated tokens grow old. Keys are centered in both. */
#ifndef MP_CODELETS_EVICT_H
#define MP_CODELETS_EVICT_H

#include "codelets/common/attention/kv.h"
#include "core/base/shape.h"

struct mp_buffer;
struct mp_shard;
struct mp_submit;

struct evict_args {
    struct kv_cache *cache;         /* in and out: the KV heads of the shard */
    int64_t first;                  /* slots first .. first + count - 1 leave, .. */
    int64_t count;                  /* >= 1 */
    int64_t used;                   /* .. those up to here move down by count */
    struct offloaded_kv *offloaded; /* in and out: gets them as its last tokens, which its count
                                       includes already; MP_I8 as in offload, or the cache's dtype.
                                       NULL: they are dropped */
};

/* What every variant of the op is. */
typedef void evict_kernel(const struct evict_args *);

/* Panics unless the tokens and their room are there. */
void evict_check(const struct evict_args *a);

/* Any dtype: little is moved, and seldom. */
void evict_any(const struct evict_args *a);
/* Needs dtype MP_BF16, of the offloaded tokens MP_BF16 or MP_I8, 16-byte aligned k and v, head_dim
 * a multiple of 8 up to 256. All of it in device memory or in pinned host memory. */
void evict_cuda(const struct evict_args *a);

/* What leaves the cache of a layer. */
struct evict_size {
    int64_t first; /* slot */
    int64_t count;
    int64_t used; /* slots in use before */
};

/* For the KV heads of a shard: cache wraps the struct kv_cache of all heads, offloaded the struct
 * offloaded_kv of the shard, whose count grows. leaving: a buffer that others read the leaving
 * tokens by, until they have left. Both NULL: another rank keeps the tokens. */
void evict_insert(struct mp_submit *sub, const struct mp_shape *shape, const struct mp_shard *shard,
                  const struct mp_buffer *cache, const struct mp_buffer *leaving,
                  const struct mp_buffer *offloaded, const struct evict_size *size);

#endif
