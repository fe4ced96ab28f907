/* restore: the first tokens of a prompt whose keys and values a request has kept -> the staging
 * area, as the prompt's own prefill would have left them there but for what rounding took away:
 * what offload did, undone. So another prompt that begins with these tokens reads only what
 * follows. */
#ifndef MP_CODELETS_RESTORE_H
#define MP_CODELETS_RESTORE_H

#include "codelets/common/attention/kv.h"
#include "core/base/shape.h"

#include <stdbool.h>

struct mp_buffer;
struct mp_shard;
struct mp_submit;

struct restore_args {
    const struct kv_cache *kept;          /* a static cache, centered */
    const struct offloaded_kv *offloaded; /* NULL: all tokens are in `kept` */
    int64_t tokens;                       /* wanted, from the first one on; >= 1 */
    int64_t sink; /* of them those in the first slots of `kept`; the others are the first
                     offloaded ones. Not looked at if all are in `kept` */
    struct kv_cache *staging; /* out: slots 0 .. tokens - 1, not centered */
};

/* What every variant of the op is. Keys get the mean back that was subtracted from them. */
typedef void restore_kernel(const struct restore_args *);

void restore_ref(const struct restore_args *a);
/* The fast ones need dtype MP_BF16, of the offloaded tokens MP_BF16 or MP_I8, and head_dim a
 * multiple of 8 (AVX2) or 16 (AVX-512). */
void restore_avx2(const struct restore_args *a);
void restore_avx512(const struct restore_args *a);
/* Needs dtype MP_BF16, of the offloaded tokens MP_BF16 or MP_I8, 16-byte aligned k and v, head_dim
 * a multiple of 8 up to 256. What is read lies in device memory or in pinned host memory. */
void restore_cuda(const struct restore_args *a);

/* Tokens that lie in `kept`. */
static inline int64_t restore_kept(const struct restore_args *a)
{
    return a->offloaded != NULL && a->sink < a->tokens ? a->sink : a->tokens;
}

/* Panics unless the tokens are there and have room. */
void restore_check(const struct restore_args *a);

/* A layer's keys and values where they are kept, and where they are wanted. */
struct restore_buffers {
    const struct mp_buffer *kept;      /* wraps a struct kv_cache of all heads */
    const struct mp_buffer *offloaded; /* wraps the struct offloaded_kv of the shard; NULL: none */
    const struct mp_buffer *staging;   /* wraps a struct kv_cache of all heads */
};

struct restore_size {
    int64_t tokens; /* as in the args */
    int64_t sink;
    bool int8; /* offloaded tokens are MP_I8, for the cost estimate */
};

/* The KV heads of a shard; NULL: all of them. */
void restore_insert(struct mp_submit *sub, const struct mp_shape *shape,
                    const struct mp_shard *shard, const struct restore_buffers *b,
                    const struct restore_size *size);

#endif
