/* offload: keys and values of one prefilled layer -> static cache (sink, local) and CPU memory
 * (the rest), with keys centered on the mean of the offloaded ones. */
#ifndef MP_CODELETS_OFFLOAD_H
#define MP_CODELETS_OFFLOAD_H

#include "codelets/common/attention/kv.h"

struct offload_args {
    const struct kv_cache *staging; /* tokens 0 .. tokens - 1 of the prompt, not centered */
    int64_t tokens;                 /* n */
    int64_t sink;                   /* first tokens kept in the static cache */
    int64_t window;                 /* last tokens kept in the static cache */
    struct kv_cache *fixed;         /* out: the static cache; slots [0, sink) get the sink,
                                       [sink, sink + window) the window; k_mean is written.
                                       If tokens <= sink + window: all tokens, in order, and
                                       k_mean = 0 */
    struct offloaded_kv *offloaded; /* out: tokens sink .. tokens - window - 1; count is set */
};

/* What every variant of the op is. */
typedef void offload_kernel(const struct offload_args *);

/* Mean over the offloaded keys per KV head and channel, in double; then k - mean and v. */
void offload_ref(const struct offload_args *a);
void offload_avx2(const struct offload_args *a);
void offload_avx512(const struct offload_args *a);
/* Needs dtype MP_BF16, 16-byte aligned k and v, head_dim a multiple of 8 up to 256. Staging and
 * static cache in device memory; offloaded k and v there or in pinned host memory. */
void offload_cuda(const struct offload_args *a);
size_t offload_cuda_workspace(int num_kv_heads, int head_dim);

/* Task. Buffers: 0 struct kv_cache fixed RW, 1 struct offloaded_kv RW, then one struct kv_cache R
 * for each chunk of the prompt; they all describe the same staging area. */
struct offload_task {
    int64_t tokens;
    int64_t sink;
    int64_t window;
    int kv_width; /* num_kv_heads * head_dim, for the cost estimate */
};

extern struct starpu_codelet offload_codelet;

#endif
