/* prefill_attention: every variant against a naive computation in double. */
#include "codelets/prefill_attention/prefill_attention.h"
#include "tests/unit/codelets/kernel_test.h"

#include <omp.h>

struct variant {
    const char *name;
    prefill_attention_kernel *run;
    double tolerance;
};

enum { MAX_VARIANTS = 4 };

/* The variants this CPU can run. avx512 stands for AMX where there is AMX. */
static int runnable_variants(struct variant out[MAX_VARIANTS])
{
    int n = 0;
    out[n++] = (struct variant){"ref", prefill_attention_ref, 1e-6};
#ifdef __x86_64__
    if (mp_isa_detect() >= MP_ISA_AVX2) {
        out[n++] = (struct variant){"avx2", prefill_attention_avx2, 2e-3};
    }
    if (mp_isa_detect() >= MP_ISA_AVX512) {
        out[n++] = (struct variant){"avx512", prefill_attention_avx512, 2e-3};
        if (__builtin_cpu_supports("avx512vnni")) {
            out[n++] = (struct variant){"vnni", prefill_attention_vnni, 2e-3};
        }
    }
#endif
    return n;
}

struct attention_case {
    const char *name;
    int64_t rows, first;
    int num_kv_heads, group, head_dim;
    float scale_q; /* of the queries: large ones make a peaked softmax */
    float outlier; /* factor on one channel of the keys and one of the values */
    enum mp_dtype dtype;
};

struct problem {
    struct kv_cache cache;
    struct prefill_attention_args args;
    float *q;
    float *o;
    float *expected;
    size_t size; /* of q, o and expected */
};

/* One query head over n tokens of head h, softmax straight from its definition. */
static void naive_row(const struct problem *p, int h, const float *q, int64_t n, float *out)
{
    int dim = p->args.head_dim;
    double sum[256] = {0};
    double total = 0.0;
    double max = -INFINITY;
    double *z = mp_xmalloc((size_t)n * sizeof *z);
    for (int64_t j = 0; j < n; j++) {
        size_t at = (size_t)((h * p->cache.capacity + j) * dim);
        z[j] = 0.0;
        for (int c = 0; c < dim; c++) {
            z[j] += (double)q[c] * (double)mp_load(p->cache.k, p->cache.dtype, at + (size_t)c);
        }
        z[j] *= (double)p->args.scale;
        max = fmax(max, z[j]);
    }
    for (int64_t j = 0; j < n; j++) {
        size_t at = (size_t)((h * p->cache.capacity + j) * dim);
        double w = exp(z[j] - max);
        total += w;
        for (int c = 0; c < dim; c++) {
            sum[c] += w * (double)mp_load(p->cache.v, p->cache.dtype, at + (size_t)c);
        }
    }
    for (int c = 0; c < dim; c++) {
        out[c] = (float)(sum[c] / total);
    }
    free(z);
}

/* Random keys and values; the tokens that no row may see are NaN. */
static void *random_cache(const struct attention_case *t, int64_t capacity, uint64_t seed)
{
    int64_t dim = t->head_dim;
    size_t count = (size_t)(t->num_kv_heads * capacity * dim);
    void *x = random_tensor(t->dtype, count, 1.0f, seed);
    for (int64_t i = 0; i < t->num_kv_heads * capacity; i++) {
        size_t at = (size_t)(i * dim);
        mp_store(x, t->dtype, at, t->outlier * mp_load(x, t->dtype, at));
        if (i % capacity >= t->first + t->rows) {
            memset((char *)x + at * mp_dtype_size(t->dtype), 0xff,
                   (size_t)dim * mp_dtype_size(t->dtype));
        }
    }
    return x;
}

static void make_problem(const struct attention_case *t, struct problem *p)
{
    int64_t capacity = t->first + t->rows + 5;
    int num_heads = t->num_kv_heads * t->group;
    p->size = (size_t)(t->rows * num_heads * t->head_dim);
    p->cache = (struct kv_cache){.k = random_cache(t, capacity, 1),
                                 .v = random_cache(t, capacity, 2),
                                 .capacity = capacity,
                                 .num_kv_heads = t->num_kv_heads,
                                 .head_dim = t->head_dim,
                                 .dtype = t->dtype};
    p->q = random_floats(p->size, t->scale_q, 3);
    p->o = mp_xmalloc(p->size * sizeof *p->o);
    p->expected = mp_xmalloc(p->size * sizeof *p->expected);
    p->args = (struct prefill_attention_args){.q = p->q,
                                              .cache = &p->cache,
                                              .first = t->first,
                                              .o = p->o,
                                              .rows = t->rows,
                                              .num_heads = num_heads,
                                              .head_dim = t->head_dim,
                                              .scale = 1.0f / sqrtf((float)t->head_dim)};
    for (int64_t i = 0; i < t->rows * num_heads; i++) {
        int h = (int)(i % num_heads) / t->group;
        naive_row(p, h, p->q + i * t->head_dim, t->first + i / num_heads + 1,
                  p->expected + i * t->head_dim);
    }
}

static void free_problem(struct problem *p)
{
    free(p->cache.k);
    free(p->cache.v);
    free(p->q);
    free(p->o);
    free(p->expected);
}

/* Runs every variant on a poisoned output. max_error 0: the variant's own tolerance. */
static void run_variants(const struct problem *p, const char *name, double max_error)
{
    struct variant variants[MAX_VARIANTS];
    int count = runnable_variants(variants);
    for (int i = 0; i < count; i++) {
        if (p->cache.dtype != MP_BF16 && variants[i].run != prefill_attention_ref) {
            continue;
        }
        char what[80];
        snprintf(what, sizeof what, "%s, %s", name, variants[i].name);
        memset(p->o, 0xff, p->size * sizeof *p->o);
        variants[i].run(&p->args);
        assert_close(p->o, p->expected, p->size,
                     max_error > 0.0 ? max_error : variants[i].tolerance, what);
    }
}

static void run_case(const struct attention_case *t)
{
    struct problem p;
    make_problem(t, &p);
    run_variants(&p, t->name, 0.0);
    free_problem(&p);
}

static void test_against_naive(void **state)
{
    (void)state;
    /* name, rows, first, num_kv_heads, group, head_dim, scale_q, outlier, dtype */
    const struct attention_case cases[] = {
        {"one row", 1, 0, 2, 4, 64, 1.0f, 1.0f, MP_BF16},
        {"one late row", 1, 300, 1, 8, 128, 1.0f, 1.0f, MP_BF16},
        {"seven rows", 7, 5, 2, 3, 64, 1.0f, 1.0f, MP_BF16},
        {"several tiles", 300, 300, 1, 4, 64, 1.0f, 1.0f, MP_BF16},
        {"several blocks", 530, 0, 2, 4, 32, 1.0f, 1.0f, MP_BF16},
        {"no group", 131, 129, 3, 1, 96, 1.0f, 1.0f, MP_BF16},
        {"tile edge", 128, 128, 1, 8, 32, 1.0f, 1.0f, MP_BF16},
        {"head_dim 80", 33, 250, 2, 3, 80, 1.0f, 1.0f, MP_BF16},
        {"head_dim 18", 33, 250, 2, 3, 18, 1.0f, 1.0f, MP_BF16},
        {"head_dim 256", 17, 270, 1, 2, 256, 1.0f, 1.0f, MP_BF16},
        {"many heads", 3, 40, 1, 600, 32, 1.0f, 1.0f, MP_BF16},
        {"peaked", 60, 700, 2, 4, 64, 4.0f, 1.0f, MP_BF16},
        {"outlier channel", 60, 700, 2, 4, 64, 0.5f, 30.0f, MP_BF16},
        {"float32 cache", 20, 150, 2, 2, 64, 1.0f, 1.0f, MP_F32},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run_case(&cases[i]);
    }
}

/* The same bits from any number of threads. */
static void test_threads(void **state)
{
    (void)state;
    const struct attention_case cases[] = {
        {"one block or several", 1100, 0, 1, 2, 64, 2.0f, 3.0f, MP_BF16},
        {"no multiple", 777, 91, 1, 7, 64, 2.0f, 3.0f, MP_BF16},
        {"no group", 1100, 200, 3, 1, 32, 4.0f, 1.0f, MP_BF16},
    };
    const int before = omp_get_max_threads();
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct problem p;
        struct variant variants[MAX_VARIANTS];
        int count = runnable_variants(variants);
        make_problem(&cases[c], &p);
        for (int v = 0; v < count; v++) {
            omp_set_num_threads(1);
            variants[v].run(&p.args);
            memcpy(p.expected, p.o, p.size * sizeof *p.o);
            for (int threads = 2; threads <= 8; threads += threads) {
                omp_set_num_threads(threads);
                variants[v].run(&p.args);
                if (memcmp(p.o, p.expected, p.size * sizeof *p.o) != 0) {
                    fail_msg("%s, %s: other bits from %d threads", cases[c].name, variants[v].name,
                             threads);
                }
            }
        }
        free_problem(&p);
    }
    omp_set_num_threads(before);
}

/* Logits in the thousands overflow nothing: each row takes the value of its best key. Two keys may
 * come within rounding of each other in a row or two. */
static void test_large_logits(void **state)
{
    (void)state;
    struct problem p;
    make_problem(&(struct attention_case){.rows = 40,
                                          .first = 200,
                                          .num_kv_heads = 2,
                                          .group = 2,
                                          .head_dim = 64,
                                          .scale_q = 1e4f,
                                          .outlier = 1.0f,
                                          .dtype = MP_BF16},
                 &p);
    run_variants(&p, "large logits", 0.05);
    free_problem(&p);
}

/* The first token sees itself alone: the output is its value. */
static void test_first_token(void **state)
{
    (void)state;
    const struct attention_case t = {"first token", 9, 0, 2, 3, 64, 3.0f, 1.0f, MP_BF16};
    struct problem p;
    make_problem(&t, &p);
    p.size = (size_t)(p.args.num_heads * t.head_dim); /* compare row 0 only */
    for (int h = 0; h < p.args.num_heads; h++) {
        size_t v = (size_t)(h / t.group * p.cache.capacity * t.head_dim);
        for (int c = 0; c < t.head_dim; c++) {
            p.expected[h * t.head_dim + c] = mp_load(p.cache.v, MP_BF16, v + (size_t)c);
        }
    }
    run_variants(&p, t.name, 0.0);
    free_problem(&p);
}

/* Queries of zero weigh all visible keys alike, and no others. */
static void test_zero_queries(void **state)
{
    (void)state;
    const struct attention_case t = {"zero queries", 140, 10, 1, 2, 32, 0.0f, 1.0f, MP_BF16};
    run_case(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_naive), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_large_logits),  cmocka_unit_test(test_first_token),
        cmocka_unit_test(test_zero_queries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
