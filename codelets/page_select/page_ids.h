/* What the CPU variants share: from pages to tokens. */
#ifndef MP_CODELETS_PAGE_IDS_H
#define MP_CODELETS_PAGE_IDS_H

#include "codelets/common/attention/pages.h"

/* The query against bounds as score.h takes it, out [2 * head_dim]: one of each pair is 0, so that
 * the product with (least, largest) is the larger of the two. */
static inline void page_query(const float *q, int head_dim, float *out)
{
    for (int c = 0; c < head_dim; c++) {
        out[c] = q[c] < 0.0f ? q[c] : 0.0f;
        out[head_dim + c] = q[c] > 0.0f ? q[c] : 0.0f;
    }
}

/* The tokens of n full pages, and those of the tail, in ascending order; returns how many there
 * are. */
static inline int32_t page_ids(const struct key_pages *p, const uint32_t *pages, int64_t n,
                               uint32_t *ids)
{
    int32_t nnz = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t first = (int64_t)pages[i] * p->page_size;
        for (int64_t token = first; token < first + p->page_size; token++) {
            ids[nnz++] = (uint32_t)token;
        }
    }
    for (int64_t token = p->count - key_pages_tail(p->count, p->page_size); token < p->count;
         token++) {
        ids[nnz++] = (uint32_t)token;
    }
    return nnz;
}

#endif
