/* prefill_attention on the GPU: the dispatcher and each kernel against the plain reference. */
#include "codelets/prefill_attention/prefill_attention.h"
#include "tests/unit/cuda/cuda_test.h"

/* The kernels round the queries to bf16; so does random_queries, for both sides. What is left is
 * the rounding of the softmax weights to bf16: up to 1.7e-3 in these cases, most where few tokens
 * carry a row. */
static const double TOLERANCE = 2e-3;

struct attention_case {
    int64_t rows, first;
    int num_kv_heads, group, head_dim;
    float scale_q; /* of the queries: large ones make a peaked softmax */
    double tolerance;
};

struct problem {
    struct kv_cache host;
    struct kv_cache device;
    struct prefill_attention_args args; /* on the device, but for o */
    float *expected;
    size_t size; /* of q, o and expected */
};

/* N(0, scale^2), each one a bf16. */
static float *random_queries(size_t n, float scale, uint64_t seed)
{
    float *q = random_floats(n, scale, seed);
    for (size_t i = 0; i < n; i++) {
        q[i] = mp_bf16_to_f32(mp_f32_to_bf16(q[i]));
    }
    return q;
}

/* Random keys or values; the tokens that no row may see are NaN. */
static uint16_t *random_cache(const struct attention_case *t, int64_t capacity, uint64_t seed)
{
    size_t dim = (size_t)t->head_dim;
    int64_t tokens = t->num_kv_heads * capacity;
    uint16_t *x = random_tensor(MP_BF16, (size_t)tokens * dim, 1.0f, seed);
    for (int64_t i = 0; i < tokens; i++) {
        if (i % capacity >= t->first + t->rows) {
            memset(x + (size_t)i * dim, 0xff, dim * sizeof *x);
        }
    }
    return x;
}

static void make_problem(const struct attention_case *t, struct problem *p)
{
    int64_t capacity = t->first + t->rows + 5;
    int num_heads = t->num_kv_heads * t->group;
    size_t cache_bytes = (size_t)(t->num_kv_heads * capacity * t->head_dim) * sizeof(uint16_t);
    p->size = (size_t)(t->rows * num_heads * t->head_dim);
    p->host = (struct kv_cache){.k = random_cache(t, capacity, 1),
                                .v = random_cache(t, capacity, 2),
                                .capacity = capacity,
                                .num_kv_heads = t->num_kv_heads,
                                .head_dim = t->head_dim,
                                .dtype = MP_BF16};
    p->device = p->host;
    p->device.k = device_copy(p->host.k, cache_bytes);
    p->device.v = device_copy(p->host.v, cache_bytes);
    float *q = random_queries(p->size, t->scale_q, 3);
    p->expected = mp_xmalloc(p->size * sizeof *p->expected);
    p->args = (struct prefill_attention_args){.q = q,
                                              .cache = &p->host,
                                              .first = t->first,
                                              .o = p->expected,
                                              .rows = t->rows,
                                              .num_heads = num_heads,
                                              .head_dim = t->head_dim,
                                              .scale = 1.0f / sqrtf((float)t->head_dim)};
    prefill_attention_ref(&p->args);
    p->args.q = device_copy(q, p->size * sizeof *q);
    p->args.cache = &p->device;
    p->args.o = NULL;
    free(q);
}

static void free_problem(struct problem *p)
{
    free(p->host.k);
    free(p->host.v);
    free(p->expected);
    ASSERT_CUDA(cudaFree(p->device.k));
    ASSERT_CUDA(cudaFree(p->device.v));
    ASSERT_CUDA(cudaFree((void *)(uintptr_t)p->args.q));
}

/* Runs one kernel on a poisoned output. */
static void run_kernel(struct problem *p, const struct attention_case *t, const char *name,
                       prefill_attention_kernel *kernel)
{
    char what[160];
    snprintf(what, sizeof what, "%s, rows %lld at %lld, %d x %d heads of %d", name,
             (long long)t->rows, (long long)t->first, t->num_kv_heads, t->group, t->head_dim);
    p->args.o = device_copy(NULL, p->size * sizeof *p->args.o);
    cuda_op_begin("prefill_attention");
    kernel(&p->args);
    cuda_op_end();
    float *o = host_copy(p->args.o, p->size * sizeof *o);
    assert_close(o, p->expected, p->size, t->tolerance, what);
    free(o);
    ASSERT_CUDA(cudaFree(p->args.o));
}

static int device_capability(void)
{
    struct cuda_device_info info;
    struct mp_error err;
    if (cuda_device_probe(0, &info, &err) != 0) {
        fail_msg("%s", err.message);
    }
    return info.capability;
}

static void run_case(const struct attention_case *t, int capability)
{
    struct problem p;
    make_problem(t, &p);
    run_kernel(&p, t, "dispatcher", prefill_attention_cuda);
    run_kernel(&p, t, "mma", prefill_attention_mma_cuda);
    if (capability == 90 && (t->head_dim == 64 || t->head_dim == 128)) {
        run_kernel(&p, t, "wgmma", prefill_attention_wgmma_cuda);
    }
    free_problem(&p);
}

/* Every number of rows and every first token, on both sides of the tile edges. */
static void run_grid(int num_kv_heads, int group, int head_dim)
{
    static const int64_t rows[] = {1, 17, 64, 65, 128, 200, 333};
    static const int64_t firsts[] = {0, 1, 63, 64, 100, 1000};
    int capability = device_capability();
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        for (size_t f = 0; f < sizeof firsts / sizeof firsts[0]; f++) {
            const struct attention_case t = {rows[r],  firsts[f], num_kv_heads, group,
                                             head_dim, 1.0f,      TOLERANCE};
            run_case(&t, capability);
        }
    }
}

static void test_head_dim_64(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    run_grid(3, 1, 64);
    run_grid(2, 4, 64);
    run_grid(1, 8, 64);
}

static void test_head_dim_128(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    run_grid(3, 1, 128);
    run_grid(2, 4, 128);
    run_grid(1, 8, 128);
}

static void test_other_shapes(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    /* rows, first, num_kv_heads, group, head_dim, scale_q, tolerance */
    const struct attention_case cases[] = {
        {33, 250, 2, 3, 16, 1.0f, TOLERANCE},   {131, 129, 3, 1, 96, 1.0f, TOLERANCE},
        {33, 250, 2, 3, 80, 1.0f, TOLERANCE},   {70, 270, 2, 5, 256, 1.0f, TOLERANCE},
        {17, 1000, 1, 2, 192, 1.0f, TOLERANCE}, {3, 40, 1, 600, 32, 1.0f, TOLERANCE},
        {60, 700, 2, 4, 64, 4.0f, TOLERANCE},   {90, 700, 2, 4, 128, 4.0f, TOLERANCE},
    };
    int capability = device_capability();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run_case(&cases[i], capability);
    }
}

/* Queries of zero weigh all visible keys alike, and no others. */
static void test_zero_queries(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    const struct attention_case t = {140, 10, 1, 2, 64, 0.0f, 1e-5};
    run_case(&t, device_capability());
}

/* Logits in the thousands overflow nothing: each row takes the value of its best key. Two keys may
 * come within rounding of each other in a row or two. */
static void test_large_logits(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    const struct attention_case t = {80, 200, 2, 2, 128, 1e4f, 0.05};
    run_case(&t, device_capability());
}

static void test_no_rows(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    struct kv_cache cache = {.num_kv_heads = 1, .head_dim = 64, .dtype = MP_BF16};
    const struct prefill_attention_args args = {
        .cache = &cache, .num_heads = 1, .head_dim = 64, .scale = 0.125f};
    cuda_op_begin("prefill_attention");
    prefill_attention_cuda(&args);
    cuda_op_end();
    cuda_synchronize();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head_dim_64),  cmocka_unit_test(test_head_dim_128),
        cmocka_unit_test(test_other_shapes), cmocka_unit_test(test_zero_queries),
        cmocka_unit_test(test_large_logits), cmocka_unit_test(test_no_rows),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, cuda_test_teardown);
}
