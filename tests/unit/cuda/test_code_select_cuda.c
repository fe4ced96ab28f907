/* code_select on the GPU, in both ways: exactly the reference's tokens. */
#include "codelets/code_select/code_select_cuda.h"
#include "tests/unit/codelets/code_select_means_test.h"
#include "tests/unit/codelets/code_select_test.h"
#include "tests/unit/cuda/cuda_test.h"

static code_select_kernel *const variants[] = {code_select_steps_cuda, code_select_fused_cuda};
static const char *const names[] = {"steps", "fused"};
enum { NUM_VARIANTS = sizeof variants / sizeof variants[0] };

/* Whether this device can do what is asked so. */
static bool can(int variant, const struct code_select_args *a)
{
    return variants[variant] != code_select_fused_cuda || code_select_can_fuse(a);
}

/* A row in memory of the device, and its selection there or in pinned host memory. */
struct device {
    struct code_select_fixture f;
    struct keys_selection out;
    void *scratch;
    bool pinned;
};

static size_t selection_bytes(const struct code_select_case *t, int64_t room)
{
    return (size_t)t->keys.num_kv_heads * (size_t)room * sizeof(uint32_t);
}

static void *output(size_t bytes, bool pinned)
{
    if (!pinned) {
        return device_copy(NULL, bytes);
    }
    void *p = NULL;
    ASSERT_CUDA(cudaMallocHost(&p, bytes > 0 ? bytes : 1));
    memset(p, 0xff, bytes);
    return p;
}

static struct device device_make(const struct code_select_case *t,
                                 const struct code_select_fixture *f, bool pinned)
{
    size_t heads = (size_t)(t->keys.num_kv_heads * t->keys.group);
    size_t d = (size_t)t->keys.head_dim;
    struct device x = {.f = *f, .pinned = pinned};
    x.out.room = t->keys.budget + 1 < t->keys.count ? t->keys.budget + 1 : t->keys.count;
    x.out.ids = output(selection_bytes(t, x.out.room), pinned);
    x.out.log_weights = output(selection_bytes(t, x.out.room), pinned);
    x.out.nnz = output((size_t)t->keys.num_kv_heads * sizeof(int32_t), true);
    x.f.keys.q = device_copy(f->keys.q, heads * d * sizeof(float));
    x.f.rotation.data =
        device_copy(f->rotation.data, key_rotation_size(t->keys.head_dim) * sizeof(float));
    x.f.codes.words = device_copy(f->codes.words, codes_word_bytes(&f->codes));
    x.f.codes.factors = device_copy(f->codes.factors, codes_factor_bytes(&f->codes));
    x.scratch = device_copy(
        NULL, code_select_scratch((int)heads, t->keys.num_kv_heads, t->keys.count, t->keys.budget));
    return x;
}

static void device_release(struct device *x)
{
    void *arrays[] = {x->f.keys.q, (float *)x->f.rotation.data, x->f.codes.words,
                      x->f.codes.factors, x->scratch};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        ASSERT_CUDA(cudaFree(arrays[i]));
    }
    ASSERT_CUDA(x->pinned ? cudaFreeHost(x->out.ids) : cudaFree(x->out.ids));
    ASSERT_CUDA(x->pinned ? cudaFreeHost(x->out.log_weights) : cudaFree(x->out.log_weights));
    ASSERT_CUDA(cudaFreeHost(x->out.nnz));
}

static void copy_selection(const struct code_select_case *t, const struct device *x,
                           struct keys_selection *found)
{
    cuda_synchronize();
    memcpy(found->nnz, x->out.nnz, (size_t)t->keys.num_kv_heads * sizeof *found->nnz);
    size_t bytes = selection_bytes(t, found->room);
    ASSERT_CUDA(cudaMemcpy(found->ids, x->out.ids, bytes, cudaMemcpyDefault));
    ASSERT_CUDA(cudaMemcpy(found->log_weights, x->out.log_weights, bytes, cudaMemcpyDefault));
}

/* Selects and copies what is selected; false if the device cannot. */
static bool call(int variant, const struct code_select_case *t, struct device *x,
                 struct keys_selection *found)
{
    const struct key_codes *codes[1];
    struct code_select_args a = code_select_args_of(t, &x->f, &x->scratch, codes, &x->out);
    if (!can(variant, &a)) {
        return false;
    }
    cuda_op_begin(names[variant]);
    variants[variant](&a);
    cuda_op_end();
    copy_selection(t, x, found);
    return true;
}

/* Twice with each way, the second time in used scratch. */
static void run_fixture(const struct code_select_case *t, struct code_select_fixture *f)
{
    struct keys_selection expected = code_selection_make(t);
    struct keys_selection found = code_selection_make(t);
    struct device x = device_make(t, f, f->keys.seed % 2 == 0);
    for (int i = 0; i < 2; i++) {
        x.f.keys.seed = ++f->keys.seed;
        code_select_call(code_select_ref, t, f, &expected);
        for (int v = 0; v < NUM_VARIANTS; v++) {
            if (call(v, t, &x, &found)) {
                code_select_assert_equal(t, &found, &expected);
            }
        }
    }
    device_release(&x);
    keys_selection_release(&expected);
    keys_selection_release(&found);
}

static void run_case(const struct code_select_case *t)
{
    struct code_select_fixture f = code_select_make(t);
    run_fixture(t, &f);
    code_select_release(&f);
}

static void test_agrees_with_reference(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (size_t i = 0; i < NUM_CODE_SELECT_CASES; i++) {
        run_case(&CODE_SELECT_CASES[i]);
    }
    const struct code_select_case cases[] = {
        /* count, KV heads, group, head_dim, samples; bits, deviation */
        {{98304, 8, 4, 128, 512}, 2, 2.0f},   {{200001, 1, 4, 64, 512}, 2, 4.0f},
        {{70001, 2, 4, 128, 30000}, 2, 3.0f}, {{5000, 1, 16, 64, 100}, 2, 2.0f},
        {{4097, 2, 1, 256, 4096}, 1, 2.0f},   {{33333, 1, 5, 250, 777}, 1, 2.0f},
        {{513, 4, 8, 112, 64}, 4, 2.0f},      {{2500, 9, 2, 8, 50}, 4, 1.0f},
        {{60000, 1, 1, 64, 2000}, 2, 6.0f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run_case(&cases[i]);
    }
}

/* Random codes, for more tokens than are encoded in a while. */
static struct code_select_fixture random_codes(const struct code_select_case *t)
{
    struct code_select_case few = *t;
    few.keys.count = 100;
    struct code_select_fixture f = code_select_make(&few);
    struct mp_rng rng;
    mp_rng_init(&rng, 8, 0);
    codes_release(&f.codes);
    f.codes.count = t->keys.count;
    f.codes.capacity = t->keys.count;
    f.codes = codes_make(&f.codes);
    size_t blocks = (size_t)t->keys.num_kv_heads * (size_t)codes_blocks(t->keys.count);
    size_t words = (size_t)codes_words(t->keys.head_dim, t->bits);
    for (size_t i = 0; i < blocks * words * CODES_BLOCK; i++) {
        f.codes.words[i] = (uint32_t)mp_rng_next(&rng);
    }
    for (size_t i = 0; i < blocks * CODES_BLOCK; i++) {
        int64_t token = (int64_t)i % (CODES_BLOCK * codes_blocks(t->keys.count));
        f.codes.factors[i] = token < t->keys.count ? 1.0f + (float)mp_rng_uniform(&rng) : 0.0f;
    }
    return f;
}

static void test_many_tokens(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    const struct code_select_case cases[] = {
        {{4000003, 1, 2, 32, 512}, 1, 3.0f},
        {{1100000, 2, 4, 128, 512}, 2, 2.0f},
        {{700000, 1, 1, 64, 4096}, 2, 5.0f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct code_select_fixture f = random_codes(&cases[i]);
        run_fixture(&cases[i], &f);
        code_select_release(&f);
    }
}

/* Equal keys, and a key that has nearly all of the softmax. */
static void test_extremes(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    const struct code_select_case t = {{5000, 1, 4, 64, 64}, 2, 1.0f};
    struct code_select_fixture f = code_select_make(&t);
    for (int64_t i = 1; i < 5000; i++) {
        memcpy((uint16_t *)f.keys.kv.k + i * 64, f.keys.kv.k, 64 * sizeof(uint16_t));
    }
    code_select_encode(&f);
    run_fixture(&t, &f);
    for (int c = 0; c < 64; c++) {
        mp_store(f.keys.kv.k, MP_BF16, (size_t)(4321 * 64 + c), 9.0f * f.keys.q[c]);
    }
    code_select_encode(&f);
    run_fixture(&t, &f);
    code_select_release(&f);
}

/* A view of codes selects what codes of only its keys do. */
static void test_views(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (size_t i = 0; i < NUM_CODE_SELECT_VIEWS; i++) {
        const struct code_select_view_case *view = &CODE_SELECT_VIEWS[i];
        const struct code_select_case t = code_select_view_of(view);
        struct code_select_fixture f = code_select_make(&view->t);
        struct code_select_fixture first = code_select_first(&f, view->count);
        struct keys_selection expected = code_selection_make(&t);
        struct keys_selection found = code_selection_make(&t);
        f.codes.count = view->count;
        struct device x = device_make(&t, &f, true);
        struct device only = device_make(&t, &first, true);
        for (int v = 0; v < NUM_VARIANTS; v++) {
            if (call(v, &t, &only, &expected) && call(v, &t, &x, &found)) {
                code_select_assert_same(&t, &found, &expected);
            }
        }
        device_release(&x);
        device_release(&only);
        keys_selection_release(&expected);
        keys_selection_release(&found);
        codes_release(&first.codes);
        code_select_release(&f);
    }
}

/* ---- several rows ---- */

enum { ROWS = 37, KV_HEADS = 2, GROUP = 2, DIM = 64, ROW_TOKENS = 20000, LONG_ROW = 300001 };
enum { ROW_Q = KV_HEADS * GROUP * DIM, STRIDE = ROW_Q + CODE_SELECT_PADDING };

/* Rows of very different lengths: without codes, without tokens, with fewer than are selected, more
 * than a launch takes; so long a one that the GPU cannot work on all KV heads of a launch at once.
 */
struct rows {
    struct code_select_case t[ROWS];
    struct code_select_fixture host[ROWS];
    struct device device[ROWS];
    struct key_codes none;
    const struct key_codes *codes[ROWS];
    int64_t samples[ROWS], room[ROWS];
    uint64_t seeds[ROWS];
    uint32_t *ids[ROWS];
    float *log_weights[ROWS];
    void *scratch[ROWS];
    float *q; /* of all rows, in device memory */
};

static void rows_make(struct rows *x)
{
    float *q = mp_xcalloc(ROWS * STRIDE, sizeof *q);
    for (int r = 0; r < ROWS; r++) {
        int64_t count = r % 9 == 8 ? 1 + r : 40 + (int64_t)r * 7919 % ROW_TOKENS;
        count = r == 5 ? LONG_ROW : count;
        x->t[r] = (struct code_select_case){
            {count, KV_HEADS, GROUP, DIM, r % 9 == 8 ? 50 : 10 + 9 * r}, 2, 0.2f * (float)r};
        x->host[r] = code_select_make(&x->t[r]);
        x->device[r] = device_make(&x->t[r], &x->host[r], r % 2 == 0);
        memcpy(q + r * STRIDE, x->host[r].keys.q, ROW_Q * sizeof *q);
        x->codes[r] = r % 9 == 7 ? NULL : r % 9 == 6 ? &x->none : &x->device[r].f.codes;
        x->host[r].keys.seed = x->seeds[r] = 1000 + (uint64_t)r;
        x->samples[r] = x->t[r].keys.budget;
        x->room[r] = x->device[r].out.room;
        x->ids[r] = x->device[r].out.ids;
        x->log_weights[r] = x->device[r].out.log_weights;
        x->scratch[r] = x->device[r].scratch;
    }
    x->none = x->device[0].f.codes;
    x->none.count = 0;
    x->q = device_copy(q, ROWS * STRIDE * sizeof *q);
    free(q);
}

static void rows_assert(struct rows *x, const int32_t *nnz)
{
    for (int r = 0; r < ROWS; r++) {
        const int32_t *found_nnz = nnz + r * KV_HEADS;
        if (x->codes[r] != &x->device[r].f.codes) {
            assert_true(found_nnz[0] == 0 && found_nnz[1] == 0);
            continue;
        }
        struct keys_selection expected = code_selection_make(&x->t[r]);
        struct keys_selection found = code_selection_make(&x->t[r]);
        code_select_call(code_select_ref, &x->t[r], &x->host[r], &expected);
        copy_selection(&x->t[r], &x->device[r], &found);
        memcpy(found.nnz, found_nnz, KV_HEADS * sizeof *nnz);
        code_select_assert_equal(&x->t[r], &found, &expected);
        keys_selection_release(&expected);
        keys_selection_release(&found);
    }
}

static void test_rows(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    static struct rows x;
    rows_make(&x);
    for (int v = 0; v < NUM_VARIANTS; v++) {
        int32_t *device_nnz = device_copy(NULL, ROWS * KV_HEADS * sizeof *device_nnz);
        struct code_select_args a = {.q = x.q,
                                     .q_stride = STRIDE,
                                     .codes = x.codes,
                                     .rotation = x.device[0].f.rotation,
                                     .samples = x.samples,
                                     .seed = x.seeds,
                                     .ids = x.ids,
                                     .log_weights = x.log_weights,
                                     .ids_stride = x.room,
                                     .scratch = x.scratch,
                                     .nnz = device_nnz,
                                     .rows = ROWS,
                                     .num_heads = KV_HEADS * GROUP,
                                     .num_kv_heads = KV_HEADS,
                                     .first_kv_head = CODE_SELECT_FIRST_HEAD,
                                     .head_dim = DIM};
        if (can(v, &a)) {
            cuda_op_begin(names[v]);
            variants[v](&a);
            cuda_op_end();
            int32_t *nnz = host_copy(device_nnz, ROWS * KV_HEADS * sizeof *nnz);
            rows_assert(&x, nnz);
            free(nnz);
        }
        ASSERT_CUDA(cudaFree(device_nnz));
    }
    ASSERT_CUDA(cudaFree(x.q));
    for (int r = 0; r < ROWS; r++) {
        device_release(&x.device[r]);
        code_select_release(&x.host[r]);
    }
}

/* ---- means ---- */

struct sampler {
    int variant;
    bool made;
    struct device x;
};

static void select_on_device(void *state, const struct code_select_case *t,
                             const struct code_select_fixture *f, struct keys_selection *out)
{
    struct sampler *s = state;
    if (!s->made) {
        s->x = device_make(t, f, true);
        s->made = true;
    }
    s->x.f.keys.seed = f->keys.seed;
    if (!call(s->variant, t, &s->x, out)) {
        code_select_call(code_select_ref, t, f, out);
    }
}

static void test_means(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (int v = 0; v < NUM_VARIANTS; v++) {
        struct sampler s = {.variant = v};
        code_select_assert_means(select_on_device, &s);
        device_release(&s.x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_reference),
        cmocka_unit_test(test_many_tokens),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_means),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, cuda_test_teardown);
}
