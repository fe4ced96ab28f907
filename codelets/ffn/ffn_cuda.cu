/* ffn on the GPU. Few rows: two GEMVs, the first of which already stores silu(gate) * up. Many
 * rows: two products on split activations; silu * up is computed as gate and up are split. */
extern "C" {
#include "codelets/ffn/ffn.h"
}

#include "codelets/common/linear/dense_cuda.cuh"
#include "codelets/common/linear/linear_cuda.h"

enum { ROW_THREADS = 256 };

/* One CTA a row: the parts of silu(gate) * up, [width] each, of gate_up [2 * width]. */
static __global__ void split_silu_kernel(const float *__restrict__ gate_up, const float *bias,
                                         uint16_t *__restrict__ high, uint16_t *__restrict__ low,
                                         int width)
{
    const float *gate = gate_up + (int64_t)blockIdx.x * 2 * width;
    const float *up = gate + width;
    const int64_t out = (int64_t)blockIdx.x * width;
#pragma unroll 4
    for (int i = threadIdx.x; i < width; i += ROW_THREADS) {
        float value = bias != NULL ? silu_mul(gate[i] + bias[i], up[i] + bias[width + i])
                                   : silu_mul(gate[i], up[i]);
        store_parts(high, low, out + i, value);
    }
}

/* The first product, of `rows` rows from x: y [rows][out]. */
static struct linear_args gate_up_product(const struct ffn_args *a, const float *x, int64_t rows,
                                          float *y, int out)
{
    struct linear_args product = {};
    product.x = x;
    product.x_stride = a->shape->hidden_size;
    product.w = a->weights.gate_up;
    product.y = y;
    product.y_stride = out;
    product.rows = rows;
    product.in = a->shape->hidden_size;
    product.out = out;
    return product;
}

/* The second, added to x. */
static struct linear_args down_product(const struct ffn_args *a, const float *activation,
                                       int64_t rows, float *x)
{
    struct linear_args product = {};
    product.x = activation;
    product.x_stride = a->shape->intermediate_size;
    product.w = a->weights.down;
    product.bias = a->weights.down_bias;
    product.y = x;
    product.y_stride = a->shape->hidden_size;
    product.rows = rows;
    product.in = a->shape->intermediate_size;
    product.out = a->shape->hidden_size;
    product.accumulate = true;
    return product;
}

static void ffn_few_rows(const struct ffn_args *a, const struct linear_norm *norm)
{
    const int width = a->shape->intermediate_size;
    size_t bytes = (size_t)a->rows * (size_t)width * sizeof(float);
    float *activation = static_cast<float *>(cuda_workspace(bytes));
    struct linear_args gate_up = gate_up_product(a, a->x, a->rows, activation, width);
    gate_up.bias = a->weights.gate_up_bias;
    linear_gemv_gated_cuda(&gate_up, norm);
    struct linear_args down = down_product(a, activation, a->rows, a->x);
    linear_gemv_cuda(&down, NULL);
}

static void ffn_many_rows(const struct ffn_args *a, const struct linear_norm *norm)
{
    const int width = a->shape->intermediate_size;
    size_t bytes = (size_t)linear_cuda_block(0, a->rows) * 2 * (size_t)width * sizeof(float);
    float *y = static_cast<float *>(cuda_workspace(bytes));
    struct linear_parts normed = linear_cuda_take_parts(a->rows, a->shape->hidden_size);
    struct linear_parts activation = linear_cuda_take_parts(a->rows, width);
    for (int64_t first = 0; first < a->rows; first += LINEAR_CUDA_ROW_BLOCK) {
        int64_t rows = linear_cuda_block(first, a->rows);
        float *x = a->x + first * a->shape->hidden_size;
        struct linear_args gate_up = gate_up_product(a, x, rows, y, 2 * width);
        linear_split_cuda(&gate_up, norm, &normed);
        linear_matmul_cuda(&gate_up, &normed);
        split_silu_kernel<<<(unsigned)rows, ROW_THREADS, 0, cuda_stream()>>>(
            y, a->weights.gate_up_bias, activation.high, activation.low, width);
        CUDA_CHECK_LAUNCH();
        struct linear_args down = down_product(a, NULL, rows, x);
        linear_matmul_cuda(&down, &activation);
    }
}

void ffn_cuda(const struct ffn_args *a)
{
    const struct linear_norm norm = {a->weights.norm, a->shape->rms_norm_eps};
    if (a->rows <= LINEAR_GEMV_MAX_ROWS) {
        ffn_few_rows(a, &norm);
    } else {
        ffn_many_rows(a, &norm);
    }
}

size_t ffn_cuda_workspace(const struct mp_shape *shape, int64_t rows)
{
    size_t width = (size_t)shape->intermediate_size;
    size_t floats = (size_t)linear_cuda_block(0, rows) * 2 * width;
    return cuda_workspace_round(floats * sizeof(float)) +
           linear_cuda_workspace(rows, shape->hidden_size) +
           linear_cuda_workspace(rows, shape->intermediate_size);
}
