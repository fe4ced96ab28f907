/* Pages of offloaded keys, and the box that each page's keys lie in: what quest (arXiv 2406.10774)
 * selects by. The tail, a last page that is not full, is always selected, as the paper has it; the
 * full pages are selected by their scores. */
#ifndef MP_CODELETS_COMMON_PAGES_H
#define MP_CODELETS_COMMON_PAGES_H

#include "core/base/dtype.h"

#include <stddef.h>
#include <stdint.h>

/* Of the offloaded tokens of one layer. Page p has tokens p * page_size and those after it; the
 * last page may have fewer. */
struct key_pages {
    void *bounds;     /* [num_kv_heads][pages of capacity][2][head_dim], dtype: of each channel the
                         least value, then the largest, over the keys of the page */
    int64_t count;    /* tokens, may be 0 */
    int64_t capacity; /* tokens there is room for, per head, >= count */
    int num_kv_heads;
    int head_dim;
    int page_size;       /* tokens */
    enum mp_dtype dtype; /* of the keys and the bounds */
};

/* Pages that hold so many tokens. */
static inline int64_t key_pages_of(int64_t tokens, int page_size)
{
    return (tokens + page_size - 1) / page_size;
}

/* Those of them that are full, and the tokens after these. */
static inline int64_t key_pages_full(int64_t tokens, int page_size)
{
    return tokens / page_size;
}

static inline int64_t key_pages_tail(int64_t tokens, int page_size)
{
    return tokens % page_size;
}

/* Full pages that a head selects of so many tokens' with a budget of `budget` pages. */
static inline int64_t key_pages_selected(int64_t tokens, int page_size, int64_t budget)
{
    int64_t full = key_pages_full(tokens, page_size);
    return budget < full ? budget : full;
}

/* Bytes of the bounds. */
static inline size_t key_pages_bytes(const struct key_pages *p)
{
    return (size_t)p->num_kv_heads * (size_t)key_pages_of(p->capacity, p->page_size) * 2 *
           (size_t)p->head_dim * mp_dtype_size(p->dtype);
}

#endif
