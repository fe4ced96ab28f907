/* key_select on the GPU: scores of all tokens, then a CTA for each query head. */
#include "codelets/common/score/score_cuda.cuh"

extern "C" {
#include "codelets/key_select/key_draw.h"
#include "codelets/key_select/key_select.h"
}

namespace
{

/* What one request's heads select from, and where it goes. */
struct key_request {
    key_scratch scratch;
    uint32_t *ids;      /* [num_heads][ids_stride] */
    float *log_weights; /* the same; NULL unless tokens are drawn */
    int64_t ids_stride;
    uint64_t seed; /* of the draws */
    int tokens;    /* 0: nothing to select from */
    int budget;    /* tokens to select, at most `tokens`; or draws */
};

struct key_launch {
    key_request request[SCORE_REQUESTS];
    int32_t *nnz; /* [requests][heads of the grid] */
    int first_head;
};

/* Grid: (query head, request). */
__global__ void __launch_bounds__(SELECT_THREADS)
    select_largest(begin_stamp stamp, const __grid_constant__ key_launch p)
{
    allow_next_kernel();
    wait_for_kernels(stamp);
    const key_request &r = p.request[blockIdx.y];
    const int head = blockIdx.x;
    if (r.tokens > 0) {
        uint32_t *ids = r.ids + head * r.ids_stride;
        take_largest(r.scratch.scores + head * r.scratch.stride, r.tokens, r.budget,
                     [=](int token, int position) { ids[position] = (uint32_t)token; });
    }
    if (threadIdx.x == 0) {
        p.nnz[blockIdx.y * gridDim.x + head] = r.tokens > 0 ? r.budget : 0;
    }
}

/* ---- draws, by all threads of a CTA ---- */

__device__ float largest(const float *z, int tokens)
{
    __shared__ float warps[SELECT_WARPS];
    float max = -INFINITY;
    for (int i = threadIdx.x; i < tokens; i += SELECT_THREADS) {
        max = fmaxf(max, z[i]);
    }
    max = warp_max(max);
    if (threadIdx.x % 32 == 0) {
        warps[threadIdx.x / 32] = max;
    }
    __syncthreads();
    return warp_max(warps[threadIdx.x % 32]);
}

__device__ __forceinline__ uint64_t weight(float z, float max)
{
    return key_weight(key_exp(__fsub_rn(z, max)));
}

/* sums[b]: of the weights of block b. Clears the counts. A warp a block. */
__device__ void weigh_blocks(const float *z, int tokens, float max, unsigned *counts,
                             uint64_t *sums)
{
    const int lane = threadIdx.x % 32;
    for (int b = threadIdx.x / 32; b < key_blocks(tokens); b += SELECT_WARPS) {
        const int end = min(tokens, (b + 1) * KEY_BLOCK);
        uint64_t sum = 0;
        for (int i = b * KEY_BLOCK + lane; i < end; i += 32) {
            sum += weight(z[i], max);
            counts[i] = 0;
        }
        for (int offset = 16; offset > 0; offset /= 2) {
            sum += __shfl_xor_sync(~0u, sum, offset);
        }
        if (lane == 0) {
            sums[b] = sum;
        }
    }
}

/* sums[i] becomes the sum of all before it, for i = 0 .. n. Each thread has a run of them. */
__device__ void scan_blocks(uint64_t *sums, int n)
{
    __shared__ uint64_t warps[SELECT_WARPS];
    const int lane = threadIdx.x % 32;
    const int warp = threadIdx.x / 32;
    const int run = (n + SELECT_THREADS - 1) / SELECT_THREADS;
    const int begin = min(n, (int)threadIdx.x * run);
    const int end = min(n, begin + run);
    uint64_t own = 0;
    for (int i = begin; i < end; i++) {
        own += sums[i];
    }
    uint64_t sum = own; /* becomes that of the lanes up to this one */
    for (int offset = 1; offset < 32; offset *= 2) {
        uint64_t below = __shfl_up_sync(~0u, sum, offset);
        sum += lane >= offset ? below : 0;
    }
    if (lane == 31) {
        warps[warp] = sum;
    }
    __syncthreads();
    uint64_t before = sum - own;
    for (int w = 0; w < warp; w++) {
        before += warps[w];
    }
    for (int i = begin; i < end; i++) {
        uint64_t x = sums[i];
        sums[i] = before;
        before += x;
    }
    if (threadIdx.x == SELECT_THREADS - 1) {
        sums[n] = before;
    }
}

/* The token in whose part of the weights x lies. */
__device__ int find_token(const float *z, int tokens, float max, const uint64_t *sums, uint64_t x)
{
    const int64_t block = key_find(sums, key_blocks(tokens), x);
    int i = (int)block * KEY_BLOCK;
    uint64_t left = x - sums[block];
    for (; i < tokens - 1; i++) {
        const uint64_t w = weight(z[i], max);
        if (left < w) {
            break;
        }
        left -= w;
    }
    return i;
}

/* Grid: (query head, request). */
__global__ void __launch_bounds__(SELECT_THREADS)
    draw_tokens(begin_stamp stamp, const __grid_constant__ key_launch p)
{
    __shared__ float base; /* ln Z - max - ln draws */
    allow_next_kernel();
    wait_for_kernels(stamp);
    const key_request &r = p.request[blockIdx.y];
    const int head = blockIdx.x;
    int nnz = 0;
    if (r.tokens > 0) {
        const int blocks = (int)key_blocks(r.tokens);
        const float *z = r.scratch.scores + head * r.scratch.stride;
        unsigned *counts = static_cast<unsigned *>(r.scratch.second) + head * r.scratch.stride;
        uint64_t *sums = r.scratch.sums + (int64_t)head * (blocks + 1);
        const float max = largest(z, r.tokens);
        weigh_blocks(z, r.tokens, max, counts, sums);
        __syncthreads();
        scan_blocks(sums, blocks);
        __syncthreads();
        const uint64_t total = sums[blocks];
        const uint64_t state = random_state(r.seed, (uint64_t)(p.first_head + head));
        if (threadIdx.x == 0) {
            base =
                (float)(log((double)total) - log((double)KEY_WEIGHT_ONE) - log((double)r.budget));
        }
        for (int j = threadIdx.x; j < r.budget; j += SELECT_THREADS) {
            const uint64_t x = __umul64hi(random_draw(state, j), total);
            atomicAdd(&counts[find_token(z, r.tokens, max, sums, x)], 1u);
        }
        __syncthreads();
        uint32_t *ids = r.ids + head * r.ids_stride;
        float *log_weights = r.log_weights + head * r.ids_stride;
        /* Counts are where atomics leave them: in the second-level cache. */
        nnz = take_rows(
            r.tokens, 0,
            [=](int i) { return __ldcg(counts + i) > 0 ? ROW_SELECTED : ROW_LEFT_OUT; },
            [=](int i, int position) {
                ids[position] = (uint32_t)i;
                log_weights[position] = logf((float)__ldcg(counts + i)) + base + (max - z[i]);
            });
    }
    if (threadIdx.x == 0) {
        p.nnz[blockIdx.y * gridDim.x + head] = nnz;
    }
}

/* ---- host ---- */

void describe(const key_select_args *a, int64_t row, score_request *score, key_request *select)
{
    const offloaded_kv *kv = a->kv[row];
    if (kv->dtype == MP_F32 || a->num_heads % kv->num_kv_heads != 0) {
        mp_panic("key_select: row %lld: %d heads, %d KV heads, dtype %d", (long long)row,
                 a->num_heads, kv->num_kv_heads, (int)kv->dtype);
    }
    const bool drawn = a->mode == KEY_SELECT_DRAWN;
    select->scratch = key_scratch_of(a->scratch[row], a->num_heads, kv->count);
    select->ids = a->ids[row];
    select->log_weights = drawn ? a->log_weights[row] : NULL;
    select->ids_stride = a->ids_stride[row];
    select->seed = drawn ? a->seed[row] : 0;
    select->tokens = (int)kv->count;
    select->budget = (int)(drawn || a->budget[row] < kv->count ? a->budget[row] : kv->count);
    score->rows = kv->k;
    score->row_scales = kv->scales;
    score->head_rows = kv->capacity;
    score->pitch = (int)kv_pitch(kv) / 8;
    score->count = kv->count;
    score->scores = select->scratch.scores;
    score->stride = select->scratch.stride;
}

/* Rows first .. first + rows - 1. */
void select_rows(const key_select_args *a, int64_t first, int rows)
{
    score_launch scores = {};
    key_launch select = {};
    int64_t longest = 0;
    bool int8 = false; /* all rows of a call are, or none */
    for (int r = 0; r < rows; r++) {
        const offloaded_kv *kv = a->kv[first + r];
        if (kv == NULL || kv->count == 0) {
            continue;
        }
        if (longest > 0 && int8 != (kv->dtype == MP_I8)) {
            mp_panic("key_select: row %lld: some rows are int8, others are not",
                     (long long)(first + r));
        }
        int8 = kv->dtype == MP_I8;
        describe(a, first + r, &scores.request[r], &select.request[r]);
        scores.kv_heads = kv->num_kv_heads;
        longest = kv->count > longest ? kv->count : longest;
    }
    if (longest > 0) {
        scores.q = a->q + first * a->num_heads * a->head_dim;
        scores.group = a->num_heads / scores.kv_heads;
        scores.head_dim = a->head_dim;
        scores.chunks = a->head_dim / 8;
        scores.scale = a->mode == KEY_SELECT_DRAWN ? a->scale : 1.0f;
        if (int8) {
            score_requests<false, uint2>(scores, rows, longest);
        } else {
            score_requests<false, uint4>(scores, rows, longest);
        }
    }
    select.nnz = a->nnz + first * a->num_heads;
    select.first_head = a->first_head;
    launch_overlapped(a->mode == KEY_SELECT_DRAWN ? draw_tokens : select_largest,
                      dim3((unsigned)a->num_heads, (unsigned)rows), SELECT_THREADS, 0, select);
}

} // namespace

void key_select_cuda(const struct key_select_args *a)
{
    if (a->head_dim % 8 != 0) {
        mp_panic("key_select: head_dim %d: expected a multiple of 8", a->head_dim);
    }
    for (int64_t first = 0; first < a->rows; first += SCORE_REQUESTS) {
        int64_t rest = a->rows - first;
        select_rows(a, first, rest < SCORE_REQUESTS ? (int)rest : (int)SCORE_REQUESTS);
    }
}
