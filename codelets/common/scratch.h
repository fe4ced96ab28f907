/* Working memory of a kernel: one arena per calling thread, grown to its high-water mark and kept,
 * so that kernels never allocate in the steady state. Freed by mp_scratch_release. */
#ifndef MP_CODELETS_COMMON_SCRATCH_H
#define MP_CODELETS_COMMON_SCRATCH_H

#include <stddef.h>

/* Forgets what this thread took, keeps the memory. Every kernel that uses scratch calls it first;
 * a kernel that calls another one must not take scratch itself before. */
void mp_scratch_reset(void);

/* 64-byte aligned, not cleared, valid until the next reset on this thread. What does not fit into
 * what is left of the last block gets a new one, of 64 KiB or of its own size if that is more,
 * until a reset makes one of them all. Panics when memory runs out, which the memory plan has
 * accounted for, and when 16 blocks do not suffice between two resets: a kernel takes what it needs
 * in a few large pieces, not one for each head or token. */
void *mp_scratch(size_t count, size_t size);

/* Frees the arena of the calling thread. */
void mp_scratch_release(void);

#endif
