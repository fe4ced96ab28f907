#include "codelets/page_select/page_select.h"

#include "codelets/common/score/score.h"
#include "codelets/common/scratch.h"
#include "codelets/page_select/page_ids.h"

/* Writes the tokens that one query head selects; returns their number. */
static int32_t select_for_head(const struct key_pages *p, int kv_head, const float *q,
                               int64_t budget, uint32_t *ids)
{
    mp_scratch_reset();
    int width = 2 * p->head_dim;
    int64_t pages = key_pages_full(p->count, p->page_size);
    int64_t selected = key_pages_selected(p->count, p->page_size, budget);
    size_t row = (size_t)key_pages_of(p->capacity, p->page_size) * (size_t)width;
    float *scores = mp_scratch((size_t)pages, sizeof *scores);
    float *query = mp_scratch((size_t)width, sizeof *query);
    uint32_t *best = mp_scratch((size_t)selected, sizeof *best);
    page_query(q, p->head_dim, query);
    score_ref(&(struct score_args){
        .rows = (const char *)p->bounds + (size_t)kv_head * row * mp_dtype_size(p->dtype),
        .dtype = p->dtype,
        .count = pages,
        .width = width,
        .pitch = width,
        .q = query,
        .heads = 1,
        .scale = 1.0f,
        .scores = scores,
        .stride = pages,
    });
    score_select_ref(scores, pages, selected, best);
    return page_ids(p, best, selected, ids);
}

void page_select_ref(const struct page_select_args *a)
{
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t r = 0; r < a->rows; r++) {
        for (int h = 0; h < a->num_heads; h++) {
            const struct key_pages *p = a->pages[r];
            int64_t head = r * a->num_heads + h;
            a->nnz[head] = 0;
            if (p != NULL && p->count > 0) {
                a->nnz[head] = select_for_head(p, h / (a->num_heads / p->num_kv_heads),
                                               a->q + head * a->head_dim, a->budget[r],
                                               a->ids[r] + h * a->ids_stride[r]);
            }
        }
    }
}
