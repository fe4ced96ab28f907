/* static_attention on the GPU: each CTA attends a piece of a row's tokens for up to 8 query heads
 * of one KV head. */
#include "codelets/common/attention/attention_cuda.cuh"

extern "C" {
#include "codelets/static_attention/static_attention.h"
}

namespace
{

enum { MIN_PIECE = 512 }; /* tokens; smaller pieces do not pay for the merge */

struct static_row {
    const uint4 *k;
    const uint4 *v;
    int64_t head_chunks; /* uint4 between two KV heads */
    int64_t length;
};

/* Rows of one launch; q and out begin at its first row. */
struct static_launch {
    static_row row[ATTENTION_ROWS];
    attention_pieces pieces;
    attention_results out; /* of pieces */
    const float *q;
    int num_heads;
    int group; /* query heads of a KV head */
    int head_dim;
    float scale; /* of logits in units of ln 2 */
};

/* Consecutive tokens of a cache. */
template <int STEP> struct cached_tokens {
    int first; /* of the warp's tile, counted in the piece */
    int left;
    float scale;

    __device__ unsigned row(int slot) const
    {
        return (unsigned)(first + min(slot, left - 1));
    }

    template <class Tile>
    __device__ void logits(float (&z)[4], const float (&dots)[4], const Tile &) const
    {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            z[i] = dots[i] * scale;
        }
    }

    __device__ void value_scales(float (&by)[4]) const
    {
        by[0] = by[1] = by[2] = by[3] = 1.0f;
    }

    __device__ void next()
    {
        first += STEP;
        left -= STEP;
    }
};

/* Grid: x pieces of all rows, y (KV head, block of its query heads). */
template <int D>
__global__ void __launch_bounds__(32 * attention_warps<D>, ATTENTION_CTAS_PER_SM)
    attend_cached_kernel(begin_stamp stamp, const __grid_constant__ static_launch p)
{
    __shared__ attention_shared<D> shared;
    allow_next_kernel();
    wait_for_kernels(stamp);
    int row = 0;
    while ((int)blockIdx.x >= p.pieces.first[row + 1]) {
        row++;
    }
    const int blocks = (p.group + ATTENTION_QUERIES - 1) / ATTENTION_QUERIES;
    const int kv_head = blockIdx.y / blocks;
    const int first_query = blockIdx.y % blocks * ATTENTION_QUERIES;
    const int queries = min(ATTENTION_QUERIES, p.group - first_query);
    const int head = kv_head * p.group + first_query;
    put_queries<D>(shared.fragments, p.q + ((int64_t)row * p.num_heads + head) * p.head_dim,
                   queries, p.head_dim);
    __syncthreads();

    const static_row &r = p.row[row];
    const int piece = blockIdx.x - p.pieces.first[row];
    const int count = p.pieces.first[row + 1] - p.pieces.first[row];
    const int64_t begin = r.length * piece / count;
    const int64_t end = r.length * (piece + 1) / count;
    const int64_t chunks = p.head_dim / 8;
    const int64_t base = kv_head * r.head_chunks + begin * chunks;
    const kv_rows<uint4> kv = {r.k + base, r.v + base, (int)chunks, (int)chunks};
    const int offset = threadIdx.x / 32 * ATTENTION_TILE;
    const cached_tokens<attention_warps<D> *ATTENTION_TILE> tokens = {
        offset, (int)(end - begin) - offset, p.scale};
    attention_state<D> state = attention_start<D>();
    attend(state, kv, shared.fragments, tokens);
    const int64_t result = (int64_t)blockIdx.x * p.num_heads + head;
    attention_finish(shared, state, queries, p.head_dim, p.out.o + result * p.head_dim,
                     p.out.lse + result);
}

enum { COPY_THREADS = 256 };

/* A kernel and not a copy of the stream's, so that it overlaps with those before and after it. */
__global__ void copy_kernel(begin_stamp stamp, const float4 *from, float4 *to, int64_t n)
{
    allow_next_kernel();
    wait_for_kernels(stamp);
    int64_t i = (int64_t)blockIdx.x * COPY_THREADS + threadIdx.x;
    if (i < n) {
        to[i] = from[i];
    }
}

/* ---- host ---- */

int kv_heads(const static_attention_args *a)
{
    return a->cache[0]->num_kv_heads;
}

/* Blocks of query heads: the y size of the grid. */
int head_blocks(const static_attention_args *a)
{
    int group = a->num_heads / kv_heads(a);
    return kv_heads(a) * ((group + ATTENTION_QUERIES - 1) / ATTENTION_QUERIES);
}

attention_pieces cut_pieces(const static_attention_args *a, int64_t first, int rows)
{
    int64_t wave = attention_row_pieces(head_blocks(a));
    attention_pieces pieces = {};
    for (int r = 0; r < rows; r++) {
        int64_t most = (a->length[first + r] + MIN_PIECE - 1) / MIN_PIECE;
        int64_t own = wave < most ? wave : most;
        /* A row of no tokens has a piece too, which writes its result. */
        pieces.first[r + 1] = pieces.first[r] + (int)(own > 0 ? own : 1);
    }
    return pieces;
}

static_row describe_row(const static_attention_args *a, int64_t r)
{
    const kv_cache *cache = a->cache[r];
    if (cache->dtype != MP_BF16 || cache->num_kv_heads != kv_heads(a) || a->length[r] < 0 ||
        a->length[r] > cache->capacity) {
        mp_panic("static_attention: row %lld: %lld of %lld tokens, %d KV heads, dtype %d",
                 (long long)r, (long long)a->length[r], (long long)cache->capacity,
                 cache->num_kv_heads, (int)cache->dtype);
    }
    static_row row;
    row.k = static_cast<const uint4 *>(cache->k);
    row.v = static_cast<const uint4 *>(cache->v);
    row.head_chunks = cache->capacity * (a->head_dim / 8);
    row.length = a->length[r];
    return row;
}

template <int D> void launch(const static_launch &p, int pieces, int blocks)
{
    dim3 grid((unsigned)pieces, (unsigned)blocks);
    launch_overlapped(attend_cached_kernel<D>, grid, 32 * attention_warps<D>, 0, p);
}

/* n: floats, a multiple of 4. */
void copy(const float *from, float *to, int64_t n)
{
    int64_t grid = (n / 4 + COPY_THREADS - 1) / COPY_THREADS;
    launch_overlapped(copy_kernel, (unsigned)grid, COPY_THREADS, 0,
                      reinterpret_cast<const float4 *>(from), reinterpret_cast<float4 *>(to),
                      n / 4);
}

/* Rows first .. first + rows - 1. staging: room for their queries. */
void attend_rows(const static_attention_args *a, int64_t first, int rows,
                 attention_results partials, float *staging)
{
    int64_t heads = first * a->num_heads;
    attention_results out = {a->o + heads * a->head_dim, a->lse + heads};
    static_launch p = {};
    for (int r = 0; r < rows; r++) {
        p.row[r] = describe_row(a, first + r);
    }
    p.pieces = cut_pieces(a, first, rows);
    p.q = a->q + heads * a->head_dim;
    p.num_heads = a->num_heads;
    p.group = a->num_heads / kv_heads(a);
    p.head_dim = a->head_dim;
    p.scale = a->scale * (float)M_LOG2E;
    const int pieces = p.pieces.first[rows];
    const bool merge = pieces > rows;
    p.out = merge ? partials : out;
    if (merge) {
        /* Every piece reads the queries: from pinned host memory that would cost more than one
         * copy. */
        copy(p.q, staging, (int64_t)rows * a->num_heads * a->head_dim);
        p.q = staging;
    }
    if (a->head_dim == 64) {
        launch<64>(p, pieces, head_blocks(a));
    } else if (a->head_dim == 128) {
        launch<128>(p, pieces, head_blocks(a));
    } else {
        launch<ATTENTION_ANY_DIM>(p, pieces, head_blocks(a));
    }
    if (merge) {
        attention_merge_pieces(p.pieces, partials, out, rows, a->num_heads, a->head_dim);
    }
}

size_t staging_bytes(int64_t rows, int num_heads, int head_dim)
{
    return (size_t)attention_launch_rows(rows) * num_heads * head_dim * sizeof(float);
}

} // namespace

size_t static_attention_cuda_workspace(int64_t rows, int num_heads, int head_dim)
{
    return attention_partials_bytes(rows, num_heads, head_dim) +
           cuda_workspace_round(staging_bytes(rows, num_heads, head_dim));
}

void static_attention_cuda(const struct static_attention_args *a)
{
    if (a->head_dim % 8 != 0 || a->head_dim > ATTENTION_ANY_DIM) {
        mp_panic("static_attention: head_dim %d: expected a multiple of 8 up to %d", a->head_dim,
                 (int)ATTENTION_ANY_DIM);
    }
    attention_results partials = attention_take_partials(a->rows, a->num_heads, a->head_dim);
    float *staging = (float *)cuda_workspace(staging_bytes(a->rows, a->num_heads, a->head_dim));
    for (int64_t first = 0; first < a->rows; first += ATTENTION_ROWS) {
        attend_rows(a, first, attention_launch_rows(a->rows - first), partials, staging);
    }
}
