/* One op's weights of one layer are one block of memory, cut into arrays that each start on a
 * 64-byte boundary. */
#ifndef MP_CODELETS_COMMON_WEIGHT_BLOCK_H
#define MP_CODELETS_COMMON_WEIGHT_BLOCK_H

#include <stddef.h>

struct weight_block {
    const char *base; /* 64-byte aligned; NULL: only count bytes */
    size_t bytes;     /* taken so far */
};

/* The next array of count elements of `size` bytes; NULL if the block has no base. */
static inline const void *weight_block_take(struct weight_block *block, size_t count, size_t size)
{
    const void *array = block->base == NULL ? NULL : block->base + block->bytes;
    block->bytes += (count * size + 63) / 64 * 64;
    return array;
}

#endif
