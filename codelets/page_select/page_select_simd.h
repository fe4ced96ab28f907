/* page_select for the instruction set this is compiled for: threads share out the pages of all KV
 * heads, then the query heads. */
#include "codelets/common/attention/support.h"
#include "codelets/common/score/score_simd.h"
#include "codelets/common/scratch.h"
#include "codelets/page_select/page_ids.h"
#include "codelets/page_select/page_select.h"

#include <omp.h>

enum { PIECE = 256 }; /* pages scored at a time */

/* Pages that have scores. */
static int64_t pages_of_row(const struct page_select_args *a, int64_t r)
{
    const struct key_pages *p = a->pages[r];
    return p == NULL ? 0 : key_pages_full(p->count, p->page_size);
}

/* Those of them that a head selects. */
static int64_t selected_of_row(const struct page_select_args *a, int64_t r)
{
    const struct key_pages *p = a->pages[r];
    return p == NULL ? 0 : key_pages_selected(p->count, p->page_size, a->budget[r]);
}

/* Scores of a piece of the pages of one KV head, for all its query heads. queries: of the row,
 * [num_heads][2 * head_dim]. */
static void score_piece(const struct page_select_args *a, int64_t r, int kv_head, int64_t first,
                        const float *queries)
{
    const struct key_pages *p = a->pages[r];
    int width = 2 * p->head_dim;
    int group = a->num_heads / p->num_kv_heads;
    int64_t pages = pages_of_row(a, r);
    int64_t stride = score_stride(pages);
    int64_t row = kv_head * key_pages_of(p->capacity, p->page_size) + first;
    int64_t head = (int64_t)kv_head * group;
    score_simd(&(struct score_args){
        .rows = (const uint16_t *)p->bounds + row * width,
        .dtype = p->dtype,
        .count = pages - first < PIECE ? pages - first : PIECE,
        .width = width,
        .pitch = width,
        .q = queries + head * width,
        .heads = group,
        .scale = 1.0f,
        .scores = (float *)a->scratch[r] + head * stride + first,
        .stride = stride,
    });
}

/* By the scores of one query head; best has room for the pages that a row selects. */
static int32_t select_for_head(const struct page_select_args *a, int64_t r, int h, uint32_t *best)
{
    const struct key_pages *p = a->pages[r];
    if (p == NULL || p->count == 0) {
        return 0;
    }
    int64_t pages = pages_of_row(a, r);
    int64_t selected = selected_of_row(a, r);
    score_select((const float *)a->scratch[r] + h * score_stride(pages), pages, selected, best);
    return page_ids(p, best, selected, a->ids[r] + h * a->ids_stride[r]);
}

/* All pieces of a row, by the team. */
static void score_row(const struct page_select_args *a, int64_t r, const float *queries)
{
    int64_t pages = pages_of_row(a, r);
    int kv_heads = pages == 0 ? 0 : a->pages[r]->num_kv_heads;
#pragma omp for collapse(2) schedule(dynamic) nowait
    for (int h = 0; h < kv_heads; h++) {
        for (int64_t first = 0; first < pages; first += PIECE) {
            score_piece(a, r, h, first, queries);
        }
    }
}

void VF_NAME(page_select)(const struct page_select_args *a)
{
    int64_t heads = a->rows * a->num_heads;
    int64_t width = 2 * (int64_t)a->head_dim;
    for (int64_t r = 0; r < a->rows; r++) {
        if (a->pages[r] != NULL) {
            mp_kernel_demand("page_select", a->pages[r]->dtype, a->head_dim, VF_LANES);
        }
    }
    int64_t most = 1;
    for (int64_t r = 0; r < a->rows; r++) {
        int64_t selected = selected_of_row(a, r);
        most = selected > most ? selected : most;
    }
    mp_scratch_reset();
    float *queries = mp_scratch((size_t)(heads * width), sizeof *queries);
    for (int64_t i = 0; i < heads; i++) {
        page_query(a->q + i * a->head_dim, a->head_dim, queries + i * width);
    }
#pragma omp parallel
    {
        if (omp_get_thread_num() > 0) {
            mp_scratch_reset(); /* each thread has scratch of its own; the first one's holds queries
                                 */
        }
        uint32_t *best = mp_scratch((size_t)most, sizeof *best);
        for (int64_t r = 0; r < a->rows; r++) {
            score_row(a, r, queries + r * a->num_heads * width);
        }
#pragma omp barrier
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < heads; i++) {
            a->nnz[i] = select_for_head(a, i / a->num_heads, (int)(i % a->num_heads), best);
        }
    }
}
