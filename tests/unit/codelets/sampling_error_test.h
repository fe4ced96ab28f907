/* Drawn tokens and the output over them, for the tests of sampling_error on the CPU and on the
 * GPU. */
#ifndef MP_TESTS_SAMPLING_ERROR_H
#define MP_TESTS_SAMPLING_ERROR_H

#include "codelets/sampling_error/sampling_error.h"
#include "tests/unit/codelets/shared_rows_test.h"

/* Query heads of the layer before and after those of the shard. */
enum { ERROR_BEFORE = 2, ERROR_AFTER = 1 };

static inline int error_layer_heads(const struct shared_case *t)
{
    return ERROR_BEFORE + t->num_kv_heads * t->group + ERROR_AFTER;
}

/* The merged output of a layer, of which the shard's heads are what they have drawn. */
struct error_output {
    float *o;   /* [SHARED_ROWS][layer heads][head_dim] */
    float *lse; /* [SHARED_ROWS][layer heads] */
};

/* Rows of the case whose log-weights are those of probabilities. */
static inline struct shared_rows *make_drawn_rows(const struct shared_case *t)
{
    struct shared_rows *s = make_shared_rows(t);
    size_t n = (size_t)(SHARED_ROWS * t->num_kv_heads) * (size_t)s->stride;
    for (size_t i = 0; i < n; i++) {
        s->log_weights[i] = i % 5 == 0 ? 0.0f : fabsf(s->log_weights[i]);
    }
    return s;
}

static inline struct error_output make_error_output(const struct shared_case *t,
                                                    const struct shared_rows *s)
{
    size_t d = (size_t)t->head_dim;
    size_t heads = (size_t)(t->num_kv_heads * t->group);
    size_t layer_heads = (size_t)error_layer_heads(t);
    struct error_output out = {random_floats(SHARED_ROWS * layer_heads * d, 1.0f, 70),
                               random_floats(SHARED_ROWS * layer_heads, 1.0f, 71)};
    float *o = mp_xcalloc(SHARED_ROWS * heads * d, sizeof *o);
    float *lse = mp_xcalloc(SHARED_ROWS * heads, sizeof *lse);
    shared_expected(t, s, SHARED_LISTED, o, lse);
    for (size_t r = 0; r < SHARED_ROWS; r++) {
        size_t to = r * layer_heads + ERROR_BEFORE;
        memcpy(out.o + to * d, o + r * heads * d, heads * d * sizeof *o);
        memcpy(out.lse + to, lse + r * heads, heads * sizeof *lse);
    }
    free(o);
    free(lse);
    return out;
}

static inline void sampling_error_call(sampling_error_kernel *variant, const struct shared_case *t,
                                       const struct shared_rows *s, const struct error_output *out,
                                       float *error)
{
    const struct offloaded_kv *kv[SHARED_ROWS] = {NULL, &s->kv, &s->kv, &s->kv, &s->kv};
    const uint32_t *ids[SHARED_ROWS];
    const float *log_weights[SHARED_ROWS];
    int64_t stride[SHARED_ROWS];
    for (int r = 0; r < SHARED_ROWS; r++) {
        ids[r] = s->ids + r * t->num_kv_heads * s->stride;
        log_weights[r] = s->log_weights + r * t->num_kv_heads * s->stride;
        stride[r] = s->stride;
    }
    variant(&(struct sampling_error_args){.q = s->q,
                                          .o = out->o,
                                          .lse = out->lse,
                                          .kv = kv,
                                          .ids = ids,
                                          .log_weights = log_weights,
                                          .ids_stride = stride,
                                          .nnz = s->nnz,
                                          .error = error,
                                          .rows = SHARED_ROWS,
                                          .layer_heads = error_layer_heads(t),
                                          .first_head = ERROR_BEFORE,
                                          .num_heads = t->num_kv_heads * t->group,
                                          .num_kv_heads = t->num_kv_heads,
                                          .head_dim = t->head_dim,
                                          .scale = 1.0f / sqrtf((float)t->head_dim)});
}

/* Rows 0 and 1 have drawn nothing. Where the output is a token's own value, the distance between
 * them is rounding: a root of it. */
static inline void check_errors(const struct shared_case *t, const float *error,
                                const float *expected, const char *what)
{
    int heads = t->num_kv_heads * t->group;
    for (int i = 0; i < SHARED_ROWS * heads; i++) {
        float least = i < 2 * heads ? 0.0f : 1e-3f * expected[i] + 1e-3f;
        if (!(fabsf(error[i] - expected[i]) <= least)) {
            fail_msg("%s: head %d: found %g, expected %g", what, i, (double)error[i],
                     (double)expected[i]);
        }
    }
}

#endif
