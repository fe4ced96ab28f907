/* static_attention on the GPU against the reference. */
#include "codelets/static_attention/static_attention.h"
#include "tests/unit/cuda/cuda_test.h"

enum { MAX_ROWS = 35, LENGTHS = 4 };

struct attention_case {
    int rows;
    int64_t length[LENGTHS]; /* of row r: [r % LENGTHS]; capacity is a little more */
    int num_kv_heads, group, head_dim;
    float scale_q; /* of the queries: large ones make a peaked softmax */
    bool pinned;   /* queries in host memory */
};

/* A random cache in host memory, and its copy in device memory. */
static void make_cache(struct kv_cache *host, struct kv_cache *device, int64_t length,
                       const struct attention_case *t, uint64_t seed)
{
    int64_t capacity = length + 3;
    size_t n = (size_t)t->num_kv_heads * (size_t)capacity * (size_t)t->head_dim;
    *host = (struct kv_cache){.k = random_tensor(MP_BF16, n, 1.0f, seed),
                              .v = random_tensor(MP_BF16, n, 1.0f, seed + 1),
                              .capacity = capacity,
                              .num_kv_heads = t->num_kv_heads,
                              .head_dim = t->head_dim,
                              .dtype = MP_BF16};
    *device = *host;
    device->k = device_copy(host->k, n * sizeof(uint16_t));
    device->v = device_copy(host->v, n * sizeof(uint16_t));
}

static void run_on_gpu(struct static_attention_args a, const struct kv_cache *const *caches,
                       size_t o_bytes, size_t lse_bytes, const struct attention_case *t, float **o,
                       float **lse)
{
    void *q = NULL;
    if (t->pinned) {
        ASSERT_CUDA(cudaMallocHost(&q, o_bytes));
        memcpy(q, a.q, o_bytes);
    } else {
        q = device_copy(a.q, o_bytes);
    }
    a.q = q;
    a.o = device_copy(NULL, o_bytes);
    a.lse = device_copy(NULL, lse_bytes);
    a.cache = caches;
    cuda_op_begin("static_attention");
    static_attention_cuda(&a);
    cuda_op_end();
    *o = host_copy(a.o, o_bytes);
    *lse = host_copy(a.lse, lse_bytes);
    ASSERT_CUDA(t->pinned ? cudaFreeHost(q) : cudaFree(q));
    ASSERT_CUDA(cudaFree(a.o));
    ASSERT_CUDA(cudaFree(a.lse));
}

/* A row's bits do not depend on the rows beside it: the last one of o and lse, again and alone. */
static void assert_same_alone(struct static_attention_args a, const struct kv_cache *const *caches,
                              const float *o, const float *lse, const struct attention_case *t)
{
    int64_t last = a.rows - 1;
    size_t heads = (size_t)a.num_heads;
    size_t width = heads * (size_t)a.head_dim;
    a.q += (size_t)last * width;
    a.length += last;
    a.rows = 1;
    float *o_alone, *lse_alone;
    run_on_gpu(a, caches + last, width * sizeof *o, heads * sizeof *lse, t, &o_alone, &lse_alone);
    assert_memory_equal(o_alone, o + (size_t)last * width, width * sizeof *o);
    assert_memory_equal(lse_alone, lse + (size_t)last * heads, heads * sizeof *lse);
    free(o_alone);
    free(lse_alone);
}

static void run_case(const struct attention_case *t)
{
    int num_heads = t->num_kv_heads * t->group;
    size_t heads = (size_t)(t->rows * num_heads);
    size_t width = heads * (size_t)t->head_dim;
    struct kv_cache host[MAX_ROWS], device[MAX_ROWS];
    const struct kv_cache *host_caches[MAX_ROWS], *device_caches[MAX_ROWS];
    int64_t length[MAX_ROWS];
    for (int r = 0; r < t->rows; r++) {
        length[r] = t->length[r % LENGTHS];
        make_cache(&host[r], &device[r], length[r], t, 10 + 2 * (uint64_t)r);
        host_caches[r] = &host[r];
        device_caches[r] = &device[r];
    }
    float *q = random_floats(width, t->scale_q, 5);
    float *expected = mp_xcalloc(width, sizeof *expected);
    float *expected_lse = mp_xcalloc(heads, sizeof *expected_lse);
    struct static_attention_args a = {.q = q,
                                      .cache = host_caches,
                                      .length = length,
                                      .o = expected,
                                      .lse = expected_lse,
                                      .rows = t->rows,
                                      .num_heads = num_heads,
                                      .head_dim = t->head_dim,
                                      .scale = 1.0f / sqrtf((float)t->head_dim)};
    static_attention_ref(&a);
    float *o, *lse;
    run_on_gpu(a, device_caches, width * sizeof *o, heads * sizeof *lse, t, &o, &lse);
    size_t row = width / (size_t)t->rows;
    for (int r = 0; r < t->rows; r++) {
        char what[64];
        snprintf(what, sizeof what, "o of %d tokens, head_dim %d", (int)length[r], t->head_dim);
        assert_close(o + (size_t)r * row, expected + (size_t)r * row, row, 2e-3, what);
    }
    assert_close(lse, expected_lse, heads, 1e-4, "lse");
    assert_same_alone(a, device_caches, o, lse, t);
    for (int r = 0; r < t->rows; r++) {
        ASSERT_CUDA(cudaFree(device[r].k));
        ASSERT_CUDA(cudaFree(device[r].v));
        free(host[r].k);
        free(host[r].v);
    }
    free(q);
    free(expected);
    free(expected_lse);
    free(o);
    free(lse);
}

/* One request: every length, from one token to many pieces. */
static void test_lengths(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    const int64_t lengths[] = {1, 2, 15, 16, 17, 31, 68, 96, 97, 512, 513, 1000, 5000, 40001};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        run_case(&(struct attention_case){.rows = 1,
                                          .length = {lengths[i]},
                                          .num_kv_heads = 2,
                                          .group = 4,
                                          .head_dim = 128,
                                          .scale_q = 1.0f});
    }
}

static void test_shapes(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    const int dims[] = {8, 24, 64, 80, 96, 128, 200, 256};
    const int groups[] = {1, 3, 4, 7, 8, 9, 16};
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++) {
        for (size_t j = 0; j < sizeof groups / sizeof groups[0]; j++) {
            run_case(&(struct attention_case){.rows = 2,
                                              .length = {70, 1500},
                                              .num_kv_heads = 1 + (int)j % 3,
                                              .group = groups[j],
                                              .head_dim = dims[i],
                                              .scale_q = 1.0f});
        }
    }
}

/* Short and long rows together, more rows than a launch takes, peaked weights, pinned queries. */
static void test_batches(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    const struct attention_case cases[] = {
        {.rows = 4,
         .length = {1, 5000, 68, 1000},
         .num_kv_heads = 2,
         .group = 4,
         .head_dim = 128,
         .scale_q = 1.0f,
         .pinned = true},
        {.rows = MAX_ROWS,
         .length = {1, 68, 300, 31},
         .num_kv_heads = 2,
         .group = 2,
         .head_dim = 64,
         .scale_q = 1.0f,
         .pinned = true},
        {.rows = MAX_ROWS,
         .length = {3000, 2, 700, 1},
         .num_kv_heads = 1,
         .group = 2,
         .head_dim = 64,
         .scale_q = 1.0f},
        {.rows = 3,
         .length = {300, 64, 2000},
         .num_kv_heads = 1,
         .group = 3,
         .head_dim = 64,
         .scale_q = 30.0f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run_case(&cases[i]);
    }
}

/* ---- rows without tokens ---- */

/* Rows of one step, of which those without tokens have o = 0 and lse = -INFINITY and the others the
 * bits that they have alone. */
static void run_rows(const struct attention_case *t)
{
    int num_heads = t->num_kv_heads * t->group;
    size_t width = (size_t)(num_heads * t->head_dim);
    size_t o_bytes = width * sizeof(float);
    size_t lse_bytes = (size_t)num_heads * sizeof(float);
    struct kv_cache host, device;
    const struct kv_cache *caches[MAX_ROWS];
    int64_t length[MAX_ROWS];
    make_cache(&host, &device, 5000, t, 10);
    for (int r = 0; r < t->rows; r++) {
        length[r] = t->length[r % LENGTHS];
        caches[r] = &device;
    }
    float *q = random_floats((size_t)t->rows * width, 1.0f, 5);
    struct static_attention_args a = {.q = q,
                                      .length = length,
                                      .rows = t->rows,
                                      .num_heads = num_heads,
                                      .head_dim = t->head_dim,
                                      .scale = 0.1f};
    float *o, *lse, *o_alone, *lse_alone;
    run_on_gpu(a, caches, (size_t)t->rows * o_bytes, (size_t)t->rows * lse_bytes, t, &o, &lse);
    for (int r = 0; r < t->rows; r++) {
        a.q = q + (size_t)r * width;
        a.length = length + r;
        a.rows = 1;
        run_on_gpu(a, caches, o_bytes, lse_bytes, t, &o_alone, &lse_alone);
        assert_memory_equal(o + (size_t)r * width, o_alone, o_bytes);
        assert_memory_equal(lse + r * num_heads, lse_alone, lse_bytes);
        for (size_t i = 0; length[r] == 0 && i < width; i++) {
            assert_true(o_alone[i] == 0.0f && lse_alone[i / (size_t)t->head_dim] == -INFINITY);
        }
        assert_true(length[r] == 0 || isfinite(lse_alone[0]));
        free(o_alone);
        free(lse_alone);
    }
    ASSERT_CUDA(cudaFree(device.k));
    ASSERT_CUDA(cudaFree(device.v));
    free(host.k);
    free(host.v);
    free(q);
    free(o);
    free(lse);
}

/* Beside rows of one piece and of many, in pieces of their own, in several launches, alone. */
static void test_rows_without_tokens(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    const int64_t lengths[][LENGTHS] = {
        {0, 5000, 0, 1}, {5000, 0, 68, 0}, {0, 0, 64, 1}, {0, 0, 0, 0}};
    const int dims[] = {64, 128, 80};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        for (size_t j = 0; j < sizeof dims / sizeof dims[0]; j++) {
            struct attention_case t = {.rows = i % 2 == 0 ? LENGTHS : MAX_ROWS,
                                       .num_kv_heads = 2,
                                       .group = 3,
                                       .head_dim = dims[j],
                                       .pinned = j == 1};
            memcpy(t.length, lengths[i], sizeof t.length);
            run_rows(&t);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_rows_without_tokens),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, cuda_test_teardown);
}
