/* sampled_attention on the GPU: each CTA attends a piece of a query head's selected tokens. The
 * 8 query rows of the shared kernel all hold the one query, so that the lanes that find a key's
 * norm have its dot product too. */
#include "codelets/common/attention/attention_cuda.cuh"

extern "C" {
#include "codelets/sampled_attention/sampled_attention.h"
}

namespace
{

/* Pieces of a head at most. The number of selected tokens is not known on the host, and few heads
 * with few tokens would be cut in crumbs. */
enum { MAX_PIECES = 16 };

/* Where the weights of the tokens come from. Kernels are compiled for each. */
enum weighting {
    UNWEIGHTED, /* they all weigh 1 */
    LISTED,     /* log_weights */
    BY_COSINE,  /* weight */
};

struct sampled_row {
    const uint4 *k; /* NULL: nothing is offloaded */
    const uint4 *v;
    const uint32_t *ids;
    const float *log_weights; /* NULL unless LISTED */
    int64_t head_chunks;      /* uint4 between two KV heads */
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
    int pieces; /* of each head */
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
template <int D>
__device__ __forceinline__ void tile_squares(const key_tile<D> &keys, float (&squares)[2][4])
{
#pragma unroll
    for (int s = 0; s < D / 32; s++) {
        const uint4 k0 = keys.chunk[0][s];
        const uint4 k1 = keys.chunk[1][s];
        const uint4 even = make_uint4(k0.x, k1.x, k0.y, k1.y);
        const uint4 odd = make_uint4(k0.z, k1.z, k0.w, k1.w);
        mma_bf16(squares[0], even, k0.x, k0.y);
        mma_bf16(squares[1], even, k1.x, k1.y);
        mma_bf16(squares[0], odd, k0.z, k0.w);
        mma_bf16(squares[1], odd, k1.z, k1.w);
    }
}

/* Tokens of a list of ids. */
template <int STEP, weighting W> struct selected_tokens {
    const uint32_t *ids; /* of the warp's tile */
    int left;
    uint32_t id;              /* of slot lane % 16 */
    uint32_t ahead;           /* the same of the next tile */
    const float *log_weights; /* of the warp's tile; it and the next two are for LISTED alone */
    float listed;             /* as id: log_weights of the slot */
    float listed_ahead;
    float scale;
    float q_squared;
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

    __device__ unsigned row(int slot) const
    {
        return __shfl_sync(0xffffffffu, id, slot);
    }

    __device__ float logit(float dot, float k_squared) const
    {
        float norms = sqrtf(q_squared * k_squared);
        float cosine = norms > 0.0f ? dot / norms : 0.0f;
        return (dot * scale - log_weight(cosine, K, L)) * (float)M_LOG2E;
    }

    template <int D>
    __device__ void logits(float (&z)[4], const float (&dots)[4], const key_tile<D> &keys) const
    {
        if constexpr (W == BY_COSINE) {
            logits_by_cosine(z, dots, keys);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                z[i] = dots[i] * scale;
                if constexpr (W == LISTED) {
                    z[i] += __shfl_sync(0xffffffffu, listed, logit_slot(i));
                }
                z[i] *= (float)M_LOG2E;
            }
        }
    }

    /* Norms are on the diagonals of squares: tokens g and g + 8 in lane (g, t = g / 2). It takes
     * the first one, the lane beside it the other; then all lanes get the logits of their slots. */
    template <int D>
    __device__ void logits_by_cosine(float (&z)[4], const float (&dots)[4],
                                     const key_tile<D> &keys) const
    {
        float squares[2][4] = {};
        tile_squares(keys, squares);
        const int g = threadIdx.x % 32 / 4;
        const int t = threadIdx.x % 4;
        const bool odd = g % 2 == 1;
        const bool diagonal = t == g / 2;
        float dot = odd ? dots[1] : dots[0];
        float square = odd ? squares[0][1] : squares[0][0];
        float other_dot = __shfl_xor_sync(0xffffffffu, odd ? dots[3] : dots[2], 1);
        float other_square = __shfl_xor_sync(0xffffffffu, odd ? squares[1][3] : squares[1][2], 1);
        float own = logit(diagonal ? dot : other_dot, diagonal ? square : other_square);
#pragma unroll
        for (int i = 0; i < 4; i++) { /* slot 2t + i % 2 + i / 2 * 8 */
            int lane = 9 * t + i % 2 * 4;
            z[i] = __shfl_sync(0xffffffffu, own, i / 2 == 0 ? lane : lane ^ 1);
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
    }
};

/* The A fragments with the query in all rows; returns |q|^2. By one warp. */
template <int D> __device__ float put_one_query(uint4 *fragments, const float *q, int head_dim)
{
    float squares = 0.0f;
    for (int quad = threadIdx.x % 32; quad < D / 4; quad += 32) {
        float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (4 * quad < head_dim) {
            x = *reinterpret_cast<const float4 *>(q + 4 * quad);
        }
        squares += x.x * x.x + x.y * x.y + x.z * x.z + x.w * x.w;
        for (int query = 0; query < ATTENTION_QUERIES; query++) {
            put_query(fragments, query, quad, x);
        }
    }
    return warp_sum(squares);
}

/* Grid: x pieces of all rows, y query heads. */
template <int D, weighting W>
__global__ void __launch_bounds__(32 * attention_warps<D>, ATTENTION_CTAS_PER_SM)
    attend_selected_kernel(begin_stamp stamp, const __grid_constant__ sampled_launch p)
{
    __shared__ attention_shared<D> shared;
    __shared__ float q_squared;
    __shared__ int nnz;
    allow_next_kernel();
    wait_for_kernels(stamp);
    const int row = blockIdx.x / p.pieces;
    const int piece = blockIdx.x % p.pieces;
    const int head = blockIdx.y;
    const sampled_row &r = p.row[row];
    const int64_t query = (int64_t)row * p.num_heads + head;
    if (threadIdx.x < 32) {
        int n = r.k != NULL ? p.nnz[query] : 0;
        float squares = put_one_query<D>(shared.fragments, p.q + query * p.head_dim, p.head_dim);
        if (threadIdx.x == 0) {
            nnz = n;
            q_squared = squares;
        }
    }
    __syncthreads();

    const int begin = (int)((int64_t)nnz * piece / p.pieces);
    const int end = (int)((int64_t)nnz * (piece + 1) / p.pieces);
    const int offset = threadIdx.x / 32 * ATTENTION_TILE;
    const int64_t selected = head * r.ids_stride + begin + offset;
    selected_tokens<attention_warps<D> * ATTENTION_TILE, W> tokens;
    tokens.ids = r.ids + selected;
    tokens.log_weights = W == LISTED ? r.log_weights + selected : NULL;
    tokens.left = end - begin - offset;
    tokens.scale = p.scale;
    tokens.q_squared = q_squared;
    tokens.K = p.K;
    tokens.L = p.L;
    tokens.start();
    const int64_t base = head / r.group * r.head_chunks;
    const kv_rows kv = {r.k + base, r.v + base, p.head_dim / 8};
    attention_state<D> state = attention_start<D>();
    attend(state, kv, shared.fragments, tokens);
    const int64_t result = (int64_t)blockIdx.x * p.num_heads + head;
    attention_finish(shared, state, 1, p.head_dim, p.out.o + result * p.head_dim,
                     p.out.lse + result);
}

/* ---- host ---- */

sampled_row describe_row(const sampled_attention_args *a, int64_t r)
{
    sampled_row row = {};
    row.group = 1;
    const offloaded_kv *kv = a->kv[r];
    if (kv == NULL || kv->count == 0) {
        return row;
    }
    if (kv->dtype != MP_BF16 || a->num_heads % kv->num_kv_heads != 0) {
        mp_panic("sampled_attention: row %lld: %d heads, %d KV heads, dtype %d", (long long)r,
                 a->num_heads, kv->num_kv_heads, (int)kv->dtype);
    }
    row.k = static_cast<const uint4 *>(kv->k);
    row.v = static_cast<const uint4 *>(kv->v);
    row.ids = a->ids[r];
    row.head_chunks = kv->capacity * (a->head_dim / 8);
    row.log_weights = a->log_weights == NULL ? NULL : a->log_weights[r];
    row.ids_stride = a->ids_stride[r];
    row.group = a->num_heads / kv->num_kv_heads;
    return row;
}

template <int D, weighting W> void launch(const sampled_launch &p, int rows)
{
    dim3 grid((unsigned)(rows * p.pieces), (unsigned)p.num_heads);
    launch_overlapped(attend_selected_kernel<D, W>, grid, 32 * attention_warps<D>, 0, p);
}

template <weighting W> void launch_any_dim(const sampled_launch &p, int rows)
{
    if (p.head_dim == 64) {
        launch<64, W>(p, rows);
    } else if (p.head_dim == 128) {
        launch<128, W>(p, rows);
    } else {
        launch<ATTENTION_ANY_DIM, W>(p, rows);
    }
}

/* Rows first .. first + rows - 1. */
void attend_rows(const sampled_attention_args *a, int64_t first, int rows,
                 attention_results partials)
{
    int64_t heads = first * a->num_heads;
    attention_results out = {a->o + heads * a->head_dim, a->lse + heads};
    sampled_launch p = {};
    attention_pieces pieces = {};
    p.pieces = attention_row_pieces(a->num_heads);
    p.pieces = p.pieces < MAX_PIECES ? p.pieces : (int)MAX_PIECES;
    for (int r = 0; r < rows; r++) {
        p.row[r] = describe_row(a, first + r);
        pieces.first[r + 1] = (r + 1) * p.pieces;
    }
    p.out = p.pieces > 1 ? partials : out;
    p.q = a->q + heads * a->head_dim;
    p.nnz = a->nnz + heads;
    p.num_heads = a->num_heads;
    p.head_dim = a->head_dim;
    p.scale = a->scale;
    if (a->log_weights != NULL) {
        launch_any_dim<LISTED>(p, rows);
    } else if (a->weight != NULL) {
        p.K = a->weight->K;
        p.L = a->weight->L;
        launch_any_dim<BY_COSINE>(p, rows);
    } else {
        launch_any_dim<UNWEIGHTED>(p, rows);
    }
    if (p.pieces > 1) {
        attention_merge_pieces(pieces, partials, out, rows, a->num_heads, a->head_dim);
    }
}

} // namespace

size_t sampled_attention_cuda_workspace(int64_t rows, int num_heads, int head_dim)
{
    return attention_partials_bytes(rows, num_heads, head_dim);
}

void sampled_attention_cuda(const struct sampled_attention_args *a)
{
    if (a->head_dim % 8 != 0 || a->head_dim > ATTENTION_ANY_DIM) {
        mp_panic("sampled_attention: head_dim %d: expected a multiple of 8 up to %d", a->head_dim,
                 (int)ATTENTION_ANY_DIM);
    }
    attention_results partials = attention_take_partials(a->rows, a->num_heads, a->head_dim);
    for (int64_t first = 0; first < a->rows; first += ATTENTION_ROWS) {
        attend_rows(a, first, attention_launch_rows(a->rows - first), partials);
    }
}
