/* What the tests of CUDA kernels share: arrays in device memory, and the calling thread's context.
 * Without a GPU every test is skipped with a message. */
#ifndef MP_TESTS_CUDA_TEST_H
#define MP_TESTS_CUDA_TEST_H

#include "codelets/common/cuda/cuda.h"
#include "tests/unit/codelets/kernel_test.h"

#include <cuda_runtime_api.h>

#define ASSERT_CUDA(call)                                                                          \
    do {                                                                                           \
        cudaError_t cuda_status_ = (call);                                                         \
        if (cuda_status_ != cudaSuccess) {                                                         \
            fail_msg("%s: %s", #call, cudaGetErrorString(cuda_status_));                           \
        }                                                                                          \
    } while (0)

/* The first line of every CUDA test. */
#define SKIP_WITHOUT_GPU()                                                                         \
    do {                                                                                           \
        if (cuda_device_count() == 0) {                                                            \
            print_message("skipped: no GPU\n");                                                    \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

/* Group setup and teardown: a context with 256 MiB of workspace. */
static inline int cuda_test_setup(void **state)
{
    (void)state;
    struct mp_error err;
    if (cuda_device_count() > 0 && cuda_context_create(0, (size_t)256 << 20, &err) != 0) {
        print_message("%s\n", err.message);
        return -1;
    }
    return 0;
}

static inline int cuda_test_teardown(void **state)
{
    (void)state;
    cuda_context_destroy();
    return 0;
}

/* Device memory with a copy of `bytes` bytes at host; NULL host: filled with 0xff (NaN as floats),
 * so that what a kernel forgets to write shows. Free with cudaFree. */
static inline void *device_copy(const void *host, size_t bytes)
{
    void *device = NULL;
    ASSERT_CUDA(cudaMalloc(&device, bytes > 0 ? bytes : 1));
    if (host != NULL) {
        ASSERT_CUDA(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice));
    } else {
        ASSERT_CUDA(cudaMemset(device, 0xff, bytes));
    }
    /* The context's stream does not wait for the default stream. */
    ASSERT_CUDA(cudaDeviceSynchronize());
    return device;
}

/* copy_heads of kernel_test.h, in any memory. */
static inline void copy_heads_cuda(void *to, int to_heads, const void *from, int from_heads,
                                   int heads, size_t size, int64_t rows)
{
    cuda_synchronize();
    if (rows > 0) {
        ASSERT_CUDA(cudaMemcpy2D(to, (size_t)to_heads * size, from, (size_t)from_heads * size,
                                 (size_t)heads * size, (size_t)rows, cudaMemcpyDefault));
        ASSERT_CUDA(cudaDeviceSynchronize());
    }
}

/* Waits for the context's stream and copies back into a new block. Free with free(). */
static inline void *host_copy(const void *device, size_t bytes)
{
    cuda_synchronize();
    void *host = mp_xmalloc(bytes > 0 ? bytes : 1);
    ASSERT_CUDA(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost));
    return host;
}

#endif
