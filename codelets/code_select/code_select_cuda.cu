/* code_select on the GPU, a kernel for each step; and the choice between that and the fused
 * kernel. */
#include "codelets/code_select/code_select_cuda.cuh"

namespace
{

enum {
    THREADS = 256,
    WARPS = THREADS / 32,
    CTAS_PER_SM = 8,     /* about; each goes on with further tokens */
    TOKENS = 4,          /* of a thread, consecutive, where their order matters */
    SCALE_THREADS = 512, /* of the CTA that finds c' */
    QUERY_GROUPS = CODE_QUERY_BYTES / 4,
};
static_assert(THREADS * TOKENS == CODE_SUM_TOKENS, "a CTA makes a sum");

/* The row and the KV head of a CTA: y of the grid. */
struct place {
    int row;
    int kv_head;
};

__device__ __forceinline__ place place_of(const code_launch &p)
{
    return {(int)blockIdx.y / p.kv_heads, (int)blockIdx.y % p.kv_heads};
}

__device__ __forceinline__ int first_token()
{
    return (int)(blockIdx.x * THREADS + threadIdx.x);
}

__device__ __forceinline__ int token_stride()
{
    return (int)gridDim.x * THREADS;
}

/* The sum over the CTA, in thread 0. */
__device__ uint64_t cta_sum(uint64_t x)
{
    __shared__ uint64_t sums[WARPS];
    x = warp_sum_u64(x);
    __syncthreads(); /* the sums of a call before have been read */
    if (threadIdx.x % 32 == 0) {
        sums[threadIdx.x / 32] = x;
    }
    __syncthreads();
    x = 0;
    for (int w = 0; w < WARPS; w++) {
        x += sums[w];
    }
    return x;
}

/* ---- logits ---- */

/* Adds to sums those of query * level over the channels of a token. Words are CODES_BLOCK apart. */
template <int BITS, int HEADS>
__device__ __forceinline__ void add_products(const uint32_t *words, int num_words,
                                             const uint32_t (*queries)[QUERY_GROUPS],
                                             int (&sums)[HEADS])
{
    const int slots = 8 / BITS;
    const uint32_t mask = 0x01010101u * ((1u << BITS) - 1);
#pragma unroll 4
    for (int m = 0; m < num_words; m++) {
        const uint32_t word = words[m * CODES_BLOCK];
#pragma unroll
        for (int k = 0; k < slots; k++) {
            const int levels = (int)(word >> (k * BITS) & mask);
#pragma unroll
            for (int g = 0; g < HEADS; g++) {
                sums[g] = __dp4a(levels, (int)queries[g][m * slots + k], sums[g]);
            }
        }
    }
}

/* Of `heads` query heads from `first` on. */
template <int BITS, int HEADS>
__device__ void score_heads(const code_launch &p, const code_row &r, int kv_head, int first,
                            int heads)
{
    __shared__ uint32_t queries[HEADS][QUERY_GROUPS];
    code_head *head = r.scratch.heads + first;
    __syncthreads(); /* the queries before these have been used */
    for (int i = threadIdx.x; i < heads * QUERY_GROUPS; i += THREADS) {
        queries[i / QUERY_GROUPS][i % QUERY_GROUPS] =
            reinterpret_cast<const uint32_t *>(head[i / QUERY_GROUPS].query)[i % QUERY_GROUPS];
    }
    __syncthreads();
    const int64_t first_block = kv_head * r.head_blocks;
    float largest[HEADS];
#pragma unroll
    for (int g = 0; g < HEADS; g++) {
        largest[g] = -INFINITY;
    }
    for (int i = first_token(); i < r.tokens; i += token_stride()) {
        const int64_t block = first_block + i / CODES_BLOCK;
        const int t = i % CODES_BLOCK;
        int sums[HEADS] = {};
        add_products<BITS, HEADS>(r.words + block * p.words * CODES_BLOCK + t, p.words, queries,
                                  sums);
        const float factor = r.factors[block * CODES_BLOCK + t];
#pragma unroll
        for (int g = 0; g < HEADS; g++) {
            if (g < heads) {
                const int twice = codes_twice_dot(sums[g], head[g].query_sum, BITS);
                const float logit = codes_logit(twice, head[g].scale, factor);
                r.scratch.logits[(first + g) * r.scratch.stride + i] = logit;
                largest[g] = fmaxf(largest[g], logit);
            }
        }
    }
#pragma unroll
    for (int g = 0; g < HEADS; g++) {
        const uint32_t order = __reduce_max_sync(~0u, code_order(largest[g]));
        if (threadIdx.x % 32 == 0 && g < heads) {
            atomicMax(&head[g].largest, order);
        }
    }
}

template <int BITS, int HEADS>
__global__ void __launch_bounds__(THREADS)
    score(begin_stamp stamp, const __grid_constant__ code_launch p)
{
    allow_next_kernel();
    wait_for_kernels(stamp);
    const place at = place_of(p);
    const code_row &r = p.row[at.row];
    if (!code_draws(r)) {
        return;
    }
    for (int g = 0; g < p.group; g += HEADS) {
        score_heads<BITS, HEADS>(p, r, at.kv_head, at.kv_head * p.group + g,
                                 min(HEADS, p.group - g));
    }
}

/* ---- weights and x ---- */

/* Logits become weights. */
__global__ void __launch_bounds__(THREADS)
    weigh(begin_stamp stamp, const __grid_constant__ code_launch p)
{
    allow_next_kernel();
    wait_for_kernels(stamp);
    const place at = place_of(p);
    const code_row &r = p.row[at.row];
    if (!code_draws(r)) {
        return;
    }
    for (int g = at.kv_head * p.group; g < (at.kv_head + 1) * p.group; g++) {
        float *logits = r.scratch.logits + g * r.scratch.stride;
        const float largest = code_of_order(r.scratch.heads[g].largest);
        uint64_t sum = 0;
        for (int i = first_token(); i < r.tokens; i += token_stride()) {
            const int32_t weight = codes_exp2(logits[i] - largest);
            logits[i] = __int_as_float(weight);
            sum += (uint64_t)weight;
        }
        sum = cta_sum(sum);
        if (threadIdx.x == 0) {
            atomicAdd(reinterpret_cast<unsigned long long *>(&r.scratch.heads[g].z), sum);
        }
    }
}

/* x, in place of the first head's weights. */
__device__ __forceinline__ float mix(const code_launch &p, const code_row &r, const float *weights,
                                     const float *scales, int i)
{
    float x = codes_uniform(r.samples, r.tokens);
    for (int g = 0; g < p.group; g++) {
        const int32_t weight = __float_as_int(weights[g * r.scratch.stride + i]);
        x = fmaf((float)weight, scales[g], x);
    }
    return x;
}

/* Shared memory: [group] floats. */
__global__ void __launch_bounds__(THREADS)
    measure(begin_stamp stamp, const __grid_constant__ code_launch p)
{
    extern __shared__ float scales[];
    allow_next_kernel();
    wait_for_kernels(stamp);
    const place at = place_of(p);
    const code_row &r = p.row[at.row];
    if (!code_draws(r)) {
        return;
    }
    code_kv_head *kv_head = r.scratch.kv_heads + at.kv_head;
    float *x = r.scratch.logits + at.kv_head * p.group * r.scratch.stride;
    float *large = r.scratch.large + at.kv_head * r.scratch.stride;
    for (int g = threadIdx.x; g < p.group; g += THREADS) {
        scales[g] =
            codes_head_scale(r.scratch.heads[at.kv_head * p.group + g].z, p.group, r.samples);
    }
    __syncthreads();
    uint64_t sum = 0;
    for (int i = first_token(); i < r.tokens; i += token_stride()) {
        const float value = mix(p, r, x, scales, i);
        x[i] = value;
        if (value >= 1.0f) {
            sum += codes_large(value);
            large[atomicAdd(&kv_head->large, 1)] = value;
        } else {
            sum += (uint64_t)codes_small(value);
        }
    }
    sum = cta_sum(sum);
    if (threadIdx.x == 0) {
        atomicAdd(reinterpret_cast<unsigned long long *>(&kv_head->total), sum);
    }
}

/* ---- c' ---- */

/* c' of a KV head. Grid: (1, KV heads of all rows). */
__global__ void __launch_bounds__(SCALE_THREADS)
    find_scale(begin_stamp stamp, const __grid_constant__ code_launch p)
{
    __shared__ unsigned long long capped_sum;
    allow_next_kernel();
    wait_for_kernels(stamp);
    const place at = place_of(p);
    const code_row &r = p.row[at.row];
    if (!code_draws(r)) {
        return;
    }
    code_kv_head *kv_head = r.scratch.kv_heads + at.kv_head;
    const float *large = r.scratch.large + at.kv_head * r.scratch.stride;
    const int n = kv_head->large;
    float c = codes_next_scale(r.samples, 0, kv_head->total, 0);
    for (int capped = 0;;) {
        int now = 0;
        uint64_t sum = 0;
        __syncthreads(); /* the sum before has been read */
        if (threadIdx.x == 0) {
            capped_sum = 0;
        }
        for (int i = threadIdx.x; i < n; i += SCALE_THREADS) {
            if (c * large[i] >= 1.0f) {
                now++;
                sum += codes_large(large[i]);
            }
        }
        now = __reduce_add_sync(~0u, now);
        sum = warp_sum_u64(sum);
        __shared__ int count;
        if (threadIdx.x == 0) {
            count = 0;
        }
        __syncthreads();
        if (threadIdx.x % 32 == 0) {
            atomicAdd(&count, now);
            atomicAdd(&capped_sum, sum);
        }
        __syncthreads();
        if (count <= capped) {
            break;
        }
        capped = count;
        c = codes_next_scale(r.samples, capped, kv_head->total, capped_sum);
    }
    if (threadIdx.x == 0) {
        kv_head->c = c;
    }
}

/* ---- inclusion ---- */

/* Inclusions of the thread's tokens, which are those from `first` on; returns their sum. */
__device__ __forceinline__ uint64_t include(const code_row &r, const float *x, float c, int first,
                                            int32_t (&inclusion)[TOKENS])
{
    uint64_t sum = 0;
#pragma unroll
    for (int j = 0; j < TOKENS; j++) {
        inclusion[j] = first + j < r.tokens ? codes_inclusion(x[first + j], c) : 0;
        sum += (uint64_t)inclusion[j];
    }
    return sum;
}

/* Sums of CODE_SUM_TOKENS tokens. */
__global__ void __launch_bounds__(THREADS)
    add_inclusions(begin_stamp stamp, const __grid_constant__ code_launch p)
{
    allow_next_kernel();
    wait_for_kernels(stamp);
    const place at = place_of(p);
    const code_row &r = p.row[at.row];
    if (!code_draws(r) || (int)blockIdx.x >= code_sums(r.tokens)) {
        return;
    }
    const float *x = r.scratch.logits + at.kv_head * p.group * r.scratch.stride;
    int32_t inclusion[TOKENS];
    uint64_t sum =
        include(r, x, r.scratch.kv_heads[at.kv_head].c, TOKENS * first_token(), inclusion);
    sum = cta_sum(sum);
    if (threadIdx.x == 0) {
        r.scratch.sums[at.kv_head * code_sums(r.tokens) + blockIdx.x] = sum;
    }
}

/* The sum of inclusions before this thread's tokens, which have `own`. */
__device__ uint64_t sum_before(const uint64_t *sums, uint64_t own)
{
    __shared__ uint64_t warps[WARPS];
    uint64_t before = 0;
    for (int b = threadIdx.x; b < (int)blockIdx.x; b += THREADS) {
        before += sums[b];
    }
    before = cta_sum(before);
    const uint64_t running = warp_running_sum(own);
    if (threadIdx.x % 32 == 31) {
        warps[threadIdx.x / 32] = running;
    }
    __syncthreads();
    for (int w = 0; w < (int)threadIdx.x / 32; w++) {
        before += warps[w];
    }
    return before + running - own;
}

/* All tokens. */
__device__ void take_all(const code_row &r, uint32_t *ids, float *log_weights)
{
    for (int j = 0; j < TOKENS; j++) {
        const int i = (int)blockIdx.x * CODE_SUM_TOKENS + j * THREADS + (int)threadIdx.x;
        if (i < r.tokens) {
            ids[i] = (uint32_t)i;
            log_weights[i] = 0.0f;
        }
    }
}

/* Ids and log-weights of CODE_SUM_TOKENS tokens. They may go to host memory: those of a CTA are
 * gathered first, so that they go there in whole lines. */
__global__ void __launch_bounds__(THREADS)
    take(begin_stamp stamp, const __grid_constant__ code_launch p)
{
    __shared__ uint32_t taken[CODE_SUM_TOKENS];
    __shared__ float weights[CODE_SUM_TOKENS];
    __shared__ int begin, end; /* tokens selected before, and with those of the CTA */
    allow_next_kernel();
    wait_for_kernels(stamp);
    const place at = place_of(p);
    const code_row &r = p.row[at.row];
    if ((int)blockIdx.x >= code_sums(r.tokens)) {
        return;
    }
    uint32_t *ids = r.ids + at.kv_head * r.ids_stride;
    float *log_weights = r.log_weights + at.kv_head * r.ids_stride;
    if (!code_draws(r)) {
        take_all(r, ids, log_weights);
        return;
    }
    const float *x = r.scratch.logits + at.kv_head * p.group * r.scratch.stride;
    const int32_t u = code_draw(p, r, at.kv_head);
    const int first = TOKENS * first_token();
    int32_t inclusion[TOKENS];
    const uint64_t own = include(r, x, r.scratch.kv_heads[at.kv_head].c, first, inclusion);
    uint64_t sum = sum_before(r.scratch.sums + at.kv_head * code_sums(r.tokens), own);
    if (threadIdx.x == 0) {
        begin = code_selected_until(sum, u);
    }
    if (threadIdx.x == THREADS - 1) {
        end = code_selected_until(sum + own, u);
    }
    __syncthreads();
    for (int j = 0; j < TOKENS; j++) {
        sum += (uint64_t)inclusion[j];
        if (codes_selected(sum, inclusion[j], u)) {
            const int position = code_selected_until(sum, u) - 1 - begin;
            taken[position] = (uint32_t)(first + j);
            weights[position] = codes_log_weight(inclusion[j]);
        }
    }
    __syncthreads();
    for (int j = threadIdx.x; j < end - begin; j += THREADS) {
        ids[begin + j] = taken[j];
        log_weights[begin + j] = weights[j];
    }
    if (threadIdx.x == 0 && (int)blockIdx.x == code_sums(r.tokens) - 1) {
        p.nnz[at.row * p.kv_heads + at.kv_head] = end;
    }
}

/* ---- host ---- */

template <int BITS> void launch_score(const code_launch &p, dim3 grid)
{
    if (p.group == 1) {
        launch_overlapped(score<BITS, 1>, grid, THREADS, 0, p);
    } else if (p.group <= 4) {
        launch_overlapped(score<BITS, 4>, grid, THREADS, 0, p);
    } else {
        launch_overlapped(score<BITS, 8>, grid, THREADS, 0, p);
    }
}

void select_rows(const code_launch &p, int64_t longest)
{
    const int64_t lists = (int64_t)p.rows * p.kv_heads;
    const int64_t most = ((int64_t)CTAS_PER_SM * cuda_multiprocessors() + lists - 1) / lists;
    const int64_t ctas = (longest + THREADS - 1) / THREADS;
    const dim3 grid((unsigned)(ctas < most ? ctas : most), (unsigned)lists);
    const dim3 sums((unsigned)code_sums(longest), (unsigned)lists);
    if (p.bits == 1) {
        launch_score<1>(p, grid);
    } else if (p.bits == 2) {
        launch_score<2>(p, grid);
    } else {
        launch_score<4>(p, grid);
    }
    launch_overlapped(weigh, grid, THREADS, 0, p);
    /* In whole vectors: the compiler reads several of them at once. */
    launch_overlapped(measure, grid, THREADS, (p.group + 3) / 4 * 4 * sizeof(float), p);
    launch_overlapped(find_scale, dim3(1, (unsigned)lists), SCALE_THREADS, 0, p);
    launch_overlapped(add_inclusions, sums, THREADS, 0, p);
    launch_overlapped(take, sums, THREADS, 0, p);
}

} // namespace

void code_select_steps_cuda(const struct code_select_args *a)
{
    for (int64_t first = 0; first < a->rows; first += CODE_ROWS) {
        code_launch p;
        const int64_t longest = code_describe(a, first, &p);
        launch_overlapped(code_prepare, dim3((unsigned)p.kv_heads, (unsigned)p.rows),
                          PREPARE_THREADS, 0, p);
        if (longest > 0) {
            select_rows(p, longest);
        }
    }
}

void code_select_cuda(const struct code_select_args *a)
{
    if (a->head_dim > MP_MAX_HEAD_DIM || a->num_heads % a->num_kv_heads != 0) {
        mp_panic("code_select: head_dim %d, %d heads, %d KV heads", a->head_dim, a->num_heads,
                 a->num_kv_heads);
    }
    if (code_select_can_fuse(a)) {
        code_select_fused_cuda(a);
    } else {
        code_select_steps_cuda(a);
    }
}
