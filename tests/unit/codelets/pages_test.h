/* Random keys, their pages and a step's selection from them, for the tests of page_bounds and
 * page_select on the CPU and on the GPU. */
#ifndef MP_TESTS_PAGES_H
#define MP_TESTS_PAGES_H

#include "codelets/common/attention/kv.h"
#include "codelets/page_bounds/page_bounds.h"
#include "codelets/page_select/page_select.h"
#include "tests/unit/codelets/kernel_test.h"

struct pages_case {
    int64_t count; /* offloaded tokens */
    int num_kv_heads, group, head_dim, page_size;
    int64_t budget; /* pages */
};

/* Less than a page, whole pages, a token more or less; budgets of none, of fewer pages than are
 * full, of as many and of more. */
static const struct pages_case PAGES_TAILS[] = {
    {15, 2, 2, 32, 16, 0}, {15, 2, 2, 32, 16, 1}, {96, 2, 2, 32, 16, 2}, {96, 2, 2, 32, 16, 6},
    {96, 2, 2, 32, 16, 7}, {97, 2, 2, 32, 16, 0}, {97, 2, 2, 32, 16, 2}, {97, 2, 2, 32, 16, 6},
    {97, 2, 2, 32, 16, 7}, {95, 2, 2, 32, 16, 2}, {95, 2, 2, 32, 16, 5},
};
enum { NUM_PAGES_TAILS = sizeof PAGES_TAILS / sizeof PAGES_TAILS[0] };

/* Of these a view has `count` tokens, whole pages or not. */
struct pages_view_case {
    struct pages_case t;
    int64_t count;
};

static const struct pages_view_case PAGES_VIEWS[] = {
    {{1000, 2, 4, 64, 16, 5}, 960},  {{1000, 2, 4, 64, 16, 5}, 950},
    {{1000, 2, 3, 128, 16, 63}, 64}, {{5000, 1, 5, 96, 7, 20}, 4992},
    {{130, 2, 1, 32, 64, 1}, 64},    {{130, 2, 1, 32, 64, 1}, 63},
    {{4097, 2, 2, 64, 1, 400}, 512},
};
enum { NUM_PAGES_VIEWS = sizeof PAGES_VIEWS / sizeof PAGES_VIEWS[0] };

/* One row. */
struct pages_fixture {
    struct offloaded_kv kv;
    struct key_pages pages; /* bounds by the reference */
    float *q;               /* [num_heads][head_dim] */
};

/* Bounds beyond the last page are full of 0xff, so that writes out of place show. */
static inline struct pages_fixture pages_make(const struct pages_case *t)
{
    int64_t capacity = t->count + 21;
    size_t keys = (size_t)(t->num_kv_heads * capacity * t->head_dim);
    size_t heads = (size_t)(t->num_kv_heads * t->group);
    struct pages_fixture f = {.kv = {.k = random_tensor(MP_BF16, keys, 1.0f, 21),
                                     .count = t->count,
                                     .capacity = capacity,
                                     .num_kv_heads = t->num_kv_heads,
                                     .head_dim = t->head_dim,
                                     .dtype = MP_BF16},
                              .pages = {.count = t->count,
                                        .capacity = capacity,
                                        .num_kv_heads = t->num_kv_heads,
                                        .head_dim = t->head_dim,
                                        .page_size = t->page_size,
                                        .dtype = MP_BF16},
                              .q = random_floats(heads * (size_t)t->head_dim, 1.0f, 22)};
    size_t bytes = key_pages_bytes(&f.pages);
    f.pages.bounds = mp_xmalloc(bytes);
    memset(f.pages.bounds, 0xff, bytes);
    page_bounds_ref(&(struct page_bounds_args){.kv = &f.kv, .pages = &f.pages});
    return f;
}

static inline void pages_release(struct pages_fixture *f)
{
    free(f->kv.k);
    free(f->pages.bounds);
    free(f->q);
}

/* The case of a selection from the view. */
static inline struct pages_case pages_view_of(const struct pages_view_case *v)
{
    struct pages_case t = v->t;
    t.count = v->count;
    return t;
}

/* The same as f, with pages of only the first `count` keys. Free its bounds. */
static inline struct pages_fixture pages_first(const struct pages_fixture *f, int64_t count)
{
    struct pages_fixture first = *f;
    first.kv.count = count;
    first.pages.count = count;
    first.pages.bounds = mp_xmalloc(key_pages_bytes(&f->pages));
    memset(first.pages.bounds, 0xff, key_pages_bytes(&f->pages));
    page_bounds_ref(&(struct page_bounds_args){.kv = &first.kv, .pages = &first.pages});
    return first;
}

struct pages_selection {
    uint32_t *ids; /* [num_heads][count] */
    int32_t *nnz;  /* [num_heads] */
};

static inline struct pages_selection pages_selection_make(const struct pages_case *t)
{
    size_t heads = (size_t)(t->num_kv_heads * t->group);
    return (struct pages_selection){mp_xcalloc(heads * (size_t)t->count + 1, sizeof(uint32_t)),
                                    mp_xcalloc(heads, sizeof(int32_t))};
}

static inline void pages_selection_release(struct pages_selection *s)
{
    free(s->ids);
    free(s->nnz);
}

/* Selects with memory of the host. */
static inline void pages_call(page_select_kernel *variant, const struct pages_case *t,
                              const struct pages_fixture *f, struct pages_selection *out)
{
    int num_heads = t->num_kv_heads * t->group;
    size_t bytes = page_select_scratch(num_heads, t->count, t->page_size);
    void *scratch = aligned_alloc(64, (bytes + 127) / 64 * 64);
    memset(out->ids, 0xff, (size_t)num_heads * (size_t)t->count * sizeof *out->ids);
    memset(out->nnz, 0xff, (size_t)num_heads * sizeof *out->nnz);
    variant(&(struct page_select_args){.q = f->q,
                                       .pages = (const struct key_pages *const[]){&f->pages},
                                       .budget = &t->budget,
                                       .ids = (uint32_t *const[]){out->ids},
                                       .ids_stride = &t->count,
                                       .scratch = (void *const[]){scratch},
                                       .nnz = out->nnz,
                                       .rows = 1,
                                       .num_heads = num_heads,
                                       .head_dim = t->head_dim});
    free(scratch);
}

static inline void pages_assert_equal(const struct pages_case *t, const struct pages_selection *x,
                                      const struct pages_selection *expected)
{
    for (int h = 0; h < t->num_kv_heads * t->group; h++) {
        assert_int_equal(x->nnz[h], expected->nnz[h]);
        assert_memory_equal(x->ids + h * t->count, expected->ids + h * t->count,
                            (size_t)x->nnz[h] * sizeof *x->ids);
    }
}

#endif
