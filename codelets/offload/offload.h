/* offload: keys and values of one prefilled layer -> static cache (sink, local) and CPU memory
 * (the rest), with keys centered on the mean of the offloaded ones. */
#ifndef MP_CODELETS_OFFLOAD_H
#define MP_CODELETS_OFFLOAD_H

#include "codelets/common/attention/kv.h"
#include "core/base/shape.h"

#include <stdbool.h>

struct mp_buffer;
struct mp_shard;
struct mp_submit;

struct offload_args {
    const struct kv_cache *staging; /* tokens 0 .. tokens - 1 of the prompt, not centered */
    int64_t tokens;                 /* n */
    int64_t sink;                   /* first tokens kept in the static cache */
    int64_t window;                 /* last tokens kept in the static cache */
    bool center;                    /* false: k_mean = 0, keys are stored as they are */
    bool mean_given;               /* k_mean is there already, and stays; center is not looked at */
    struct kv_cache *static_cache; /* out: the static cache; slots [0, sink) get the sink,
                                      [sink, sink + window) the window; k_mean is written.
                                      If tokens <= sink + window: all tokens, in order, and
                                      k_mean = 0, unless it is given */
    struct offloaded_kv *offloaded; /* out: k and v of tokens sink .. tokens - window - 1, whose
                                       number is in count. NULL: those tokens are dropped. If it is
                                       MP_I8, the scale of a token is its largest magnitude / 127,
                                       its elements are rint(x / scale); 0 if all of it is 0 */
    struct offloaded_kv *keys;      /* out: the keys of the same tokens once more, as they are
                                       before any rounding to 8 bits; dtype that of staging, v not
                                       looked at. NULL: nobody wants them */
};

/* What every variant of the op is. */
typedef void offload_kernel(const struct offload_args *);

/* Mean over the offloaded keys per KV head and channel, in double; then k - mean and v. */
void offload_ref(const struct offload_args *a);
/* The fast ones need dtype MP_BF16, of the offloaded tokens MP_BF16 or MP_I8, and head_dim a
 * multiple of 8 (AVX2) or 16 (AVX-512). */
void offload_avx2(const struct offload_args *a);
void offload_avx512(const struct offload_args *a);
/* Needs dtype MP_BF16, of the offloaded tokens MP_BF16 or MP_I8, 16-byte aligned k and v, head_dim
 * a multiple of 8 up to 256. All of it in device memory or in pinned host memory. */
void offload_cuda(const struct offload_args *a);
size_t offload_cuda_workspace(int num_kv_heads, int head_dim);

/* A prompt's keys and values of one layer, as they come from its prefill, and where they go. */
struct offload_buffers {
    const struct mp_buffer *const *staging; /* [num_staging] each wraps the struct kv_cache of a
                                               chunk; all of them describe the same staging area */
    int num_staging;
    const struct mp_buffer *static_cache; /* wraps a struct kv_cache of all heads */
    const struct mp_buffer *offloaded;    /* wraps the struct offloaded_kv of the shard; NULL: what
                                             is neither sink nor window is dropped */
    const struct mp_buffer *keys;         /* wraps the struct offloaded_kv that gets its keys as an
                                             index wants them; NULL: none */
};

struct offload_size {
    int64_t tokens;  /* of the prompt */
    int64_t sink;    /* first ones kept in the static cache */
    int64_t window;  /* last ones kept there */
    bool center;     /* keys are stored less the mean of the offloaded ones */
    bool mean_given; /* the static cache has the mean that they are stored less of */
    bool int8;       /* offloaded tokens are MP_I8, for the cost estimate */
};

/* The KV heads of a shard; NULL: all of them. */
void offload_insert(struct mp_submit *sub, const struct mp_shape *shape,
                    const struct mp_shard *shard, const struct offload_buffers *b,
                    const struct offload_size *size);

/* Bytes of GPU workspace that a task needs; 0 in a program without CUDA. */
size_t offload_workspace(const struct mp_shape *shape);

#endif
