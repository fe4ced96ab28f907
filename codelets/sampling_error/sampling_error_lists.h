/* The lists of drawn tokens of a call: one a row and KV head. Private to the variants. */
#ifndef MP_CODELETS_SAMPLING_ERROR_LISTS_H
#define MP_CODELETS_SAMPLING_ERROR_LISTS_H

#include "codelets/sampling_error/sampling_error.h"

struct drawn_list {
    const struct offloaded_kv *kv; /* of the row */
    const uint32_t *ids;           /* [count] */
    const float *log_weights;      /* [count] */
    const float *q;                /* [group][head_dim] of the KV head's query heads */
    const float *o;                /* the same */
    const float *lse;              /* [group] */
    float *error;                  /* [group] out */
    int64_t first_token;           /* of the KV head, in rows of K and V */
    int32_t count;
    int group;
};

static inline struct drawn_list drawn_list_of(const struct sampling_error_args *a, int64_t row,
                                              int h)
{
    const struct offloaded_kv *kv = a->kv[row];
    int group = a->num_heads / a->num_kv_heads;
    int64_t own = row * a->num_heads + h * group;
    int64_t of_layer = row * a->layer_heads + a->first_head + h * group;
    int64_t selected = h * a->ids_stride[row];
    bool any = kv != NULL && kv->count > 0;
    return (struct drawn_list){
        .kv = kv,
        .ids = a->ids[row] + selected,
        .log_weights = a->log_weights[row] + selected,
        .q = a->q + own * a->head_dim,
        .o = a->o + of_layer * a->head_dim,
        .lse = a->lse + of_layer,
        .error = a->error + own,
        .first_token = any ? h * kv->capacity : 0,
        .count = any ? a->nnz[row * a->num_kv_heads + h] : 0,
        .group = group,
    };
}

#endif
