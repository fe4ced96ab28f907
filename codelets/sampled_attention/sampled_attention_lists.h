/* The lists of selected tokens of a call. Private to the variants of sampled_attention. */
#ifndef MP_CODELETS_SAMPLED_ATTENTION_LISTS_H
#define MP_CODELETS_SAMPLED_ATTENTION_LISTS_H

#include "codelets/sampled_attention/sampled_attention.h"

struct sampled_lists {
    int per_row;
    int heads; /* consecutive query heads that attend to one */
};

/* One a KV head if they are shared, otherwise one a query head. */
static inline struct sampled_lists sampled_lists_of(const struct sampled_attention_args *a)
{
    struct sampled_lists lists = {a->num_heads, 1};
    for (int64_t r = 0; a->shared && r < a->rows; r++) {
        if (a->kv[r] != NULL) {
            lists.per_row = a->kv[r]->num_kv_heads;
            lists.heads = a->num_heads / lists.per_row;
        }
    }
    return lists; /* without any tokens no list is looked at */
}

#endif
