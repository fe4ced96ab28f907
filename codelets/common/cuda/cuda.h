/* What CUDA kernels find on the thread that calls them: a stream, cuBLAS, working memory. It is to
 * a CUDA variant what the calling thread's OpenMP team and scratch are to a CPU variant, so that
 * all variants of an op have the same prototype.
 *
 * A kernel's entry point `<op>_cuda(const struct <op>_args *)` enqueues its work on cuda_stream()
 * and returns; it never waits, never allocates and never touches memory that only the device sees.
 * Its args struct (and structs that describe memory, such as kv_cache) lie in host memory and are
 * read before it returns; the arrays they point to may lie in device or in pinned host memory.
 *
 * C and C++: included from .cu files and from plain C alike. */
#ifndef MP_CODELETS_COMMON_CUDA_H
#define MP_CODELETS_COMMON_CUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "core/base/error.h"

/* What the machine's GPU is. */
struct cuda_device_info {
    char name[256];
    int capability; /* 10 * major + minor, e.g. 90 */
    int multiprocessors;
    int64_t free_bytes; /* device memory that nobody uses now */
};

/* Number of GPUs that this build can use: 0 without a driver or without CUDA compiled in. */
int cuda_device_count(void);

/* Describes a GPU. Errors: MP_ERR_RUNTIME with the driver's message, or a GPU older than the code
 * in this program (compute capability 8.0). */
int cuda_device_probe(int device, struct cuda_device_info *out, struct mp_error *err);

/* Whether kernels on a GPU can read another one's memory. */
bool cuda_device_reads(int device, int peer);

/* Sets up the calling thread: a stream, cuBLAS and `workspace` bytes of device
 * memory for kernels. Once a thread, before any kernel. */
int cuda_context_create(int device, size_t workspace, struct mp_error *err);
/* Frees what it holds. Waits for the stream. */
void cuda_context_destroy(void);

/* Brackets the work of one op on the calling thread: forgets the workspace taken, and panics with
 * the op's name if a launch since then has failed. */
void cuda_op_begin(const char *op);
void cuda_op_end(void);

/* Makes another stream of the same device, e.g. one that somebody else watches, wait for all that
 * the calling thread has enqueued so far. */
void cuda_op_signal(void *stream);

/* Measures when the op that has just begun runs on the GPU, for cuda_op_measured to tell with
 * `what`, which is not NULL. It is taken to end where the next op of the thread begins, or with the
 * signal after it: where the GPU may then be idle, signal. The first call on a thread waits for its
 * stream. */
void cuda_op_measure(void *what);

/* If the oldest measured op has finished: the time on mp_clock_ns in which it ran; returns its
 * `what` and forgets it. NULL if it has not, or if there is none. Intervals of one thread are in
 * order and apart. */
void *cuda_op_measured(uint64_t *begin_ns, uint64_t *end_ns);

/* Device memory from the calling thread's workspace, 256-byte aligned, not cleared, valid until the
 * next cuda_op_begin. Panics when it is used up: the op's *_cuda_workspace said what it needs. */
void *cuda_workspace(size_t bytes);

/* Rounded as cuda_workspace rounds, for the sums of *_cuda_workspace functions. */
static inline size_t cuda_workspace_round(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

/* Waits for the calling thread's stream; panics if its work has failed. For tests and tools. */
void cuda_synchronize(void);

#ifdef __cplusplus
}
#endif

#endif
