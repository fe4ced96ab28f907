/* sampled_attention on the GPU where the query heads of a KV head share one selection, and on int8
 * rows, which may lie in pinned host memory: against the reference. */
#include "tests/unit/codelets/paired_test.h"
#include "tests/unit/codelets/shared_rows_test.h"
#include "tests/unit/cuda/cuda_test.h"

/* A copy in device memory, or in pinned host memory. */
static void *gpu_copy(const void *host, size_t bytes, bool pinned)
{
    void *copy = NULL;
    if (!pinned) {
        return device_copy(host, bytes);
    }
    ASSERT_CUDA(cudaMallocHost(&copy, bytes));
    memcpy(copy, host, bytes);
    return copy;
}

static void gpu_free(void *copy, bool pinned)
{
    ASSERT_CUDA(pinned ? cudaFreeHost(copy) : cudaFree(copy));
}

/* rows with everything where the GPU sees it; lists: in all rows. pinned: K and V in pairs in host
 * memory. */
static struct shared_rows *rows_on_gpu(const struct shared_case *t, const struct shared_rows *rows,
                                       size_t lists, bool pinned)
{
    struct shared_rows *d = mp_xmalloc(sizeof *d);
    size_t ids = lists * (size_t)rows->stride;
    size_t heads = (size_t)(SHARED_ROWS * t->num_kv_heads * t->group);
    size_t kv = kv_bytes(t->num_kv_heads, t->head_dim, t->dtype, rows->kv.capacity);
    size_t scales = kv_scale_bytes(t->num_kv_heads, t->dtype, rows->kv.capacity);
    *d = *rows;
    if (pinned) {
        d->kv = paired_of(&rows->kv);
        void *pairs = d->kv.k;
        d->kv.k = gpu_copy(pairs, 2 * kv, true);
        d->kv.v = (char *)d->kv.k + kv_row_at(&d->kv, 0, 1) / 2;
        free(pairs);
    } else {
        d->kv.k = gpu_copy(rows->kv.k, kv, false);
        d->kv.v = gpu_copy(rows->kv.v, kv, false);
    }
    if (scales > 0) {
        d->kv.scales = gpu_copy(rows->kv.scales, scales, pinned);
    }
    d->ids = device_copy(rows->ids, ids * sizeof *rows->ids);
    d->log_weights = device_copy(rows->log_weights, ids * sizeof *rows->log_weights);
    d->nnz = gpu_copy(rows->nnz, lists * sizeof *rows->nnz, true);
    d->q = device_copy(rows->q, heads * (size_t)t->head_dim * sizeof *rows->q);
    return d;
}

static void free_rows_on_gpu(struct shared_rows *d, bool pinned)
{
    gpu_free(d->kv.k, pinned);
    if (!pinned) {
        gpu_free(d->kv.v, false);
    }
    if (d->kv.dtype == MP_I8) {
        gpu_free(d->kv.scales, pinned);
    }
    ASSERT_CUDA(cudaFree(d->ids));
    ASSERT_CUDA(cudaFree(d->log_weights));
    ASSERT_CUDA(cudaFreeHost(d->nnz));
    ASSERT_CUDA(cudaFree(d->q));
    free(d);
}

/* rows: with lists of KV heads if shared, else of query heads. */
static void run_on_gpu(const struct shared_case *t, const struct shared_rows *rows,
                       enum shared_form form, bool shared, bool pinned, float *o, float *lse)
{
    size_t heads = (size_t)(SHARED_ROWS * t->num_kv_heads * t->group);
    size_t lists = shared ? heads / (size_t)t->group : heads;
    size_t o_bytes = heads * (size_t)t->head_dim * sizeof *o;
    struct shared_rows *d = rows_on_gpu(t, rows, lists, pinned);
    float *device_o = device_copy(NULL, o_bytes);
    float *device_lse = device_copy(NULL, heads * sizeof *lse);
    cuda_op_begin("sampled_attention");
    shared_call(sampled_attention_cuda, t, d, form, shared, device_o, device_lse);
    cuda_op_end();
    float *host_o = host_copy(device_o, o_bytes);
    float *host_lse = host_copy(device_lse, heads * sizeof *lse);
    memcpy(o, host_o, o_bytes);
    memcpy(lse, host_lse, heads * sizeof *lse);
    free(host_o);
    free(host_lse);
    ASSERT_CUDA(cudaFree(device_o));
    ASSERT_CUDA(cudaFree(device_lse));
    free_rows_on_gpu(d, pinned);
}

static void run_case(const struct shared_case *t, enum shared_form form)
{
    size_t heads = (size_t)(SHARED_ROWS * t->num_kv_heads * t->group);
    size_t width = heads * (size_t)t->head_dim;
    struct shared_rows *s = make_shared_rows(t);
    struct shared_rows *u = make_unshared_rows(t, s);
    float *expected = mp_xcalloc(width, sizeof *expected);
    float *expected_lse = mp_xcalloc(heads, sizeof *expected_lse);
    float *o = mp_xcalloc(width, sizeof *o);
    float *lse = mp_xcalloc(heads, sizeof *lse);
    shared_expected(t, s, form, expected, expected_lse);
    for (int i = 0; i < 4; i++) {
        bool shared = i % 2 == 0;
        bool pinned = i / 2 == 1;
        char what[96];
        snprintf(what, sizeof what, "%d tokens, group %d, head_dim %d, dtype %d, form %d%s%s",
                 (int)t->count, t->group, t->head_dim, (int)t->dtype, (int)form,
                 shared ? ", shared" : "", pinned ? ", pinned" : "");
        run_on_gpu(t, shared ? s : u, form, shared, pinned, o, lse);
        check_shared(t, s, o, lse, expected, expected_lse, what);
    }
    free(expected);
    free(expected_lse);
    free(o);
    free(lse);
    release_unshared_rows(u);
    release_shared_rows(s);
}

static void test_agrees_with_reference(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (size_t i = 0; i < sizeof shared_cases / sizeof shared_cases[0]; i++) {
        const struct shared_case *t = &shared_cases[i];
        for (enum shared_form form = 0; form < NUM_SHARED_FORMS && t->dtype != MP_F32; form++) {
            if (t->head_dim % 8 == 0) {
                run_case(t, form);
            }
        }
    }
}

/* More rows than a launch takes. */
static void test_many_rows(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    enum { ROWS = 35, D = 64, GROUP = 4, NNZ = 40 };
    const struct shared_case t = {100, 1, GROUP, D, MP_BF16, 1.0f};
    struct shared_rows *s = make_shared_rows(&t);
    struct shared_rows *d = rows_on_gpu(&t, s, SHARED_ROWS, false);
    float *q = random_floats(ROWS * GROUP * D, 1.0f, 70);
    float *device_q = device_copy(q, ROWS * GROUP * D * sizeof *q);
    float *device_o = device_copy(NULL, ROWS * GROUP * D * sizeof(float));
    float *device_lse = device_copy(NULL, ROWS * GROUP * sizeof(float));
    const struct offloaded_kv *kv[ROWS], *device_kv[ROWS];
    const uint32_t *ids[ROWS], *device_ids[ROWS];
    int64_t stride[ROWS];
    int32_t nnz[ROWS];
    for (int r = 0; r < ROWS; r++) {
        kv[r] = &s->kv;
        device_kv[r] = &d->kv;
        ids[r] = s->ids + 3 * s->stride + r; /* of the row that selects all */
        device_ids[r] = d->ids + 3 * s->stride + r;
        stride[r] = s->stride;
        nnz[r] = NNZ + r % 7;
    }
    float o[ROWS * GROUP * D], lse[ROWS * GROUP];
    struct sampled_attention_args a = {.q = q,
                                       .kv = kv,
                                       .ids = ids,
                                       .ids_stride = stride,
                                       .nnz = nnz,
                                       .o = o,
                                       .lse = lse,
                                       .rows = ROWS,
                                       .num_heads = GROUP,
                                       .head_dim = D,
                                       .scale = 0.125f,
                                       .shared = true};
    sampled_attention_ref(&a);
    void *pinned = gpu_copy(nnz, sizeof nnz, true);
    a.q = device_q;
    a.kv = device_kv;
    a.ids = device_ids;
    a.nnz = pinned;
    a.o = device_o;
    a.lse = device_lse;
    cuda_op_begin("sampled_attention");
    sampled_attention_cuda(&a);
    cuda_op_end();
    float *host_o = host_copy(device_o, sizeof o);
    float *host_lse = host_copy(device_lse, sizeof lse);
    assert_close(host_o, o, ROWS * GROUP * D, 2e-3, "o");
    assert_close(host_lse, lse, ROWS * GROUP, 1e-3, "lse");
    free(host_o);
    free(host_lse);
    free(q);
    ASSERT_CUDA(cudaFreeHost(pinned));
    ASSERT_CUDA(cudaFree(device_q));
    ASSERT_CUDA(cudaFree(device_o));
    ASSERT_CUDA(cudaFree(device_lse));
    free_rows_on_gpu(d, false);
    release_shared_rows(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_reference),
        cmocka_unit_test(test_many_rows),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, cuda_test_teardown);
}
