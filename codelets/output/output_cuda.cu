/* output on the GPU: the merge of the parts in a kernel of its own, since parts may lie in host
 * memory and every CTA of the product reads its input; then the O projection. */
extern "C" {
#include "codelets/output/output.h"
}

#include "codelets/common/cuda/launch_cuda.cuh"
#include "codelets/common/linear/linear_cuda.h"

enum { MERGE_WARPS = 8, MERGE_ELEMENTS = MP_MAX_HEAD_DIM / 32 /* of a head, a lane */ };

/* The parts of a block of rows, read by the kernel where its parameters lie. */
struct merge_launch {
    attention_part parts[ATTENTION_MAX_PARTS];
    int num_parts;
    int num_heads;
    int head_dim;
    int64_t rows;
    float *merged;        /* out [rows][num_heads][head_dim] */
    output_merged wanted; /* out too, unless NULL */
};

/* What a lane holds of a head: PARTS parts, ELEMENTS channels 32 apart. */
template <int PARTS, int ELEMENTS> struct head_parts {
    float o[PARTS][ELEMENTS];
    float lse[PARTS]; /* -INFINITY: there is no such part, or it is empty */
};

/* Loads all parts that cover the head before any is used, those in host memory being a trip over
 * PCIe. c0: the lane's first channel. */
template <int PARTS, int ELEMENTS>
static __device__ __forceinline__ void
load_parts(head_parts<PARTS, ELEMENTS> &h, const merge_launch &m, int64_t row, int head, int c0)
{
    int next = 0;
#pragma unroll
    for (int p = 0; p < PARTS; p++) {
        while (next < m.num_parts && !(head >= m.parts[next].first_head &&
                                       head < m.parts[next].first_head + m.parts[next].num_heads)) {
            next++;
        }
        const bool found = next < m.num_parts;
        const attention_part &part = m.parts[found ? next : 0];
        const int64_t at = row * part.num_heads + (head - part.first_head);
        h.lse[p] = !found ? -INFINITY : part.lse == NULL ? 0.0f : part.lse[at];
#pragma unroll
        for (int i = 0; i < ELEMENTS; i++) {
            int c = c0 + 32 * i;
            h.o[p][i] = found && c < m.head_dim ? part.o[at * m.head_dim + c] : 0.0f;
        }
        next++;
    }
}

/* One warp a head of a row, or 32 * ELEMENTS channels of it: grid y counts these. What an empty
 * part (lse = -inf) holds is not used. At most PARTS parts cover a head. */
template <int PARTS, int ELEMENTS>
static __global__ void __launch_bounds__(32 * MERGE_WARPS)
    merge_kernel(begin_stamp stamp, const __grid_constant__ merge_launch m)
{
    allow_next_kernel();
    wait_for_kernels(stamp);
    const int64_t at = (int64_t)blockIdx.x * MERGE_WARPS + threadIdx.x / 32;
    if (at >= m.rows * m.num_heads) {
        return;
    }
    const int c0 = blockIdx.y * 32 * ELEMENTS + threadIdx.x % 32;
    head_parts<PARTS, ELEMENTS> h;
    load_parts(h, m, at / m.num_heads, (int)(at % m.num_heads), c0);
    float max = -INFINITY;
    bool any = false;
#pragma unroll
    for (int p = 0; p < PARTS; p++) {
        max = fmaxf(max, h.lse[p]);
        any = any || h.lse[p] != -INFINITY;
    }
    float total = 0.0f;
    float weight[PARTS];
#pragma unroll
    for (int p = 0; p < PARTS; p++) {
        weight[p] = h.lse[p] == -INFINITY ? 0.0f : expf(h.lse[p] - max);
        total += weight[p];
    }
    const float scale = any ? 1.0f / total : 0.0f;
#pragma unroll
    for (int i = 0; i < ELEMENTS; i++) {
        int c = c0 + 32 * i;
        float sum = 0.0f;
#pragma unroll
        for (int p = 0; p < PARTS; p++) {
            sum += weight[p] > 0.0f ? weight[p] * h.o[p][i] : 0.0f;
        }
        if (c < m.head_dim) {
            m.merged[at * m.head_dim + c] = sum * scale;
            if (m.wanted.o != NULL) {
                m.wanted.o[at * m.head_dim + c] = sum * scale;
            }
        }
    }
    if (m.wanted.lse != NULL && c0 == 0) {
        m.wanted.lse[at] = any ? max + logf(total) : -INFINITY;
    }
}

template <int PARTS, int ELEMENTS> static void launch_merge(const merge_launch &m)
{
    int64_t heads = m.rows * m.num_heads;
    dim3 grid((unsigned)((heads + MERGE_WARPS - 1) / MERGE_WARPS),
              (unsigned)((m.head_dim + 32 * ELEMENTS - 1) / (32 * ELEMENTS)));
    launch_overlapped(merge_kernel<PARTS, ELEMENTS>, grid, 32 * MERGE_WARPS, 0, m);
}

/* covering: the most parts of a head. With many of them, a lane has registers for few channels. */
static void merge(const struct output_args *a, int covering, float *merged)
{
    merge_launch m = {};
    for (int i = 0; i < a->num_parts; i++) {
        m.parts[i] = a->parts[i];
    }
    m.num_parts = a->num_parts;
    m.num_heads = a->shape->num_attention_heads;
    m.head_dim = a->shape->head_dim;
    m.rows = a->rows;
    m.merged = merged;
    m.wanted = a->merged;
    if (covering <= 2) {
        launch_merge<2, MERGE_ELEMENTS>(m);
    } else if (covering <= 4) {
        launch_merge<4, MERGE_ELEMENTS>(m);
    } else if (covering <= 8) {
        launch_merge<8, MERGE_ELEMENTS>(m);
    } else {
        launch_merge<ATTENTION_MAX_PARTS, 1>(m);
    }
}

static void project(const struct output_args *a, const float *o, const struct linear_parts *parts)
{
    const int width = mp_shape_q_width(a->shape);
    struct linear_args product = {};
    product.x = o;
    product.x_stride = width;
    product.w = a->weights.o;
    product.bias = a->weights.bias;
    product.y = a->x;
    product.y_stride = a->shape->hidden_size;
    product.rows = a->rows;
    product.in = width;
    product.out = a->shape->hidden_size;
    product.accumulate = true;
    linear_cuda(&product, NULL, parts);
}

static size_t merged_bytes(const struct mp_shape *shape, int64_t rows)
{
    return (size_t)linear_cuda_block(0, rows) * (size_t)mp_shape_q_width(shape) * sizeof(float);
}

/* The op on the block of rows that begins with row `first`. */
static void merge_and_project(const struct output_args *a, int64_t first, int covering,
                              float *merged, const struct linear_parts *linear)
{
    attention_part parts[ATTENTION_MAX_PARTS];
    struct output_args block = *a;
    for (int i = 0; i < a->num_parts; i++) {
        parts[i] = attention_part_rows(&a->parts[i], first, a->shape->head_dim);
    }
    block.parts = parts;
    block.rows = linear_cuda_block(first, a->rows);
    block.x += first * a->shape->hidden_size;
    if (a->merged.o != NULL) {
        block.merged.o += first * mp_shape_q_width(a->shape);
        block.merged.lse += first * a->shape->num_attention_heads;
    }
    merge(&block, covering, merged);
    project(&block, merged, linear);
}

void output_cuda(const struct output_args *a)
{
    const int heads = a->shape->num_attention_heads;
    const int covering = attention_parts_check(a->parts, a->num_parts, heads);
    struct linear_parts linear = linear_cuda_take_parts(a->rows, mp_shape_q_width(a->shape));
    if (a->merged.o == NULL && attention_part_is_all(a->parts, a->num_parts, heads)) {
        project(a, a->parts[0].o, &linear);
        return;
    }
    float *merged = static_cast<float *>(cuda_workspace(merged_bytes(a->shape, a->rows)));
    for (int64_t first = 0; first < a->rows; first += LINEAR_CUDA_ROW_BLOCK) {
        merge_and_project(a, first, covering, merged, &linear);
    }
}

size_t output_cuda_workspace(const struct mp_shape *shape, int64_t rows)
{
    return linear_cuda_workspace(rows, mp_shape_q_width(shape)) +
           cuda_workspace_round(merged_bytes(shape, rows));
}
