/* page_select: queries and the bounds of pages -> the tokens of each head's best pages. A page's
 * score is the largest dot product that a key within its bounds could have with the query,
 *   sum over c of max(q_c least_c, q_c largest_c).
 * A last page that is not full has no score: its tokens are always selected, beside the budget. */
#ifndef MP_CODELETS_PAGE_SELECT_H
#define MP_CODELETS_PAGE_SELECT_H

#include "codelets/common/attention/pages.h"
#include "core/base/shape.h"

struct mp_buffer;
struct mp_shard;
struct mp_submit;

struct page_select_args {
    const float *q;                       /* [rows][num_heads][head_dim] */
    const struct key_pages *const *pages; /* [rows]; NULL or count 0: nothing is selected */
    const int64_t *budget;                /* [rows] full pages that a head selects; all there
                                             are, if these are fewer */
    uint32_t *const *ids;                 /* [rows] -> [num_heads][ids_stride[row]], out: tokens
                                             of those pages and of a last one that is not full,
                                             ascending */
    const int64_t *ids_stride;            /* [rows] room per head, for that many tokens */
    void *const *scratch;                 /* [rows] of page_select_scratch bytes, 16-byte aligned;
                                             the reference does without */
    int32_t *nnz;                         /* out [rows][num_heads]: tokens selected */
    int64_t rows;
    int num_heads; /* query heads; consecutive num_heads / num_kv_heads share a KV head */
    int head_dim;
};

/* What every variant of the op is. */
typedef void page_select_kernel(const struct page_select_args *);

/* Of pages with equal scores the lower one goes first. Scores are added as
 * codelets/common/score/score.h says, over the products with the least values of all channels and
 * then with the largest ones. */
void page_select_ref(const struct page_select_args *a);
/* The same ids. Bounds are MP_BF16, head_dim a multiple of 8 (AVX2) or 16 (AVX-512). */
void page_select_avx2(const struct page_select_args *a);
void page_select_avx512(const struct page_select_args *a);

/* The same ids. Bounds are MP_BF16, head_dim a multiple of 8; bounds, ids and scratch in device
 * memory, q and nnz there or in pinned host memory. Needs no workspace. */
void page_select_cuda(const struct page_select_args *a);

/* Bytes of scratch that a row needs: the scores of so many tokens' full pages for so many heads. */
size_t page_select_scratch(int num_heads, int64_t tokens, int page_size);

/* A request's pages and where what is selected of them goes. */
struct page_select_row {
    const struct mp_buffer *pages;   /* wraps the struct key_pages of the shard's KV heads */
    int64_t tokens;                  /* in them */
    const struct mp_buffer *ids;     /* out [query heads of the shard][room] u32 */
    int64_t room;                    /* tokens */
    const struct mp_buffer *scratch; /* for one task at a time */
    int64_t budget;                  /* full pages, may be 0 */
};

/* The selection for a shard's query heads: q [rows][heads of the shard][head_dim] f32 -> ids, and
 * nnz [rows][heads of the shard] i32. page_size: of all rows, for the cost estimate. */
void page_select_insert(struct mp_submit *sub, const struct mp_shape *shape,
                        const struct mp_shard *shard, const struct mp_buffer *q,
                        const struct page_select_row *list, int64_t rows, int page_size,
                        const struct mp_buffer *nnz);

#endif
