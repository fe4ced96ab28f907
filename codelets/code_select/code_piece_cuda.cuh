/* What the CTAs of the fused kernel work on, and how those that share a KV head tell each other
 * numbers: in words of device memory that are 0 at first. A word holds 32 bits of a number and a
 * mark, so that reading it until it has the mark is all that waiting takes; no order of writes
 * matters. */
#ifndef MP_CODELETS_CODE_PIECE_CUDA_CUH
#define MP_CODELETS_CODE_PIECE_CUDA_CUH

#include "codelets/code_select/code_select_cuda.cuh"

namespace
{

enum {
    WARPS = 16,
    THREADS = 32 * WARPS,
    CTAS_PER_SM = 2,
    MAX_GROUP = 8,    /* query heads of a KV head: columns of a product */
    SPAN = 128,       /* tokens of a warp at a time: a sum of inclusions */
    MAX_SPANS = 2048, /* of a CTA */
    STAGED = 512,     /* selected tokens that a CTA gathers before it writes them */
};

/* A CTA's piece of a KV head. */
struct piece {
    int kv_head;
    int part, parts; /* of the CTAs that share it */
    int first;       /* token */
    int tokens;
    int padded;      /* whole blocks; the room of a head in the store */
    float *store;    /* [group][padded]: logits, then weights; x in place of the first head's */
    uint64_t *words; /* [code_part_words][parts] */
    float *large;    /* [row's tokens] */
};

/* Shared memory beside the store. */
struct shared {
    float largest[MAX_GROUP];
    float scale[MAX_GROUP]; /* codes_head_scale */
    float warp_largest[WARPS][MAX_GROUP];
    uint64_t warp_sums[WARPS][MAX_GROUP];
    int warp_counts[2][WARPS];
    uint64_t warp_capped[2][WARPS];
    uint64_t total;
    uint64_t before;                 /* inclusions of the pieces before */
    int num_large;                   /* of this piece, then of all */
    int offsets[CODE_MAX_PARTS + 1]; /* of each piece's large x among all */
    uint32_t ids[STAGED];
    float weights[STAGED];
};

/* Kinds of words, each [parts]. */
__device__ __forceinline__ uint64_t *words_of_largest(const piece &t, int g)
{
    return t.words + g * t.parts;
}

__device__ __forceinline__ uint64_t *words_of_weights(const piece &t, int group, int g)
{
    return t.words + (group + 2 * g) * t.parts;
}

__device__ __forceinline__ uint64_t *words_of_total(const piece &t, int group)
{
    return t.words + 3 * group * t.parts;
}

__device__ __forceinline__ uint64_t *words_of_large(const piece &t, int group)
{
    return t.words + (3 * group + 2) * t.parts;
}

__device__ __forceinline__ uint64_t *words_of_inclusions(const piece &t, int group)
{
    return t.words + (3 * group + 3) * t.parts;
}

/* ---- words ---- */

__device__ __forceinline__ void share(uint64_t *word, uint32_t x)
{
    const uint64_t marked = (uint64_t)1 << 32 | x;
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(word), "l"(marked) : "memory");
}

/* What was shared there, once it is. */
__device__ __forceinline__ uint32_t shared_word(const uint64_t *word)
{
    uint64_t marked;
    do {
        asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(marked) : "l"(word) : "memory");
    } while (marked >> 32 == 0);
    return (uint32_t)marked;
}

/* Number j of [2][parts] words. */
__device__ __forceinline__ void share_long(uint64_t *words, int parts, int j, uint64_t x)
{
    share(words + j, (uint32_t)x);
    share(words + parts + j, (uint32_t)(x >> 32));
}

__device__ __forceinline__ uint64_t shared_long(const uint64_t *words, int parts, int j)
{
    const uint64_t low = shared_word(words + j);
    return (uint64_t)shared_word(words + parts + j) << 32 | low;
}

} // namespace

#endif
