/* projection on the GPU against the reference: q, and what lands in the caches. */
#include "codelets/common/linear/linear_cuda.h"
#include "codelets/projection/projection.h"
#include "tests/unit/codelets/dense_test.h"
#include "tests/unit/cuda/cuda_test.h"

enum { MAX_TARGETS = 40, CAPACITY = 3000 };

struct problem {
    struct mp_shape shape;
    int64_t num_targets;
    int64_t rows_per_target;
    bool centered;
    void *block; /* weights */
    float *inv_freq;
    float *x;
    float *k_mean; /* [num_targets][num_kv_heads][head_dim] */
};

/* What a run writes, in host memory. */
struct result {
    float *q;
    float *copies; /* of all heads but the first, then of the first; NULL: not wanted */
    uint16_t *k;   /* [num_targets][num_kv_heads][CAPACITY][head_dim] */
    uint16_t *v;
};

static size_t num_rows(const struct problem *p)
{
    return (size_t)(p->num_targets * p->rows_per_target);
}

static size_t head_elements(const struct problem *p)
{
    return (size_t)(p->shape.num_key_value_heads * p->shape.head_dim);
}

static size_t cache_elements(const struct problem *p)
{
    return (size_t)p->num_targets * head_elements(p) * CAPACITY;
}

static size_t q_elements(const struct problem *p)
{
    return num_rows(p) * (size_t)mp_shape_q_width(&p->shape);
}

static struct problem problem_create(const struct mp_shape *shape, int64_t num_targets,
                                     int64_t rows_per_target)
{
    struct problem p = {
        .shape = *shape, .num_targets = num_targets, .rows_per_target = rows_per_target};
    const size_t hidden = (size_t)shape->hidden_size;
    const size_t width = (size_t)mp_shape_qkv_rows(shape);
    struct projection_weights w;
    p.block = alloc_block(projection_weights_at(shape, NULL, NULL));
    projection_weights_at(shape, p.block, &w);
    fill_f32(w.norm, hidden, 1.0f, 0.2f, 1);
    fill_bf16(w.qkv, width * hidden, 0.1f, 2);
    fill_f32(w.bias, width, 0.0f, 0.5f, 3);
    fill_f32(w.q_norm, (size_t)shape->head_dim, 1.0f, 0.2f, 4);
    fill_f32(w.k_norm, (size_t)shape->head_dim, 1.0f, 0.2f, 5);
    p.inv_freq = mp_xcalloc((size_t)shape->head_dim / 2, sizeof *p.inv_freq);
    for (int i = 0; i < shape->head_dim / 2; i++) {
        p.inv_freq[i] = powf(10000.0f, -2.0f * (float)i / (float)shape->head_dim);
    }
    p.x = random_floats(num_rows(&p) * hidden, 1.0f, 6);
    p.k_mean = random_floats((size_t)num_targets * head_elements(&p), 1.0f, 7);
    return p;
}

static void problem_free(struct problem *p)
{
    mp_free(p->block);
    free(p->inv_freq);
    free(p->x);
    free(p->k_mean);
}

static struct result result_create(const struct problem *p)
{
    return (struct result){
        .q = mp_xcalloc(q_elements(p), sizeof(float)),
        .k = mp_xcalloc(cache_elements(p), sizeof(uint16_t)),
        .v = mp_xcalloc(cache_elements(p), sizeof(uint16_t)),
    };
}

static void result_free(struct result *r)
{
    free(r->q);
    free(r->copies);
    free(r->k);
    free(r->v);
}

static int64_t first_slot(int64_t target)
{
    return 3 + target;
}

static int64_t q_rows(const struct problem *p)
{
    return p->num_targets * p->rows_per_target;
}

/* Copies hold the bits of q, each those of its heads. */
static void check_copies(const struct problem *p, const struct result *r)
{
    int64_t d = p->shape.head_dim;
    int64_t others = (p->shape.num_attention_heads - 1) * d;
    for (int64_t row = 0; row < q_rows(p); row++) {
        const float *q = r->q + row * (others + d);
        assert_memory_equal(r->copies + row * others, q + d, (size_t)others * sizeof *q);
        assert_memory_equal(r->copies + q_rows(p) * others + row * d, q, (size_t)d * sizeof *q);
    }
}

/* Runs the op on arrays that all lie on one side. Targets differ in slot, position and rope scale.
 */
static void run(const struct problem *p, projection_kernel *op, const void *block, const float *x,
                float *k_mean, const struct result *r)
{
    struct kv_cache caches[MAX_TARGETS];
    struct projection_target targets[MAX_TARGETS];
    const size_t cache_size = head_elements(p) * CAPACITY;
    for (int64_t t = 0; t < p->num_targets; t++) {
        caches[t] = (struct kv_cache){
            .k = r->k + (size_t)t * cache_size,
            .v = r->v + (size_t)t * cache_size,
            .k_mean = p->centered ? k_mean + (size_t)t * head_elements(p) : NULL,
            .capacity = CAPACITY,
            .num_kv_heads = p->shape.num_key_value_heads,
            .head_dim = p->shape.head_dim,
            .dtype = MP_BF16,
        };
        targets[t] = (struct projection_target){
            .cache = &caches[t],
            .index = first_slot(t),
            .position = 3100 * t + 5,
            .inv_freq = p->inv_freq,
            .rope_scale = 1.0f + 0.1f * (float)t,
        };
    }
    const int others = p->shape.num_attention_heads - 1;
    const struct projection_copy copies[] = {
        {r->copies, 1, others},
        {r->copies + q_rows(p) * others * p->shape.head_dim, 0, 1},
    };
    struct projection_args a = {
        .shape = &p->shape,
        .x = x,
        .q = r->q,
        .copies = copies,
        .num_copies = r->copies != NULL ? 2 : 0,
        .targets = targets,
        .num_targets = p->num_targets,
        .rows_per_target = p->rows_per_target,
    };
    projection_weights_at(&p->shape, block, &a.weights);
    op(&a);
}

static struct result run_cuda(const struct problem *p)
{
    const size_t cache_bytes = cache_elements(p) * sizeof(uint16_t);
    struct result host = result_create(p);
    struct result device = {
        .q = device_copy(NULL, q_elements(p) * sizeof(float)),
        .copies = device_copy(NULL, q_elements(p) * sizeof(float)),
        .k = device_copy(host.k, cache_bytes),
        .v = device_copy(host.v, cache_bytes),
    };
    void *block = device_copy(p->block, projection_weights_at(&p->shape, NULL, NULL));
    float *x = device_copy(p->x, num_rows(p) * (size_t)p->shape.hidden_size * sizeof(float));
    float *k_mean =
        device_copy(p->k_mean, (size_t)p->num_targets * head_elements(p) * sizeof(float));
    result_free(&host);
    cuda_op_begin("projection");
    run(p, projection_cuda, block, x, k_mean, &device);
    cuda_op_end();
    host.q = host_copy(device.q, q_elements(p) * sizeof(float));
    host.copies = host_copy(device.copies, q_elements(p) * sizeof(float));
    host.k = host_copy(device.k, cache_bytes);
    host.v = host_copy(device.v, cache_bytes);
    ASSERT_CUDA(cudaFree(device.q));
    ASSERT_CUDA(cudaFree(device.copies));
    ASSERT_CUDA(cudaFree(device.k));
    ASSERT_CUDA(cudaFree(device.v));
    ASSERT_CUDA(cudaFree(block));
    ASSERT_CUDA(cudaFree(x));
    ASSERT_CUDA(cudaFree(k_mean));
    return host;
}

/* Whether element i of the caches belongs to a token that the op appended. */
static bool is_appended(const struct problem *p, size_t i)
{
    size_t head_dim = (size_t)p->shape.head_dim;
    int64_t slot = (int64_t)(i / head_dim % CAPACITY);
    int64_t target = (int64_t)(i / (head_elements(p) * CAPACITY));
    return slot >= first_slot(target) && slot < first_slot(target) + p->rows_per_target;
}

/* Caches are compared as a whole: what was not written must still be zero. */
static void compare_cache(const struct problem *p, const uint16_t *x, const uint16_t *expected,
                          const char *what)
{
    const size_t n = cache_elements(p);
    float *a = mp_xcalloc(n, sizeof *a);
    float *b = mp_xcalloc(n, sizeof *b);
    for (size_t i = 0; i < n; i++) {
        a[i] = mp_bf16_to_f32(x[i]);
        b[i] = mp_bf16_to_f32(expected[i]);
        if (!is_appended(p, i) && a[i] != 0.0f) {
            fail_msg("%s: element %zu of %zu: found %g, expected 0", what, i, n, (double)a[i]);
        }
    }
    assert_close(a, b, n, 2e-3, what);
    free(a);
    free(b);
}

/* Centered and not. */
static void check(const struct mp_shape *shape, int64_t num_targets, int64_t rows_per_target)
{
    struct problem p = problem_create(shape, num_targets, rows_per_target);
    for (int centered = 0; centered < 2; centered++) {
        p.centered = centered;
        struct result expected = result_create(&p);
        run(&p, projection_ref, p.block, p.x, p.k_mean, &expected);
        struct result r = run_cuda(&p);
        assert_close(r.q, expected.q, q_elements(&p), 1e-4, "q");
        check_copies(&p, &r);
        compare_cache(&p, r.k, expected.k, "k");
        compare_cache(&p, r.v, expected.v, "v");
        result_free(&r);
        result_free(&expected);
    }
    problem_free(&p);
}

static void test_head_dims(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    static const int head_dims[] = {2, 32, 64, 80, 128, 256};
    for (size_t i = 0; i < sizeof head_dims / sizeof head_dims[0]; i++) {
        struct mp_shape shape = make_shape(48, 4, 2, head_dims[i]);
        shape.qk_norm = i % 2 == 1;
        check(&shape, 1, 3);
    }
}

static void test_rows(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    struct mp_shape shape = make_shape(40, 1, 1, 32);
    for (int i = 0; i < NUM_ROW_COUNTS; i++) {
        check(&shape, 1, row_counts[i]);
    }
    check(&shape, 1, LINEAR_CUDA_ROW_BLOCK + 3);
}

/* Below, at and above the targets of one launch; targets that straddle two row blocks. */
static void test_targets(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    struct mp_shape shape = make_shape(33, 3, 1, 32);
    check(&shape, 2, 1);
    check(&shape, 16, 1);
    check(&shape, 17, 1);
    check(&shape, MAX_TARGETS, 1);
    check(&shape, 3, 7);
    check(&shape, 3, 1000);
    check(&shape, MAX_TARGETS, 60);
}

static void test_bias_and_qk_norm(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (int mode = 1; mode < 4; mode++) {
        struct mp_shape shape = make_shape(40, 4, 2, 64);
        shape.qkv_bias = mode & 1;
        shape.qk_norm = mode & 2;
        check(&shape, 3, 1);
        check(&shape, 1, 20);
    }
}

static int teardown(void **state)
{
    release_kernels(state);
    return cuda_test_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head_dims),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_bias_and_qk_norm),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, teardown);
}
