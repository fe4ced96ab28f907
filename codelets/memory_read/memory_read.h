/* memory_read: reads a block of memory once, to measure the bandwidth of a device. */
#ifndef MP_CODELETS_MEMORY_READ_H
#define MP_CODELETS_MEMORY_READ_H

#include <stddef.h>
#include <stdint.h>

struct memory_read_args {
    const void *data; /* [bytes], 16-byte aligned */
    int64_t bytes;    /* a multiple of 64, may be 0 */
    uint64_t *sum;    /* out [1]: of the 64-bit words modulo 2^64, so that the read cannot be left
                         out */
};

/* What every variant of the op is. */
typedef void memory_read_kernel(const struct memory_read_args *);

/* One variant: the compiler's vectors wait for memory as well as any. */
void memory_read_ref(const struct memory_read_args *a);

/* The same sum; it may lie in device or in pinned host memory. */
void memory_read_cuda(const struct memory_read_args *a);
size_t memory_read_cuda_workspace(void);

/* Task. Buffers: 0 data R, 1 sum W. */
struct memory_read_task {
    int64_t bytes; /* of data that are read */
};

extern struct starpu_codelet memory_read_codelet;

#endif
