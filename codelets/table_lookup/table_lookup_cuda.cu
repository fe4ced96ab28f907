/* Lookup on the GPU: a CTA per (row, query head). It keeps two bitmaps of the tokens of a block in
 * shared memory, seen in one table and seen in two or more; a token is in one bucket of a table at
 * most, so that it is selected iff a second bucket finds it. Block after block the second bitmap is
 * turned into ids. */
#include "codelets/common/cuda/launch_cuda.cuh"

extern "C" {
#include "codelets/table_lookup/table_lookup.h"
}

namespace
{

constexpr int WARP = 32;
constexpr int WARPS = 32;
constexpr int THREADS = WARPS * WARP;
constexpr int WORDS = LSH_BLOCK_TOKENS / 32; /* of a bitmap */
static_assert(WORDS == 2 * THREADS, "a thread owns two words of a bitmap");
static_assert(KV_GRANULE == 64, "as many tokens as they have bits");
constexpr int BATCH = 4;       /* ids a lane loads together */
constexpr int MAX_ROWS = 32;   /* of a launch */
constexpr int MAX_L = 1 << 13; /* codes of a query fit beside the bitmaps */

struct bitmaps {
    uint2 once[THREADS];
    uint2 twice[THREADS];
};

struct row {
    lsh_tables tables; /* count 0: nothing to look up */
    int group;         /* query heads of a KV head */
    uint32_t *ids;     /* [num_heads][ids_stride] */
    int64_t ids_stride;
};

/* The rows of a launch, read by the kernel where its parameters lie. */
struct lookup {
    row rows[MAX_ROWS];
    const uint16_t *codes; /* [rows][heads of the grid][L] */
    int32_t *nnz;          /* [rows][heads of the grid] */
    int L;
};

__device__ void mark(bitmaps *seen, unsigned id)
{
    unsigned bit = 1u << id % 32;
    if (atomicOr(&reinterpret_cast<unsigned *>(seen->once)[id / 32], bit) & bit) {
        atomicOr(&reinterpret_cast<unsigned *>(seen->twice)[id / 32], bit);
    }
}

/* Marks ids[begin .. end); a whole warp. */
__device__ void mark_bucket(bitmaps *seen, const uint16_t *ids, unsigned begin, unsigned end)
{
    for (unsigned i = begin + threadIdx.x % WARP; i < end; i += BATCH * WARP) {
        unsigned id[BATCH];
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            id[j] = i + j * WARP < end ? __ldg(ids + i + j * WARP) : 0;
        }
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            if (i + j * WARP < end) {
                mark(seen, id[j]);
            }
        }
    }
}

/* Marks the tokens of block b in the query's buckets. Table l is warp l % WARPS's; its lanes read
 * the bounds of up to 32 buckets together, then walk the buckets one by one. */
__device__ void mark_block(const lsh_tables &t, int head, int64_t b, const uint16_t *codes,
                           bitmaps *seen)
{
    int warp = threadIdx.x / WARP;
    int lane = threadIdx.x % WARP;
    int64_t blocks = (t.capacity + LSH_BLOCK_TOKENS - 1) / LSH_BLOCK_TOKENS;
    const uint32_t *offsets = t.offsets + (head * blocks + b) * t.L * ((1 << t.K) + 1);
    const uint16_t *ids = t.ids + (int64_t)head * t.L * t.capacity + b * LSH_BLOCK_TOKENS;
    for (int first = warp; first < t.L; first += WARPS * WARP) {
        int l = first + lane * WARPS;
        uint2 bounds = make_uint2(0, 0);
        if (l < t.L) {
            const uint32_t *bucket = offsets + (int64_t)l * ((1 << t.K) + 1) + codes[l];
            bounds = make_uint2(bucket[0], bucket[1]);
        }
        for (int j = 0; j < WARP && first + j * WARPS < t.L; j++) {
            mark_bucket(seen, ids + (first + j * WARPS) * t.capacity, __shfl_sync(~0u, bounds.x, j),
                        __shfl_sync(~0u, bounds.y, j));
        }
    }
}

/* Writes the ids of the bits set in `word`, whose bit 0 is token `first`; returns the end. */
__device__ uint32_t *write_ids(unsigned word, uint32_t first, uint32_t *ids)
{
    for (; word != 0; word &= word - 1) {
        *ids++ = first + __ffs(word) - 1;
    }
    return ids;
}

/* Writes the selected tokens of a block that starts at token `first` of `count`, ascending; returns
 * their number. All threads of the CTA together. Of a view of tables, whose count is a multiple of
 * the tokens of a thread, those beyond it are left out. */
__device__ int select_tokens(const bitmaps *seen, uint32_t first, int64_t count, uint32_t *ids)
{
    __shared__ int warp_totals[WARPS];
    int warp = threadIdx.x / WARP;
    int lane = threadIdx.x % WARP;
    const bool inside = first + threadIdx.x * KV_GRANULE < count;
    uint2 words = inside ? seen->twice[threadIdx.x] : make_uint2(0, 0);
    int own = __popc(words.x) + __popc(words.y);
    int sum = own; /* becomes that of the lanes up to this one */
    for (int offset = 1; offset < WARP; offset *= 2) {
        int below = __shfl_up_sync(~0u, sum, offset);
        sum += lane >= offset ? below : 0;
    }
    if (lane == WARP - 1) {
        warp_totals[warp] = sum;
    }
    __syncthreads();
    int totals = warp_totals[lane];
    ids += __reduce_add_sync(~0u, lane < warp ? totals : 0) + sum - own;
    first += threadIdx.x * KV_GRANULE;
    ids = write_ids(words.x, first, ids);
    write_ids(words.y, first + 32, ids);
    return __reduce_add_sync(~0u, totals);
}

/* Grid: (query head, row). */
__global__ void __launch_bounds__(THREADS, 1)
    lookup_tokens(begin_stamp stamp, const __grid_constant__ lookup p)
{
    extern __shared__ uint16_t codes[]; /* [L]: read once, as they may lie in host memory */
    __shared__ bitmaps seen;
    allow_next_kernel();
    wait_for_kernels(stamp);
    const row &r = p.rows[blockIdx.y];
    int head = blockIdx.x;
    int64_t query = (int64_t)blockIdx.y * gridDim.x + head;
    int64_t nnz = 0;
    if (r.tables.count > 0) {
        for (int l = threadIdx.x; l < p.L; l += THREADS) {
            codes[l] = p.codes[query * p.L + l];
        }
    }
    for (int64_t first = 0; first < r.tables.count; first += LSH_BLOCK_TOKENS) {
        /* Nobody else touches these words between the last barrier of a block and this one. */
        seen.once[threadIdx.x] = make_uint2(0, 0);
        seen.twice[threadIdx.x] = make_uint2(0, 0);
        __syncthreads();
        mark_block(r.tables, head / r.group, first / LSH_BLOCK_TOKENS, codes, &seen);
        __syncthreads();
        nnz += select_tokens(&seen, (uint32_t)first, r.tables.count,
                             r.ids + head * r.ids_stride + nnz);
    }
    if (threadIdx.x == 0) {
        p.nnz[query] = (int32_t)nnz;
    }
}

} // namespace

void table_lookup_cuda(const struct table_lookup_args *a)
{
    if (a->L > MAX_L) {
        mp_panic("table_lookup: L = %d is above %d", a->L, MAX_L);
    }
    for (int64_t first = 0; first < a->rows; first += MAX_ROWS) {
        int rows = (int)(a->rows - first < MAX_ROWS ? a->rows - first : MAX_ROWS);
        lookup p = {};
        for (int r = 0; r < rows; r++) {
            const lsh_tables *t = a->tables[first + r];
            if (t != NULL && t->count > 0) {
                p.rows[r].tables = *t;
                p.rows[r].group = a->num_heads / t->num_kv_heads;
                p.rows[r].ids = a->ids[first + r];
                p.rows[r].ids_stride = a->ids_stride[first + r];
            }
        }
        p.codes = a->codes + first * a->num_heads * a->L;
        p.nnz = a->nnz + first * a->num_heads;
        p.L = a->L;
        launch_overlapped(lookup_tokens, dim3(a->num_heads, rows), THREADS, a->L * sizeof(uint16_t),
                          p);
    }
}
