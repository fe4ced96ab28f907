/* SimHash codes on the GPU. Queries and keys have a kernel each, for they are bound differently:
 * the few queries of a step by reading W, the keys of a prompt by arithmetic. */
#include "codelets/common/cuda/launch_cuda.cuh"
#include "codelets/common/cuda/mma_cuda.cuh"

extern "C" {
#include "codelets/hashing/hashing.h"
}

namespace
{

constexpr int WARP = 32;
constexpr int MAX_HEAD_DIM = 256;

__host__ __device__ constexpr int ceil_div(int a, int b)
{
    return (a + b - 1) / b;
}

/* ---- queries ----
 *
 * A CTA owns as many whole tables as fit QUERY_COLUMNS columns of one projection. Its warps share
 * the rows of W, QUERY_SLICE each; a lane keeps its two columns of them in registers, so that W is
 * read once for all vectors that share it, and all its loads are in flight at once, before the
 * vectors are there. */

constexpr int QUERY_SLICE = 16;
constexpr int QUERY_COLUMNS = 2 * WARP;
constexpr int QUERY_VECTORS = 32; /* in shared memory at a time */
constexpr int QUERY_BATCH = 4;    /* of them multiplied at a time */

/* The tables of a CTA. */
struct query_tile {
    int projection;
    int first_table;
    int tables;
};

/* Vector v of the heads that share projection p: head p * heads_per_projection + v / count. */
__device__ int64_t vector_offset(const hashing_args &a, int projection, int64_t v,
                                 int64_t head_stride, int64_t vec_stride)
{
    int64_t head = (int64_t)projection * a.heads_per_projection + v / a.count;
    return head * head_stride + v % a.count * vec_stride;
}

/* This lane's two columns of this warp's rows of W; 0 beyond the tile and beyond head_dim. */
__device__ void load_columns(const hashing_args &a, const query_tile &tile, float w[QUERY_SLICE][2])
{
    int64_t columns = (int64_t)a.K * a.L;
    int row = (int)threadIdx.x / WARP * QUERY_SLICE;
    int lane = threadIdx.x % WARP;
    const float *from = a.w + (tile.projection * (int64_t)a.head_dim + row) * columns +
                        (int64_t)tile.first_table * a.K + lane;
#pragma unroll
    for (int s = 0; s < QUERY_SLICE; s++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            bool inside = row + s < a.head_dim && lane + half * WARP < tile.tables * a.K;
            w[s][half] = inside ? __ldg(from + s * columns + half * WARP) : 0.0f;
        }
    }
}

/* Copies vectors first .. first + rows - 1 to x [rows][depth]; 0 beyond the last vector and beyond
 * head_dim. */
__device__ void load_vectors(const hashing_args &a, int projection, int64_t first, int rows,
                             int64_t vectors, int depth, float *x)
{
    for (int r = threadIdx.x / WARP; r < rows; r += blockDim.x / WARP) {
        bool exists = first + r < vectors;
        const float *from = static_cast<const float *>(a.x);
        if (exists) {
            from += vector_offset(a, projection, first + r, a.x_head_stride, a.x_vec_stride);
        }
        for (int c = threadIdx.x % WARP; c < depth; c += WARP) {
            x[r * depth + c] = exists && c < a.head_dim ? from[c] : 0.0f;
        }
    }
}

/* This warp's part of the dot products of QUERY_BATCH vectors, to partial [batch][columns]. */
__device__ void multiply_slice(const float *x, int depth, const float w[QUERY_SLICE][2],
                               float *partial)
{
    float sum[QUERY_BATCH][2] = {};
#pragma unroll
    for (int s = 0; s < QUERY_SLICE; s += 4) {
#pragma unroll
        for (int r = 0; r < QUERY_BATCH; r++) {
            float4 v = *reinterpret_cast<const float4 *>(x + r * depth + s);
#pragma unroll
            for (int half = 0; half < 2; half++) {
                sum[r][half] += v.x * w[s][half];
                sum[r][half] += v.y * w[s + 1][half];
                sum[r][half] += v.z * w[s + 2][half];
                sum[r][half] += v.w * w[s + 3][half];
            }
        }
    }
    for (int r = 0; r < QUERY_BATCH; r++) {
        for (int half = 0; half < 2; half++) {
            partial[r * QUERY_COLUMNS + half * WARP + threadIdx.x % WARP] = sum[r][half];
        }
    }
}

/* Adds the warps' parts of one vector's dot products and writes its codes; a whole warp. */
__device__ void write_codes(const hashing_args &a, const query_tile &tile, const float *partial,
                            uint16_t *codes)
{
    int lane = threadIdx.x % WARP;
    float dot[2] = {};
    for (int slice = 0; slice < (int)blockDim.x / WARP; slice++) {
        dot[0] += partial[slice * QUERY_BATCH * QUERY_COLUMNS + lane];
        dot[1] += partial[slice * QUERY_BATCH * QUERY_COLUMNS + lane + WARP];
    }
    uint64_t low = __ballot_sync(~0u, dot[0] > 0.0f);
    uint64_t high = __ballot_sync(~0u, dot[1] > 0.0f);
    uint64_t signs = high << WARP | low; /* bit j: column j of the tile */
    for (int t = lane; t < tile.tables; t += WARP) {
        codes[(tile.first_table + t) * a.code_table_stride] =
            (uint16_t)(signs >> t * a.K & ((1u << a.K) - 1));
    }
}

/* `vectors` share each projection. */
__global__ void __launch_bounds__(MAX_HEAD_DIM / QUERY_SLICE * WARP)
    hash_queries(begin_stamp stamp, const hashing_args a, int64_t vectors)
{
    extern __shared__ uint4 shared_memory[];
    int depth = blockDim.x / WARP * QUERY_SLICE;
    float *x = reinterpret_cast<float *>(shared_memory); /* [QUERY_VECTORS][depth] */
    float *partial = x + QUERY_VECTORS * depth;          /* [warps][QUERY_BATCH][QUERY_COLUMNS] */

    allow_next_kernel();
    query_tile tile;
    tile.projection = blockIdx.y;
    tile.tables = QUERY_COLUMNS / a.K;
    tile.first_table = blockIdx.x * tile.tables;
    tile.tables = min(tile.tables, a.L - tile.first_table);
    float w[QUERY_SLICE][2];
    load_columns(a, tile, w);
    wait_for_kernels(stamp);

    int warp = threadIdx.x / WARP;
    for (int64_t first = 0; first < vectors; first += QUERY_VECTORS) {
        int rows = (int)min((int64_t)QUERY_VECTORS, vectors - first);
        load_vectors(a, tile.projection, first, ceil_div(rows, QUERY_BATCH) * QUERY_BATCH, vectors,
                     depth, x);
        __syncthreads();
        for (int r = 0; r < rows; r += QUERY_BATCH) {
            multiply_slice(x + r * depth + warp * QUERY_SLICE, depth, w,
                           partial + warp * QUERY_BATCH * QUERY_COLUMNS);
            __syncthreads();
            for (int i = warp; i < min(QUERY_BATCH, rows - r); i += blockDim.x / WARP) {
                write_codes(a, tile, partial + i * QUERY_COLUMNS,
                            a.codes + vector_offset(a, tile.projection, first + r + i,
                                                    a.code_head_stride, a.code_vec_stride));
            }
            __syncthreads(); /* partial, and in the end x, are free again */
        }
    }
}

void launch_queries(const hashing_args *a)
{
    int warps = ceil_div(a->head_dim, QUERY_SLICE);
    size_t shared =
        (size_t)warps * (QUERY_VECTORS * QUERY_SLICE + QUERY_BATCH * QUERY_COLUMNS) * sizeof(float);
    dim3 grid(ceil_div(a->L, QUERY_COLUMNS / a->K), a->num_heads / a->heads_per_projection);
    launch_overlapped(hash_queries, grid, warps * WARP, shared, *a,
                      a->heads_per_projection * a->count);
}

/* ---- keys ----
 *
 * mma.sync m16n8k16 with keys as A (exact in bf16) and W as B in two bf16 parts, W = high + low up
 * to 2^-17 of each element. A CTA keeps KEY_TOKENS keys of a head in registers, KEY_WARP_TOKENS a
 * warp, and streams the whole projection past them.
 *
 * Both orders are chosen so that the codes come out whole, without shuffles. In an accumulator a
 * lane (g = lane / 4, t = lane % 4) holds columns 2t and 2t + 1 of rows g and g + 8.
 *   Columns: ceil(K / 2) n8 tiles in a row make the codes of 4 tables; tile i has bits 2i and
 *   2i + 1 of table t at columns 2t and 2t + 1. Lane t thus gets every bit of table t.
 *   Rows: token 4g + 2m + half of a warp is row g + 8 half of its m16 tile m. A lane thus holds 4
 *   tokens in a row. */

constexpr int KEY_WARPS = 8;
constexpr int KEY_WARP_TOKENS = 32; /* two m16 tiles */
constexpr int KEY_TOKENS = KEY_WARPS * KEY_WARP_TOKENS;
constexpr int KEY_THREADS = KEY_WARPS * WARP;
constexpr int STEP = 16;        /* of head_dim, an MMA */
constexpr int PANEL_STEPS = 8;  /* of the keys in shared memory at a time */
constexpr int TABLES = 4;       /* whose codes a row of tiles makes */
constexpr int STAGES = 4;       /* of W in shared memory */
constexpr int STAGE_STEPS = 32; /* (n8 tile, step) pairs of a stage */

/* Elements between keys in shared memory: the 16 bytes of padding put the 8 rows that ldmatrix
 * reads together in different banks. */
constexpr int KEY_PITCH = PANEL_STEPS * STEP + 8;
/* Keys first, then the stages of W in their place. */
constexpr size_t KEY_PANEL_BYTES = (size_t)KEY_TOKENS * KEY_PITCH * sizeof(uint16_t);
constexpr size_t STAGES_BYTES = (size_t)STAGES * STAGE_STEPS * WARP * sizeof(uint4);
constexpr size_t KEY_SHARED = KEY_PANEL_BYTES > STAGES_BYTES ? KEY_PANEL_BYTES : STAGES_BYTES;

/* n8 tiles that make a code. */
__host__ __device__ constexpr int code_tiles(int K)
{
    return ceil_div(K, 2);
}

/* n8 tiles of a projection. */
__host__ __device__ constexpr int projection_tiles(int K, int L)
{
    return ceil_div(L, TABLES) * code_tiles(K);
}

/* Steps that the kernel for this head_dim is compiled for; head_dim is padded with zeros. */
int compiled_steps(int head_dim)
{
    return head_dim <= 4 * STEP ? 4 : head_dim <= 8 * STEP ? 8 : 16;
}

__device__ float rest(float x)
{
    return x - bf16_to_float(float_to_bf16(x));
}

/* W as B fragments [projection][n8 tile][step][lane]: {high, high of k + 8, low, low of k + 8}. */
__global__ void split_projection(const hashing_args a, int steps, uint4 *fragments)
{
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    int lane = at % WARP;
    int step = at / WARP % steps;
    int tile = at / WARP / steps;
    int tiles = projection_tiles(a.K, a.L);
    if (tile >= tiles) {
        return;
    }
    int column = lane / 4;
    int table = tile / code_tiles(a.K) * TABLES + column / 2;
    int bit = tile % code_tiles(a.K) * 2 + column % 2;
    int64_t columns = (int64_t)a.K * a.L;
    float w[4];
    for (int i = 0; i < 4; i++) {
        int k = step * STEP + lane % 4 * 2 + i % 2 + i / 2 * 8;
        bool inside = k < a.head_dim && table < a.L && bit < a.K;
        int64_t row = (int64_t)blockIdx.y * a.head_dim + k;
        w[i] = inside ? a.w[row * columns + table * a.K + bit] : 0.0f;
    }
    fragments[(int64_t)blockIdx.y * tiles * steps * WARP + at] =
        make_uint4(pack_bf16(w[0], w[1]), pack_bf16(w[2], w[3]), pack_bf16(rest(w[0]), rest(w[1])),
                   pack_bf16(rest(w[2]), rest(w[3])));
}

/* Copies 16 bytes to shared memory, or clears them if bytes is 0. */
__device__ void copy_async(void *shared, const void *from, int bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(from), "r"(bytes)
                 : "memory");
}

__device__ void commit_copies(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int PENDING> __device__ void wait_copies(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

/* Reads the CTA's keys once, a panel of head_dim at a time, into the fragments of each warp.
 * Missing tokens and missing dimensions are 0. */
template <int STEPS>
__device__ void load_keys(const hashing_args &a, int64_t first, uint16_t *panel,
                          uint4 keys[2][STEPS])
{
    constexpr int WIDTH = (STEPS < PANEL_STEPS ? STEPS : PANEL_STEPS) * STEP;
    constexpr int PIECES = WIDTH / 8; /* of 16 bytes, a token */
    const uint16_t *x = static_cast<const uint16_t *>(a.x) + blockIdx.y * a.x_head_stride;
    int warp = threadIdx.x / WARP;
    int lane = threadIdx.x % WARP;
#pragma unroll
    for (int c = 0; c < STEPS * STEP; c += WIDTH) {
        for (int i = threadIdx.x; i < KEY_TOKENS * PIECES; i += KEY_THREADS) {
            int token = i / PIECES;
            int piece = i % PIECES * 8;
            int row = token / 32 * 32 + token % 4 * 8 + token % 32 / 4;
            bool inside = first + token < a.count && c + piece < a.head_dim;
            copy_async(panel + row * KEY_PITCH + piece,
                       inside ? x + (first + token) * a.x_vec_stride + c + piece : x,
                       inside ? 16 : 0);
        }
        commit_copies();
        wait_copies<0>();
        __syncthreads();
#pragma unroll
        for (int m = 0; m < 2; m++) {
            const uint16_t *tile = panel + (warp * 32 + m * 16 + lane % 16) * KEY_PITCH;
#pragma unroll
            for (int s = 0; s < WIDTH / STEP; s++) {
                keys[m][c / STEP + s] =
                    load_blocks(shared_address(tile + s * STEP + lane / 16 * 8));
            }
        }
        __syncthreads(); /* the panel is free again */
    }
}

/* The stages of W in flight: stage s is in ring[s % STAGES]. All threads of the CTA together. */
struct projection_stream {
    const uint4 *w; /* fragments of the projection */
    int pieces;     /* of them */
    uint4 *ring;    /* [STAGES][STAGE_STEPS][WARP], shared */

    __device__ void fetch(int stage)
    {
        constexpr int STAGE_PIECES = STAGE_STEPS * WARP;
        for (int i = threadIdx.x; i < STAGE_PIECES; i += KEY_THREADS) {
            int at = stage * STAGE_PIECES + i;
            if (at < pieces) {
                copy_async(ring + stage % STAGES * STAGE_PIECES + i, w + at, 16);
            }
        }
        commit_copies(); /* an empty group, too: wait() counts groups */
    }

    __device__ void start(void)
    {
        for (int stage = 0; stage < STAGES - 1; stage++) {
            fetch(stage);
        }
    }

    /* Waits for a stage; starts the one that takes the place of the stage before it. */
    __device__ void wait(int stage)
    {
        wait_copies<STAGES - 2>();
        __syncthreads();
        fetch(stage + STAGES - 1);
    }
};

/* Dot products of the warp's keys with 8 columns, whose fragments are at w. The chains of the high
 * and the low parts are apart, so that more MMAs are in flight. */
template <int STEPS>
__device__ void multiply_tile(const uint4 keys[2][STEPS], const uint4 *w, float dots[2][4])
{
    float low[2][4] = {};
#pragma unroll
    for (int i = 0; i < 8; i++) {
        dots[i / 4][i % 4] = 0.0f;
    }
#pragma unroll
    for (int s = 0; s < STEPS; s++) {
        uint4 b = w[s * WARP];
#pragma unroll
        for (int m = 0; m < 2; m++) {
            mma_bf16(dots[m], keys[m][s], b.x, b.y);
            mma_bf16(low[m], keys[m][s], b.z, b.w);
        }
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        dots[i / 4][i % 4] += low[i / 4][i % 4];
    }
}

/* Writes a lane's 4 codes of one table, of tokens `token` and the three after it. */
__device__ void write_codes(const hashing_args &a, int64_t token, int table,
                            const unsigned codes[4])
{
    if (table >= a.L) {
        return;
    }
    uint16_t *to = a.codes + blockIdx.y * a.code_head_stride + token * a.code_vec_stride +
                   table * a.code_table_stride;
    if (a.code_vec_stride == 1 && token + 4 <= a.count && (uintptr_t)to % sizeof(uint2) == 0) {
        *reinterpret_cast<uint2 *>(to) =
            make_uint2(codes[0] | codes[1] << 16, codes[2] | codes[3] << 16);
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (token + i < a.count) {
            to[i * a.code_vec_stride] = (uint16_t)codes[i];
        }
    }
}

/* Grid: (KEY_TOKENS tokens, head). */
template <int STEPS>
__global__ void __launch_bounds__(KEY_THREADS, STEPS <= 8 ? 2 : 1)
    hash_keys(const hashing_args a, const uint4 *fragments)
{
    extern __shared__ uint4 shared_memory[];
    constexpr int STAGE_TILES = STAGE_STEPS / STEPS;
    int64_t first = (int64_t)blockIdx.x * KEY_TOKENS;
    int lane = threadIdx.x % WARP;
    uint4 keys[2][STEPS];
    load_keys<STEPS>(a, first, reinterpret_cast<uint16_t *>(shared_memory), keys);

    int pieces = projection_tiles(a.K, a.L) * STEPS * WARP;
    projection_stream stream = {fragments + (int64_t)(blockIdx.y / a.heads_per_projection) * pieces,
                                pieces, shared_memory};
    stream.start();
    int tile = 0;
    for (int table = 0; table < a.L; table += TABLES) {
        unsigned codes[4] = {};
        for (int i = 0; i < code_tiles(a.K); i++, tile++) {
            if (tile % STAGE_TILES == 0) {
                stream.wait(tile / STAGE_TILES);
            }
            float dots[2][4];
            int slot = tile % (STAGES * STAGE_TILES);
            multiply_tile<STEPS>(keys, stream.ring + slot * STEPS * WARP + lane, dots);
#pragma unroll
            for (int j = 0; j < 4; j++) { /* j = 2m + half */
                unsigned even = dots[j / 2][j % 2 * 2] > 0.0f;
                unsigned odd = dots[j / 2][j % 2 * 2 + 1] > 0.0f;
                codes[j] |= (even | odd << 1) << 2 * i;
            }
        }
        write_codes(a, first + threadIdx.x / WARP * KEY_WARP_TOKENS + lane / 4 * 4,
                    table + lane % 4, codes);
    }
    wait_copies<0>();
}

template <int STEPS> void launch_keys(const hashing_args *a, const uint4 *fragments)
{
    CUDA_ALLOW_SHARED(hash_keys<STEPS>, KEY_SHARED);
    dim3 grid((unsigned)((a->count + KEY_TOKENS - 1) / KEY_TOKENS), a->num_heads);
    hash_keys<STEPS><<<grid, KEY_THREADS, KEY_SHARED, cuda_stream()>>>(*a, fragments);
    CUDA_CHECK_LAUNCH();
}

void hash_all_keys(const hashing_args *a)
{
    if (a->head_dim % 8 != 0 || a->x_head_stride % 8 != 0 || a->x_vec_stride % 8 != 0 ||
        (uintptr_t)a->x % 16 != 0) {
        mp_panic("hashing: head_dim %d, strides %lld and %lld of keys: not multiples of 8, or keys "
                 "not on a boundary of 16 bytes",
                 a->head_dim, (long long)a->x_head_stride, (long long)a->x_vec_stride);
    }
    int steps = compiled_steps(a->head_dim);
    uint4 *fragments = static_cast<uint4 *>(cuda_workspace(
        hashing_cuda_workspace(a->num_heads, a->heads_per_projection, a->head_dim, a->K, a->L)));
    constexpr int THREADS = 256;
    dim3 grid(ceil_div(projection_tiles(a->K, a->L) * steps * WARP, THREADS),
              a->num_heads / a->heads_per_projection);
    split_projection<<<grid, THREADS, 0, cuda_stream()>>>(*a, steps, fragments);
    CUDA_CHECK_LAUNCH();
    switch (steps) {
    case 4:
        launch_keys<4>(a, fragments);
        break;
    case 8:
        launch_keys<8>(a, fragments);
        break;
    default:
        launch_keys<16>(a, fragments);
    }
}

} // namespace

size_t hashing_cuda_workspace(int num_heads, int heads_per_projection, int head_dim, int K, int L)
{
    size_t tiles = (size_t)(num_heads / heads_per_projection) * projection_tiles(K, L);
    return cuda_workspace_round(tiles * compiled_steps(head_dim) * WARP * sizeof(uint4));
}

void hashing_cuda(const struct hashing_args *a)
{
    if (a->head_dim > MAX_HEAD_DIM) {
        mp_panic("hashing: head_dim %d is above %d", a->head_dim, MAX_HEAD_DIM);
    }
    if (a->count == 0) {
        return;
    }
    if (a->dtype == MP_F32) {
        launch_queries(a);
    } else {
        hash_all_keys(a);
    }
}
