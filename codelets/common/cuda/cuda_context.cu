/* The calling thread's CUDA context, and what the machine's GPU is. */
#include "codelets/common/cuda/cuda_internal.h"

#include <stdio.h>
#include <string.h>

namespace
{

struct context {
    cudaStream_t stream;
    cudaEvent_t signal; /* of cuda_op_signal */
    cublasHandle_t cublas;
    char *workspace;
    size_t bytes; /* of workspace */
    size_t used;
    int multiprocessors;
    int capability;
    bool kernels_wait;
    const char *op; /* in progress; NULL between ops */
};

thread_local context current;

/* Never runs: tells which of the architectures in this program the device runs. */
__global__ void image_probe()
{
}

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

bool cuda_device_reads(int device, int peer)
{
    int can = 0;
    return cudaDeviceCanAccessPeer(&can, device, peer) == cudaSuccess && can != 0;
}

/* ---- the calling thread's context ---- */

/* Takes what the calling thread needs of the GPU into `current`, as far as it can be had. */
static int acquire(const struct cuda_device_info *info, int device, size_t workspace,
                   struct mp_error *err)
{
    current.multiprocessors = info->multiprocessors;
    current.capability = info->capability;
    current.bytes = workspace;
    cudaFuncAttributes image = {};
    cudaError_t status = cudaFuncGetAttributes(&image, image_probe);
    current.kernels_wait = image.ptxVersion >= 90;
    if (status == cudaSuccess) {
        status = cudaStreamCreateWithFlags(&current.stream, cudaStreamNonBlocking);
    }
    if (status == cudaSuccess) {
        status = cudaEventCreateWithFlags(&current.signal, cudaEventDisableTiming);
    }
    if (status == cudaSuccess) {
        status = cuda_measure_create();
    }
    if (status != cudaSuccess) {
        return mp_fail(err, MP_ERR_RUNTIME, "GPU %d: no stream or events: %s", device,
                       cudaGetErrorString(status));
    }
    status =
        cudaMalloc(reinterpret_cast<void **>(&current.workspace), workspace + CUBLAS_WORKSPACE);
    if (status != cudaSuccess) {
        return mp_fail(err, MP_ERR_MEMORY,
                       "GPU %d: a workspace of %zu MiB for kernels could not be had: %s", device,
                       (workspace + CUBLAS_WORKSPACE) >> 20, cudaGetErrorString(status));
    }
    cublasStatus_t cublas = cublasCreate(&current.cublas);
    if (cublas == CUBLAS_STATUS_SUCCESS) {
        cublas = cublasSetStream(current.cublas, current.stream);
    }
    if (cublas == CUBLAS_STATUS_SUCCESS) {
        cublas =
            cublasSetWorkspace(current.cublas, current.workspace + workspace, CUBLAS_WORKSPACE);
    }
    if (cublas != CUBLAS_STATUS_SUCCESS) {
        return mp_fail(err, MP_ERR_RUNTIME, "GPU %d: cuBLAS does not start: %s", device,
                       cublasGetStatusString(cublas));
    }
    return 0;
}

/* Gives back what `current` holds, all or a part; nothing runs on the stream any more. */
static void release(void)
{
    if (current.cublas != NULL) {
        cublasDestroy(current.cublas);
    }
    cudaFree(current.workspace);
    cuda_measure_destroy();
    if (current.signal != NULL) {
        cudaEventDestroy(current.signal);
    }
    if (current.stream != NULL) {
        cudaStreamDestroy(current.stream);
    }
    current = {};
}

int cuda_context_create(int device, size_t workspace, struct mp_error *err)
{
    struct cuda_device_info info;
    int code = cuda_device_probe(device, &info, err);
    if (code == 0) {
        code = acquire(&info, device, workspace, err);
        if (code != 0) {
            release();
        }
    }
    return code;
}

void cuda_context_destroy(void)
{
    if (current.cublas != NULL) {
        CUDA_CHECK(cudaStreamSynchronize(current.stream));
        release();
    }
}

cudaStream_t cuda_stream(void)
{
    cuda_measure_note();
    return current.stream;
}

cublasHandle_t cuda_cublas(void)
{
    cuda_measure_note();
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

bool cuda_kernels_wait(void)
{
    return current.kernels_wait;
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
    cuda_measure_op_end();
    current.op = NULL;
}

void cuda_op_signal(void *stream)
{
    CUDA_CHECK(cudaEventRecord(current.signal, cuda_stream()));
    CUDA_CHECK(cudaStreamWaitEvent(static_cast<cudaStream_t>(stream), current.signal));
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

static void check_failed(const char *library, const char *call, const char *reason,
                         const char *file, int line)
{
    const char *slash = strrchr(file, '/');
    mp_give_up("the GPU has failed: %s: %s: %s (%s:%d)", current.op != NULL ? current.op : library,
               call, reason, slash != NULL ? slash + 1 : file, line);
}

void cuda_check(cudaError_t status, const char *call, const char *file, int line)
{
    if (status != cudaSuccess) {
        check_failed("CUDA", call, cudaGetErrorString(status), file, line);
    }
}

void cublas_check(cublasStatus_t status, const char *call, const char *file, int line)
{
    if (status != CUBLAS_STATUS_SUCCESS) {
        check_failed("cuBLAS", call, cublasGetStatusString(status), file, line);
    }
}
