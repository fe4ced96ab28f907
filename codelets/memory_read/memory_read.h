/* memory_read: reads a block of memory once, to measure the bandwidth of a device. */
#ifndef MP_CODELETS_MEMORY_READ_H
#define MP_CODELETS_MEMORY_READ_H

#include <stddef.h>
#include <stdint.h>

struct mp_buffer;
struct mp_submit;

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

/* Reads data once, where it is, but for the bytes after its last multiple of 64; sum as in the
 * args. */
void memory_read_insert(struct mp_submit *sub, const struct mp_buffer *data,
                        const struct mp_buffer *sum);

/* Bytes of GPU workspace that a task needs; 0 in a program without CUDA. */
size_t memory_read_workspace(void);

#endif
