/* The tokens that sampled_attention's kernels on the GPU attend to, and what is common to their
 * launches. */
#ifndef MP_CODELETS_SAMPLED_ATTENTION_TOKENS_CUDA_CUH
#define MP_CODELETS_SAMPLED_ATTENTION_TOKENS_CUDA_CUH

#include "codelets/common/attention/attention_cuda.cuh"

extern "C" {
#include "codelets/sampled_attention/sampled_attention_lists.h"
}

/* a->shared is true. */
void sampled_attention_shared_cuda(const struct sampled_attention_args *a,
                                   attention_results partials);

namespace
{

/* Pieces of a list at most. The number of selected tokens is not known on the host, and few lists
 * with few tokens would be cut in crumbs. */
enum { MAX_PIECES = 16 };

/* Where the weights of the tokens come from. Kernels are compiled for each. */
enum weighting {
    UNWEIGHTED, /* they all weigh 1 */
    LISTED,     /* log_weights */
    BY_COSINE,  /* weight */
};

struct sampled_row {
    const void *k; /* NULL: nothing is offloaded */
    const void *v;
    const kv_scale *scales; /* NULL unless int8 */
    const uint32_t *ids;
    const float *log_weights; /* NULL unless LISTED */
    int64_t capacity;         /* tokens between two KV heads */
    int pitch;                /* chunks of 8 channels from a token to the next */
    int64_t ids_stride;
    int group; /* query heads of a KV head */
};

/* Rows of one launch; q, nnz and out begin at its first row. */
struct sampled_launch {
    sampled_row row[ATTENTION_ROWS];
    attention_results out; /* of pieces */
    const float *q;
    const int32_t *nnz;
    int num_heads;
    int head_dim;
    int pieces; /* of each list */
    float scale;
    int K; /* and L: 0 unless BY_COSINE */
    int L;
};

/* ln(u(cos) + 1e-4) as lsh_collision_probability defines u. Computed: some 100 instructions of one
 * lane a token cost less than 16 KiB of table for every CTA, and what bounds the kernel is memory.
 * The chance of no or one collision, (1 - p)^(L - 1) (1 + (L - 1) p), stays in logarithms, since u
 * may be much smaller than 1. */
__device__ __forceinline__ float log_weight(float cosine, int K, int L)
{
    float c = fminf(fmaxf(cosine, -1.0f), 1.0f); /* NaN: -1 */
    float t = acosf(-c) * (float)M_1_PI;
    float p = fminf(exp2f((float)K * log2f(t)), 1.0f);
    float others = (float)(L - 1);
    float log_rest = others * log1pf(-p) + log1pf(others * p);
    return logf(1e-4f - expm1f(log_rest));
}

/* squares[n]: accumulators of K K^T for the tokens 8n .. 8n + 7 of the tile as columns, all 16 as
 * rows. A key tile is both operands as it is. */
template <int D, class Chunk>
__device__ __forceinline__ void tile_squares(const key_tile<D, Chunk> &keys, float (&squares)[2][4])
{
#pragma unroll
    for (int s = 0; s < D / 32; s++) {
        const uint4 k0 = widen(keys.chunk[0][s]);
        const uint4 k1 = widen(keys.chunk[1][s]);
        const uint4 even = make_uint4(k0.x, k1.x, k0.y, k1.y);
        const uint4 odd = make_uint4(k0.z, k1.z, k0.w, k1.w);
        mma_bf16(squares[0], even, k0.x, k0.y);
        mma_bf16(squares[1], even, k1.x, k1.y);
        mma_bf16(squares[0], odd, k0.z, k0.w);
        mma_bf16(squares[1], odd, k1.z, k1.w);
    }
}

/* Tokens of a list of ids. Unless SHARED, all 8 queries of a tile are the same one. */
template <int STEP, weighting W, class Chunk, bool SHARED> struct selected_tokens {
    static constexpr bool SCALED = sizeof(Chunk) == sizeof(uint2);

    const uint32_t *ids; /* of the warp's tile */
    int left;
    uint32_t id;              /* of slot lane % 16 */
    uint32_t ahead;           /* the same of the next tile */
    const float *log_weights; /* of the warp's tile; it and the next two are for LISTED alone */
    float listed;             /* as id: log_weights of the slot */
    float listed_ahead;
    const kv_scale *scales; /* of the KV head; it and the next are for SCALED alone */
    kv_scale own;           /* as id: of the slot's row */
    float scale;
    float q_squared; /* of query lane / 4 */
    int K;
    int L;

    __device__ void start()
    {
        id = load_id(0);
        ahead = load_id(STEP);
        if constexpr (W == LISTED) {
            listed = load_log_weight(0);
            listed_ahead = load_log_weight(STEP);
        }
        load_scales();
    }

    __device__ uint32_t load_id(int first) const
    {
        int slot = first + (int)threadIdx.x % ATTENTION_TILE;
        return first < left ? ids[min(slot, left - 1)] : 0;
    }

    __device__ float load_log_weight(int first) const
    {
        int slot = first + (int)threadIdx.x % ATTENTION_TILE;
        return first < left ? log_weights[min(slot, left - 1)] : 0.0f;
    }

    /* On their way as long as the rows of the tile are. */
    __device__ void load_scales()
    {
        if constexpr (SCALED) {
            const float2 both =
                left > 0 ? reinterpret_cast<const float2 *>(scales)[id] : make_float2(0.0f, 0.0f);
            own = {both.x, both.y};
        }
    }

    __device__ unsigned row(int slot) const
    {
        return __shfl_sync(0xffffffffu, id, slot);
    }

    /* What the key of a slot is multiplied with. */
    __device__ float key_scale(int slot) const
    {
        return SCALED ? __shfl_sync(0xffffffffu, own.k, slot) : 1.0f;
    }

    __device__ void value_scales(float (&by)[4]) const
    {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            by[i] = SCALED ? __shfl_sync(0xffffffffu, own.v, logit_slot(i)) : 1.0f;
        }
    }

    __device__ float logit(float dot, float k_squared) const
    {
        float norms = sqrtf(q_squared * k_squared);
        float cosine = norms > 0.0f ? dot / norms : 0.0f;
        return (dot * scale - log_weight(cosine, K, L)) * (float)M_LOG2E;
    }

    template <class Tile>
    __device__ void logits(float (&z)[4], const float (&dots)[4], const Tile &keys) const
    {
        if constexpr (W == BY_COSINE) {
            logits_by_cosine(z, dots, keys);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                z[i] = dots[i] * key_scale(logit_slot(i)) * scale;
                if constexpr (W == LISTED) {
                    z[i] += __shfl_sync(0xffffffffu, listed, logit_slot(i));
                }
                z[i] *= (float)M_LOG2E;
            }
        }
    }

    /* Norms are on the diagonals of squares: tokens g and g + 8 in lane (g, t = g / 2). It takes
     * the first one, the lane beside it the other; of one query, its dot products too. Then all
     * lanes get what they need for their slots. */
    template <class Tile>
    __device__ void logits_by_cosine(float (&z)[4], const float (&dots)[4], const Tile &keys) const
    {
        float squares[2][4] = {};
        tile_squares(keys, squares);
        const int g = threadIdx.x % 32 / 4;
        const int t = threadIdx.x % 4;
        const bool odd = g % 2 == 1;
        const bool diagonal = t == g / 2;
        const float by = key_scale(diagonal ? g : g + 8);
        float square = odd ? squares[0][1] : squares[0][0];
        float other_square = __shfl_xor_sync(0xffffffffu, odd ? squares[1][3] : squares[1][2], 1);
        float own = (diagonal ? square : other_square) * by * by;
        if constexpr (!SHARED) {
            float dot = odd ? dots[1] : dots[0];
            float other_dot = __shfl_xor_sync(0xffffffffu, odd ? dots[3] : dots[2], 1);
            own = logit((diagonal ? dot : other_dot) * by, own);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) { /* slot 2t + i % 2 + i / 2 * 8 */
            int lane = 9 * t + i % 2 * 4;
            z[i] = __shfl_sync(0xffffffffu, own, i / 2 == 0 ? lane : lane ^ 1);
            if constexpr (SHARED) {
                z[i] = logit(dots[i] * key_scale(logit_slot(i)), z[i]);
            }
        }
    }

    __device__ void next()
    {
        ids += STEP;
        left -= STEP;
        id = ahead;
        ahead = load_id(STEP);
        if constexpr (W == LISTED) {
            log_weights += STEP;
            listed = listed_ahead;
            listed_ahead = load_log_weight(STEP);
        }
        load_scales();
    }
};

/* The tokens from `first` on of a list, of which the warp's tile of the piece [begin, end) is its
 * first. Does not start them. */
template <class Tokens>
__device__ Tokens warp_tokens(const sampled_launch &p, const sampled_row &r, int64_t list,
                              int kv_head, int begin, int end)
{
    const int offset = threadIdx.x / 32 * ATTENTION_TILE;
    const int64_t selected = list * r.ids_stride + begin + offset;
    Tokens tokens = {};
    tokens.ids = r.ids + selected;
    tokens.log_weights = r.log_weights + selected;
    tokens.left = end - begin - offset;
    if (Tokens::SCALED) {
        tokens.scales = r.scales + kv_head * r.capacity;
    }
    tokens.scale = p.scale;
    tokens.K = p.K;
    tokens.L = p.L;
    return tokens;
}

template <class Chunk>
__device__ kv_rows<Chunk> head_rows(const sampled_row &r, int kv_head, int head_dim)
{
    const int64_t base = kv_head * r.capacity * r.pitch;
    return {static_cast<const Chunk *>(r.k) + base, static_cast<const Chunk *>(r.v) + base,
            head_dim / 8, r.pitch};
}

/* ---- host ---- */

inline bool has_tokens(const offloaded_kv *kv)
{
    return kv != NULL && kv->count > 0;
}

/* Whether the rows of a call are int8; all of them are or none. */
inline bool rows_are_int8(const sampled_attention_args *a)
{
    int int8 = 0;
    int others = 0;
    for (int64_t r = 0; r < a->rows; r++) {
        if (has_tokens(a->kv[r])) {
            int8 += a->kv[r]->dtype == MP_I8;
            others += a->kv[r]->dtype != MP_I8;
        }
    }
    if (int8 > 0 && others > 0) {
        mp_panic("sampled_attention: %d rows are int8, %d are not", int8, others);
    }
    return int8 > 0;
}

inline sampled_row describe_row(const sampled_attention_args *a, int64_t r)
{
    sampled_row row = {};
    row.group = 1;
    const offloaded_kv *kv = a->kv[r];
    if (!has_tokens(kv)) {
        return row;
    }
    if (kv->dtype == MP_F32 || a->num_heads % kv->num_kv_heads != 0) {
        mp_panic("sampled_attention: row %lld: %d heads, %d KV heads, dtype %d", (long long)r,
                 a->num_heads, kv->num_kv_heads, (int)kv->dtype);
    }
    row.k = kv->k;
    row.v = kv->v;
    row.scales = kv->scales;
    row.ids = a->ids[r];
    row.log_weights = a->log_weights == NULL ? NULL : a->log_weights[r];
    row.capacity = kv->capacity;
    row.pitch = (int)kv_pitch(kv) / 8;
    row.ids_stride = a->ids_stride[r];
    row.group = a->num_heads / kv->num_kv_heads;
    return row;
}

/* The launch of rows first .. first + rows - 1, but for its pieces and where they go. lists: of a
 * row. */
inline sampled_launch describe_launch(const sampled_attention_args *a, int64_t first, int rows,
                                      int lists)
{
    sampled_launch p = {};
    for (int r = 0; r < rows; r++) {
        p.row[r] = describe_row(a, first + r);
    }
    p.q = a->q + first * a->num_heads * a->head_dim;
    p.nnz = a->nnz + first * lists;
    p.num_heads = a->num_heads;
    p.head_dim = a->head_dim;
    p.scale = a->scale;
    if (a->log_weights == NULL && a->weight != NULL) {
        p.K = a->weight->K;
        p.L = a->weight->L;
    }
    return p;
}

/* Cuts each list so that `ctas` CTAs a piece are a wave of them, calls launch(p) and merges. */
template <class Launch>
void launch_pieces(const sampled_attention_args *a, int64_t first, int rows, int ctas,
                   sampled_launch p, attention_results partials, Launch launch)
{
    const int64_t heads = first * a->num_heads;
    const attention_results out = {a->o + heads * a->head_dim, a->lse + heads};
    attention_pieces pieces = {};
    p.pieces = attention_row_pieces(ctas);
    p.pieces = p.pieces < MAX_PIECES ? p.pieces : (int)MAX_PIECES;
    for (int r = 0; r < rows; r++) {
        pieces.first[r + 1] = (r + 1) * p.pieces;
    }
    p.out = p.pieces > 1 ? partials : out;
    launch(p);
    if (p.pieces > 1) {
        attention_merge_pieces(pieces, partials, out, rows, a->num_heads, a->head_dim);
    }
}

} // namespace

#endif
