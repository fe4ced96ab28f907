/* page_bounds: offloaded keys -> the least and the largest value of each channel in each page. */
#ifndef MP_CODELETS_PAGE_BOUNDS_H
#define MP_CODELETS_PAGE_BOUNDS_H

#include "codelets/common/attention/kv.h"
#include "codelets/common/attention/pages.h"

struct mp_buffer;
struct mp_shard;
struct mp_submit;

struct page_bounds_args {
    const struct offloaded_kv *kv; /* its keys are read; count tokens */
    struct key_pages *pages;       /* out: bounds; all else is set and agrees with kv */
};

/* What every variant of the op is. */
typedef void page_bounds_kernel(const struct page_bounds_args *);

void page_bounds_ref(const struct page_bounds_args *a);
/* The same numbers. Keys are MP_BF16, head_dim a multiple of 8 (AVX2) or 16 (AVX-512). */
void page_bounds_avx2(const struct page_bounds_args *a);
void page_bounds_avx512(const struct page_bounds_args *a);

/* The same numbers. Keys are MP_BF16 in device or pinned host memory, 16-byte aligned, head_dim a
 * multiple of 8; bounds in device memory. Needs no workspace. */
void page_bounds_cuda(const struct page_bounds_args *a);

/* Bounds of a shard's offloaded keys: kv wraps a struct offloaded_kv of count tokens, pages a
 * struct key_pages. */
void page_bounds_insert(struct mp_submit *sub, const struct mp_shard *shard,
                        const struct mp_buffer *kv, const struct mp_buffer *pages, int head_dim,
                        int page_size, int64_t count);

#endif
