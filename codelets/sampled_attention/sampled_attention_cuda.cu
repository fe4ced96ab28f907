/* sampled_attention on the GPU: each CTA attends a piece of a query head's selected tokens. The
 * 8 query rows of the shared kernel all hold the one query, so that the lanes that find a key's
 * norm have its dot product too. */
#include "codelets/sampled_attention/sampled_attention_tokens_cuda.cuh"

namespace
{

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
template <int D, weighting W, class Chunk>
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
    const int kv_head = head / r.group;
    using Tokens = selected_tokens<attention_warps<D> * ATTENTION_TILE, W, Chunk, false>;
    Tokens tokens = warp_tokens<Tokens>(p, r, head, kv_head, begin, end);
    tokens.q_squared = q_squared;
    tokens.start();
    attention_state<D> state = attention_start<D>();
    attend(state, head_rows<Chunk>(r, kv_head, p.head_dim), shared.fragments, tokens);
    const int64_t result = (int64_t)blockIdx.x * p.num_heads + head;
    attention_finish(shared, state, 1, p.head_dim, p.out.o + result * p.head_dim,
                     p.out.lse + result);
}

/* ---- host ---- */

template <int D, weighting W, class Chunk> void launch(const sampled_launch &p, int rows)
{
    dim3 grid((unsigned)(rows * p.pieces), (unsigned)p.num_heads);
    launch_overlapped(attend_selected_kernel<D, W, Chunk>, grid, 32 * attention_warps<D>, 0, p);
}

template <weighting W, class Chunk> void launch_any_dim(const sampled_launch &p, int rows)
{
    if (p.head_dim == 64) {
        launch<64, W, Chunk>(p, rows);
    } else if (p.head_dim == 128) {
        launch<128, W, Chunk>(p, rows);
    } else {
        launch<ATTENTION_ANY_DIM, W, Chunk>(p, rows);
    }
}

template <class Chunk>
void launch_weighted(const sampled_attention_args *a, const sampled_launch &p, int rows)
{
    if (a->log_weights != NULL) {
        launch_any_dim<LISTED, Chunk>(p, rows);
    } else if (a->weight != NULL) {
        launch_any_dim<BY_COSINE, Chunk>(p, rows);
    } else {
        launch_any_dim<UNWEIGHTED, Chunk>(p, rows);
    }
}

/* Rows first .. first + rows - 1. */
void attend_rows(const sampled_attention_args *a, int64_t first, int rows, bool int8,
                 attention_results partials)
{
    sampled_launch own = describe_launch(a, first, rows, a->num_heads);
    launch_pieces(a, first, rows, a->num_heads, own, partials, [&](const sampled_launch &p) {
        if (int8) {
            launch_weighted<uint2>(a, p, rows);
        } else {
            launch_weighted<uint4>(a, p, rows);
        }
    });
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
    if (a->shared) {
        sampled_attention_shared_cuda(a, partials);
        return;
    }
    const bool int8 = rows_are_int8(a);
    for (int64_t first = 0; first < a->rows; first += ATTENTION_ROWS) {
        attend_rows(a, first, attention_launch_rows(a->rows - first), int8, partials);
    }
}
