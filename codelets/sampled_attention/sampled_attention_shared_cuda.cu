/* sampled_attention on the GPU where the query heads of a KV head share a selection: each CTA
 * attends a piece of it for up to 8 of them.
 *
 * K and V may lie in host memory, which the GPU reads over PCIe in requests of up to 128 bytes: it
 * needs whole lines in one instruction, and many of them on their way. So rows are not read as the
 * tensor cores want them but in consecutive pieces by consecutive lanes, a tile of keys and values
 * at once, and put into shared memory first.
 */
#include "codelets/sampled_attention/sampled_attention_tokens_cuda.cuh"

namespace
{

/* Chunks between two rows of a tile, so that what 8 lanes read at once lies in different banks:
 * keys of 2 (of int8 4) rows by 4 chunks, values of 4 rows by 2 (4) chunks. */
template <int D, class Chunk> constexpr int key_stride = D / 8 + 4;
template <int D, class Chunk> constexpr int value_stride = D / 8 + 16 / (int)sizeof(Chunk);

/* A warp's rows on their way. */
template <int D, class Chunk> struct alignas(16) staged_tile {
    Chunk k[ATTENTION_TILE * key_stride<D, Chunk>];
    Chunk v[ATTENTION_TILE * value_stride<D, Chunk>];
};

/* The CTA's shared memory: the fragments, as attention_shared has them, before the tiles of its
 * warps, whose place its results take in the end. */
template <int D, class Chunk> constexpr size_t shared_bytes()
{
    size_t fragments = offsetof(attention_shared<D>, o);
    size_t tiles = fragments + attention_warps<D> * sizeof(staged_tile<D, Chunk>);
    return tiles > sizeof(attention_shared<D>) ? tiles : sizeof(attention_shared<D>);
}

/* Rows of a tile, or keys or values of them, in 16-byte pieces dealt out to the lanes of a warp. */
template <int D, class Chunk> struct held_rows {
    static constexpr int SIZE = 16 / (int)sizeof(Chunk); /* chunks of a piece */
    static constexpr int PIECES = D / 8 / SIZE;          /* of a row */
    static constexpr int COUNT = ATTENTION_TILE * PIECES / 32;
    uint4 piece[COUNT];
};

/* Which of the tile's pieces the lane has as its i-th one. */
template <int PIECES> __device__ __forceinline__ int piece_slot(int i)
{
    return (i * 32 + (int)threadIdx.x % 32) / PIECES;
}

template <int PIECES> __device__ __forceinline__ int piece_of_row(int i)
{
    return (i * 32 + (int)threadIdx.x % 32) % PIECES;
}

/* Starts to read the rows; 0 beyond the tokens. Whole lines at once and by ordinary loads: rows may
 * lie in host memory, and copies that bypass the registers were slower over the bus. */
template <int D, class Chunk, class Tokens>
__device__ __forceinline__ void load_rows(held_rows<D, Chunk> &rows, const Chunk *base,
                                          const kv_rows<Chunk> &kv, const Tokens &tokens)
{
    using held = held_rows<D, Chunk>;
#pragma unroll
    for (int i = 0; i < held::COUNT; i++) {
        const int slot = piece_slot<held::PIECES>(i);
        const Chunk *row = base + (size_t)tokens.row(slot) * kv.pitch;
        rows.piece[i] = make_uint4(0, 0, 0, 0);
        if (slot < tokens.left) {
            rows.piece[i] =
                *reinterpret_cast<const uint4 *>(row + piece_of_row<held::PIECES>(i) * held::SIZE);
        }
    }
}

template <int STRIDE, int D, class Chunk>
__device__ __forceinline__ void put_rows(Chunk *shared, const held_rows<D, Chunk> &rows)
{
    using held = held_rows<D, Chunk>;
#pragma unroll
    for (int i = 0; i < held::COUNT; i++) {
        Chunk *at = shared + piece_slot<held::PIECES>(i) * STRIDE +
                    piece_of_row<held::PIECES>(i) * held::SIZE;
        *reinterpret_cast<uint4 *>(at) = rows.piece[i];
    }
}

/* Rows of any head_dim, chunk by chunk; 0 beyond the tokens. */
template <int STRIDE, class Chunk, class Tokens>
__device__ __forceinline__ void copy_rows(Chunk *shared, const Chunk *base,
                                          const kv_rows<Chunk> &kv, const Tokens &tokens)
{
    for (int first = 0; first < ATTENTION_TILE * kv.chunks; first += 32) {
        const int i = first + (int)threadIdx.x % 32;
        const int slot = min(i / kv.chunks, ATTENTION_TILE - 1);
        const Chunk *row = base + (size_t)tokens.row(slot) * kv.pitch;
        if (i < ATTENTION_TILE * kv.chunks) {
            const int chunk = i % kv.chunks;
            shared[slot * STRIDE + chunk] = slot < tokens.left ? row[chunk] : Chunk{};
        }
    }
}

/* Reads the rows of the warp's tile. All of them are on their way at once, if they are few. */
template <int D, class Chunk, class Tokens>
__device__ __forceinline__ void fetch_tile(staged_tile<D, Chunk> &tile, const kv_rows<Chunk> &kv,
                                           const Tokens &tokens)
{
    if constexpr (D == ATTENTION_ANY_DIM) {
        copy_rows<key_stride<D, Chunk>>(tile.k, kv.k, kv, tokens);
        copy_rows<value_stride<D, Chunk>>(tile.v, kv.v, kv, tokens);
    } else {
        held_rows<D, Chunk> k;
        held_rows<D, Chunk> v;
        load_rows(k, kv.k, kv, tokens);
        load_rows(v, kv.v, kv, tokens);
        put_rows<key_stride<D, Chunk>>(tile.k, k);
        put_rows<value_stride<D, Chunk>>(tile.v, v);
    }
    __syncwarp();
}

template <int D, class Chunk>
__device__ __forceinline__ void read_keys(key_tile<D, Chunk> &keys,
                                          const staged_tile<D, Chunk> &tile, int chunks)
{
    const int g = threadIdx.x % 32 / 4;
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < 2; n++) {
        const Chunk *p = tile.k + (8 * n + g) * key_stride<D, Chunk> + t;
#pragma unroll
        for (int s = 0; s < D / 32; s++) {
            keys.chunk[n][s] = load_chunk<D>(p, 4 * s, chunks - t);
        }
    }
}

template <int D, class Chunk>
__device__ __forceinline__ void read_values(value_tile<D, Chunk> &values,
                                            const staged_tile<D, Chunk> &tile, int chunks)
{
    const int g = threadIdx.x % 32 / 4;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const Chunk *p = tile.v + logit_slot(i) * value_stride<D, Chunk> + g;
#pragma unroll
        for (int s = 0; s < D / 64; s++) {
            values.chunk[i][s] = load_chunk<D>(p, 8 * s, chunks - g);
        }
    }
}

/* As attend(), by way of the warp's tile. */
template <int D, class Chunk, class Tokens>
__device__ __forceinline__ void attend_staged(attention_state<D> &state, const kv_rows<Chunk> &kv,
                                              const uint4 *fragments, staged_tile<D, Chunk> &tile,
                                              Tokens tokens)
{
    for (; tokens.left > 0; tokens.next()) {
        float dots[4];
        float z[4];
        float by[4];
        key_tile<D, Chunk> keys;
        value_tile<D, Chunk> values;
        fetch_tile(tile, kv, tokens);
        read_keys(keys, tile, kv.chunks);
        tile_dots(fragments, keys, dots);
        tokens.logits(z, dots, keys);
        tokens.value_scales(by);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            z[i] = logit_slot(i) < tokens.left ? z[i] : -INFINITY;
        }
        read_values(values, tile, kv.chunks);
        tile_softmax(state, z);
        scale_weights(z, by);
        tile_values(state, values, z);
        __syncwarp(); /* all lanes have read the tile */
    }
}

/* squares[query] = |q|^2 of `queries` heads, 0 of the others. */
template <int D>
__device__ void put_squares(float *squares, const float *q, int queries, int head_dim)
{
    for (int query = threadIdx.x / 32; query < ATTENTION_QUERIES; query += attention_warps<D>) {
        float sum = 0.0f;
        for (int c = threadIdx.x % 32; c < head_dim && query < queries; c += 32) {
            const float x = q[(int64_t)query * head_dim + c];
            sum += x * x;
        }
        sum = warp_sum(sum);
        if (threadIdx.x % 32 == 0) {
            squares[query] = sum;
        }
    }
}

/* Blocks of up to 8 query heads of a KV head. */
__host__ __device__ inline int query_blocks(int group)
{
    return (group + ATTENTION_QUERIES - 1) / ATTENTION_QUERIES;
}

/* Grid: x pieces of all rows, y (KV head, block of its query heads). group: query heads of a KV
 * head. */
template <int D, weighting W, class Chunk>
__global__ void __launch_bounds__(32 * attention_warps<D>, ATTENTION_CTAS_PER_SM)
    attend_shared_kernel(begin_stamp stamp, const __grid_constant__ sampled_launch p, int group)
{
    extern __shared__ uint4 dynamic[];
    __shared__ float q_squared[ATTENTION_QUERIES];
    __shared__ int selected;
    attention_shared<D> &shared = *reinterpret_cast<attention_shared<D> *>(dynamic);
    allow_next_kernel();
    wait_for_kernels(stamp);
    const int row = blockIdx.x / p.pieces;
    const int piece = blockIdx.x % p.pieces;
    const int blocks = query_blocks(group);
    const int kv_head = blockIdx.y / blocks;
    const int first_query = blockIdx.y % blocks * ATTENTION_QUERIES;
    const int queries = min(ATTENTION_QUERIES, group - first_query);
    const int head = kv_head * group + first_query;
    const float *q = p.q + ((int64_t)row * p.num_heads + head) * p.head_dim;
    const sampled_row &r = p.row[row];
    const int num_kv_heads = gridDim.y / blocks;
    if (threadIdx.x == 0) { /* it comes over the bus: once a CTA */
        selected = r.k != NULL ? p.nnz[(int64_t)row * num_kv_heads + kv_head] : 0;
    }
    put_queries<D>(shared.fragments, q, queries, p.head_dim);
    if (W == BY_COSINE) {
        put_squares<D>(q_squared, q, queries, p.head_dim);
    }
    __syncthreads();

    const int nnz = selected;
    const int begin = (int)((int64_t)nnz * piece / p.pieces);
    const int end = (int)((int64_t)nnz * (piece + 1) / p.pieces);
    using Tokens = selected_tokens<attention_warps<D> * ATTENTION_TILE, W, Chunk, true>;
    Tokens tokens = warp_tokens<Tokens>(p, r, kv_head, kv_head, begin, end);
    tokens.q_squared = W == BY_COSINE ? q_squared[threadIdx.x % 32 / 4] : 0.0f;
    tokens.start();
    attention_state<D> state = attention_start<D>();
    auto *tiles = reinterpret_cast<staged_tile<D, Chunk> *>(shared.o);
    attend_staged(state, head_rows<Chunk>(r, kv_head, p.head_dim), shared.fragments,
                  tiles[threadIdx.x / 32], tokens);
    __syncthreads(); /* the results go where the tiles are */
    const int64_t result = (int64_t)blockIdx.x * p.num_heads + head;
    attention_finish(shared, state, queries, p.head_dim, p.out.o + result * p.head_dim,
                     p.out.lse + result);
}

/* ---- host ---- */

struct launch_size {
    int rows;
    int num_kv_heads;
    int group;
};

template <int D, weighting W, class Chunk>
void launch(const sampled_launch &p, const launch_size &size)
{
    constexpr size_t bytes = shared_bytes<D, Chunk>();
    CUDA_ALLOW_SHARED((attend_shared_kernel<D, W, Chunk>), bytes);
    dim3 grid((unsigned)(size.rows * p.pieces),
              (unsigned)(size.num_kv_heads * query_blocks(size.group)));
    launch_overlapped(attend_shared_kernel<D, W, Chunk>, grid, 32 * attention_warps<D>, bytes, p,
                      size.group);
}

template <weighting W, class Chunk>
void launch_any_dim(const sampled_launch &p, const launch_size &size)
{
    if (p.head_dim == 64) {
        launch<64, W, Chunk>(p, size);
    } else if (p.head_dim == 128) {
        launch<128, W, Chunk>(p, size);
    } else {
        launch<ATTENTION_ANY_DIM, W, Chunk>(p, size);
    }
}

template <class Chunk>
void launch_weighted(const sampled_attention_args *a, const sampled_launch &p,
                     const launch_size &size)
{
    if (a->log_weights != NULL) {
        launch_any_dim<LISTED, Chunk>(p, size);
    } else if (a->weight != NULL) {
        launch_any_dim<BY_COSINE, Chunk>(p, size);
    } else {
        launch_any_dim<UNWEIGHTED, Chunk>(p, size);
    }
}

/* Rows first .. first + rows - 1. */
void attend_rows(const sampled_attention_args *a, int64_t first, const launch_size &size, bool int8,
                 attention_results partials)
{
    const int ctas = size.num_kv_heads * query_blocks(size.group);
    sampled_launch own = describe_launch(a, first, size.rows, size.num_kv_heads);
    launch_pieces(a, first, size.rows, ctas, own, partials, [&](const sampled_launch &p) {
        if (int8) {
            launch_weighted<uint2>(a, p, size);
        } else {
            launch_weighted<uint4>(a, p, size);
        }
    });
}

} // namespace

void sampled_attention_shared_cuda(const struct sampled_attention_args *a,
                                   attention_results partials)
{
    const sampled_lists lists = sampled_lists_of(a);
    const bool int8 = rows_are_int8(a);
    for (int64_t first = 0; first < a->rows; first += ATTENTION_ROWS) {
        const int rows = attention_launch_rows(a->rows - first);
        attend_rows(a, first, {rows, lists.per_row, lists.heads}, int8, partials);
    }
}
