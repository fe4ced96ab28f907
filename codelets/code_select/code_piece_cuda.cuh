/* What the CTAs of the fused kernel work on, and how those that share a KV head tell each other
 * numbers: in words of device memory, each CTA's own. A word holds 32 bits of a number and a mark,
 * which no KV head of any launch before had; so reading it until it has the mark is all that
 * waiting takes, no order of writes matters, and nothing is ever cleared. One launch at a time uses
 * the words: kernels of a GPU's worker are in one stream. */
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
    MAX_CTAS = 512,
    MAX_WORDS = 3 * MAX_GROUP + 5, /* of a CTA, below */
};

__device__ uint64_t shared_words[MAX_WORDS][MAX_CTAS];

/* A CTA's piece of a KV head. */
struct piece {
    int kv_head;
    int part, parts; /* of the CTAs that share it */
    int first;       /* token */
    int tokens;
    int padded;      /* whole blocks; the room of a head in the store */
    float *store;    /* [group][padded]: logits, then weights; x in place of the first head's */
    uint64_t *words; /* [MAX_WORDS] MAX_CTAS apart, of [parts] */
    uint32_t mark;   /* of the KV head, not 0 */
    float *large;    /* [row's tokens] */
};

/* Shared memory beside the store. */
struct shared {
    code_head heads[MAX_GROUP];
    float largest[MAX_GROUP];
    float scale[MAX_GROUP]; /* codes_head_scale */
    float warp_largest[WARPS][MAX_GROUP];
    uint64_t warp_sums[WARPS][MAX_GROUP];
    int warp_counts[2][WARPS];
    uint64_t warp_capped[2][WARPS];
    uint64_t total;
    uint64_t before; /* inclusions of the pieces before */
    int num_large;   /* of this piece, then of all */
    union {
        float space[MAX_GROUP][MP_MAX_HEAD_DIM]; /* while queries are made */
        struct {
            int offsets[CODE_MAX_PARTS + 1]; /* of each piece's large x among all */
            uint32_t ids[STAGED];
            float weights[STAGED];
        };
    };
};

/* ---- words ----
 *
 * The kinds of numbers that a part of a KV head tells the others; a 64-bit one takes two words. */

enum { /* of query head g: + g, or + 2 g */
       LARGEST = 0,
       WEIGHTS = MAX_GROUP,
       TOTAL = 3 * MAX_GROUP,
       LARGE = TOTAL + 2,
       INCLUSIONS = LARGE + 1,
};

__device__ __forceinline__ void share(const piece &t, int kind, uint32_t x)
{
    const uint64_t marked = (uint64_t)t.mark << 32 | x;
    uint64_t *word = t.words + kind * MAX_CTAS + t.part;
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(word), "l"(marked) : "memory");
}

/* What part j has shared, once it has. */
__device__ __forceinline__ uint32_t shared_by(const piece &t, int kind, int j)
{
    const uint64_t *word = t.words + kind * MAX_CTAS + j;
    uint64_t marked;
    do {
        asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(marked) : "l"(word) : "memory");
    } while (marked >> 32 != t.mark);
    return (uint32_t)marked;
}

__device__ __forceinline__ void share_long(const piece &t, int kind, uint64_t x)
{
    share(t, kind, (uint32_t)x);
    share(t, kind + 1, (uint32_t)(x >> 32));
}

__device__ __forceinline__ uint64_t shared_long_by(const piece &t, int kind, int j)
{
    const uint64_t low = shared_by(t, kind, j);
    return (uint64_t)shared_by(t, kind + 1, j) << 32 | low;
}

} // namespace

#endif
