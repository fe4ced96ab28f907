/* page_bounds and page_select on the GPU: exactly the reference's bounds and tokens. */
#include "tests/unit/codelets/pages_test.h"
#include "tests/unit/cuda/cuda_test.h"

/* Selects from copies of the fixture in device memory, whose bounds are there already. */
static void select_on_gpu(const struct pages_case *t, const struct pages_fixture *d,
                          struct pages_selection *found)
{
    int num_heads = t->num_kv_heads * t->group;
    size_t ids = (size_t)num_heads * (size_t)t->count * sizeof(uint32_t);
    void *nnz = NULL;
    ASSERT_CUDA(cudaMallocHost(&nnz, (size_t)num_heads * sizeof(int32_t)));
    memset(nnz, 0xff, (size_t)num_heads * sizeof(int32_t));
    uint32_t *device_ids = device_copy(NULL, ids);
    void *scratch = device_copy(NULL, page_select_scratch(num_heads, t->count, t->page_size));
    cuda_op_begin("page_select");
    page_select_cuda(
        &(struct page_select_args){.q = d->q,
                                   .pages = (const struct key_pages *const[]){&d->pages},
                                   .budget = &t->budget,
                                   .ids = (uint32_t *const[]){device_ids},
                                   .ids_stride = &t->count,
                                   .scratch = (void *const[]){scratch},
                                   .nnz = nnz,
                                   .rows = 1,
                                   .num_heads = num_heads,
                                   .head_dim = t->head_dim});
    cuda_op_end();
    cuda_synchronize();
    ASSERT_CUDA(cudaMemcpy(found->ids, device_ids, ids, cudaMemcpyDeviceToHost));
    memcpy(found->nnz, nnz, (size_t)num_heads * sizeof *found->nnz);
    ASSERT_CUDA(cudaFree(device_ids));
    ASSERT_CUDA(cudaFree(scratch));
    ASSERT_CUDA(cudaFreeHost(nnz));
}

/* Both ops on copies of the fixture in device memory. */
static void run_case(const struct pages_case *t)
{
    struct pages_fixture f = pages_make(t);
    struct pages_selection expected = pages_selection_make(t);
    struct pages_selection found = pages_selection_make(t);
    pages_call(page_select_ref, t, &f, &expected);

    size_t bounds = key_pages_bytes(&f.pages);
    struct pages_fixture d = f;
    d.kv.k = device_copy(f.kv.k, kv_bytes(t->num_kv_heads, t->head_dim, MP_BF16, f.kv.capacity));
    d.pages.bounds = device_copy(NULL, bounds);
    d.q = device_copy(f.q, (size_t)(t->num_kv_heads * t->group * t->head_dim) * sizeof *f.q);
    cuda_op_begin("page_bounds");
    page_bounds_cuda(&(struct page_bounds_args){.kv = &d.kv, .pages = &d.pages});
    cuda_op_end();
    select_on_gpu(t, &d, &found);
    void *found_bounds = host_copy(d.pages.bounds, bounds);
    assert_memory_equal(found_bounds, f.pages.bounds, bounds);
    pages_assert_equal(t, &found, &expected);

    ASSERT_CUDA(cudaFree(d.kv.k));
    ASSERT_CUDA(cudaFree(d.pages.bounds));
    ASSERT_CUDA(cudaFree(d.q));
    free(found_bounds);
    pages_selection_release(&expected);
    pages_selection_release(&found);
    pages_release(&f);
}

static void test_agrees_with_reference(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    /* count, KV heads, group, head_dim, page_size, budget */
    const struct pages_case cases[] = {
        {70001, 2, 4, 128, 16, 220}, {1000, 2, 4, 64, 16, 5},    {1000, 2, 3, 128, 16, 63},
        {1, 1, 1, 32, 16, 3},        {16, 3, 2, 16, 16, 1},      {37, 1, 8, 48, 16, 100},
        {5000, 1, 5, 96, 7, 20},     {4097, 2, 2, 64, 1, 400},   {130, 2, 1, 24, 64, 1},
        {0, 2, 4, 64, 16, 5},        {3001, 1, 16, 256, 16, 40}, {100000, 1, 1, 8, 2, 50000},
        {9999, 1, 2, 32, 5000, 1}, /* a tail of more tokens than a CTA has threads */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run_case(&cases[i]);
    }
    for (size_t i = 0; i < NUM_PAGES_TAILS; i++) {
        run_case(&PAGES_TAILS[i]);
    }
}

/* A view of pages selects what pages of only its keys do. */
static void test_views(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (size_t i = 0; i < NUM_PAGES_VIEWS; i++) {
        const struct pages_case t = pages_view_of(&PAGES_VIEWS[i]);
        struct pages_fixture f = pages_make(&PAGES_VIEWS[i].t);
        struct pages_fixture first = pages_first(&f, t.count);
        struct pages_selection expected = pages_selection_make(&t);
        struct pages_selection found = pages_selection_make(&t);
        pages_call(page_select_ref, &t, &first, &expected);
        struct pages_fixture d = f;
        d.pages.count = t.count;
        d.pages.bounds = device_copy(f.pages.bounds, key_pages_bytes(&f.pages));
        d.q = device_copy(f.q, (size_t)(t.num_kv_heads * t.group * t.head_dim) * sizeof *f.q);
        select_on_gpu(&t, &d, &found);
        pages_assert_equal(&t, &found, &expected);
        ASSERT_CUDA(cudaFree(d.pages.bounds));
        ASSERT_CUDA(cudaFree(d.q));
        pages_selection_release(&expected);
        pages_selection_release(&found);
        free(first.pages.bounds);
        pages_release(&f);
    }
}

/* More rows than a launch takes; every third has no pages, and every third no full one. */
static void test_rows(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    enum { ROWS = 37, HEADS = 2, N = 200 };
    const struct pages_case t = {N, 1, HEADS, 64, 16, 4};
    struct pages_fixture f = pages_make(&t);
    struct pages_selection expected = pages_selection_make(&t);
    pages_call(page_select_ref, &t, &f, &expected);
    struct key_pages device_pages = f.pages;
    device_pages.bounds = device_copy(f.pages.bounds, key_pages_bytes(&f.pages));
    struct key_pages few = device_pages;
    few.count = 9;
    const uint32_t tail[9] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    const struct key_pages *pages[ROWS];
    int64_t budget[ROWS], stride[ROWS];
    uint32_t *ids[ROWS];
    void *scratch[ROWS];
    float *q = mp_xcalloc(ROWS * HEADS * 64, sizeof *q);
    for (int r = 0; r < ROWS; r++) {
        pages[r] = r % 3 == 2 ? NULL : r % 3 == 1 ? &few : &device_pages;
        budget[r] = 4;
        stride[r] = N;
        ids[r] = device_copy(NULL, HEADS * N * sizeof(uint32_t));
        scratch[r] = device_copy(NULL, page_select_scratch(HEADS, N, 16));
        memcpy(q + r * HEADS * 64, f.q, HEADS * 64 * sizeof *q);
    }
    float *device_q = device_copy(q, ROWS * HEADS * 64 * sizeof *q);
    int32_t *device_nnz = device_copy(NULL, ROWS * HEADS * sizeof *device_nnz);
    cuda_op_begin("page_select");
    page_select_cuda(&(struct page_select_args){.q = device_q,
                                                .pages = pages,
                                                .budget = budget,
                                                .ids = ids,
                                                .ids_stride = stride,
                                                .scratch = scratch,
                                                .nnz = device_nnz,
                                                .rows = ROWS,
                                                .num_heads = HEADS,
                                                .head_dim = 64});
    cuda_op_end();
    int32_t *nnz = host_copy(device_nnz, ROWS * HEADS * sizeof *nnz);
    for (int r = 0; r < ROWS; r++) {
        struct pages_selection found = {host_copy(ids[r], HEADS * N * sizeof(uint32_t)),
                                        nnz + r * HEADS};
        for (int h = 0; h < HEADS && pages[r] == &few; h++) {
            assert_int_equal(found.nnz[h], 9);
            assert_memory_equal(found.ids + h * N, tail, sizeof tail);
        }
        if (pages[r] == NULL) {
            assert_true(found.nnz[0] == 0 && found.nnz[1] == 0);
        } else if (pages[r] != &few) {
            pages_assert_equal(&t, &found, &expected);
        }
        free(found.ids);
        ASSERT_CUDA(cudaFree(ids[r]));
        ASSERT_CUDA(cudaFree(scratch[r]));
    }
    void *arrays[] = {device_pages.bounds, device_q, device_nnz};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        ASSERT_CUDA(cudaFree(arrays[i]));
    }
    free(nnz);
    free(q);
    pages_selection_release(&expected);
    pages_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_reference),
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_rows),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, cuda_test_teardown);
}
