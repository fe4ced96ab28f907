/* projection: RMSNorm, QKV product, QK-norm, RoPE, and what lands in the caches. */
#include "codelets/projection/projection.h"
#include "tests/unit/codelets/dense_test.h"

enum { MAX_TARGETS = 17, CAPACITY = 600 };

struct problem {
    struct mp_shape shape;
    void *block;
    struct projection_weights weights;
    float *inv_freq;
    float *x;
    int64_t num_targets;
    int64_t rows_per_target;
    enum mp_dtype dtype;
    bool centered;
};

/* What a run writes. */
struct result {
    float *q;
    float *copies[2]; /* of the first query head, and of all others */
    struct kv_cache caches[MAX_TARGETS];
};

static struct problem problem_create(const struct mp_shape *shape, int64_t num_targets,
                                     int64_t rows_per_target)
{
    struct problem p = {
        .shape = *shape, .num_targets = num_targets, .rows_per_target = rows_per_target};
    size_t hidden = (size_t)shape->hidden_size;
    size_t width = (size_t)mp_shape_qkv_rows(shape);
    p.block = alloc_block(projection_weights_at(shape, NULL, NULL));
    projection_weights_at(shape, p.block, &p.weights);
    fill_f32(p.weights.norm, hidden, 1.0f, 0.2f, 1);
    fill_bf16(p.weights.qkv, width * hidden, 0.1f, 2);
    fill_f32(p.weights.bias, width, 0.0f, 0.5f, 3);
    fill_f32(p.weights.q_norm, (size_t)shape->head_dim, 1.0f, 0.2f, 4);
    fill_f32(p.weights.k_norm, (size_t)shape->head_dim, 1.0f, 0.2f, 5);
    p.inv_freq = mp_xcalloc((size_t)shape->head_dim / 2, sizeof *p.inv_freq);
    for (int i = 0; i < shape->head_dim / 2; i++) {
        p.inv_freq[i] = powf(10000.0f, -2.0f * (float)i / (float)shape->head_dim);
    }
    p.x = random_floats((size_t)(num_targets * rows_per_target) * hidden, 1.0f, 6);
    return p;
}

static void problem_free(struct problem *p)
{
    mp_free(p->block);
    free(p->inv_freq);
    free(p->x);
}

/* Targets differ in slot, position and rope scale. */
static struct projection_target target(const struct problem *p, struct kv_cache *cache, int64_t t)
{
    return (struct projection_target){
        .cache = cache,
        .index = 3 + t,
        .position = 1000 * t + 5,
        .inv_freq = p->inv_freq,
        .rope_scale = 1.0f + 0.1f * (float)t,
    };
}

static struct result result_create(const struct problem *p)
{
    struct result r;
    int kv_heads = p->shape.num_key_value_heads;
    int d = p->shape.head_dim;
    size_t rows = (size_t)(p->num_targets * p->rows_per_target);
    size_t n = (size_t)kv_heads * CAPACITY * (size_t)d;
    r.q = mp_xcalloc(rows * (size_t)mp_shape_q_width(&p->shape), sizeof *r.q);
    for (int i = 0; i < 2; i++) {
        r.copies[i] = mp_xcalloc(rows * (size_t)mp_shape_q_width(&p->shape), sizeof *r.q);
    }
    for (int64_t t = 0; t < p->num_targets; t++) {
        r.caches[t] = (struct kv_cache){
            .k = mp_xcalloc(n, mp_dtype_size(p->dtype)),
            .v = mp_xcalloc(n, mp_dtype_size(p->dtype)),
            .capacity = CAPACITY,
            .num_kv_heads = kv_heads,
            .head_dim = d,
            .dtype = p->dtype,
        };
        if (p->centered) {
            r.caches[t].k_mean = random_floats((size_t)(kv_heads * d), 1.0f, 10 + (uint64_t)t);
        }
    }
    return r;
}

static void result_free(const struct problem *p, struct result *r)
{
    free(r->q);
    free(r->copies[0]);
    free(r->copies[1]);
    for (int64_t t = 0; t < p->num_targets; t++) {
        free(r->caches[t].k);
        free(r->caches[t].v);
        free(r->caches[t].k_mean);
    }
}

static struct result run(const struct problem *p, projection_kernel *op)
{
    struct result r = result_create(p);
    struct projection_target targets[MAX_TARGETS];
    for (int64_t t = 0; t < p->num_targets; t++) {
        targets[t] = target(p, &r.caches[t], t);
    }
    const struct projection_copy copies[] = {
        {r.copies[0], 0, 1},
        {r.copies[1], 1, p->shape.num_attention_heads - 1},
    };
    op(&(struct projection_args){
        .shape = &p->shape,
        .weights = p->weights,
        .x = p->x,
        .q = r.q,
        .copies = copies,
        .num_copies = 2,
        .targets = targets,
        .num_targets = p->num_targets,
        .rows_per_target = p->rows_per_target,
    });
    return r;
}

/* Copies hold the bits of q, each those of its heads. */
static void check_copies(const struct problem *p, const struct result *r)
{
    int64_t rows = p->num_targets * p->rows_per_target;
    int64_t d = p->shape.head_dim;
    int64_t width = mp_shape_q_width(&p->shape);
    for (int64_t row = 0; row < rows; row++) {
        const float *q = r->q + row * width;
        assert_memory_equal(r->copies[0] + row * d, q, (size_t)d * sizeof *q);
        assert_memory_equal(r->copies[1] + row * (width - d), q + d,
                            (size_t)(width - d) * sizeof *q);
    }
}

/* Head `head` of the fused output of one row, in double, before norm and rotation. */
static void naive_head(const struct problem *p, int64_t row, int head, double *out)
{
    int hidden = p->shape.hidden_size;
    int d = p->shape.head_dim;
    const float *x = p->x + row * hidden;
    double square = 0.0;
    for (int i = 0; i < hidden; i++) {
        square += (double)x[i] * x[i] / hidden;
    }
    double scale = 1.0 / sqrt(square + (double)p->shape.rms_norm_eps);
    for (int c = 0; c < d; c++) {
        int64_t o = head * d + c;
        out[c] = p->weights.bias != NULL ? p->weights.bias[o] : 0.0;
        for (int i = 0; i < hidden; i++) {
            out[c] +=
                x[i] * scale * p->weights.norm[i] * mp_bf16_to_f32(p->weights.qkv[o * hidden + i]);
        }
    }
}

/* Norm and rotation of a head in double: elements i and i + d/2 turn by position * inv_freq[i]. */
static void naive_rope(const struct problem *p, double *x, const float *norm,
                       const struct projection_target *t, int64_t offset)
{
    int d = p->shape.head_dim;
    double square = 0.0;
    for (int i = 0; i < d; i++) {
        square += x[i] * x[i] / d;
    }
    for (int i = 0; norm != NULL && i < d; i++) {
        x[i] *= norm[i] / sqrt(square + (double)p->shape.qk_norm_eps);
    }
    for (int i = 0; i < d / 2; i++) {
        double angle = (double)((float)(t->position + offset) * t->inv_freq[i]);
        double c = cos(angle) * (double)t->rope_scale;
        double s = sin(angle) * (double)t->rope_scale;
        double a = x[i];
        double b = x[i + d / 2];
        x[i] = a * c - b * s;
        x[i + d / 2] = b * c + a * s;
    }
}

static void naive_row(const struct problem *p, struct result *r, int64_t row)
{
    const struct mp_shape *s = &p->shape;
    int d = s->head_dim;
    int64_t at = row / p->rows_per_target;
    int64_t offset = row % p->rows_per_target;
    struct kv_cache *cache = &r->caches[at];
    struct projection_target t = target(p, cache, at);
    double head[MP_MAX_HEAD_DIM];
    for (int h = 0; h < s->num_attention_heads; h++) {
        naive_head(p, row, h, head);
        naive_rope(p, head, p->weights.q_norm, &t, offset);
        for (int c = 0; c < d; c++) {
            r->q[(row * s->num_attention_heads + h) * d + c] = (float)head[c];
        }
    }
    for (int h = 0; h < s->num_key_value_heads; h++) {
        size_t slot = (size_t)((h * CAPACITY + t.index + offset) * d);
        naive_head(p, row, s->num_attention_heads + h, head);
        naive_rope(p, head, p->weights.k_norm, &t, offset);
        for (int c = 0; c < d; c++) {
            double mean = p->centered ? cache->k_mean[h * d + c] : 0.0;
            mp_store(cache->k, p->dtype, slot + (size_t)c, (float)(head[c] - mean));
        }
        naive_head(p, row, s->num_attention_heads + s->num_key_value_heads + h, head);
        for (int c = 0; c < d; c++) {
            mp_store(cache->v, p->dtype, slot + (size_t)c, (float)head[c]);
        }
    }
}

static struct result naive(const struct problem *p)
{
    struct result r = result_create(p);
    for (int64_t row = 0; row < p->num_targets * p->rows_per_target; row++) {
        naive_row(p, &r, row);
    }
    return r;
}

/* Caches are compared as a whole: what was not written must still be zero. */
static void compare_tensor(const struct problem *p, const void *x, const void *expected,
                           double tolerance, const char *what)
{
    size_t n = (size_t)p->shape.num_key_value_heads * CAPACITY * (size_t)p->shape.head_dim;
    float *a = mp_xcalloc(n, sizeof *a);
    float *b = mp_xcalloc(n, sizeof *b);
    for (size_t i = 0; i < n; i++) {
        a[i] = mp_load(x, p->dtype, i);
        b[i] = mp_load(expected, p->dtype, i);
        assert_true(b[i] != 0.0f || a[i] == 0.0f);
    }
    assert_close(a, b, n, tolerance, what);
    free(a);
    free(b);
}

static void compare(const struct problem *p, const struct result *x, const struct result *expected,
                    double tolerance, const char *what)
{
    size_t rows = (size_t)(p->num_targets * p->rows_per_target);
    assert_close(x->q, expected->q, rows * (size_t)mp_shape_q_width(&p->shape), tolerance, what);
    double stored = p->dtype == MP_BF16 ? fmax(tolerance, 2e-3) : tolerance;
    for (int64_t t = 0; t < p->num_targets; t++) {
        compare_tensor(p, x->caches[t].k, expected->caches[t].k, stored, what);
        compare_tensor(p, x->caches[t].v, expected->caches[t].v, stored, what);
    }
}

static void check_problem(const struct problem *p)
{
    struct result oracle = naive(p);
    struct result expected = run(p, projection_ref);
    compare(p, &expected, &oracle, 1e-5, "ref");
    FOR_EACH_ISA(isa)
    {
        struct result r = run(p, projection_fast);
        int64_t rows = p->num_targets * p->rows_per_target;
        compare(p, &r, &expected, f32_tolerance(isa, rows), mp_isa_name(isa));
        check_copies(p, &r);
        result_free(p, &r);
    }
    check_copies(p, &expected);
    result_free(p, &oracle);
    result_free(p, &expected);
}

/* Both cache types, centered and not. */
static void check(const struct mp_shape *shape, int64_t num_targets, int64_t rows_per_target)
{
    struct problem p = problem_create(shape, num_targets, rows_per_target);
    for (int mode = 0; mode < 4; mode++) {
        p.dtype = mode & 1 ? MP_BF16 : MP_F32;
        p.centered = mode & 2;
        check_problem(&p);
    }
    problem_free(&p);
}

static void test_head_dims(void **state)
{
    (void)state;
    static const int head_dims[] = {2, 32, 64, 80, 128};
    for (size_t i = 0; i < sizeof head_dims / sizeof head_dims[0]; i++) {
        struct mp_shape shape = make_shape(48, 4, 2, head_dims[i]);
        check(&shape, 1, 3);
    }
}

static void test_rows(void **state)
{
    (void)state;
    struct mp_shape shape = make_shape(40, 1, 1, 32);
    for (int i = 0; i < NUM_ROW_COUNTS; i++) {
        check(&shape, 1, row_counts[i]);
    }
}

static void test_targets(void **state)
{
    (void)state;
    struct mp_shape shape = make_shape(33, 3, 1, 32);
    check(&shape, 2, 1);
    check(&shape, MAX_TARGETS, 1);
    check(&shape, 3, 7);
}

static void test_bias_and_qk_norm(void **state)
{
    (void)state;
    for (int mode = 1; mode < 4; mode++) {
        struct mp_shape shape = make_shape(40, 4, 2, 64);
        shape.qkv_bias = mode & 1;
        shape.qk_norm = mode & 2;
        check(&shape, 3, 1);
        check(&shape, 1, 20);
    }
}

/* The arrays of a block are aligned, in order, and only those the shape has. */
static void test_layout(void **state)
{
    (void)state;
    struct mp_shape shape = make_shape(40, 4, 2, 80);
    char *base = alloc_block(1 << 20);
    struct projection_weights w;
    assert_int_equal(projection_weights_at(&shape, base, &w), 192 + 640 * 40 * 2);
    assert_ptr_equal(w.norm, base);
    assert_ptr_equal(w.qkv, base + 192); /* 40 * 4 = 160 */
    assert_true(w.bias == NULL && w.q_norm == NULL && w.k_norm == NULL);
    shape.qkv_bias = true;
    shape.qk_norm = true;
    assert_int_equal(projection_weights_at(&shape, base, &w), 51392 + 2560 + 2 * 320);
    assert_ptr_equal(w.bias, base + 51392);
    assert_ptr_equal(w.q_norm, base + 53952);
    assert_ptr_equal(w.k_norm, base + 54272);
    mp_free(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head_dims), cmocka_unit_test(test_rows),
        cmocka_unit_test(test_targets),   cmocka_unit_test(test_bias_and_qk_norm),
        cmocka_unit_test(test_layout),
    };
    return cmocka_run_group_tests(tests, NULL, release_kernels);
}
