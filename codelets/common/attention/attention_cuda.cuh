/* Decode attention on the GPU: up to 8 query rows over the same tokens of one KV head. Shared by
 * static_attention (8 query heads, contiguous tokens) and sampled_attention (one head, gathered
 * tokens).
 *
 * Both are bound by memory, so keys and values go from global memory straight to registers, and
 * tensor cores do the arithmetic: a warp issues under 300 instructions for each 8 KiB that it reads
 * (head_dim 128), an eighth of what the SM could issue in the time memory needs. Every warp has its
 * own tiles of 16 tokens and its own running softmax; the values of a tile are on their way while
 * its logits are computed, and so are the keys of the next tile while its values are added.
 *
 * A tile takes two products, both mma.m16n8k16. In their fragments lane l is at g = l / 4 and
 * t = l % 4.
 *
 * Logits: A is the queries, the upper bf16 part of query g in row g, the lower part in row g + 8;
 * the sum of both is as good as float32, since keys are bf16 anyway. B is 8 keys as columns. Lane l
 * gets query g and tokens 2t, 2t + 1.
 *
 * Output, transposed: A is 16 channels of the values by 16 tokens, B the weights as the first
 * product left them, again as two bf16 parts. Lane l gets 2 channels of queries 2t, 2t + 1.
 *
 * Which channel is which k index of the first or row of the second is free, so that each lane's
 * fragments come from 16-byte loads and nothing is transposed but pairs of bf16 within a lane.
 *
 * A row's tokens are cut into pieces, one CTA each; results of several pieces go to the workspace
 * and a second kernel merges them. Each row is cut as if it were alone, so that its result does not
 * depend on the rows beside it. */
#ifndef MP_CODELETS_COMMON_ATTENTION_CUDA_CUH
#define MP_CODELETS_COMMON_ATTENTION_CUDA_CUH

#include "codelets/common/attention/kv_rows_cuda.cuh"
#include "codelets/common/cuda/launch_cuda.cuh"
#include "codelets/common/linear/dense_cuda.cuh"

#include <math.h>

enum {
    ATTENTION_QUERIES = 8,     /* query rows of a CTA */
    ATTENTION_TILE = 16,       /* tokens that a warp attends at once */
    ATTENTION_ANY_DIM = 256,   /* head_dim is at most this */
    ATTENTION_ROWS = 32,       /* requests of a launch: their addresses are kernel parameters */
    ATTENTION_CTAS_PER_SM = 2, /* resident; one wave of them shares out a row's tokens */
    ATTENTION_MAX_CTAS = 512,  /* of that wave, so that the workspace is bounded on any GPU */
};

/* D is head_dim as kernels are compiled for it: 64, 128, or ATTENTION_ANY_DIM for all others, whose
 * missing channels count as 0. Warps of a CTA: */
template <int D> constexpr int attention_warps = D == ATTENTION_ANY_DIM ? 4 : 6;

/* ---- tiles in registers ---- */

/* Keys of tokens g and g + 8 of a tile; chunk s: channels 8 (4s + t) and the 7 after. */
template <int D, class Chunk> struct key_tile {
    Chunk chunk[2][D / 32];
};

/* Values of tokens 2t, 2t + 1, 2t + 8, 2t + 9; chunk s: channels 8 (8s + g) and the 7 after. */
template <int D, class Chunk> struct value_tile {
    Chunk chunk[4][D / 64];
};

/* What a warp has seen so far, with z in units of ln 2. */
template <int D> struct attention_state {
    float max;          /* of query g */
    float sum;          /* of query g: of 2^(z - max), the part of this lane's tokens */
    float o[D / 16][4]; /* [4s + w]: channel 8 (8s + g) + 2w of queries 2t, 2t + 1, then the next
                           channel of both: sums of 2^(z - max) v */
};

template <int D> static __device__ attention_state<D> attention_start()
{
    attention_state<D> state = {};
    state.max = -INFINITY;
    return state;
}

/* Chunk `chunk` of a row. */
template <class Chunk>
static __device__ __forceinline__ const Chunk *kv_chunk(const kv_rows<Chunk> &kv, const Chunk *base,
                                                        unsigned row, unsigned chunk)
{
    return base + chunk + (size_t)row * kv.pitch;
}

/* p[i], or 0 if the row has no more than i chunks from p on. */
template <int D, class Chunk>
static __device__ __forceinline__ Chunk load_chunk(const Chunk *p, int i, int chunks)
{
    return D < ATTENTION_ANY_DIM || i < chunks ? p[i] : Chunk{};
}

/* Slot in the tile of the lane's i-th value row and logit. */
static __device__ __forceinline__ int logit_slot(int i)
{
    return 2 * (threadIdx.x % 4) + i % 2 + i / 2 * 8;
}

/* The token in slot j of the tile is row tokens.row(j). */
template <int D, class Chunk, class Tokens>
static __device__ __forceinline__ void load_keys(key_tile<D, Chunk> &keys, const kv_rows<Chunk> &kv,
                                                 const Tokens &tokens)
{
    const int g = threadIdx.x % 32 / 4;
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < 2; n++) {
        const Chunk *p = kv_chunk(kv, kv.k, tokens.row(8 * n + g), t);
#pragma unroll
        for (int s = 0; s < D / 32; s++) {
            keys.chunk[n][s] = load_chunk<D>(p, 4 * s, kv.chunks - t);
        }
    }
}

template <int D, class Chunk, class Tokens>
static __device__ __forceinline__ void load_values(value_tile<D, Chunk> &values,
                                                   const kv_rows<Chunk> &kv, const Tokens &tokens)
{
    const int g = threadIdx.x % 32 / 4;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const Chunk *p = kv_chunk(kv, kv.v, tokens.row(logit_slot(i)), g);
#pragma unroll
        for (int s = 0; s < D / 64; s++) {
            values.chunk[i][s] = load_chunk<D>(p, 8 * s, kv.chunks - g);
        }
    }
}

/* ---- tensor cores ---- */

/* Puts channels 4 quad .. 4 quad + 3 of a query among the A fragments [D / 16][lane] of the CTA:
 * step 2s + i of the logits' product takes channels 4i .. 4i + 3 of each lane's chunk s. */
static __device__ __forceinline__ void put_query(uint4 *fragments, int query, int quad, float4 q)
{
    uint4 a;
    split_bf16_pair(&a.x, &a.y, q.x, q.y);
    split_bf16_pair(&a.z, &a.w, q.z, q.w);
    int step = quad / 8 * 2 + quad % 2;
    int t = quad / 2 % 4;
    fragments[step * 32 + query * 4 + t] = a;
}

/* The A fragments of `queries` query heads, and 0 for the other rows and channels. */
template <int D>
static __device__ void put_queries(uint4 *fragments, const float *q, int queries, int head_dim)
{
    for (int i = threadIdx.x; i < ATTENTION_QUERIES * D / 4; i += 32 * attention_warps<D>) {
        int query = i / (D / 4);
        int quad = i % (D / 4);
        float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (query < queries && 4 * quad < head_dim) {
            x = *reinterpret_cast<const float4 *>(q + (int64_t)query * head_dim + 4 * quad);
        }
        put_query(fragments, query, quad, x);
    }
}

/* The lane's part of a step's A fragment. Volatile: the compiler would rather keep the fragments of
 * all steps in registers, and spill the tiles. */
static __device__ __forceinline__ uint4 load_fragment(const uint4 *step)
{
    uint4 a;
    asm volatile("ld.volatile.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a.x), "=r"(a.y), "=r"(a.z), "=r"(a.w)
                 : "r"((unsigned)__cvta_generic_to_shared(step + threadIdx.x % 32)));
    return a;
}

/* dots[i]: query g with token slot(i) of the tile. */
template <int D, class Chunk>
static __device__ __forceinline__ void tile_dots(const uint4 *fragments,
                                                 const key_tile<D, Chunk> &keys, float (&dots)[4])
{
    float c[2][4] = {};
#pragma unroll
    for (int s = 0; s < D / 32; s++) {
        uint4 even = load_fragment(fragments + 2 * s * 32);
        uint4 odd = load_fragment(fragments + (2 * s + 1) * 32);
#pragma unroll
        for (int n = 0; n < 2; n++) {
            const uint4 k = widen(keys.chunk[n][s]);
            mma_bf16(c[n], even, k.x, k.y);
            mma_bf16(c[n], odd, k.z, k.w);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        dots[i] = c[i / 2][i % 2] + c[i / 2][i % 2 + 2];
    }
}

/* Replaces the logits z by 2^(z - max) after raising the running maximum to theirs. */
template <int D>
static __device__ __forceinline__ void tile_softmax(attention_state<D> &state, float (&z)[4])
{
    float max = fmaxf(fmaxf(z[0], z[1]), fmaxf(z[2], z[3]));
    max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 1));
    max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 2));
    max = fmaxf(max, state.max);
    float shrink = exp2f(state.max - max); /* 0 for the first tile */
    state.max = max;
    state.sum *= shrink;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        z[i] = exp2f(z[i] - max);
        state.sum += z[i];
    }
    /* Query g's factor is in lanes 4g .. 4g + 3, its outputs in the lanes of t = g / 2. */
    float even = __shfl_sync(0xffffffffu, shrink, 8 * (threadIdx.x % 4));
    float odd = __shfl_sync(0xffffffffu, shrink, 8 * (threadIdx.x % 4) + 4);
#pragma unroll
    for (int m = 0; m < D / 16; m++) {
        state.o[m][0] *= even;
        state.o[m][1] *= odd;
        state.o[m][2] *= even;
        state.o[m][3] *= odd;
    }
}

/* p by the scales of the values. */
static __device__ __forceinline__ void scale_weights(float (&p)[4], const float (&by)[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        p[i] *= by[i];
    }
}

/* Adds p v for the 16 tokens of the tile. */
template <int D, class Chunk>
static __device__ __forceinline__ void
tile_values(attention_state<D> &state, const value_tile<D, Chunk> &values, const float (&p)[4])
{
    uint32_t high[2];
    uint32_t low[2];
    split_bf16_pair(&high[0], &low[0], p[0], p[1]);
    split_bf16_pair(&high[1], &low[1], p[2], p[3]);
#pragma unroll
    for (int s = 0; s < D / 64; s++) {
        const uint4 v[4] = {widen(values.chunk[0][s]), widen(values.chunk[1][s]),
                            widen(values.chunk[2][s]), widen(values.chunk[3][s])};
        const uint32_t *v0 = &v[0].x; /* word w: channels 2w, 2w + 1 of a token */
        const uint32_t *v1 = &v[1].x;
        const uint32_t *v2 = &v[2].x;
        const uint32_t *v3 = &v[3].x;
#pragma unroll
        for (int w = 0; w < 4; w++) {
            uint4 a =
                make_uint4(__byte_perm(v0[w], v1[w], 0x5410), __byte_perm(v0[w], v1[w], 0x7632),
                           __byte_perm(v2[w], v3[w], 0x5410), __byte_perm(v2[w], v3[w], 0x7632));
            mma_bf16(state.o[4 * s + w], a, high[0], high[1]);
            mma_bf16(state.o[4 * s + w], a, low[0], low[1]);
        }
    }
}

/* ---- a warp's tokens, tile by tile ---- */

/* Tokens has
 *   left: tokens from the start of the warp's tile to the end of the piece; none if <= 0
 *   row(j): row of slot j, an unsigned; that of any valid token if j >= left
 *   logits(z, dots, keys): from the dot products, in units of ln 2
 *   value_scales(by): what the values of the lane's slots are multiplied with
 *   next(): goes to the warp's next tile. */
template <int D, class Chunk, class Tokens>
static __device__ __forceinline__ void attend(attention_state<D> &state, const kv_rows<Chunk> &kv,
                                              const uint4 *fragments, Tokens tokens)
{
    if (tokens.left <= 0) {
        return;
    }
    key_tile<D, Chunk> keys;
    value_tile<D, Chunk> values;
    load_keys(keys, kv, tokens);
    do {
        load_values(values, kv, tokens);
        float dots[4];
        float z[4];
        float by[4];
        tile_dots(fragments, keys, dots);
        tokens.logits(z, dots, keys);
        tokens.value_scales(by);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            z[i] = logit_slot(i) < tokens.left ? z[i] : -INFINITY;
        }
        tokens.next();
        if (tokens.left > 0) {
            load_keys(keys, kv, tokens);
        }
        tile_softmax(state, z);
        scale_weights(z, by);
        tile_values(state, values, z);
    } while (tokens.left > 0);
}

/* ---- the CTA's result ---- */

template <int D> struct attention_shared {
    uint4 fragments[D / 16 * 32];                          /* the queries, see put_query */
    float o[attention_warps<D>][ATTENTION_QUERIES][D + 4]; /* padded: fewer bank conflicts */
    float max[attention_warps<D>][ATTENTION_QUERIES];
    float sum[attention_warps<D>][ATTENTION_QUERIES];
};

template <int D>
static __device__ void put_state(attention_shared<D> &shared, const attention_state<D> &state)
{
    const int warp = threadIdx.x / 32;
    const int g = threadIdx.x % 32 / 4;
    const int t = threadIdx.x % 4;
    float sum = state.sum + __shfl_xor_sync(0xffffffffu, state.sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    if (t == 0) {
        shared.max[warp][g] = state.max;
        shared.sum[warp][g] = sum;
    }
#pragma unroll
    for (int m = 0; m < D / 16; m += 2) {
        int channel = 64 * (m / 4) + 8 * g + 2 * (m % 4);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float4 x = make_float4(state.o[m][i], state.o[m][2 + i], state.o[m + 1][i],
                                   state.o[m + 1][2 + i]);
            *reinterpret_cast<float4 *>(&shared.o[warp][2 * t + i][channel]) = x;
        }
    }
}

/* Merges the warps' states into o [queries][head_dim] and lse [queries] (natural log); 0 and
 * -INFINITY if no warp had a token. One warp a query. */
template <int D>
static __device__ void attention_finish(attention_shared<D> &shared,
                                        const attention_state<D> &state, int queries, int head_dim,
                                        float *o, float *lse)
{
    constexpr int WARPS = attention_warps<D>;
    put_state(shared, state);
    __syncthreads();
    const int lane = threadIdx.x % 32;
    for (int query = threadIdx.x / 32; query < queries; query += WARPS) {
        float max = -INFINITY;
        for (int w = 0; w < WARPS; w++) {
            max = fmaxf(max, shared.max[w][query]);
        }
        const bool empty = max == -INFINITY;
        float weight[WARPS];
        float sum = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            weight[w] = empty ? 0.0f : exp2f(shared.max[w][query] - max);
            sum += weight[w] * shared.sum[w][query];
        }
        const float inverse = empty ? 0.0f : 1.0f / sum;
#pragma unroll 1
        for (int c = lane; c < head_dim; c += 32) {
            float x = 0.0f;
#pragma unroll
            for (int w = 0; w < WARPS; w++) {
                x += weight[w] * shared.o[w][query][c];
            }
            o[(int64_t)query * head_dim + c] = x * inverse;
        }
        if (lane == 0) {
            lse[query] = (max + log2f(sum)) * (float)M_LN2;
        }
    }
}

/* ---- pieces ---- */

/* Row r of a launch has pieces first[r] .. first[r + 1] - 1. */
struct attention_pieces {
    int first[ATTENTION_ROWS + 1];
};

/* Results of pieces, or of whole rows: o [][num_heads][head_dim], lse [][num_heads]. */
struct attention_results {
    float *o;
    float *lse;
};

/* One CTA a (head, row), a thread a channel. */
static __global__ void attention_merge_kernel(begin_stamp stamp,
                                              const __grid_constant__ attention_pieces pieces,
                                              attention_results partial, attention_results out,
                                              int head_dim)
{
    allow_next_kernel();
    wait_for_kernels(stamp);
    const int64_t num_heads = gridDim.x;
    const int begin = pieces.first[blockIdx.y];
    const int end = pieces.first[blockIdx.y + 1];
    float max = -INFINITY;
    for (int i = begin + (int)threadIdx.x % 32; i < end; i += 32) {
        max = fmaxf(max, partial.lse[i * num_heads + blockIdx.x]);
    }
    max = warp_max(max);
    const int c = threadIdx.x;
    if (c >= head_dim) {
        return;
    }
    const bool empty = max == -INFINITY;
    float o = 0.0f;
    float sum = 0.0f;
#pragma unroll 8
    for (int i = begin; i < end; i++) {
        int64_t head = i * num_heads + blockIdx.x;
        float weight = empty ? 0.0f : expf(partial.lse[head] - max);
        sum += weight;
        o += weight * partial.o[head * head_dim + c];
    }
    const int64_t head = blockIdx.y * num_heads + blockIdx.x;
    out.o[head * head_dim + c] = empty ? 0.0f : o / sum;
    if (c == 0) {
        out.lse[head] = max + logf(sum);
    }
}

static inline void attention_merge_pieces(const attention_pieces &pieces, attention_results partial,
                                          attention_results out, int rows, int num_heads,
                                          int head_dim)
{
    dim3 grid((unsigned)num_heads, (unsigned)rows);
    launch_overlapped(attention_merge_kernel, grid, (head_dim + 31) / 32 * 32, 0, pieces, partial,
                      out, head_dim);
}

/* ---- host side of a launch ---- */

/* Of `rows` rows, those of the first launch. */
static inline int attention_launch_rows(int64_t rows)
{
    return rows < (int64_t)ATTENTION_ROWS ? (int)rows : (int)ATTENTION_ROWS;
}

/* CTAs that share out a row's tokens. */
static inline int attention_wave(void)
{
    int ctas = ATTENTION_CTAS_PER_SM * cuda_multiprocessors();
    return ctas < ATTENTION_MAX_CTAS ? ctas : ATTENTION_MAX_CTAS;
}

/* Pieces of a row whose heads take `ctas` CTAs a piece: of one wave, at least 1. */
static inline int attention_row_pieces(int ctas)
{
    return attention_wave() > ctas ? attention_wave() / ctas : 1;
}

/* Most (piece, head) pairs of a launch: a row's are a wave of CTAs of up to 8 heads, or one piece.
 */
static inline size_t attention_max_partials(int64_t rows, int num_heads)
{
    int wave = ATTENTION_MAX_CTAS * ATTENTION_QUERIES;
    return (size_t)attention_launch_rows(rows) * (size_t)(wave > num_heads ? wave : num_heads);
}

static inline size_t attention_partials_bytes(int64_t rows, int num_heads, int head_dim)
{
    size_t n = attention_max_partials(rows, num_heads);
    return cuda_workspace_round(n * (size_t)head_dim * sizeof(float)) +
           cuda_workspace_round(n * sizeof(float));
}

static inline attention_results attention_take_partials(int64_t rows, int num_heads, int head_dim)
{
    size_t n = attention_max_partials(rows, num_heads);
    attention_results r;
    r.o = (float *)cuda_workspace(n * (size_t)head_dim * sizeof(float));
    r.lse = (float *)cuda_workspace(n * sizeof(float));
    return r;
}

#endif
