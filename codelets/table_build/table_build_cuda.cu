/* Hash tables on the GPU: a CTA sorts one table of one block at a time, stably, by counting.
 *
 * Codes of up to MAX_DIGIT_BITS bits are sorted in one pass, longer ones in two (least significant
 * digit first). In a pass each warp owns a run of the tokens and a counter for each digit: first
 * the number of its tokens with that digit, then, after a scan over (digit, warp), the position of
 * its next one. Scattered writes go to an array that the pass then copies out in order. */
#include "codelets/common/cuda/cuda_internal.h"

extern "C" {
#include "codelets/table_build/table_build.h"
}

namespace
{

constexpr int64_t BLOCK_TOKENS = LSH_BLOCK_TOKENS;
constexpr int WARP = 32;
constexpr int WARPS = 16;
constexpr int THREADS = WARPS * WARP;
constexpr int BATCH = 8; /* tokens a lane loads together */
constexpr int MAX_DIGIT_BITS = 10;
static_assert(2 * THREADS == 1 << MAX_DIGIT_BITS, "a thread scans two digits");
constexpr unsigned NO_DIGIT = ~0u;

/* Where shared memory cannot hold the ids of a block, so many CTAs have them in workspace. */
constexpr int SPILLED_CTAS = 128;

/* One table of one block. */
struct table {
    const uint16_t *codes; /* [n] */
    uint16_t *ids;         /* [n], out */
    uint32_t *offsets;     /* [2^K + 1], out */
    int n;
};

int passes_of(int K)
{
    return K <= MAX_DIGIT_BITS ? 1 : 2;
}

/* The table with a number in 0 .. blocks * heads * L - 1; full blocks come first. */
__device__ table find_table(const uint16_t *codes, const lsh_tables &t, int64_t number)
{
    int64_t block = number / ((int64_t)t.num_kv_heads * t.L);
    int64_t head = number / t.L % t.num_kv_heads;
    int64_t l = number % t.L;
    int64_t blocks = (t.capacity + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    int64_t first = block * BLOCK_TOKENS;
    table out;
    out.codes = codes + (head * t.L + l) * t.count + first;
    out.ids = t.ids + (head * t.L + l) * t.capacity + first;
    out.offsets = t.offsets + ((head * blocks + block) * t.L + l) * ((1 << t.K) + 1);
    out.n = (int)min(t.count - first, BLOCK_TOKENS);
    return out;
}

/* Walks the warp's run of tokens in order: `order` names them (NULL: 0, 1, ...), the digit of each
 * is bits shift .. of its code. Adds them to the warp's counters; PLACE also writes each id where
 * its counter says. */
template <bool PLACE>
__device__ void walk_tokens(const table &t, const uint16_t *order, int shift, unsigned mask,
                            uint16_t *counters, uint16_t *placed)
{
    int warp = threadIdx.x / WARP;
    int lane = threadIdx.x % WARP;
    int run = (t.n + THREADS - 1) / THREADS * WARP;
    int end = min(t.n, (warp + 1) * run);
    for (int first = warp * run + lane; first - lane < end; first += BATCH * WARP) {
        unsigned id[BATCH];
        unsigned digit[BATCH];
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            int i = first + j * WARP;
            id[j] = order != NULL && i < end ? order[i] : i;
            digit[j] = i < end ? t.codes[id[j]] >> shift & mask : NO_DIGIT;
        }
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            unsigned peers = __match_any_sync(~0u, digit[j]);
            int before = __popc(peers & ((1u << lane) - 1));
            unsigned counter = digit[j] != NO_DIGIT ? counters[digit[j]] : 0;
            __syncwarp();
            if (digit[j] != NO_DIGIT && before == 0) {
                counters[digit[j]] = (uint16_t)(counter + __popc(peers));
            }
            if (PLACE && digit[j] != NO_DIGIT) {
                placed[counter + before] = (uint16_t)id[j];
            }
            __syncwarp();
        }
    }
}

/* Turns counts [WARPS][digits] into positions, and writes where each digit starts to starts
 * [digits + 1] unless it is NULL. A position of 65,536 wraps to 0, but has no token. */
__device__ void scan_counters(uint16_t *counters, int digits, int n, uint32_t *starts)
{
    __shared__ unsigned warp_totals[WARPS];
    int warp = threadIdx.x / WARP;
    int lane = threadIdx.x % WARP;
    int digit = 2 * threadIdx.x; /* this thread's first */
    unsigned total[2] = {};
    for (int d = 0; d < 2 && digit + d < digits; d++) {
        for (int w = 0; w < WARPS; w++) {
            unsigned count = counters[w * digits + digit + d];
            counters[w * digits + digit + d] = (uint16_t)total[d];
            total[d] += count;
        }
    }
    unsigned sum = total[0] + total[1]; /* becomes that of the lanes up to this one */
    for (int offset = 1; offset < WARP; offset *= 2) {
        unsigned below = __shfl_up_sync(~0u, sum, offset);
        sum += lane >= offset ? below : 0;
    }
    if (lane == WARP - 1) {
        warp_totals[warp] = sum;
    }
    __syncthreads();
    unsigned start = sum - total[0] - total[1];
    for (int w = 0; w < warp; w++) {
        start += warp_totals[w];
    }
    for (int d = 0; d < 2 && digit + d < digits; d++) {
        for (int w = 0; w < WARPS; w++) {
            counters[w * digits + digit + d] += (uint16_t)start;
        }
        if (starts != NULL) {
            starts[digit + d] = start;
        }
        start += total[d];
    }
    if (starts != NULL && threadIdx.x == 0) {
        starts[digits] = (uint32_t)n;
    }
}

/* Copies n ids, 4 at a time where the destination allows it. */
__device__ void copy_ids(const uint16_t *from, int n, uint16_t *to)
{
    int done = 0;
    if ((uintptr_t)to % sizeof(uint2) == 0) {
        done = n / 4 * 4;
        for (int i = threadIdx.x; i < n / 4; i += THREADS) {
            reinterpret_cast<uint2 *>(to)[i] = reinterpret_cast<const uint2 *>(from)[i];
        }
    }
    for (int i = done + threadIdx.x; i < n; i += THREADS) {
        to[i] = from[i];
    }
}

/* Sorts ids (or 0 .. n - 1, in the first pass) by one digit. */
__device__ void sort_by_digit(const table &t, bool first_pass, int shift, int bits,
                              uint32_t *starts, uint16_t *counters, uint16_t *placed)
{
    int digits = 1 << bits;
    const uint16_t *order = first_pass ? NULL : t.ids;
    uint16_t *warp_counters = counters + threadIdx.x / WARP * digits;
    for (int i = threadIdx.x; i < WARPS * digits; i += THREADS) {
        counters[i] = 0;
    }
    __syncthreads();
    walk_tokens<false>(t, order, shift, digits - 1, warp_counters, placed);
    __syncthreads();
    scan_counters(counters, digits, t.n, starts);
    __syncthreads();
    walk_tokens<true>(t, order, shift, digits - 1, warp_counters, placed);
    __syncthreads();
    copy_ids(placed, t.n, t.ids);
    __syncthreads();
}

/* The offsets of sorted ids: bucket c starts at the first id whose code is at least c. */
__device__ void write_offsets(const table &t, int buckets)
{
    for (int i = threadIdx.x; i <= t.n; i += THREADS) {
        int c = i == 0 ? 0 : t.codes[t.ids[i - 1]] + 1;
        int last = i == t.n ? buckets : t.codes[t.ids[i]];
        for (; c <= last; c++) {
            t.offsets[c] = (uint32_t)i;
        }
    }
}

/* spill: NULL, or BLOCK_TOKENS ids a CTA that take the place of shared memory. */
__global__ void __launch_bounds__(THREADS)
    build_tables(const uint16_t *codes, const lsh_tables tables, int passes, uint16_t *spill)
{
    extern __shared__ uint2 shared_memory[];
    int bits = (tables.K + passes - 1) / passes;
    uint16_t *counters = reinterpret_cast<uint16_t *>(shared_memory); /* [WARPS][1 << bits] */
    uint16_t *placed =
        spill != NULL ? spill + (int64_t)blockIdx.x * BLOCK_TOKENS : counters + (WARPS << bits);
    int64_t blocks = (tables.count + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    int64_t sorts = blocks * tables.num_kv_heads * tables.L;
    for (int64_t number = blockIdx.x; number < sorts; number += gridDim.x) {
        table t = find_table(codes, tables, number);
        for (int pass = 0; pass < passes; pass++) {
            sort_by_digit(t, pass == 0, pass * bits, bits, passes == 1 ? t.offsets : NULL, counters,
                          placed);
        }
        if (passes > 1) {
            write_offsets(t, 1 << tables.K);
        }
    }
}

/* Dynamic shared memory that a CTA may have, less what the scan has. */
size_t shared_limit(void)
{
    int device = 0;
    int bytes = 0;
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    return (size_t)bytes - WARPS * sizeof(unsigned);
}

} // namespace

size_t table_build_cuda_workspace(void)
{
    return cuda_workspace_round((size_t)SPILLED_CTAS * BLOCK_TOKENS * sizeof(uint16_t));
}

void table_build_cuda(const struct table_build_args *a)
{
    const lsh_tables *t = a->tables;
    if (t->K < 1 || t->K > 16) {
        mp_panic("table_build: K = %d is not in 1..16", t->K);
    }
    int64_t grid = lsh_num_blocks(t->count) * t->num_kv_heads * t->L;
    if (grid == 0) {
        return;
    }
    int passes = passes_of(t->K);
    int64_t longest = t->count < BLOCK_TOKENS ? t->count : BLOCK_TOKENS;
    size_t counter_bytes = (WARPS * sizeof(uint16_t)) << ((t->K + passes - 1) / passes);
    size_t shared = counter_bytes + (size_t)longest * sizeof(uint16_t);
    uint16_t *spill = NULL;
    if (shared > shared_limit()) {
        spill = static_cast<uint16_t *>(cuda_workspace(table_build_cuda_workspace()));
        shared = counter_bytes;
        grid = grid < SPILLED_CTAS ? grid : SPILLED_CTAS;
    }
    CUDA_ALLOW_SHARED(build_tables, shared);
    build_tables<<<(unsigned)grid, THREADS, shared, cuda_stream()>>>(a->codes, *t, passes, spill);
    CUDA_CHECK_LAUNCH();
}
