/* page_bounds and page_select: bounds are those of the keys, and each head gets the tokens of the
 * full pages with the best scores and of a last page that is not full, the same from every variant.
 */
#include "codelets/common/score/score.h"
#include "codelets/page_bounds/page_bounds.h"
#include "codelets/page_select/page_select.h"
#include "tests/unit/codelets/pages_test.h"

#include <omp.h>

static page_bounds_kernel *const bounds_variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = page_bounds_ref,
#ifdef __x86_64__
    [MP_ISA_AVX2] = page_bounds_avx2,
    [MP_ISA_AVX512] = page_bounds_avx512,
#endif
};

static page_select_kernel *const select_variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = page_select_ref,
#ifdef __x86_64__
    [MP_ISA_AVX2] = page_select_avx2,
    [MP_ISA_AVX512] = page_select_avx512,
#endif
};

static const struct pages_case CASES[] = {
    /* count, KV heads, group, head_dim, page_size, budget */
    {1000, 2, 4, 64, 16, 5},  {1000, 2, 3, 128, 16, 63}, {1, 1, 1, 32, 16, 3},
    {16, 3, 2, 16, 16, 1},    {37, 1, 8, 48, 16, 100},   {5000, 1, 5, 96, 7, 20},
    {4097, 2, 2, 64, 1, 400}, {130, 2, 1, 24, 64, 1},    {0, 2, 4, 64, 16, 5},
};
enum { NUM_CASES = sizeof CASES / sizeof CASES[0] };

/* Each page's least and largest values are among its keys', and no key is outside of them. */
static void check_bounds(const struct pages_fixture *f)
{
    const struct key_pages *p = &f->pages;
    int64_t row = key_pages_of(p->capacity, p->page_size);
    for (int h = 0; h < p->num_kv_heads; h++) {
        for (int64_t i = 0; i < p->count; i++) {
            size_t page = (size_t)(h * row + i / p->page_size) * 2 * (size_t)p->head_dim;
            for (int c = 0; c < p->head_dim; c++) {
                size_t at = (size_t)((h * f->kv.capacity + i) * p->head_dim + c);
                float x = mp_load(f->kv.k, MP_BF16, at);
                float least = mp_load(p->bounds, MP_BF16, page + (size_t)c);
                float largest = mp_load(p->bounds, MP_BF16, page + (size_t)(p->head_dim + c));
                assert_true(least <= x && x <= largest);
            }
        }
    }
}

static void test_bounds(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_CASES; i++) {
        struct pages_fixture f = pages_make(&CASES[i]);
        size_t bytes = key_pages_bytes(&f.pages);
        uint16_t *bounds = mp_xmalloc(bytes);
        memset(bounds, 0xff, bytes);
        struct key_pages pages = f.pages;
        pages.bounds = bounds;
        check_bounds(&f);
        FOR_EACH_SUPPORTED(isa, bounds_variants, MP_BF16, CASES[i].head_dim)
        {
            bounds_variants[isa](&(struct page_bounds_args){.kv = &f.kv, .pages = &pages});
            assert_memory_equal(bounds, f.pages.bounds, bytes);
        }
        free(bounds);
        pages_release(&f);
    }
}

/* By hand: 2 channels, pages of 2 tokens. */
static void test_by_hand(void **state)
{
    (void)state;
    float k[5 * 2] = {1, -2, 3, 0.5f, -1, -1, 0, 4, 2, 2};
    float bounds[3 * 2 * 2];
    const float expected[] = {1, -2, 3, 0.5f, -1, -1, 0, 4, 2, 2, 2, 2};
    struct offloaded_kv kv = {
        .k = k, .count = 5, .capacity = 5, .num_kv_heads = 1, .head_dim = 2, .dtype = MP_F32};
    struct key_pages pages = {.bounds = bounds,
                              .count = 5,
                              .capacity = 5,
                              .num_kv_heads = 1,
                              .head_dim = 2,
                              .page_size = 2,
                              .dtype = MP_F32};
    page_bounds_ref(&(struct page_bounds_args){.kv = &kv, .pages = &pages});
    assert_memory_equal(bounds, expected, sizeof bounds);

    /* Scores: q (1, 1): 3.5, 4; q (0, -1): 2, 1. The last page has one token and no score. */
    const float q[2 * 2] = {1, 1, 0, -1};
    const struct key_pages *list[1] = {&pages};
    const int64_t budget[1] = {1};
    const int64_t stride[1] = {5};
    uint32_t ids[2 * 5];
    uint32_t *to[1] = {ids};
    int32_t nnz[2];
    struct page_select_args a = {.q = q,
                                 .pages = list,
                                 .budget = budget,
                                 .ids = to,
                                 .ids_stride = stride,
                                 .nnz = nnz,
                                 .rows = 1,
                                 .num_heads = 2,
                                 .head_dim = 2};
    page_select_ref(&a);
    const uint32_t expected_ids[2][3] = {{2, 3, 4}, {0, 1, 4}};
    for (int h = 0; h < 2; h++) {
        assert_int_equal(nnz[h], 3);
        assert_memory_equal(ids + 5 * h, expected_ids[h], sizeof expected_ids[h]);
    }
    a.budget = (const int64_t[]){2};
    page_select_ref(&a);
    assert_int_equal(nnz[0], 5);
    assert_int_equal(ids[4], 4);
}

/* The score of a page by the formula. */
static double page_score(const struct pages_fixture *f, const float *q, int kv_head, int64_t page)
{
    const struct key_pages *p = &f->pages;
    int64_t row = key_pages_of(p->capacity, p->page_size);
    size_t at = (size_t)(kv_head * row + page) * 2 * (size_t)p->head_dim;
    double sum = 0.0;
    for (int c = 0; c < p->head_dim; c++) {
        double least = (double)mp_load(p->bounds, MP_BF16, at + (size_t)c);
        double largest = (double)mp_load(p->bounds, MP_BF16, at + (size_t)(p->head_dim + c));
        sum += fmax((double)q[c] * least, (double)q[c] * largest);
    }
    return sum;
}

/* As many full pages as the budget allows, of which none that is left out has a better score,
 * within rounding; then the tokens after the full pages. */
static void check_best(const struct pages_case *t, const struct pages_fixture *f, int head,
                       const uint32_t *ids, int32_t nnz)
{
    int64_t pages = t->count / t->page_size;
    int64_t from_pages = (t->budget < pages ? t->budget : pages) * t->page_size;
    bool *selected = mp_xcalloc((size_t)pages, sizeof *selected);
    double worst = INFINITY;
    double best_left = -INFINITY;
    assert_int_equal(nnz, from_pages + t->count % t->page_size);
    for (int32_t j = 0; j < nnz; j++) {
        int64_t first_of_page = ids[j] / (uint32_t)t->page_size * (uint32_t)t->page_size;
        assert_true(ids[j] < t->count && (j == 0 || ids[j - 1] < ids[j]));
        assert_int_equal(ids[j] - first_of_page, j % t->page_size);
        if (j < from_pages) {
            selected[ids[j] / (uint32_t)t->page_size] = true;
        } else {
            assert_int_equal(first_of_page, pages * t->page_size);
        }
    }
    for (int64_t page = 0; page < pages; page++) {
        double score = page_score(f, f->q + head * t->head_dim, head / t->group, page);
        worst = selected[page] ? fmin(worst, score) : worst;
        best_left = selected[page] ? best_left : fmax(best_left, score);
    }
    assert_true(best_left <= worst + 1e-4);
    free(selected);
}

static void select_case(const struct pages_case *t)
{
    struct pages_fixture f = pages_make(t);
    struct pages_selection expected = pages_selection_make(t);
    struct pages_selection found = pages_selection_make(t);
    pages_call(page_select_ref, t, &f, &expected);
    for (int h = 0; h < t->num_kv_heads * t->group; h++) {
        check_best(t, &f, h, expected.ids + h * t->count, expected.nnz[h]);
    }
    FOR_EACH_SUPPORTED(isa, select_variants, MP_BF16, t->head_dim)
    {
        pages_call(select_variants[isa], t, &f, &found);
        pages_assert_equal(t, &found, &expected);
    }
    pages_selection_release(&expected);
    pages_selection_release(&found);
    pages_release(&f);
}

static void test_select(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_CASES; i++) {
        select_case(&CASES[i]);
    }
}

static void test_tails(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_PAGES_TAILS; i++) {
        select_case(&PAGES_TAILS[i]);
    }
}

/* A view of pages selects what pages of only its keys do. */
static void test_views(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_PAGES_VIEWS; i++) {
        const struct pages_case t = pages_view_of(&PAGES_VIEWS[i]);
        struct pages_fixture f = pages_make(&PAGES_VIEWS[i].t);
        struct pages_fixture first = pages_first(&f, t.count);
        struct pages_selection expected = pages_selection_make(&t);
        struct pages_selection found = pages_selection_make(&t);
        f.pages.count = t.count;
        FOR_EACH_SUPPORTED(isa, select_variants, MP_BF16, t.head_dim)
        {
            pages_call(select_variants[isa], &t, &first, &expected);
            pages_call(select_variants[isa], &t, &f, &found);
            pages_assert_equal(&t, &found, &expected);
        }
        pages_selection_release(&expected);
        pages_selection_release(&found);
        free(first.pages.bounds);
        pages_release(&f);
    }
}

/* Of equal pages the lower ones are selected. */
static void test_ties(void **state)
{
    (void)state;
    const struct pages_case t = {300, 2, 2, 32, 16, 7};
    struct pages_fixture f = pages_make(&t);
    for (int64_t i = 1; i < 300 / 16 * 16; i++) { /* every key is the first of its head */
        for (int h = 0; h < 2; h++) {
            uint16_t *k = (uint16_t *)f.kv.k + h * f.kv.capacity * 32;
            memcpy(k + i * 32, k, 32 * sizeof *k);
        }
    }
    page_bounds_ref(&(struct page_bounds_args){.kv = &f.kv, .pages = &f.pages});
    struct key_pages full = f.pages; /* the last page, which has other keys, aside */
    full.count = 300 / 16 * 16;
    f.pages = full;
    struct pages_selection found = pages_selection_make(&t);
    FOR_EACH_SUPPORTED(isa, select_variants, MP_BF16, t.head_dim)
    {
        pages_call(select_variants[isa], &t, &f, &found);
        for (int h = 0; h < 4; h++) {
            assert_int_equal(found.nnz[h], 7 * 16);
            for (uint32_t i = 0; i < 7 * 16; i++) {
                assert_int_equal(found.ids[h * t.count + i], i);
            }
        }
    }
    pages_selection_release(&found);
    pages_release(&f);
}

/* Rows of one step: no pages, empty ones, and real ones after them, of which one has no full page;
 * budgets of their own. */
static void test_rows(void **state)
{
    (void)state;
    enum { ROWS = 5, D = 32, SCRATCH = 2048 };
    const struct pages_case t = {100, 1, 1, D, 16, 2};
    struct pages_fixture f = pages_make(&t);
    struct key_pages empty = f.pages;
    struct key_pages few = f.pages;
    empty.count = 0;
    few.count = 9;
    const struct key_pages *pages[ROWS] = {NULL, &empty, &f.pages, &few, &f.pages};
    const int64_t budget[ROWS] = {1, 1, 2, 1, 100};
    const int64_t stride[ROWS] = {0, 0, 36, 9, 100};
    uint32_t some[36], tail[9], all[100];
    uint32_t *ids[ROWS] = {NULL, NULL, some, tail, all};
    char *scratch = aligned_alloc(64, 3 * SCRATCH);
    void *const scratches[ROWS] = {NULL, NULL, scratch, scratch + SCRATCH, scratch + 2 * SCRATCH};
    float *q = random_floats(ROWS * D, 1.0f, 8);
    FOR_EACH_SUPPORTED(isa, select_variants, MP_BF16, D)
    {
        int32_t nnz[ROWS] = {-1, -1, -1, -1, -1};
        select_variants[isa](&(struct page_select_args){.q = q,
                                                        .pages = pages,
                                                        .budget = budget,
                                                        .ids = ids,
                                                        .ids_stride = stride,
                                                        .scratch = scratches,
                                                        .nnz = nnz,
                                                        .rows = ROWS,
                                                        .num_heads = 1,
                                                        .head_dim = D});
        const int32_t expected[ROWS] = {0, 0, 36, 9, 100};
        assert_memory_equal(nnz, expected, sizeof nnz);
        for (uint32_t i = 0; i < 100; i++) {
            assert_int_equal(all[i], i);
            assert_true(i >= 9 || tail[i] == i);
        }
    }
    free(q);
    free(scratch);
    pages_release(&f);
}

/* One thread selects for all heads, more of each than a block of its scratch holds. */
static void test_many_pages(void **state)
{
    (void)state;
    const struct pages_case t = {20000, 8, 4, 32, 1, 20000};
    struct pages_fixture f = pages_make(&t);
    struct pages_selection found = pages_selection_make(&t);
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    FOR_EACH_SUPPORTED(isa, select_variants, MP_BF16, t.head_dim)
    {
        pages_call(select_variants[isa], &t, &f, &found);
        for (int h = 0; h < 32; h++) {
            assert_int_equal(found.nnz[h], t.count);
            assert_int_equal(found.ids[(h + 1) * t.count - 1], t.count - 1);
        }
    }
    omp_set_num_threads(threads);
    pages_selection_release(&found);
    pages_release(&f);
}

/* The fast kernels refuse what they do not support. */
static void test_demands(void **state)
{
    (void)state;
    struct offloaded_kv kv = {.head_dim = 20, .dtype = MP_BF16};
    struct key_pages pages = {.head_dim = 20, .page_size = 16, .dtype = MP_BF16};
    const struct key_pages *list[1] = {&pages};
    FOR_EACH_VARIANT(isa, bounds_variants)
    {
        if (isa != MP_ISA_REF) {
            ASSERT_PANICS(
                bounds_variants[isa](&(struct page_bounds_args){.kv = &kv, .pages = &pages}));
            ASSERT_PANICS(select_variants[isa](&(struct page_select_args){
                .pages = list, .rows = 1, .num_heads = 1, .head_dim = 20}));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds),  cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_select),  cmocka_unit_test(test_tails),
        cmocka_unit_test(test_views),   cmocka_unit_test(test_ties),
        cmocka_unit_test(test_rows),    cmocka_unit_test(test_many_pages),
        cmocka_unit_test(test_demands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
