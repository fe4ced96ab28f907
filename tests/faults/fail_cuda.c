/* Loaded before the CUDA runtime (LD_PRELOAD): makes one call of it, or of cuBLAS, fail.
 *
 *   MP_FAIL_CALL=NAME   the function of which a call fails
 *   MP_FAIL_NTH=N       which one, from 1 on; 0 or nothing: none
 *   MP_FAIL_LOG=FILE    gets, in the end, a line with each function's name and number of calls
 *
 * Whatever a function's parameters are, they are passed on as machine words: six in registers, the
 * others on the stack, of which more are copied than any function has. x86-64 with its usual
 * calling convention. */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OUT_OF_MEMORY = 2, LAUNCH_FAILURE = 719, CUBLAS_INTERNAL_ERROR = 14 };

#define CALLS(X)                                                                                   \
    X(cudaMalloc, OUT_OF_MEMORY)                                                                   \
    X(cudaHostAlloc, OUT_OF_MEMORY)                                                                \
    X(cudaGetDeviceProperties, LAUNCH_FAILURE)                                                     \
    X(cudaMemGetInfo, LAUNCH_FAILURE)                                                              \
    X(cudaSetDevice, LAUNCH_FAILURE)                                                               \
    X(cudaStreamCreateWithFlags, OUT_OF_MEMORY)                                                    \
    X(cudaStreamSynchronize, LAUNCH_FAILURE)                                                       \
    X(cudaStreamWaitEvent, LAUNCH_FAILURE)                                                         \
    X(cudaEventCreateWithFlags, OUT_OF_MEMORY)                                                     \
    X(cudaEventRecord, LAUNCH_FAILURE)                                                             \
    X(cudaFuncSetAttribute, LAUNCH_FAILURE)                                                        \
    X(cudaFuncGetAttributes, LAUNCH_FAILURE)                                                       \
    X(cudaMemcpy, LAUNCH_FAILURE)                                                                  \
    X(cudaMemcpyAsync, LAUNCH_FAILURE)                                                             \
    X(cudaMemsetAsync, LAUNCH_FAILURE)                                                             \
    X(cudaLaunchKernelExC, LAUNCH_FAILURE)                                                         \
    X(cudaGetLastError, LAUNCH_FAILURE)                                                            \
    X(cublasCreate_v2, CUBLAS_INTERNAL_ERROR)                                                      \
    X(cublasSetStream_v2, CUBLAS_INTERNAL_ERROR)                                                   \
    X(cublasSetWorkspace_v2, CUBLAS_INTERNAL_ERROR)                                                \
    X(cublasGemmEx, CUBLAS_INTERNAL_ERROR)

typedef long call(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j,
                  long k, long l, long m, long n, long o, long p, long q, long r, long s, long t);

static const char *wanted;
static long nth;

#define COUNTER(name, status) static atomic_long count_##name;
CALLS(COUNTER)

__attribute__((constructor)) static void start(void)
{
    const char *number = getenv("MP_FAIL_NTH");
    wanted = getenv("MP_FAIL_CALL");
    nth = number != NULL ? atol(number) : 0;
}

__attribute__((destructor)) static void finish(void)
{
    const char *path = getenv("MP_FAIL_LOG");
    FILE *log = path != NULL ? fopen(path, "w") : NULL;
    if (log == NULL) {
        return;
    }
#define WRITE(name, status) fprintf(log, "%s %ld\n", #name, atomic_load(&count_##name));
    CALLS(WRITE)
    fclose(log);
}

/* Whether this call is the one. */
static int fails(const char *name, atomic_long *count)
{
    long number = atomic_fetch_add(count, 1) + 1;
    return number == nth && wanted != NULL && strcmp(name, wanted) == 0;
}

#define INTERPOSE(name, status)                                                                    \
    long name(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j,      \
              long k, long l, long m, long n, long o, long p, long q, long r, long s, long t);     \
    long name(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j,      \
              long k, long l, long m, long n, long o, long p, long q, long r, long s, long t)      \
    {                                                                                              \
        static call *real;                                                                         \
        if (real == NULL) {                                                                        \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                             \
        }                                                                                          \
        if (fails(#name, &count_##name)) {                                                         \
            return status;                                                                         \
        }                                                                                          \
        return real(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t);                   \
    }
CALLS(INTERPOSE)
