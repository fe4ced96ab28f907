/* key_select on the GPU: exactly the reference's tokens, and draws with the exact attention as
 * their mean. */
#include "codelets/common/score/score.h"
#include "tests/unit/codelets/keys_test.h"
#include "tests/unit/cuda/cuda_test.h"

/* The fixture and room for a selection in device memory; nnz in pinned host memory, as the pipeline
 * keeps it. */
struct device {
    struct keys_fixture f;
    struct keys_selection out;
    void *scratch;
};

static struct device device_make(enum key_select_mode mode, const struct keys_case *t,
                                 const struct keys_fixture *f)
{
    size_t heads = (size_t)(t->num_kv_heads * t->group);
    size_t keys = kv_bytes(t->num_kv_heads, t->head_dim, f->kv.dtype, f->kv.capacity);
    int64_t room = t->budget < t->count ? t->budget : t->count;
    size_t selected = heads * (size_t)room * sizeof(uint32_t);
    struct device d = {.f = *f, .out = {.room = room}};
    void *nnz = NULL;
    ASSERT_CUDA(cudaMallocHost(&nnz, heads * sizeof(int32_t)));
    memset(nnz, 0xff, heads * sizeof(int32_t));
    d.out.nnz = nnz;
    d.out.ids = device_copy(NULL, selected);
    d.out.log_weights = device_copy(NULL, selected);
    d.f.kv.k = device_copy(f->kv.k, keys);
    d.f.kv.scales =
        f->kv.dtype == MP_I8
            ? device_copy(f->kv.scales, kv_scale_bytes(t->num_kv_heads, MP_I8, f->kv.capacity))
            : NULL;
    d.f.q = device_copy(f->q, heads * (size_t)t->head_dim * sizeof(float));
    d.scratch = device_copy(NULL, key_select_scratch(mode, (int)heads, t->count));
    return d;
}

static void device_release(struct device *d)
{
    void *arrays[] = {d->out.ids, d->out.log_weights, d->f.kv.k, d->f.kv.scales,
                      d->f.q,     d->scratch};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        ASSERT_CUDA(cudaFree(arrays[i]));
    }
    ASSERT_CUDA(cudaFreeHost(d->out.nnz));
}

/* Selects, and copies what is selected. */
static void call(enum key_select_mode mode, const struct keys_case *t, struct device *d,
                 struct keys_selection *found)
{
    size_t heads = (size_t)(t->num_kv_heads * t->group);
    size_t bytes = heads * (size_t)found->room * sizeof(uint32_t);
    const struct offloaded_kv *kv[1];
    struct key_select_args a = keys_args(mode, t, &d->f, &d->scratch, kv, &d->out);
    cuda_op_begin("key_select");
    key_select_cuda(&a);
    cuda_op_end();
    cuda_synchronize();
    memcpy(found->nnz, d->out.nnz, heads * sizeof *found->nnz);
    ASSERT_CUDA(cudaMemcpy(found->ids, d->out.ids, bytes, cudaMemcpyDeviceToHost));
    ASSERT_CUDA(cudaMemcpy(found->log_weights, d->out.log_weights, bytes, cudaMemcpyDeviceToHost));
}

static void run_case(const struct keys_case *t, enum key_select_mode mode, bool int8)
{
    struct keys_fixture f = keys_make(t, 3.0f);
    if (int8) {
        keys_to_int8(&f);
    }
    struct keys_selection expected = keys_selection_make(t);
    struct keys_selection found = keys_selection_make(t);
    struct device d = device_make(mode, t, &f);
    keys_call(key_select_ref, mode, t, &f, &expected);
    call(mode, t, &d, &found);
    keys_assert_equal(mode, t, &found, &expected);
    call(mode, t, &d, &found); /* again, in used scratch */
    keys_assert_equal(mode, t, &found, &expected);
    device_release(&d);
    keys_selection_release(&expected);
    keys_selection_release(&found);
    keys_release(&f);
}

static void test_agrees_with_reference(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    /* count, KV heads, group, head_dim, budget */
    const struct keys_case cases[] = {
        {70001, 2, 4, 128, 1400}, {3000, 2, 4, 64, 60},    {2999, 1, 5, 128, 2998},
        {1, 1, 1, 32, 1},         {130, 3, 2, 16, 500},    {700, 1, 8, 48, 1},
        {515, 2, 3, 24, 17},      {128, 1, 2, 96, 128},    {1025, 1, 16, 256, 100},
        {0, 2, 4, 64, 5},         {20000, 1, 1, 8, 20000}, {200000, 1, 7, 64, 300},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run_case(&cases[i], KEY_SELECT_LARGEST, false);
        run_case(&cases[i], KEY_SELECT_LARGEST, true);
        run_case(&cases[i], KEY_SELECT_DRAWN, false);
        run_case(&cases[i], KEY_SELECT_DRAWN, true);
    }
}

/* Of equal keys the lower ones are selected. */
static void test_ties(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    const struct keys_case t = {5000, 1, 2, 32, 1500};
    struct keys_fixture f = keys_make(&t, 1.0f);
    struct keys_selection found = keys_selection_make(&t);
    uint16_t *k = f.kv.k;
    for (int i = 1; i < 5000; i++) {
        memcpy(k + i * 32, k, 32 * sizeof *k);
    }
    struct device d = device_make(KEY_SELECT_LARGEST, &t, &f);
    call(KEY_SELECT_LARGEST, &t, &d, &found);
    for (int h = 0; h < 2; h++) {
        assert_int_equal(found.nnz[h], 1500);
        for (uint32_t i = 0; i < 1500; i++) {
            assert_int_equal(found.ids[h * 1500 + (int)i], i);
        }
    }
    device_release(&d);
    keys_selection_release(&found);
    keys_release(&f);
}

/* More rows than a launch takes; every third has no keys. */
static void test_rows(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    enum { ROWS = 37 };
    const struct keys_case t = {400, 2, 2, 64, 50};
    struct keys_fixture f = keys_make(&t, 1.0f);
    struct keys_selection expected = keys_selection_make(&t);
    struct keys_selection found = keys_selection_make(&t);
    struct device d[ROWS];
    struct key_select_args a = {0};
    const struct offloaded_kv *kv[ROWS];
    uint32_t *ids[ROWS];
    float *log_weights[ROWS];
    void *scratch[ROWS];
    int64_t budget[ROWS], stride[ROWS];
    uint64_t seed[ROWS];
    float *q = mp_xcalloc(ROWS * 4 * 64, sizeof *q);
    for (int r = 0; r < ROWS; r++) {
        d[r] = device_make(KEY_SELECT_DRAWN, &t, &f);
        a = keys_args(KEY_SELECT_DRAWN, &t, &d[r].f, &scratch[r], &kv[r], &d[r].out);
        kv[r] = r % 3 == 2 ? NULL : &d[r].f.kv;
        ids[r] = d[r].out.ids;
        log_weights[r] = d[r].out.log_weights;
        scratch[r] = d[r].scratch;
        budget[r] = 50;
        stride[r] = d[r].out.room;
        seed[r] = f.seed + (uint64_t)r;
        memcpy(q + r * 4 * 64, f.q, 4 * 64 * sizeof *q);
    }
    float *device_q = device_copy(q, ROWS * 4 * 64 * sizeof *q);
    int32_t *device_nnz = device_copy(NULL, ROWS * 4 * sizeof *device_nnz);
    a.q = device_q;
    a.kv = kv;
    a.budget = budget;
    a.seed = seed;
    a.ids = ids;
    a.log_weights = log_weights;
    a.ids_stride = stride;
    a.scratch = scratch;
    a.nnz = device_nnz;
    a.rows = ROWS;
    cuda_op_begin("key_select");
    key_select_cuda(&a);
    cuda_op_end();
    int32_t *nnz = host_copy(device_nnz, ROWS * 4 * sizeof *nnz);
    for (int r = 0; r < ROWS; r++) {
        size_t bytes = (size_t)(4 * found.room) * sizeof(uint32_t);
        ASSERT_CUDA(cudaMemcpy(found.ids, ids[r], bytes, cudaMemcpyDeviceToHost));
        ASSERT_CUDA(cudaMemcpy(found.log_weights, log_weights[r], bytes, cudaMemcpyDeviceToHost));
        memcpy(found.nnz, nnz + r * 4, 4 * sizeof *nnz);
        struct keys_fixture row = f;
        row.seed = seed[r];
        keys_call(key_select_ref, KEY_SELECT_DRAWN, &t, &row, &expected);
        if (kv[r] == NULL) {
            memset(expected.nnz, 0, 4 * sizeof *expected.nnz);
        }
        keys_assert_equal(KEY_SELECT_DRAWN, &t, &found, &expected);
        device_release(&d[r]);
    }
    ASSERT_CUDA(cudaFree(device_q));
    ASSERT_CUDA(cudaFree(device_nnz));
    free(nnz);
    free(q);
    keys_selection_release(&expected);
    keys_selection_release(&found);
    keys_release(&f);
}

/* As on the CPU: over many seeds the means are exact attention's sums. */
static void test_means(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    const struct keys_case t = {400, 1, 2, 32, 40};
    struct keys_fixture f = keys_make(&t, 1.5f);
    struct keys_selection found = keys_selection_make(&t);
    struct device d = device_make(KEY_SELECT_DRAWN, &t, &f);
    struct attention_sums sums[2][MEAN_SEEDS];
    for (int i = 0; i < MEAN_SEEDS; i++) {
        float o[2 * 32], lse[2];
        d.f.seed = 1000 + (uint64_t)i;
        call(KEY_SELECT_DRAWN, &t, &d, &found);
        attend_selection(&t, &f, &found, o, lse);
        sums[0][i] = sums_of(o, lse[0]);
        sums[1][i] = sums_of(o + 32, lse[1]);
    }
    for (int h = 0; h < 2; h++) {
        struct attention_sums expected = exact_sums(&t, &f, h);
        assert_means(sums[h], &expected);
    }
    device_release(&d);
    keys_selection_release(&found);
    keys_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_reference),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_means),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, cuda_test_teardown);
}
