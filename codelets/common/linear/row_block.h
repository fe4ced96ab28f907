/* Dense kernels process their rows in blocks, so that scratch does not grow with the chunk. */
#ifndef MP_CODELETS_COMMON_ROW_BLOCK_H
#define MP_CODELETS_COMMON_ROW_BLOCK_H

#include <stdint.h>

/* Large enough to amortize reading the weights once a block. */
enum { MAX_ROW_BLOCK = 512 };

/* Rows of the block that starts at `first` of `rows`. */
static inline int64_t row_block(int64_t first, int64_t rows)
{
    return rows - first < MAX_ROW_BLOCK ? rows - first : MAX_ROW_BLOCK;
}

#endif
