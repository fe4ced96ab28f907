/* code_select on the GPU in one kernel. A KV head of a row is shared by some CTAs, each of which
 * has a piece of its tokens and keeps their logits, then weights, then x in shared memory; or in
 * scratch, if they are too many. What all CTAs of a KV head must know, the largest logits, sums of
 * weights, x of the tokens that may have pi = 1, and sums of inclusions, they tell each other. All
 * CTAs are resident at once and take KV heads in the same order, so each may wait for the others.
 */
#include "codelets/code_select/code_inclusion_cuda.cuh"
#include "codelets/code_select/code_score_cuda.cuh"

#include <atomic>

namespace
{

struct fused_launch {
    code_launch codes;
    int parts;           /* CTAs that share a KV head, at most */
    int slots;           /* KV heads at a time */
    uint32_t first_mark; /* of the first KV head of a slot; those of later ones follow */
};

/* ---- ids and log-weights ---- */

/* Where a selected token goes: the first of the CTA's is number `begin`. */
struct output {
    uint32_t *ids;
    float *log_weights;
    int begin;
};

/* Selected tokens of a span, by a warp; sum: inclusions before it. */
__device__ void take_span(const piece &t, int span, float c, uint64_t sum, int32_t u,
                          const output &out)
{
    int32_t pi[4];
    include(t, span, c, pi);
    const uint64_t own = (uint64_t)pi[0] + (uint64_t)pi[1] + (uint64_t)pi[2] + (uint64_t)pi[3];
    sum += warp_running_sum(own) - own;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        sum += (uint64_t)pi[j];
        if (codes_selected(sum, pi[j], u)) {
            const int position = code_selected_until(sum, u) - 1 - out.begin;
            const int token = t.first + span * SPAN + (int)threadIdx.x % 32 * 4 + j;
            out.ids[position] = (uint32_t)token;
            out.log_weights[position] = codes_log_weight(pi[j]);
        }
    }
}

/* Ids and log-weights of the piece. They may go to host memory: unless they are many they are
 * gathered first, so that they go there in whole lines. */
__device__ void take(const code_launch &p, const code_row &r, const piece &t, int row, float c,
                     int spans, const uint64_t *sums, shared &s)
{
    const int32_t u = code_draw(p, r, t.kv_head);
    const int begin = code_selected_until(s.before, u);
    const int end = code_selected_until(s.before + sums[spans], u);
    uint32_t *ids = r.ids + t.kv_head * r.ids_stride;
    float *log_weights = r.log_weights + t.kv_head * r.ids_stride;
    const bool staged = end - begin <= STAGED;
    const output out = {staged ? s.ids : ids, staged ? s.weights : log_weights, staged ? begin : 0};
    for (int i = threadIdx.x / 32; i < spans; i += WARPS) {
        const uint64_t before = s.before + sums[i];
        if (code_selected_until(before, u) != code_selected_until(s.before + sums[i + 1], u)) {
            take_span(t, i, c, before, u, out);
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; staged && i < end - begin; i += THREADS) {
        ids[begin + i] = s.ids[i];
        log_weights[begin + i] = s.weights[i];
    }
    if (threadIdx.x == 0 && t.part == t.parts - 1) {
        p.nnz[row * p.kv_heads + t.kv_head] = end;
    }
}

/* All tokens, if they are no more than samples. */
__device__ void take_all(const code_row &r, int kv_head, int part, int parts, int32_t *nnz)
{
    if (part == 0 && threadIdx.x == 0) {
        *nnz = r.tokens;
    }
    for (int i = part * THREADS + (int)threadIdx.x; i < r.tokens; i += parts * THREADS) {
        r.ids[kv_head * r.ids_stride + i] = (uint32_t)i;
        r.log_weights[kv_head * r.ids_stride + i] = 0.0f;
    }
}

/* ---- the kernel ---- */

/* Tokens of the pieces of a row, but the last ones. */
__host__ __device__ __forceinline__ int chunk_of(int tokens, int parts)
{
    const int spans = (tokens + SPAN - 1) / SPAN;
    return (spans + parts - 1) / parts * SPAN;
}

/* Room for the sums of a piece's spans, and of them all, in multiples of 16 bytes. */
__host__ __device__ __forceinline__ int sums_floats(int chunk)
{
    return (chunk / SPAN / 2 + 1) * 4;
}

/* The CTA's part of KV head number `item` of all rows; of no tokens if the row takes all, or the
 * CTA is not needed. */
__device__ piece piece_of(const fused_launch &p, int item)
{
    const code_row &r = p.codes.row[item / p.codes.kv_heads];
    piece t = {};
    t.part = (int)blockIdx.x % p.parts;
    t.parts = min(p.parts, (int)code_parts(r.tokens));
    if (!code_draws(r) || t.part >= t.parts) {
        return t;
    }
    const int chunk = chunk_of(r.tokens, t.parts);
    t.kv_head = item % p.codes.kv_heads;
    t.first = (int)min((int64_t)t.part * chunk, r.scratch.stride);
    t.padded = min(chunk, (int)r.scratch.stride - t.first);
    t.tokens = max(0, min(chunk, r.tokens - t.first));
    t.words = &shared_words[0][blockIdx.x - t.part];
    t.mark = p.first_mark + (uint32_t)(item / p.slots);
    t.large = r.scratch.large + t.kv_head * r.scratch.stride;
    return t;
}

/* Brings the codes of a KV head's piece into L2, all of them at once: what a CTA's loads have in
 * flight is less than the memory can give. */
__device__ void fetch_codes(const fused_launch &p, int item)
{
    if (item >= p.codes.rows * p.codes.kv_heads) {
        return;
    }
    const piece t = piece_of(p, item);
    const code_row &r = p.codes.row[item / p.codes.kv_heads];
    const int64_t block = t.kv_head * r.head_blocks + t.first / CODES_BLOCK;
    const int blocks = t.padded / CODES_BLOCK;
    const uint32_t *words = r.words + block * p.codes.words * CODES_BLOCK;
    for (int i = threadIdx.x; i < blocks * p.codes.words; i += THREADS) {
        prefetch_line(words + i * CODES_BLOCK);
    }
    for (int i = threadIdx.x; i < blocks; i += THREADS) {
        prefetch_line(r.factors + (block + i) * CODES_BLOCK);
    }
}

template <bool SPILL, int BITS, int STEPS>
__device__ void select_piece(const fused_launch &p, int item, piece t, float *room, shared &s)
{
    const int row = item / p.codes.kv_heads;
    const code_row &r = p.codes.row[row];
    const int group = p.codes.group;
    const int chunk = chunk_of(r.tokens, t.parts);
    uint64_t *sums = reinterpret_cast<uint64_t *>(room);
    t.store = SPILL ? r.scratch.logits + group * (t.kv_head * r.scratch.stride + t.first)
                    : room + sums_floats(chunk);
    const int spans = (t.padded + SPAN - 1) / SPAN;
    const int warp = threadIdx.x / 32;
    if (warp < group) {
        const int64_t head = t.kv_head * group + warp;
        code_prepare_query(p.codes, p.codes.q + row * p.codes.q_stride + head * p.codes.head_dim,
                           s.space[warp], &s.heads[warp]);
    }
    if (threadIdx.x == 0) {
        s.num_large = 0;
    }
    __syncthreads();
    float *spare = SPILL ? NULL : t.store + t.padded;
    score<BITS, STEPS>(p.codes, r, t, s);
    fetch_codes(p, item + p.slots);
    share_largest(p.codes, t, s);
    weigh(p.codes, t, s);
    share_weights(p.codes, r, t, s);
    mix(p.codes, r, t, s);
    share_total(t, s);
    const float c = find_scale(r, t, chunk, s, spare, SPILL ? 0 : (group - 1) * t.padded);
    share_inclusions(t, c, spans, sums, s);
    take(p.codes, r, t, row, c, spans, sums, s);
    __syncthreads(); /* shared memory is free again */
}

/* Grid: slots * parts. */
template <bool SPILL, int BITS, int STEPS>
__global__ void __launch_bounds__(THREADS, CTAS_PER_SM)
    select_fused(begin_stamp stamp, const __grid_constant__ fused_launch p)
{
    extern __shared__ float4 room[];
    __shared__ shared s;
    const int slot = (int)blockIdx.x / p.parts;
    fetch_codes(p, slot); /* a hint: whether they are complete is of no matter yet */
    allow_next_kernel();
    wait_for_kernels(stamp);
    for (int i = slot; i < p.codes.rows * p.codes.kv_heads; i += p.slots) {
        const code_row &r = p.codes.row[i / p.codes.kv_heads];
        const piece t = piece_of(p, i);
        if (!code_draws(r)) {
            take_all(r, i % p.codes.kv_heads, t.part, p.parts, p.codes.nnz + i);
        } else if (t.part < t.parts) {
            select_piece<SPILL, BITS, STEPS>(p, i, t, reinterpret_cast<float *>(room), s);
        }
    }
}

/* ---- host ---- */

struct fused_plan {
    int parts, slots;
    bool spill;    /* logits in scratch */
    size_t shared; /* dynamic shared memory of a CTA */
};

/* CTAs that the GPU holds at once, of those that have words. */
int64_t resident_ctas()
{
    const int64_t ctas = (int64_t)CTAS_PER_SM * cuda_multiprocessors();
    return ctas < MAX_CTAS ? ctas : (int64_t)MAX_CTAS;
}

/* Dynamic shared memory that CTAS_PER_SM CTAs may have each. */
int64_t shared_room()
{
    int per_sm = 0;
    int per_cta = 0;
    int reserved = 0;
    int device = 0;
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(
        cudaDeviceGetAttribute(&per_sm, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device));
    CUDA_CHECK(cudaDeviceGetAttribute(&per_cta, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    CUDA_CHECK(cudaDeviceGetAttribute(&reserved, cudaDevAttrReservedSharedMemoryPerBlock, device));
    const int64_t most = per_sm / CTAS_PER_SM - reserved;
    return ((most < per_cta ? most : per_cta) - (int64_t)sizeof(shared)) / 1024 * 1024;
}

int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* ctas: that are resident at once, each with `room` bytes of dynamic shared memory. */
fused_plan make_plan(const code_launch &p, int64_t longest, int64_t ctas, int64_t room)
{
    fused_plan plan = {};
    const int64_t items = (int64_t)p.rows * p.kv_heads;
    const int64_t span_bytes = (int64_t)p.group * SPAN * sizeof(float) + sizeof(uint64_t);
    const int64_t fits = (room - 16) / span_bytes * SPAN; /* tokens of a CTA */
    int64_t most = code_parts(longest);
    most = most < ctas ? most : ctas;
    int64_t need = divide_up(longest, fits);
    plan.spill = need > most;
    if (plan.spill) {
        need = divide_up(longest, (int64_t)MAX_SPANS * SPAN);
    }
    const int64_t at_once = ctas / need < items ? ctas / need : items;
    plan.slots = (int)divide_up(items, divide_up(items, at_once)); /* as few rounds, all full */
    plan.parts = (int)(ctas / plan.slots < most ? ctas / plan.slots : most);
    /* Rows that fewer CTAs share have pieces of CODE_PART_TOKENS at most. */
    int chunk = chunk_of((int)longest, plan.parts);
    chunk = chunk > CODE_PART_TOKENS ? chunk : (int)CODE_PART_TOKENS;
    plan.shared = sizeof(float) * (size_t)(sums_floats(chunk) + (plan.spill ? 0 : p.group * chunk));
    return plan;
}

/* Marks that no launch has used: as many in a row, none of them 0. */
uint32_t take_marks(int count)
{
    static std::atomic<uint32_t> next{1};
    const uint32_t first = next.fetch_add((uint32_t)count);
    return first != 0 && first <= UINT32_MAX - (uint32_t)count ? first : take_marks(count);
}

template <bool SPILL, int BITS, int STEPS> void launch(const code_launch &p, const fused_plan &plan)
{
    begin_stamp stamp = {cuda_measure_take_stamp()};
    const fused_launch params = {p, plan.parts, plan.slots, take_marks(p.rows * p.kv_heads)};
    CUDA_ALLOW_SHARED((select_fused<SPILL, BITS, STEPS>), plan.shared);
    cudaLaunchAttribute attributes[2] = {};
    attributes[0].id = cudaLaunchAttributeCooperative;
    attributes[0].val.cooperative = 1;
    attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[1].val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)(plan.slots * plan.parts));
    config.blockDim = THREADS;
    config.dynamicSmemBytes = plan.shared;
    config.stream = cuda_stream();
    config.attrs = attributes;
    config.numAttrs = cuda_kernels_wait() ? 2 : 1;
    CUDA_CHECK(cudaLaunchKernelEx(&config, select_fused<SPILL, BITS, STEPS>, stamp, params));
}

template <int BITS, int STEPS> void launch_for(const code_launch &p, const fused_plan &plan)
{
    if (plan.spill) {
        launch<true, BITS, STEPS>(p, plan);
    } else {
        launch<false, BITS, STEPS>(p, plan);
    }
}

void select_rows(const code_launch &p, int64_t longest)
{
    const fused_plan plan = make_plan(p, longest, resident_ctas(), shared_room());
    if (p.bits == 1) {
        launch_for<1, 1>(p, plan);
    } else if (p.bits == 2 && p.words <= 8) {
        launch_for<2, 1>(p, plan);
    } else if (p.bits == 2) {
        launch_for<2, 2>(p, plan);
    } else if (p.words <= 16) {
        launch_for<4, 2>(p, plan);
    } else {
        launch_for<4, 4>(p, plan);
    }
}

} // namespace

bool code_select_can_fuse(const struct code_select_args *a)
{
    int device = 0;
    int cooperative = 0;
    int threads = 0;
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(cudaDeviceGetAttribute(&cooperative, cudaDevAttrCooperativeLaunch, device));
    CUDA_CHECK(cudaDeviceGetAttribute(&threads, cudaDevAttrMaxThreadsPerMultiProcessor, device));
    int64_t longest = 0;
    for (int64_t r = 0; r < a->rows; r++) {
        const int64_t tokens = a->codes[r] == NULL ? 0 : a->codes[r]->count;
        longest = tokens > longest ? tokens : longest;
    }
    return cooperative != 0 && threads >= THREADS * CTAS_PER_SM &&
           a->num_heads <= MAX_GROUP * a->num_kv_heads &&
           longest <= resident_ctas() * MAX_SPANS * SPAN;
}

void code_select_fused_cuda(const struct code_select_args *a)
{
    for (int64_t first = 0; first < a->rows; first += CODE_ROWS) {
        code_launch p;
        const int64_t longest = code_describe(a, first, &p);
        if (longest > 0) {
            select_rows(p, longest);
        } else { /* there is only to say so */
            launch_overlapped(code_prepare, dim3((unsigned)p.kv_heads, (unsigned)p.rows),
                              PREPARE_THREADS, 0, p);
        }
    }
}
