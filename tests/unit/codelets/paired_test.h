/* Offloaded tokens whose key and value lie side by side, for tests that compare them with the same
 * tokens in two arrays. */
#ifndef MP_TESTS_PAIRED_H
#define MP_TESTS_PAIRED_H

#include "codelets/common/attention/kv.h"
#include "tests/unit/codelets/kernel_test.h"

/* Copies rows between two arrays and pairs. */
static inline void copy_rows_of(const struct offloaded_kv *from, const struct offloaded_kv *to)
{
    size_t row = (size_t)from->head_dim * mp_dtype_size(from->dtype);
    for (int64_t i = 0; i < from->num_kv_heads * from->capacity; i++) {
        memcpy((char *)to->k + kv_row_at(to, 0, i), (char *)from->k + kv_row_at(from, 0, i), row);
        if (from->v != NULL) {
            memcpy((char *)to->v + kv_row_at(to, 0, i), (char *)from->v + kv_row_at(from, 0, i),
                   row);
        }
    }
}

/* The same tokens, paired; scales are shared. Free k. */
static inline struct offloaded_kv paired_of(const struct offloaded_kv *kv)
{
    size_t row = (size_t)kv->head_dim * mp_dtype_size(kv->dtype);
    struct offloaded_kv paired = *kv;
    paired.paired = true;
    paired.k = mp_xcalloc(2 * (size_t)(kv->num_kv_heads * kv->capacity), row);
    paired.v = (char *)paired.k + row;
    copy_rows_of(kv, &paired);
    return paired;
}

#endif
