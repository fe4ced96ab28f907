/* code_select on the GPU in one kernel, but for the queries. A KV head of a row is shared by some
 * CTAs, each of which has a piece of its tokens and keeps their logits, then weights, then x in
 * shared memory. What all CTAs of a KV head must know, the largest logits, sums of weights, x of
 * the tokens that may have pi = 1, and sums of inclusions, they tell each other. All CTAs are
 * resident at once and take KV heads in the same order, so each may wait for the others. They
 * seldom have to: between telling and asking of one KV head a CTA does something for another one.
 */
#include "codelets/code_select/code_inclusion_cuda.cuh"
#include "codelets/code_select/code_score_cuda.cuh"

#include <atomic>

namespace
{

struct fused_launch {
    code_launch codes;
    int parts;           /* CTAs that share a KV head, at most */
    int slots;           /* KV heads at a time; those of a slot follow each other */
    int room;            /* tokens of a piece, at most */
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
            out.log_weights[position] = __int_as_float(pi[j]); /* for a start */
        }
    }
}

/* Ids and log-weights of the piece. They may go to host memory: unless they are many they are
 * gathered first, so that they go there in whole lines. */
__device__ void take(const code_launch &p, const piece t, float c, shared &s)
{
    const code_row &r = p.row[t.row];
    const int spans = spans_of(t);
    const uint64_t *sums = sums_of_spans();
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
    for (int i = threadIdx.x; i < end - begin; i += THREADS) {
        if (staged) {
            ids[begin + i] = s.ids[i];
        }
        const float pi = staged ? s.weights[i] : log_weights[begin + i];
        log_weights[begin + i] = codes_log_weight(__float_as_int(pi));
    }
    if (threadIdx.x == 0 && t.part == t.parts - 1) {
        p.nnz[t.row * p.kv_heads + t.kv_head] = end;
    }
}

/* ---- the kernel ---- */

/* KV heads of a slot are numbered from 1; which one of all rows that is. */
__device__ __forceinline__ int item_of(const fused_launch &p, int i)
{
    return (int)blockIdx.x / p.parts + (i - 1) * p.slots;
}

/* All tokens of KV head number i of the CTA's slot, if they are no more than samples. */
__device__ void take_all(const fused_launch &p, int i)
{
    const int item = item_of(p, i);
    const code_row &r = p.codes.row[min(item / p.codes.kv_heads, p.codes.rows - 1)];
    if (item >= p.codes.rows * p.codes.kv_heads || code_draws(r)) {
        return;
    }
    const int64_t first = item % p.codes.kv_heads * r.ids_stride;
    const int part = (int)blockIdx.x % p.parts;
    if (part == 0 && threadIdx.x == 0) {
        p.codes.nnz[item] = r.tokens;
    }
    for (int j = part * THREADS + (int)threadIdx.x; j < r.tokens; j += p.parts * THREADS) {
        r.ids[first + j] = (uint32_t)j;
        r.log_weights[first + j] = 0.0f;
    }
}

/* Tokens of the pieces of a row, but the last ones. */
__host__ __device__ __forceinline__ int chunk_of(int tokens, int parts)
{
    const int spans = (tokens + SPAN - 1) / SPAN;
    return (spans + parts - 1) / parts * SPAN;
}

/* The CTA's piece of KV head number i of its slot; none if there is no such KV head, if the row
 * takes all, or if the CTA is not needed. */
__device__ __forceinline__ piece piece_of(const fused_launch &p, int i)
{
    const int item = item_of(p, i);
    const int part = (int)blockIdx.x % p.parts;
    piece t = {};
    t.row = item / p.codes.kv_heads;
    if (t.row >= p.codes.rows || !code_draws(p.codes.row[t.row]) ||
        part >= code_parts(p.codes.row[t.row].tokens)) {
        t.row = 0;
        return t;
    }
    const code_row &r = p.codes.row[t.row];
    t.kv_head = item % p.codes.kv_heads;
    t.part = part;
    t.parts = min(p.parts, (int)code_parts(r.tokens));
    const int chunk = chunk_of(r.tokens, t.parts);
    t.first = (int)min((int64_t)part * chunk, r.scratch.stride);
    t.padded = min(chunk, (int)r.scratch.stride - t.first);
    t.tokens = max(0, min(chunk, r.tokens - t.first));
    t.room = p.room;
    t.stride = p.room + HEAD_PADDING;
    t.words = &shared_words[0][blockIdx.x - part];
    t.mark = p.first_mark + (uint32_t)(i - 1);
    return t;
}

/* Brings the codes of a piece into L2, all of them at once. */
__device__ void fetch_codes(const code_launch &p, const piece t)
{
    const code_row &r = p.row[t.row];
    const int64_t block = t.kv_head * r.head_blocks + t.first / CODES_BLOCK;
    const int blocks = t.padded / CODES_BLOCK;
    const uint32_t *words = r.words + block * p.words * CODES_BLOCK;
    for (int i = threadIdx.x; i < blocks * p.words; i += THREADS) {
        prefetch_line(words + i * CODES_BLOCK);
    }
    for (int i = threadIdx.x; i < blocks; i += THREADS) {
        prefetch_line(r.factors + (block + i) * CODES_BLOCK);
    }
}

/* Of the KV heads of a slot: from queries to x of number i, and from x to ids of the one before, in
 * turns. Either may be no piece. */
template <int BITS, int STEPS, int HEADS>
__device__ __forceinline__ void advance(const fused_launch &launch, int i, shared &s)
{
    const code_launch &p = launch.codes;
    const piece &before = s.pieces[(i - 1) % PIECES];
    const piece &t = s.pieces[i % PIECES];
    piece &next = s.pieces[(i + 1) % PIECES];
    if (threadIdx.x == THREADS - 1) {
        next = piece_of(launch, i + 1);
    }
    if (server_thread() < 0 && t.parts > 0) {
        score<BITS, STEPS, HEADS>(p, t, s);
    } else if (server_thread() >= 0 && before.parts > 0) {
        find_total(p, before, s);
        find_scale(p, before, s);
    }
    __syncthreads();
    if (t.parts > 0) {
        share_largest(p, t, s);
    }
    if (before.parts > 0) {
        add_inclusions(before, s.c);
    }
    if (t.parts > 0) {
        find_largest(p, t, s);
    }
    __syncthreads();
    if (t.parts > 0) {
        weigh(p, t, s);
    }
    if (before.parts > 0) {
        find_before(before, s);
        __syncthreads();
        take(p, before, s.c, s);
    }
    if (t.parts > 0) {
        find_head_scales(p, t, s);
        __syncthreads();
        mix<HEADS * MAX_GROUP / 2>(p, t, s);
    }
}

/* Grid: slots * parts. */
template <int BITS, int STEPS, int HEADS>
__global__ void __launch_bounds__(THREADS, CTAS_PER_SM)
    select_fused(begin_stamp stamp, const __grid_constant__ fused_launch p)
{
    __shared__ shared s;
    const int items = p.codes.rows * p.codes.kv_heads;
    if (threadIdx.x == 0) {
        s.pieces[0] = {};
        s.pieces[1] = piece_of(p, 1);
    }
    __syncthreads();
    fetch_codes(p.codes, s.pieces[1]); /* a hint: they may not all be complete yet */
    allow_next_kernel();
    wait_for_kernels(stamp);
    for (int i = 1; item_of(p, i - 1) < items; i++) {
        take_all(p, i);
        advance<BITS, STEPS, HEADS>(p, i, s);
    }
}

/* ---- host ---- */

struct fused_plan {
    int parts, slots;
    int room;      /* tokens of a piece, at most */
    size_t shared; /* dynamic shared memory of a CTA */
};

/* CTAs that the GPU holds at once, of those that have words. */
int64_t resident_ctas()
{
    const int64_t ctas = (int64_t)CTAS_PER_SM * cuda_multiprocessors();
    return ctas < MAX_CTAS ? ctas : (int64_t)MAX_CTAS;
}

/* Dynamic shared memory that CTAS_PER_SM CTAs may have each. */
int64_t shared_room_bytes()
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

/* Tokens of a piece that a CTA has room for. */
int64_t most_room(int group)
{
    const int64_t span_bytes = (int64_t)(group + 1) * SPAN * sizeof(float) + sizeof(uint64_t);
    const int64_t rest = 16 + group * HEAD_PADDING * (int64_t)sizeof(float);
    return (shared_room_bytes() - rest) / span_bytes * SPAN;
}

fused_plan make_plan(const code_launch &p, int64_t longest)
{
    fused_plan plan = {};
    const int64_t items = (int64_t)p.rows * p.kv_heads;
    const int64_t ctas = resident_ctas();
    const int64_t most = code_parts(longest) < ctas ? code_parts(longest) : ctas;
    const int64_t at_once = ctas / divide_up(longest, most_room(p.group));
    /* As few rounds as can be, all full. */
    plan.slots = (int)divide_up(items, divide_up(items, at_once < items ? at_once : items));
    plan.parts = (int)(ctas / plan.slots < most ? ctas / plan.slots : most);
    /* Rows that fewer CTAs share have pieces of CODE_PART_TOKENS at most. */
    plan.room = chunk_of((int)longest, plan.parts);
    plan.room = plan.room > CODE_PART_TOKENS ? plan.room : (int)CODE_PART_TOKENS;
    plan.shared = sizeof(float) * (size_t)(sums_floats(plan.room) + (p.group + 1) * plan.room +
                                           p.group * HEAD_PADDING);
    return plan;
}

/* Marks that no launch has used: as many in a row, none of them 0. */
uint32_t take_marks(int count)
{
    static std::atomic<uint32_t> next{1};
    const uint32_t first = next.fetch_add((uint32_t)count);
    return first != 0 && first <= UINT32_MAX - (uint32_t)count ? first : take_marks(count);
}

template <int BITS, int STEPS, int HEADS> void launch(const code_launch &p, const fused_plan &plan)
{
    begin_stamp stamp = {cuda_measure_take_stamp()};
    const fused_launch params = {p, plan.parts, plan.slots, plan.room,
                                 take_marks(p.rows * p.kv_heads)};
    CUDA_ALLOW_SHARED((select_fused<BITS, STEPS, HEADS>), plan.shared);
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
    CUDA_CHECK(cudaLaunchKernelEx(&config, select_fused<BITS, STEPS, HEADS>, stamp, params));
}

template <int BITS, int STEPS> void launch_for(const code_launch &p, const fused_plan &plan)
{
    if (p.group <= MAX_GROUP / 2) {
        launch<BITS, STEPS, 1>(p, plan);
    } else {
        launch<BITS, STEPS, 2>(p, plan);
    }
}

void select_rows(const code_launch &p, int64_t longest)
{
    const fused_plan plan = make_plan(p, longest);
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
    if (cooperative == 0 || threads < THREADS * CTAS_PER_SM ||
        a->num_heads > MAX_GROUP * a->num_kv_heads) {
        return false;
    }
    int64_t longest = 0;
    for (int64_t r = 0; r < a->rows; r++) {
        const int64_t tokens = a->codes[r] == NULL ? 0 : a->codes[r]->count;
        longest = tokens > longest ? tokens : longest;
    }
    return longest <= resident_ctas() * most_room(a->num_heads / a->num_kv_heads);
}

void code_select_fused_cuda(const struct code_select_args *a)
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
