/* The calling thread's CUDA context, and what the machine's GPU is. */
#include "codelets/common/cuda_internal.h"

#include <stdio.h>
#include <string.h>

namespace
{

struct context {
    int device;
    cudaStream_t stream;
    bool owns_stream;
    cublasHandle_t cublas;
    char *workspace;
    size_t bytes; /* of workspace */
    size_t used;
    int multiprocessors;
    int capability;
    const char *op; /* in progress; NULL between ops */
};

thread_local context current;

/* cuBLAS takes its own workspace lazily otherwise, outside every plan. 32 MiB is what its
 * documentation asks for on Hopper. */
const size_t CUBLAS_WORKSPACE = size_t{32} << 20;

} // namespace

/* ---- the device ---- */

int cuda_device_count(void)
{
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

int cuda_device_probe(int device, struct cuda_device_info *out, struct mp_error *err)
{
    struct cudaDeviceProp properties;
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    cudaError_t status = cudaSetDevice(device);
    if (status == cudaSuccess) {
        status = cudaGetDeviceProperties(&properties, device);
    }
    if (status == cudaSuccess) {
        status = cudaMemGetInfo(&free_bytes, &total_bytes);
    }
    if (status != cudaSuccess) {
        return mp_fail(err, MP_ERR_RUNTIME, "GPU %d cannot be used: %s", device,
                       cudaGetErrorString(status));
    }
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "%s", properties.name);
    out->capability = 10 * properties.major + properties.minor;
    out->multiprocessors = properties.multiProcessorCount;
    out->free_bytes = (int64_t)free_bytes;
    if (out->capability < 80) {
        return mp_fail(err, MP_ERR_RUNTIME,
                       "GPU %d (%s): found compute capability %d.%d, expected at least 8.0", device,
                       out->name, properties.major, properties.minor);
    }
    return 0;
}

/* ---- the calling thread's context ---- */

int cuda_context_create(int device, void *stream, size_t workspace, struct mp_error *err)
{
    struct cuda_device_info info;
    int code = cuda_device_probe(device, &info, err);
    if (code != 0) {
        return code;
    }
    context c = {};
    c.device = device;
    c.multiprocessors = info.multiprocessors;
    c.capability = info.capability;
    c.bytes = workspace;
    c.stream = static_cast<cudaStream_t>(stream);
    c.owns_stream = stream == NULL;
    cudaError_t status =
        c.owns_stream ? cudaStreamCreateWithFlags(&c.stream, cudaStreamNonBlocking) : cudaSuccess;
    if (status == cudaSuccess) {
        status = cudaMalloc(reinterpret_cast<void **>(&c.workspace), workspace + CUBLAS_WORKSPACE);
    }
    if (status != cudaSuccess) {
        return mp_fail(err, MP_ERR_MEMORY,
                       "GPU %d: a workspace of %zu MiB for kernels could not be had: %s", device,
                       (workspace + CUBLAS_WORKSPACE) >> 20, cudaGetErrorString(status));
    }
    cublasStatus_t cublas = cublasCreate(&c.cublas);
    if (cublas == CUBLAS_STATUS_SUCCESS) {
        cublas = cublasSetStream(c.cublas, c.stream);
    }
    if (cublas == CUBLAS_STATUS_SUCCESS) {
        cublas = cublasSetWorkspace(c.cublas, c.workspace + workspace, CUBLAS_WORKSPACE);
    }
    if (cublas != CUBLAS_STATUS_SUCCESS) {
        cudaFree(c.workspace);
        return mp_fail(err, MP_ERR_RUNTIME, "GPU %d: cuBLAS does not start: %s", device,
                       cublasGetStatusString(cublas));
    }
    current = c;
    return 0;
}

void cuda_context_destroy(void)
{
    if (current.cublas == NULL) {
        return;
    }
    CUDA_CHECK(cudaStreamSynchronize(current.stream));
    CUBLAS_CHECK(cublasDestroy(current.cublas));
    CUDA_CHECK(cudaFree(current.workspace));
    if (current.owns_stream) {
        CUDA_CHECK(cudaStreamDestroy(current.stream));
    }
    current = {};
}

cudaStream_t cuda_stream(void)
{
    return current.stream;
}

cublasHandle_t cuda_cublas(void)
{
    return current.cublas;
}

int cuda_multiprocessors(void)
{
    return current.multiprocessors;
}

int cuda_capability(void)
{
    return current.capability;
}

/* ---- ops ---- */

void cuda_op_begin(const char *op)
{
    current.op = op;
    current.used = 0;
}

void cuda_op_end(void)
{
    CUDA_CHECK_LAUNCH();
    current.op = NULL;
}

void *cuda_workspace(size_t bytes)
{
    size_t rounded = cuda_workspace_round(bytes);
    if (rounded > current.bytes - current.used) {
        mp_panic("%s: needs %zu bytes of GPU workspace, %zu of %zu are left",
                 current.op != NULL ? current.op : "a kernel", rounded,
                 current.bytes - current.used, current.bytes);
    }
    void *p = current.workspace + current.used;
    current.used += rounded;
    return p;
}

void cuda_synchronize(void)
{
    CUDA_CHECK(cudaStreamSynchronize(current.stream));
}

/* ---- checks ---- */

void cuda_check(cudaError_t status, const char *call, const char *file, int line)
{
    if (status != cudaSuccess) {
        mp_panic("%s: %s:%d: %s: %s", current.op != NULL ? current.op : "CUDA", file, line, call,
                 cudaGetErrorString(status));
    }
}

void cublas_check(cublasStatus_t status, const char *call, const char *file, int line)
{
    if (status != CUBLAS_STATUS_SUCCESS) {
        mp_panic("%s: %s:%d: %s: %s", current.op != NULL ? current.op : "cuBLAS", file, line, call,
                 cublasGetStatusString(status));
    }
}
