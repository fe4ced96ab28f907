/* Random keys and a step's selection from them, for the tests of key_select on the CPU and on the
 * GPU; and what sampled attention over a selection must be in the mean. */
#ifndef MP_TESTS_KEYS_H
#define MP_TESTS_KEYS_H

#include "codelets/key_select/key_select.h"
#include "codelets/sampled_attention/sampled_attention.h"
#include "tests/unit/codelets/kernel_test.h"

struct keys_case {
    int64_t count; /* offloaded tokens */
    int num_kv_heads, group, head_dim;
    int64_t budget; /* tokens, or draws */
};

/* One row. */
struct keys_fixture {
    struct offloaded_kv kv;
    float *q; /* [num_heads][head_dim] */
    uint64_t seed;
};

/* scale_q: the deviation of the logits, about. Keys beyond the last are as any others, so that it
 * would show if they were read. */
static inline struct keys_fixture keys_make(const struct keys_case *t, float scale_q)
{
    int64_t capacity = t->count + 13;
    size_t n = (size_t)(t->num_kv_heads * capacity * t->head_dim);
    size_t heads = (size_t)(t->num_kv_heads * t->group);
    return (struct keys_fixture){
        .kv = {.k = random_tensor(MP_BF16, n, 1.0f, 31),
               .v = random_tensor(MP_BF16, n, 1.0f, 32),
               .count = t->count,
               .capacity = capacity,
               .num_kv_heads = t->num_kv_heads,
               .head_dim = t->head_dim,
               .dtype = MP_BF16},
        .q = random_floats(heads * (size_t)t->head_dim, scale_q, 33),
        .seed = 99,
    };
}

/* Makes the keys MP_I8; the values stay bf16, as selecting reads none. */
static inline void keys_to_int8(struct keys_fixture *f)
{
    size_t tokens = (size_t)(f->kv.num_kv_heads * f->kv.capacity);
    size_t n = tokens * (size_t)f->kv.head_dim;
    int8_t *k = mp_xmalloc(n);
    for (size_t i = 0; i < n; i++) {
        k[i] = (int8_t)fmaxf(-127.0f, fminf(127.0f, 40.0f * mp_load(f->kv.k, MP_BF16, i)));
    }
    free(f->kv.k);
    f->kv.k = k;
    f->kv.dtype = MP_I8;
    f->kv.scales = mp_xmalloc(kv_scale_bytes(f->kv.num_kv_heads, MP_I8, f->kv.capacity));
    for (size_t i = 0; i < tokens; i++) {
        f->kv.scales[i].k = 0.02f + 0.001f * (float)(i % 7);
    }
}

/* Channel c of token i of a KV head's keys. */
static inline double keys_channel(const struct keys_fixture *f, int kv_head, int64_t i, int c)
{
    size_t token = (size_t)(kv_head * f->kv.capacity + i);
    double x = (double)mp_load(f->kv.k, f->kv.dtype, token * (size_t)f->kv.head_dim + (size_t)c);
    return f->kv.dtype == MP_I8 ? x * (double)f->kv.scales[token].k : x;
}

static inline void keys_release(struct keys_fixture *f)
{
    free(f->kv.k);
    free(f->kv.v);
    free(f->kv.scales);
    free(f->q);
}

/* Room for a selection: of as many tokens as a head can select. */
struct keys_selection {
    int64_t room;
    uint32_t *ids;      /* [num_heads][room] */
    float *log_weights; /* the same */
    int32_t *nnz;       /* [num_heads] */
};

static inline struct keys_selection keys_selection_make(const struct keys_case *t)
{
    size_t heads = (size_t)(t->num_kv_heads * t->group);
    int64_t room = t->budget < t->count ? t->budget : t->count;
    size_t n = heads * (size_t)room + 1;
    return (struct keys_selection){room, mp_xcalloc(n, sizeof(uint32_t)),
                                   mp_xcalloc(n, sizeof(float)),
                                   mp_xcalloc(heads, sizeof(int32_t))};
}

static inline void keys_selection_release(struct keys_selection *s)
{
    free(s->ids);
    free(s->log_weights);
    free(s->nnz);
}

/* The arguments of a selection for all heads, in whatever memory f and out are. scratch and kv stay
 * in place with the result. */
static inline struct key_select_args keys_args(enum key_select_mode mode, const struct keys_case *t,
                                               const struct keys_fixture *f, void *scratch[1],
                                               const struct offloaded_kv *kv[1],
                                               struct keys_selection *out)
{
    kv[0] = &f->kv;
    return (struct key_select_args){.mode = mode,
                                    .q = f->q,
                                    .kv = kv,
                                    .budget = &t->budget,
                                    .seed = &f->seed,
                                    .ids = &out->ids,
                                    .log_weights = &out->log_weights,
                                    .ids_stride = &out->room,
                                    .scratch = scratch,
                                    .nnz = out->nnz,
                                    .rows = 1,
                                    .num_heads = t->num_kv_heads * t->group,
                                    .first_head = 8,
                                    .head_dim = t->head_dim,
                                    .scale = 1.0f / sqrtf((float)t->head_dim)};
}

/* Selects with memory of the host. */
static inline void keys_call(key_select_kernel *variant, enum key_select_mode mode,
                             const struct keys_case *t, const struct keys_fixture *f,
                             struct keys_selection *out)
{
    int num_heads = t->num_kv_heads * t->group;
    size_t bytes = key_select_scratch(mode, num_heads, t->count);
    void *scratch[1] = {aligned_alloc(64, (bytes + 127) / 64 * 64)};
    const struct offloaded_kv *kv[1];
    memset(out->nnz, 0xff, (size_t)num_heads * sizeof *out->nnz);
    struct key_select_args a = keys_args(mode, t, f, scratch, kv, out);
    variant(&a);
    free(scratch[0]);
}

/* The same ids, and the same weights within rounding. */
static inline void keys_assert_equal(enum key_select_mode mode, const struct keys_case *t,
                                     const struct keys_selection *x,
                                     const struct keys_selection *expected)
{
    for (int h = 0; h < t->num_kv_heads * t->group; h++) {
        assert_int_equal(x->nnz[h], expected->nnz[h]);
        int64_t first = h * x->room;
        assert_memory_equal(x->ids + first, expected->ids + first,
                            (size_t)x->nnz[h] * sizeof *x->ids);
        for (int32_t j = 0; mode == KEY_SELECT_DRAWN && j < x->nnz[h]; j++) {
            float expected_weight = expected->log_weights[first + j];
            assert_true(fabsf(x->log_weights[first + j] - expected_weight) < 2e-5f);
        }
    }
}

/* ---- means over many seeds ---- */

enum { MEAN_SEEDS = 200, MEAN_CHANNELS = 8 };

/* Numerator of some channels, and denominator, of the attention of one query head. */
struct attention_sums {
    double numerator[MEAN_CHANNELS];
    double denominator;
};

/* Of all tokens, exactly: head h. */
static inline struct attention_sums exact_sums(const struct keys_case *t,
                                               const struct keys_fixture *f, int h)
{
    struct attention_sums sums = {{0.0}, 0.0};
    size_t d = (size_t)t->head_dim;
    for (int64_t i = 0; i < t->count; i++) {
        size_t at = (size_t)(h / t->group * f->kv.capacity + i) * d;
        double dot = 0.0;
        for (size_t c = 0; c < d; c++) {
            dot += (double)f->q[(size_t)h * d + c] * keys_channel(f, h / t->group, i, (int)c);
        }
        double p = exp(dot / sqrt((double)d));
        sums.denominator += p;
        for (size_t c = 0; c < MEAN_CHANNELS; c++) {
            sums.numerator[c] += p * (double)mp_load(f->kv.v, MP_BF16, at + c);
        }
    }
    return sums;
}

/* From what sampled attention gives: o and lse of a head. */
static inline struct attention_sums sums_of(const float *o, float lse)
{
    struct attention_sums sums = {.denominator = exp((double)lse)};
    for (int c = 0; c < MEAN_CHANNELS; c++) {
        sums.numerator[c] = sums.denominator * (double)o[c];
    }
    return sums;
}

/* The mean of n numbers is `expected` within three standard errors, and what rounding may do. */
static inline void assert_mean_of(const double *found, int n, double expected, double magnitude,
                                  const char *what)
{
    double mean = 0.0;
    double square = 0.0;
    for (int i = 0; i < n; i++) {
        mean += found[i] / n;
    }
    for (int i = 0; i < n; i++) {
        square += (found[i] - mean) * (found[i] - mean);
    }
    double error = sqrt(square / (n - 1) / n);
    if (!(fabs(mean - expected) <= 3.0 * error + 1e-4 * magnitude)) {
        fail_msg("%s: mean %g, expected %g, standard error %g", what, mean, expected, error);
    }
}

static inline void assert_mean(const double *found, double expected, double magnitude,
                               const char *what)
{
    assert_mean_of(found, MEAN_SEEDS, expected, magnitude, what);
}

/* Numerators and denominator, over the seeds. */
static inline void assert_means(const struct attention_sums found[MEAN_SEEDS],
                                const struct attention_sums *expected)
{
    double values[MEAN_SEEDS];
    for (int c = 0; c < MEAN_CHANNELS; c++) {
        for (int i = 0; i < MEAN_SEEDS; i++) {
            values[i] = found[i].numerator[c];
        }
        assert_mean(values, expected->numerator[c], expected->denominator, "numerator");
    }
    for (int i = 0; i < MEAN_SEEDS; i++) {
        values[i] = found[i].denominator;
    }
    assert_mean(values, expected->denominator, expected->denominator, "denominator");
}

/* Sampled attention of the reference over a selection, with its weights, in memory of the host. */
static inline void attend_selection(const struct keys_case *t, const struct keys_fixture *f,
                                    const struct keys_selection *s, float *o, float *lse)
{
    const struct offloaded_kv *kv[1] = {&f->kv};
    const uint32_t *ids[1] = {s->ids};
    const float *const log_weights[1] = {s->log_weights};
    sampled_attention_ref(&(struct sampled_attention_args){
        .q = f->q,
        .kv = kv,
        .ids = ids,
        .ids_stride = &s->room,
        .nnz = s->nnz,
        .log_weights = log_weights,
        .o = o,
        .lse = lse,
        .rows = 1,
        .num_heads = t->num_kv_heads * t->group,
        .head_dim = t->head_dim,
        .scale = 1.0f / sqrtf((float)t->head_dim),
    });
}

#endif
