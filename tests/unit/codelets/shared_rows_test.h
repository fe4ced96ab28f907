/* Selections that the query heads of a KV head share, and int8 rows, for the tests of
 * sampled_attention's variants on the CPU and on the GPU. */
#ifndef MP_TESTS_SHARED_ROWS_H
#define MP_TESTS_SHARED_ROWS_H

#include "codelets/sampled_attention/sampled_attention.h"
#include "tests/unit/codelets/kernel_test.h"

enum { SHARED_ROWS = 5 };

/* Where the weights of the tokens come from. */
enum shared_form { SHARED_BY_COSINE, SHARED_LISTED, SHARED_UNWEIGHTED, NUM_SHARED_FORMS };

struct shared_case {
    int64_t count; /* offloaded tokens */
    int num_kv_heads, group, head_dim;
    enum mp_dtype dtype;
    float scale_q;
};

static const struct shared_case shared_cases[] = {
    {3000, 2, 4, 128, MP_BF16, 1.0f}, {700, 1, 3, 64, MP_BF16, 20.0f},
    {90, 3, 1, 80, MP_BF16, 1.0f},    {333, 2, 8, 96, MP_BF16, 1.0f},
    {130, 1, 7, 128, MP_BF16, 1.0f},  {100, 1, 16, 64, MP_BF16, 1.0f},
    {70, 1, 19, 32, MP_BF16, 1.0f},   {500, 2, 4, 256, MP_BF16, 1.0f},
    {1, 1, 2, 128, MP_BF16, 1.0f},    {50, 2, 3, 18, MP_BF16, 1.0f},
    {50, 2, 4, 64, MP_F32, 1.0f},     {60, 2, 4, 24, MP_BF16, 1.0f},
    {3000, 2, 4, 128, MP_I8, 1.0f},   {700, 1, 3, 64, MP_I8, 20.0f},
    {90, 3, 1, 80, MP_I8, 1.0f},      {333, 2, 8, 96, MP_I8, 1.0f},
    {500, 1, 5, 256, MP_I8, 1.0f},    {1, 1, 2, 128, MP_I8, 1.0f},
    {50, 2, 3, 18, MP_I8, 1.0f},      {60, 2, 4, 24, MP_I8, 1.0f},
};

/* What mp_kernels_check is asked for: int8 rows make no other demands on head_dim. */
static inline enum mp_dtype shared_demand(const struct shared_case *t)
{
    return t->dtype == MP_I8 ? MP_BF16 : t->dtype;
}

/* Everything of a case that the kernel reads. */
struct shared_rows {
    struct offloaded_kv kv;    /* of every row but the first */
    struct offloaded_kv plain; /* what its rows mean, in MP_F32, if they are MP_I8; else the same */
    int64_t stride;
    uint32_t *ids;            /* [SHARED_ROWS][num_kv_heads][stride] */
    float *log_weights;       /* the same */
    int32_t *nnz;             /* [SHARED_ROWS][num_kv_heads] */
    float *q;                 /* [SHARED_ROWS][heads][head_dim] */
    struct lsh_weight weight; /* used if SHARED_BY_COSINE */
};

/* Row 0 has no offloaded set, row 1 selects nothing, row 2 one token, row 3 all of them, row 4 a
 * third, and in its last KV head nothing if there are more. */
static void select_shared(const struct shared_case *t, struct shared_rows *s)
{
    struct mp_rng rng;
    mp_rng_init(&rng, 40, 0);
    for (int row = 2; row < SHARED_ROWS; row++) {
        for (int h = 0; h < t->num_kv_heads; h++) {
            int list = row * t->num_kv_heads + h;
            for (int64_t i = 0; i < t->count; i++) {
                bool taken = row == 3 || i == 0 || (row == 4 && mp_rng_uniform(&rng) < 0.33);
                if (taken && (row < 4 || h == 0 || h + 1 < t->num_kv_heads)) {
                    s->ids[list * s->stride + s->nnz[list]++] = (uint32_t)i;
                }
            }
        }
    }
}

/* n elements of rows of head_dim, which scale [rows], a float in each struct kv_scale, gets the
 * factors of; *plain as in struct shared_rows. */
static void *shared_int8(size_t n, size_t head_dim, uint64_t seed, float *scale, void **plain)
{
    struct mp_rng rng;
    mp_rng_init(&rng, seed, 0);
    int8_t *x = mp_xmalloc(n);
    float *widened = mp_xmalloc(n * sizeof *widened);
    for (size_t i = 0; i < n; i++) {
        float *own = &scale[i / head_dim * 2];
        if (i % head_dim == 0) {
            *own = (float)(0.02 * mp_rng_uniform(&rng));
        }
        x[i] = (int8_t)(255.0 * mp_rng_uniform(&rng) - 127.0);
        x[i] = i / head_dim == 0 ? 0 : i / head_dim == 1 ? (int8_t)(i % 2 ? 127 : -127) : x[i];
        widened[i] = *own * (float)x[i];
    }
    *plain = widened;
    return x;
}

static inline void make_shared_kv(const struct shared_case *t, struct shared_rows *s)
{
    int64_t capacity = t->count + 5;
    size_t d = (size_t)t->head_dim;
    size_t n = (size_t)t->num_kv_heads * (size_t)capacity * d;
    s->kv = (struct offloaded_kv){.count = t->count,
                                  .capacity = capacity,
                                  .num_kv_heads = t->num_kv_heads,
                                  .head_dim = t->head_dim,
                                  .dtype = t->dtype};
    s->plain = s->kv;
    s->plain.dtype = t->dtype == MP_I8 ? MP_F32 : t->dtype;
    if (t->dtype == MP_I8) {
        s->kv.scales = mp_xmalloc(kv_scale_bytes(t->num_kv_heads, MP_I8, capacity));
        s->kv.k = shared_int8(n, d, 50, &s->kv.scales->k, &s->plain.k);
        s->kv.v = shared_int8(n, d, 51, &s->kv.scales->v, &s->plain.v);
    } else {
        s->kv.k = s->plain.k = random_tensor(t->dtype, n, 1.0f, 50);
        s->kv.v = s->plain.v = random_tensor(t->dtype, n, 1.0f, 51);
    }
}

static inline struct shared_rows *make_shared_rows(const struct shared_case *t)
{
    struct shared_rows *s = mp_xcalloc(1, sizeof *s);
    size_t d = (size_t)t->head_dim;
    size_t lists = (size_t)(SHARED_ROWS * t->num_kv_heads);
    make_shared_kv(t, s);
    memset(s->kv.k, 0, d * mp_dtype_size(t->dtype)); /* a token without direction */
    s->stride = t->count + 3;
    s->ids = mp_xcalloc(lists * (size_t)s->stride, sizeof *s->ids);
    s->nnz = mp_xcalloc(lists, sizeof *s->nnz);
    select_shared(t, s);
    s->log_weights = random_floats(lists * (size_t)s->stride, 3.0f, 61);
    s->q = random_floats(lists * (size_t)t->group * d, t->scale_q, 60);
    memset(s->q + 3 * t->num_kv_heads * t->group * t->head_dim, 0, d * sizeof *s->q);
    lsh_weight_init(&s->weight, 10, 150);
    return s;
}

static inline void release_shared_rows(struct shared_rows *s)
{
    if (s->plain.k != s->kv.k) {
        free(s->plain.k);
        free(s->plain.v);
        free(s->kv.scales);
    }
    free(s->kv.k);
    free(s->kv.v);
    free(s->ids);
    free(s->log_weights);
    free(s->nnz);
    free(s->q);
    free(s);
}

/* shared false: lists are those of query heads. */
static inline void shared_call(sampled_attention_kernel *variant, const struct shared_case *t,
                               const struct shared_rows *s, enum shared_form form, bool shared,
                               float *o, float *lse)
{
    int heads = t->num_kv_heads * t->group;
    int64_t lists = shared ? t->num_kv_heads : heads;
    const struct offloaded_kv *kv[SHARED_ROWS] = {NULL, &s->kv, &s->kv, &s->kv, &s->kv};
    const uint32_t *ids[SHARED_ROWS];
    const float *log_weights[SHARED_ROWS];
    int64_t stride[SHARED_ROWS];
    for (int r = 0; r < SHARED_ROWS; r++) {
        ids[r] = s->ids + r * lists * s->stride;
        log_weights[r] = s->log_weights + r * lists * s->stride;
        stride[r] = s->stride;
    }
    variant(
        &(struct sampled_attention_args){.q = s->q,
                                         .kv = kv,
                                         .ids = ids,
                                         .ids_stride = stride,
                                         .nnz = s->nnz,
                                         .log_weights = form == SHARED_LISTED ? log_weights : NULL,
                                         .weight = form == SHARED_BY_COSINE ? &s->weight : NULL,
                                         .o = o,
                                         .lse = lse,
                                         .rows = SHARED_ROWS,
                                         .num_heads = heads,
                                         .head_dim = t->head_dim,
                                         .scale = 1.0f / sqrtf((float)t->head_dim),
                                         .shared = shared});
}

/* The case with every list written out for each query head that shares it. Free with
 * release_unshared_rows. */
static inline struct shared_rows *make_unshared_rows(const struct shared_case *t,
                                                     const struct shared_rows *s)
{
    struct shared_rows *u = mp_xmalloc(sizeof *u);
    size_t lists = (size_t)(SHARED_ROWS * t->num_kv_heads * t->group);
    *u = *s;
    u->ids = mp_xcalloc(lists * (size_t)s->stride, sizeof *u->ids);
    u->log_weights = mp_xcalloc(lists * (size_t)s->stride, sizeof *u->log_weights);
    u->nnz = mp_xcalloc(lists, sizeof *u->nnz);
    for (size_t i = 0; i < lists; i++) {
        size_t n = (size_t)s->stride;
        size_t from = i / (size_t)t->group;
        memcpy(u->ids + i * n, s->ids + from * n, n * sizeof *u->ids);
        memcpy(u->log_weights + i * n, s->log_weights + from * n, n * sizeof *u->log_weights);
        u->nnz[i] = s->nnz[from];
    }
    return u;
}

static inline void release_unshared_rows(struct shared_rows *u)
{
    free(u->ids);
    free(u->log_weights);
    free(u->nnz);
    free(u);
}

/* What is expected of a case: by the reference, list by list, on what the rows mean. */
static inline void shared_expected(const struct shared_case *t, const struct shared_rows *s,
                                   enum shared_form form, float *o, float *lse)
{
    struct shared_rows *u = make_unshared_rows(t, s);
    u->kv = s->plain;
    shared_call(sampled_attention_ref, t, u, form, false, o, lse);
    release_unshared_rows(u);
}

/* Each head that attends to something is close to what is expected; the others are 0. */
static inline void check_shared(const struct shared_case *t, const struct shared_rows *s,
                                const float *o, const float *lse, const float *expected,
                                const float *expected_lse, const char *what)
{
    size_t d = (size_t)t->head_dim;
    for (int i = 0; i < SHARED_ROWS * t->num_kv_heads * t->group; i++) {
        if (s->nnz[i / t->group] == 0) {
            assert_true(isinf(lse[i]) && lse[i] < 0.0f);
            for (size_t c = 0; c < d; c++) {
                assert_true(o[(size_t)i * d + c] == 0.0f);
            }
        } else {
            assert_close(o + (size_t)i * d, expected + (size_t)i * d, d, 2e-3, what);
            assert_true(fabsf(lse[i] - expected_lse[i]) <= 1e-3f * (1.0f + fabsf(lse[i])));
        }
    }
}

#endif
