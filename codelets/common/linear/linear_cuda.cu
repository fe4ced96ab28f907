/* linear on the GPU: own GEMV for few rows, the split into bf16 parts and cuBLAS for many. */
#include "codelets/common/linear/linear_cuda.h"

#include "codelets/common/linear/linear_gemv_cuda.cuh"

namespace
{

enum { ROW_THREADS = 256 }; /* of the kernels that take one CTA a row */

/* 1 / sqrt(mean(x^2) + eps) of n floats, in every thread of the CTA. */
__device__ float rms_scale(const float *x, int n, float eps)
{
    __shared__ float squares[ROW_THREADS / 32];
    float sum = 0.0f;
    for (int i = threadIdx.x; i < n; i += ROW_THREADS) {
        sum += x[i] * x[i];
    }
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) {
        squares[threadIdx.x / 32] = sum;
    }
    __syncthreads();
    sum = 0.0f;
    for (int warp = 0; warp < ROW_THREADS / 32; warp++) {
        sum += squares[warp];
    }
    return 1.0f / sqrtf(sum / (float)n + eps);
}

/* One CTA a row; norm.gain NULL: x as it is. */
__global__ void split_kernel(const float *__restrict__ x, int64_t x_stride, linear_norm norm,
                             uint16_t *__restrict__ high, uint16_t *__restrict__ low, int n)
{
    const float *row = x + blockIdx.x * x_stride;
    const int64_t out = (int64_t)blockIdx.x * n;
    const bool normed = norm.gain != NULL;
    const float scale = normed ? rms_scale(row, n, norm.eps) : 1.0f;
#pragma unroll 4
    for (int i = threadIdx.x; i < n; i += ROW_THREADS) {
        float value = normed ? row[i] * scale * norm.gain[i] : row[i];
        store_parts(high, low, out + i, value);
    }
}

/* One CTA a row: puts the bias into y, so that the product can be added to it. */
__global__ void bias_kernel(float *y, int64_t y_stride, const float *bias, int n, bool accumulate)
{
    float *row = y + blockIdx.x * y_stride;
    for (int i = threadIdx.x; i < n; i += ROW_THREADS) {
        row[i] = accumulate ? row[i] + bias[i] : bias[i];
    }
}

/* y = beta y + part W^T. cuBLAS sees the transposes, column by column: y^T = W part^T. */
void multiply_part(const linear_args &a, const uint16_t *part, float beta)
{
    const float alpha = 1.0f;
    CUBLAS_CHECK(cublasGemmEx(cuda_cublas(), CUBLAS_OP_T, CUBLAS_OP_N, a.out, (int)a.rows, a.in,
                              &alpha, a.w, CUDA_R_16BF, a.in, part, CUDA_R_16BF, a.in, &beta, a.y,
                              CUDA_R_32F, (int)a.y_stride, CUBLAS_COMPUTE_32F,
                              CUBLAS_GEMM_DEFAULT));
}

} // namespace

/* ---- workspace ---- */

size_t linear_cuda_workspace(int64_t rows, int in)
{
    if (rows <= LINEAR_GEMV_MAX_ROWS) {
        return 0;
    }
    size_t elements = (size_t)linear_cuda_block(0, rows) * (size_t)in;
    return linear_num_parts() * cuda_workspace_round(elements * sizeof(uint16_t));
}

struct linear_parts linear_cuda_take_parts(int64_t rows, int in)
{
    struct linear_parts parts = {NULL, NULL};
    if (rows > LINEAR_GEMV_MAX_ROWS) {
        size_t elements = (size_t)linear_cuda_block(0, rows) * (size_t)in;
        parts.high = static_cast<uint16_t *>(cuda_workspace(elements * sizeof *parts.high));
        if (linear_num_parts() == 2) {
            parts.low = static_cast<uint16_t *>(cuda_workspace(elements * sizeof *parts.low));
        }
    }
    return parts;
}

/* ---- few rows ---- */

void linear_gemv_cuda(const struct linear_args *a, const struct linear_norm *norm)
{
    if (norm != NULL) {
        gemv<true, false>(*a, *norm);
    } else {
        gemv<false, false>(*a, linear_norm{});
    }
}

void linear_gemv_gated_cuda(const struct linear_args *a, const struct linear_norm *norm)
{
    gemv<true, true>(*a, *norm);
}

/* ---- many rows ---- */

void linear_split_cuda(const struct linear_args *a, const struct linear_norm *norm,
                       const struct linear_parts *parts)
{
    split_kernel<<<(unsigned)a->rows, ROW_THREADS, 0, cuda_stream()>>>(
        a->x, a->x_stride, norm != NULL ? *norm : linear_norm{}, parts->high, parts->low, a->in);
    CUDA_CHECK_LAUNCH();
}

void linear_matmul_cuda(const struct linear_args *a, const struct linear_parts *parts)
{
    bool accumulate = a->accumulate || a->bias != NULL;
    if (a->bias != NULL) {
        bias_kernel<<<(unsigned)a->rows, ROW_THREADS, 0, cuda_stream()>>>(
            a->y, a->y_stride, a->bias, a->out, a->accumulate);
        CUDA_CHECK_LAUNCH();
    }
    if (parts->low != NULL) {
        multiply_part(*a, parts->low, accumulate ? 1.0f : 0.0f);
        accumulate = true;
    }
    multiply_part(*a, parts->high, accumulate ? 1.0f : 0.0f);
}

void linear_cuda(const struct linear_args *a, const struct linear_norm *norm,
                 const struct linear_parts *parts)
{
    if (a->rows <= LINEAR_GEMV_MAX_ROWS) {
        linear_gemv_cuda(a, norm);
        return;
    }
    for (int64_t first = 0; first < a->rows; first += LINEAR_CUDA_ROW_BLOCK) {
        struct linear_args block = *a;
        block.rows = linear_cuda_block(first, a->rows);
        block.x += first * a->x_stride;
        block.y += first * a->y_stride;
        linear_split_cuda(&block, norm, parts);
        linear_matmul_cuda(&block, parts);
    }
}
