/* prefill_attention: exact causal attention of a chunk of query rows over all tokens up to each
 * row. Blocked with a running softmax (flash): memory does not grow with the prompt. */
#ifndef MP_CODELETS_PREFILL_ATTENTION_H
#define MP_CODELETS_PREFILL_ATTENTION_H

#include "codelets/common/attention/kv.h"
#include "core/base/shape.h"

#include <stdbool.h>

struct mp_buffer;
struct mp_submit;

struct prefill_attention_args {
    const float *q;               /* [rows][num_heads][head_dim] */
    const struct kv_cache *cache; /* staging area or dense cache, not centered */
    int64_t first;                /* cache index of row 0's own token: row r attends to
                                     0 .. first + r, inclusive */
    float *o;                     /* out [rows][num_heads][head_dim] */
    int64_t rows;
    int num_heads;
    int head_dim;
    float scale; /* 1 / sqrt(head_dim) */
};

/* What every variant of the op is. */
typedef void prefill_attention_kernel(const struct prefill_attention_args *);

/* Two passes per row, no blocking: the oracle, and `mem_efficient: 0`. */
void prefill_attention_ref(const struct prefill_attention_args *a);
/* The fast ones need cache dtype MP_BF16; head_dim is anything up to MP_MAX_HEAD_DIM. */
void prefill_attention_avx2(const struct prefill_attention_args *a);
/* Takes the better one of the next two that the CPU can run. */
void prefill_attention_avx512(const struct prefill_attention_args *a);
/* AMX tiles of bf16; queries in two parts, weights rounded to bf16. */
void prefill_attention_amx(const struct prefill_attention_args *a);
/* As the AVX2 one, in int16, on 512 bits; needs AVX512_VNNI. */
void prefill_attention_vnni(const struct prefill_attention_args *a);
/* Takes the better one of the next two for the GPU. Cache dtype MP_BF16 only, head_dim a multiple
 * of 8 up to 256; queries and weights rounded to bf16; reads no token after the last row's own. */
void prefill_attention_cuda(const struct prefill_attention_args *a);
/* Warp-level tensor core instructions: compute capability 8.0 and later, any shape. */
void prefill_attention_mma_cuda(const struct prefill_attention_args *a);
/* Asynchronous warpgroup instructions: compute capability 9.0 exactly, head_dim 64 or 128. */
void prefill_attention_wgmma_cuda(const struct prefill_attention_args *a);

/* Some rows of a chunk whose row 0 is token `first` of the cache. q, o
 * [rows of the chunk][num_attention_heads][head_dim] f32; caches [num_caches]: buffers that wrap
 * the struct kv_cache of each chunk of the prompt up to this one, which all describe the same
 * cache. blocked false: the plain two-pass reference, whatever the variant in force. */
struct prefill_attention_buffers {
    const struct mp_buffer *q;
    const struct mp_buffer *const *caches; /* [num_caches] */
    int num_caches;
    const struct mp_buffer *o;
};
void prefill_attention_insert(struct mp_submit *sub, const struct mp_shape *shape,
                              const struct prefill_attention_buffers *b, int64_t first,
                              struct mp_rows rows, bool blocked);

#endif
