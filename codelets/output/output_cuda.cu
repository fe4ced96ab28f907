/* output on the GPU: the merge of the parts in a kernel of its own, since the sampled part may lie
 * in host memory and every CTA of the product reads its input; then the O projection. */
extern "C" {
#include "codelets/output/output.h"
}

#include "codelets/common/cuda/launch_cuda.cuh"
#include "codelets/common/linear/linear_cuda.h"

enum { MERGE_WARPS = 8, MERGE_ELEMENTS = MP_MAX_HEAD_DIM / 32 /* of a head, a lane */ };

/* One warp a head of a row. All its loads are issued before any is used, the sampled ones being a
 * trip over PCIe; what an empty part (lse = -inf) holds is not used. */
static __global__ void merge_kernel(begin_stamp stamp, const output_args a, int64_t heads,
                                    int head_dim, float *merged)
{
    allow_next_kernel();
    wait_for_kernels(stamp);
    int64_t head = (int64_t)blockIdx.x * MERGE_WARPS + threadIdx.x / 32;
    if (head >= heads) {
        return;
    }
    const float lse_static = a.lse_static[head];
    const float lse_sampled = a.lse_sampled[head];
    float o_static[MERGE_ELEMENTS];
    float o_sampled[MERGE_ELEMENTS];
#pragma unroll
    for (int i = 0; i < MERGE_ELEMENTS; i++) {
        int c = 32 * i + threadIdx.x % 32;
        o_static[i] = c < head_dim ? a.o_static[head * head_dim + c] : 0.0f;
        o_sampled[i] = c < head_dim ? a.o_sampled[head * head_dim + c] : 0.0f;
    }
    const float max = fmaxf(lse_static, lse_sampled);
    const float w_static = lse_static == -INFINITY ? 0.0f : expf(lse_static - max);
    const float w_sampled = lse_sampled == -INFINITY ? 0.0f : expf(lse_sampled - max);
    const float scale = max == -INFINITY ? 0.0f : 1.0f / (w_static + w_sampled);
#pragma unroll
    for (int i = 0; i < MERGE_ELEMENTS; i++) {
        int c = 32 * i + threadIdx.x % 32;
        float sum = w_static > 0.0f ? w_static * o_static[i] : 0.0f;
        sum += w_sampled > 0.0f ? w_sampled * o_sampled[i] : 0.0f;
        if (c < head_dim) {
            merged[head * head_dim + c] = sum * scale;
        }
    }
}

static void merge(const struct output_args *a, float *merged)
{
    int64_t heads = a->rows * a->shape->num_attention_heads;
    int64_t grid = (heads + MERGE_WARPS - 1) / MERGE_WARPS;
    launch_overlapped(merge_kernel, (unsigned)grid, 32 * MERGE_WARPS, 0, *a, heads,
                      a->shape->head_dim, merged);
}

/* The op on rows [first, first + rows). */
static struct output_args rows_of(const struct output_args *a, int64_t first, int64_t rows)
{
    int64_t heads = first * a->shape->num_attention_heads;
    struct output_args block = *a;
    block.rows = rows;
    block.x += first * a->shape->hidden_size;
    block.o_static += heads * a->shape->head_dim;
    if (a->o_sampled != NULL) {
        block.lse_static += heads;
        block.o_sampled += heads * a->shape->head_dim;
        block.lse_sampled += heads;
    }
    return block;
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

void output_cuda(const struct output_args *a)
{
    struct linear_parts parts = linear_cuda_take_parts(a->rows, mp_shape_q_width(a->shape));
    if (a->o_sampled == NULL) {
        project(a, a->o_static, &parts);
        return;
    }
    float *merged = static_cast<float *>(cuda_workspace(merged_bytes(a->shape, a->rows)));
    for (int64_t first = 0; first < a->rows; first += LINEAR_CUDA_ROW_BLOCK) {
        struct output_args block = rows_of(a, first, linear_cuda_block(first, a->rows));
        merge(&block, merged);
        project(&block, merged, &parts);
    }
}

size_t output_cuda_workspace(const struct mp_shape *shape, int64_t rows)
{
    return linear_cuda_workspace(rows, mp_shape_q_width(shape)) +
           cuda_workspace_round(merged_bytes(shape, rows));
}
