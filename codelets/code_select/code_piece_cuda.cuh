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
    SCORERS = 8, /* warps that make logits, */
    SERVERS = 4, /* and those that find c' of the KV head before meanwhile */
    WARPS = SCORERS + SERVERS,
    THREADS = 32 * WARPS,
    CTAS_PER_SM = 2,
    MAX_GROUP = 8,   /* query heads of a KV head: columns of a product */
    SPAN = 128,      /* tokens of a warp at a time: a sum of inclusions */
    STAGED = 512,    /* selected tokens that a CTA gathers before it writes them */
    GATHERED = 1536, /* large x of a KV head that a CTA gathers before it counts them */
    MAX_CTAS = 512,
    MAX_WORDS = 3 * MAX_GROUP + 4, /* of a CTA, below */
    AHEAD = 4,                     /* parts whose words a lane waits for together */
    PIECES = 4, /* of a CTA: the one before, one, the next one, and one that may be forgotten */
};

__device__ uint64_t shared_words[MAX_WORDS][MAX_CTAS];

/* A CTA's piece of a KV head. */
struct piece {
    int row;
    int kv_head;
    int part, parts; /* of the CTAs that share it; parts 0: the CTA is not one of them */
    int first;       /* token */
    int tokens;
    int padded;      /* whole blocks */
    int room;        /* tokens of a piece that the CTA has room for */
    int stride;      /* floats from a head's logits to the next one's */
    uint64_t *words; /* [MAX_WORDS] MAX_CTAS apart, of [parts] */
    uint32_t mark;   /* of the KV head, not 0 */
};

/* Number of a server's thread. */
__device__ __forceinline__ int server_thread()
{
    return (int)threadIdx.x - 32 * SCORERS;
}

/* Waits for the other servers. */
__device__ __forceinline__ void server_sync()
{
    asm volatile("bar.sync 1, %0;" ::"n"(32 * SERVERS) : "memory");
}

/* ---- shared memory ----
 *
 * Dynamic shared memory has, of one piece, [spans + 1] sums of inclusions before each span and of
 * them all, and [room] x; of that or another piece [group][stride] logits, then weights. */

enum { HEAD_PADDING = 8 }; /* floats between heads: four of them have other banks */

__host__ __device__ __forceinline__ int sums_floats(int room)
{
    return (room / SPAN / 2 + 1) * 4; /* multiples of 16 bytes */
}

__device__ __forceinline__ float *shared_room()
{
    extern __shared__ float4 room[];
    return reinterpret_cast<float *>(room);
}

__device__ __forceinline__ uint64_t *sums_of_spans()
{
    return reinterpret_cast<uint64_t *>(shared_room());
}

__device__ __forceinline__ float *x_of(const piece &t)
{
    return shared_room() + sums_floats(t.room);
}

/* Of query head g. */
__device__ __forceinline__ float *logits_of(const piece &t, int g)
{
    return x_of(t) + t.room + g * t.stride;
}

/* The rest. */
struct shared {
    piece pieces[PIECES]; /* of KV head number i of the CTA's slot: i % PIECES */
    float largest[MAX_GROUP];
    float scale[MAX_GROUP]; /* codes_head_scale; 0 if there is no such head */
    float warp_largest[SCORERS][MAX_GROUP];
    uint64_t warp_sums[WARPS];
    int warp_counts[2][SERVERS];
    uint64_t warp_capped[2][SERVERS];
    uint64_t total;
    uint64_t before; /* inclusions of the pieces before */
    float c;
    int num_large; /* tokens of the KV head that may have pi = 1 */
    union {
        float gathered[GATHERED]; /* their x, while c' is found */
        struct {                  /* what is selected */
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
       INCLUSIONS = TOTAL + 2,
};

__device__ __forceinline__ void share(const piece &t, int kind, uint32_t x)
{
    const uint64_t marked = (uint64_t)t.mark << 32 | x;
    uint64_t *word = t.words + kind * MAX_CTAS + t.part;
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(word), "l"(marked) : "memory");
}

__device__ __forceinline__ void share_long(const piece &t, int kind, uint64_t x)
{
    share(t, kind, (uint32_t)x);
    share(t, kind + 1, (uint32_t)(x >> 32));
}

/* Calls take(j, words) by a lane for parts j = lane, lane + 32, ... of `parts`, with the words from
 * `kind` on that they have shared, once they have. The words of some parts are read at once. */
template <int WORDS, class Take>
__device__ __forceinline__ void for_parts(const piece &t, int kind, int parts, Take take)
{
    for (int first = threadIdx.x % 32; first < parts; first += 32 * AHEAD) {
        uint32_t x[AHEAD][WORDS];
        bool shared;
        do {
            shared = true;
#pragma unroll
            for (int a = 0; a < AHEAD; a++) {
                const int j = min(first + 32 * a, parts - 1);
#pragma unroll
                for (int w = 0; w < WORDS; w++) {
                    uint64_t marked;
                    asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];"
                                 : "=l"(marked)
                                 : "l"(t.words + (kind + w) * MAX_CTAS + j)
                                 : "memory");
                    x[a][w] = (uint32_t)marked;
                    shared = shared && marked >> 32 == t.mark;
                }
            }
        } while (!shared);
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            if (first + 32 * a < parts) {
                take(first + 32 * a, x[a]);
            }
        }
    }
}

__device__ __forceinline__ uint64_t long_of(const uint32_t *words)
{
    return (uint64_t)words[1] << 32 | words[0];
}

} // namespace

#endif
