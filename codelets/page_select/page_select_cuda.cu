/* page_select on the GPU: scores of all full pages, then a CTA for each query head. */
#include "codelets/common/score/score_cuda.cuh"

extern "C" {
#include "codelets/page_select/page_select.h"
}

namespace
{

/* The pages of one request, and where their tokens go. */
struct page_request {
    uint32_t *ids; /* [num_heads][ids_stride] */
    int64_t ids_stride;
    int pages;    /* full ones, which have scores */
    int selected; /* of them, by each head */
    int tail;     /* tokens after them, which are always selected */
};

struct page_launch {
    page_request request[SCORE_REQUESTS];
    const float *scores[SCORE_REQUESTS]; /* [num_heads][stride] */
    int64_t stride[SCORE_REQUESTS];
    int32_t *nnz; /* [requests][heads of the grid] */
    int page_size;
};

/* Grid: (query head, request). */
__global__ void __launch_bounds__(SELECT_THREADS)
    select_pages(begin_stamp stamp, const __grid_constant__ page_launch p)
{
    allow_next_kernel();
    wait_for_kernels(stamp);
    const page_request &r = p.request[blockIdx.y];
    const int head = blockIdx.x;
    const int size = p.page_size;
    uint32_t *ids = r.ids + head * r.ids_stride;
    if (r.selected > 0) { /* of all threads alike */
        take_largest(p.scores[blockIdx.y] + head * p.stride[blockIdx.y], r.pages, r.selected,
                     [=](int page, int position) {
                         for (int i = 0; i < size; i++) {
                             ids[(int64_t)position * size + i] =
                                 (uint32_t)((int64_t)page * size + i);
                         }
                     });
    }
    for (int i = threadIdx.x; i < r.tail; i += SELECT_THREADS) {
        ids[(int64_t)r.selected * size + i] = (uint32_t)((int64_t)r.pages * size + i);
    }
    if (threadIdx.x == 0) {
        p.nnz[blockIdx.y * gridDim.x + head] = r.selected * size + r.tail;
    }
}

/* ---- host ---- */

void describe(const page_select_args *a, int64_t row, score_request *score, page_request *select)
{
    const key_pages *p = a->pages[row];
    if (p->dtype != MP_BF16 || a->num_heads % p->num_kv_heads != 0) {
        mp_panic("page_select: row %lld: %d heads, %d KV heads, dtype %d", (long long)row,
                 a->num_heads, p->num_kv_heads, (int)p->dtype);
    }
    const int64_t pages = key_pages_full(p->count, p->page_size);
    score->rows = p->bounds;
    score->head_rows = key_pages_of(p->capacity, p->page_size);
    score->pitch = 2 * a->head_dim / 8;
    score->count = pages;
    score->scores = static_cast<float *>(a->scratch[row]);
    score->stride = score_stride(pages);
    select->ids = a->ids[row];
    select->ids_stride = a->ids_stride[row];
    select->pages = (int)pages;
    select->selected = (int)key_pages_selected(p->count, p->page_size, a->budget[row]);
    select->tail = (int)key_pages_tail(p->count, p->page_size);
}

/* Rows first .. first + rows - 1. */
void select_rows(const page_select_args *a, int64_t first, int rows)
{
    score_launch scores = {};
    page_launch select = {};
    int64_t longest = 0;
    for (int r = 0; r < rows; r++) {
        const key_pages *p = a->pages[first + r];
        if (p == NULL || p->count == 0) {
            continue;
        }
        describe(a, first + r, &scores.request[r], &select.request[r]);
        select.scores[r] = scores.request[r].scores;
        select.stride[r] = scores.request[r].stride;
        select.page_size = p->page_size;
        scores.kv_heads = p->num_kv_heads;
        longest = scores.request[r].count > longest ? scores.request[r].count : longest;
    }
    if (longest > 0) {
        scores.q = a->q + first * a->num_heads * a->head_dim;
        scores.group = a->num_heads / scores.kv_heads;
        scores.head_dim = a->head_dim;
        scores.chunks = 2 * a->head_dim / 8;
        scores.scale = 1.0f;
        score_requests<true, uint4>(scores, rows, longest);
    }
    select.nnz = a->nnz + first * a->num_heads;
    launch_overlapped(select_pages, dim3((unsigned)a->num_heads, (unsigned)rows), SELECT_THREADS, 0,
                      select);
}

} // namespace

void page_select_cuda(const struct page_select_args *a)
{
    if (a->head_dim % 8 != 0) {
        mp_panic("page_select: head_dim %d: expected a multiple of 8", a->head_dim);
    }
    for (int64_t first = 0; first < a->rows; first += SCORE_REQUESTS) {
        int64_t rest = a->rows - first;
        select_rows(a, first, rest < SCORE_REQUESTS ? (int)rest : (int)SCORE_REQUESTS);
    }
}
