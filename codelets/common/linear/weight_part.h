/* Parts of a weight matrix: some of its rows, some of its columns. */
#ifndef MP_CODELETS_COMMON_WEIGHT_PART_H
#define MP_CODELETS_COMMON_WEIGHT_PART_H

#include <stddef.h>
#include <string.h>

/* Rows or elements `first` on, `count` of them, of `size` bytes each. */
static inline void weight_rows(void *to, const void *from, size_t first, size_t count, size_t size)
{
    memcpy(to, (const char *)from + first * size, count * size);
}

/* Columns `first` on, `count` of them, of a matrix [rows][columns] with elements of `size` bytes.
 */
static inline void weight_columns(void *to, const void *from, size_t rows, size_t columns,
                                  size_t first, size_t count, size_t size)
{
    for (size_t r = 0; r < rows; r++) {
        weight_rows((char *)to + r * count * size, from, r * columns + first, count, size);
    }
}

#endif
