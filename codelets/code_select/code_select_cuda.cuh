/* What both ways of code_select on the GPU share: the arguments of their kernels, and the first of
 * these, which rotates and rounds the queries. All is compiled with --fmad=false, since what is
 * rounded where decides which tokens are selected. */
#ifndef MP_CODELETS_CODE_SELECT_CUDA_CUH
#define MP_CODELETS_CODE_SELECT_CUDA_CUH

#include "codelets/common/attention/key_rotation_cuda.cuh"
#include "codelets/common/cuda/launch_cuda.cuh"

extern "C" {
#include "codelets/code_select/code_scratch.h"
#include "codelets/code_select/code_select_cuda.h"
#include "codelets/common/random_draw.h"
}

enum {
    CODE_ROWS = 16, /* of a launch: they are kernel parameters */
    PREPARE_THREADS = 256,
};

/* What is selected from, and where it goes. */
struct code_row {
    const uint32_t *words;
    const float *factors;
    uint32_t *ids; /* [KV heads][ids_stride] */
    float *log_weights;
    int64_t ids_stride;
    int64_t head_blocks; /* blocks of codes between two KV heads */
    uint64_t seed;
    code_scratch scratch;
    int tokens; /* 0: nothing to select from */
    int samples;
};

struct code_launch {
    code_row row[CODE_ROWS];
    const float *q; /* of the first row */
    int64_t q_stride;
    const float *rotation;
    int32_t *nnz; /* [rows][kv_heads] */
    int rows;
    int kv_heads;
    int group;
    int first_kv_head;
    int head_dim;
    int bits;
    int words;
};

/* Whether some tokens are drawn; else all there are are selected. */
static __device__ __forceinline__ bool code_draws(const code_row &r)
{
    return r.tokens > r.samples;
}

/* Floats in an order of integers; 0 is below all. */
static __device__ __forceinline__ uint32_t code_order(float x)
{
    const uint32_t bits = __float_as_uint(x);
    return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}

static __device__ __forceinline__ float code_of_order(uint32_t order)
{
    return __uint_as_float(order >> 31 != 0 ? order & 0x7fffffffu : ~order);
}

/* U of a KV head, in [0, 2^30). */
static __device__ __forceinline__ int32_t code_draw(const code_launch &p, const code_row &r,
                                                    int kv_head)
{
    const uint64_t state = random_state(r.seed, (uint64_t)(p.first_kv_head + kv_head));
    return (int32_t)(random_draw(state, 0) >> (64 - CODES_ONE_BITS));
}

/* The running sum less U, from which codes_selected tells: its whole part is how many tokens are
 * selected up to there. */
static __device__ __forceinline__ uint64_t code_at(uint64_t sum, int32_t u)
{
    return sum + CODES_ONE - (uint64_t)u - 1;
}

static __device__ __forceinline__ int code_selected_until(uint64_t sum, int32_t u)
{
    return (int)(code_at(sum, u) >> CODES_ONE_BITS);
}

static __device__ __forceinline__ uint64_t warp_sum_u64(uint64_t x)
{
    for (int offset = 16; offset > 0; offset /= 2) {
        x += __shfl_xor_sync(~0u, x, offset);
    }
    return x;
}

/* The sum of those of the lanes up to this one. */
static __device__ __forceinline__ uint64_t warp_running_sum(uint64_t x)
{
    for (int offset = 1; offset < 32; offset *= 2) {
        const uint64_t below = __shfl_up_sync(~0u, x, offset);
        x += (int)threadIdx.x % 32 >= offset ? below : 0;
    }
    return x;
}

/* ---- queries ---- */

/* Rotates and rounds a query; by a warp. */
static __device__ void code_prepare_query(const code_launch &p, const float *q, float *space,
                                          code_head *out)
{
    const int lane = threadIdx.x % 32;
    const int d = p.head_dim;
    float y[ROTATED];
#pragma unroll
    for (int e = 0; e < ROTATED; e++) {
        y[e] = lane + 32 * e < d ? q[lane + 32 * e] : 0.0f;
    }
    rotate(p.rotation, d, y, space);
    float largest = 0.0f;
#pragma unroll
    for (int e = 0; e < ROTATED; e++) {
        largest = fmaxf(largest, lane + 32 * e < d ? fabsf(y[e]) : 0.0f);
    }
    largest = warp_max(largest);
    const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
    int sum = 0;
#pragma unroll
    for (int e = 0; e < ROTATED; e++) {
        const int8_t x = lane + 32 * e < d ? codes_round_query(y[e], inverse) : (int8_t)0;
        out->query[lane + 32 * e] = x;
        sum += x;
    }
    sum = __reduce_add_sync(~0u, sum);
    if (lane == 0) {
        out->scale = codes_query_scale(largest, d);
        out->query_sum = sum;
        out->largest = 0;
        out->z = 0;
    }
}

/* Makes the queries of a KV head, and clears what its tokens are counted in. Grid: (KV head,
 * row). */
static __global__ void __launch_bounds__(PREPARE_THREADS)
    code_prepare(begin_stamp stamp, const __grid_constant__ code_launch p)
{
    __shared__ float space[PREPARE_THREADS / 32][MP_MAX_HEAD_DIM];
    allow_next_kernel();
    wait_for_kernels(stamp);
    const code_row &r = p.row[blockIdx.y];
    const int h = blockIdx.x;
    if (threadIdx.x == 0 && !code_draws(r)) {
        p.nnz[blockIdx.y * p.kv_heads + h] = r.tokens;
    }
    if (!code_draws(r)) {
        return;
    }
    const int warp = threadIdx.x / 32;
    const float *q = p.q + blockIdx.y * p.q_stride;
    for (int g = h * p.group + warp; g < (h + 1) * p.group; g += PREPARE_THREADS / 32) {
        code_prepare_query(p, q + g * p.head_dim, space[warp], r.scratch.heads + g);
    }
    if (threadIdx.x == 0) {
        r.scratch.kv_heads[h] = {0, 0, 0.0f};
    }
}

/* ---- host ---- */

static void code_describe_row(const code_select_args *a, int64_t row, code_row *out)
{
    const key_codes *codes = a->codes[row];
    if (codes == NULL || codes->count == 0) {
        return;
    }
    out->words = codes->words;
    out->factors = codes->factors;
    out->ids = a->ids[row];
    out->log_weights = a->log_weights[row];
    out->ids_stride = a->ids_stride[row];
    out->head_blocks = codes_blocks(codes->capacity);
    out->seed = a->seed[row];
    out->tokens = (int)codes->count;
    out->samples = (int)(a->samples[row] < codes->count ? a->samples[row] : codes->count);
    code_scratch_of(a->scratch[row], a->num_heads, a->num_kv_heads, codes->count, &out->scratch);
}

/* Rows from `first` on, as many as a launch takes; returns the tokens of the longest. */
static int64_t code_describe(const code_select_args *a, int64_t first, code_launch *out)
{
    int64_t longest = 0;
    *out = {};
    out->q = a->q + first * a->q_stride;
    out->q_stride = a->q_stride;
    out->rotation = a->rotation.data;
    out->nnz = a->nnz + first * a->num_kv_heads;
    out->rows = (int)(a->rows - first < CODE_ROWS ? a->rows - first : (int64_t)CODE_ROWS);
    out->kv_heads = a->num_kv_heads;
    out->group = a->num_heads / a->num_kv_heads;
    out->first_kv_head = a->first_kv_head;
    out->head_dim = a->head_dim;
    for (int r = 0; r < out->rows; r++) {
        const key_codes *codes = a->codes[first + r];
        code_describe_row(a, first + r, &out->row[r]);
        if (out->row[r].tokens > 0) {
            out->bits = codes->bits;
            out->words = codes_words(a->head_dim, codes->bits);
        }
        longest = out->row[r].tokens > longest ? out->row[r].tokens : longest;
    }
    return longest;
}

#endif
