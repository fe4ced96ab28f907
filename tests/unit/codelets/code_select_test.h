/* Codes of random keys, selections by them, and what a selection must be: for the tests of
 * code_select on the CPU and on the GPU. */
#ifndef MP_TESTS_CODE_SELECT_H
#define MP_TESTS_CODE_SELECT_H

#include "codelets/code_select/code_select.h"
#include "codelets/common/random_draw.h"
#include "tests/unit/codelets/codes_test.h"
#include "tests/unit/codelets/keys_test.h"

struct code_select_case {
    struct keys_case keys; /* budget: samples */
    int bits;
    float scale_q; /* deviation of the logits, about */
};

static const struct code_select_case CODE_SELECT_CASES[] = {
    /* count, KV heads, group, head_dim, samples */
    {{3000, 2, 4, 64, 60}, 2, 1.0f},    {{2999, 1, 1, 128, 200}, 2, 3.0f},
    {{5001, 1, 8, 128, 512}, 2, 2.0f},  {{1000, 2, 4, 80, 999}, 4, 2.0f},
    {{777, 3, 2, 80, 1}, 1, 1.0f},      {{1, 1, 1, 64, 1}, 2, 1.0f},
    {{130, 3, 2, 32, 130}, 2, 1.0f},    {{130, 3, 2, 32, 500}, 4, 1.0f},
    {{0, 2, 4, 64, 5}, 2, 1.0f},        {{64, 1, 3, 256, 63}, 4, 3.0f},
    {{2048, 1, 7, 96, 100}, 1, 2.0f},   {{33, 2, 5, 50, 10}, 4, 40.0f},
    {{4000, 1, 4, 256, 300}, 2, 9.0f},  {{4000, 2, 2, 64, 40}, 2, 0.0f},
    {{9000, 1, 4, 128, 64}, 2, 200.0f}, {{40000, 2, 4, 64, 256}, 2, 2.0f},
};
enum { NUM_CODE_SELECT_CASES = sizeof CODE_SELECT_CASES / sizeof CODE_SELECT_CASES[0] };

enum { CODE_SELECT_FIRST_HEAD = 3, CODE_SELECT_PADDING = 24 };

/* One row. Queries lie among those of other heads: CODE_SELECT_PADDING floats after each row. */
struct code_select_fixture {
    struct keys_fixture keys;
    struct key_rotation rotation;
    struct key_codes codes;
};

static inline void code_select_encode(struct code_select_fixture *f)
{
    encode_keys_ref(&(struct encode_keys_args){&f->keys.kv, f->rotation, &f->codes, 0});
}

static inline struct code_select_fixture code_select_make(const struct code_select_case *t)
{
    int d = t->keys.head_dim;
    float *data = mp_xmalloc(key_rotation_size(d) * sizeof *data);
    key_rotation_draw(d, 5, data);
    struct code_select_fixture f = {
        .keys = keys_make(&t->keys, t->scale_q),
        .rotation = {.data = data, .head_dim = d},
        .codes = codes_make(&(struct key_codes){.count = t->keys.count,
                                                .capacity = t->keys.count + 75,
                                                .num_kv_heads = t->keys.num_kv_heads,
                                                .head_dim = d,
                                                .bits = t->bits}),
    };
    code_select_encode(&f);
    return f;
}

static inline void code_select_release(struct code_select_fixture *f)
{
    keys_release(&f->keys);
    free((float *)f->rotation.data);
    codes_release(&f->codes);
}

/* A selection for each KV head. */
static inline struct keys_selection code_selection_make(const struct code_select_case *t)
{
    size_t heads = (size_t)t->keys.num_kv_heads;
    int64_t room = t->keys.budget + 1 < t->keys.count ? t->keys.budget + 1 : t->keys.count;
    size_t n = heads * (size_t)room + 1;
    return (struct keys_selection){room, mp_xcalloc(n, sizeof(uint32_t)),
                                   mp_xcalloc(n, sizeof(float)),
                                   mp_xcalloc(heads, sizeof(int32_t))};
}

/* The arguments of a selection, in whatever memory f and out are. scratch and codes stay in place
 * with the result. */
static inline struct code_select_args
code_select_args_of(const struct code_select_case *t, const struct code_select_fixture *f,
                    void *scratch[1], const struct key_codes *codes[1], struct keys_selection *out)
{
    codes[0] = &f->codes;
    int num_heads = t->keys.num_kv_heads * t->keys.group;
    return (struct code_select_args){.q = f->keys.q,
                                     .q_stride = num_heads * t->keys.head_dim,
                                     .codes = codes,
                                     .rotation = f->rotation,
                                     .samples = &t->keys.budget,
                                     .seed = &f->keys.seed,
                                     .ids = &out->ids,
                                     .log_weights = &out->log_weights,
                                     .ids_stride = &out->room,
                                     .scratch = scratch,
                                     .nnz = out->nnz,
                                     .rows = 1,
                                     .num_heads = num_heads,
                                     .num_kv_heads = t->keys.num_kv_heads,
                                     .first_kv_head = CODE_SELECT_FIRST_HEAD,
                                     .head_dim = t->keys.head_dim};
}

/* Selects with memory of the host. */
static inline void code_select_call(code_select_kernel *variant, const struct code_select_case *t,
                                    const struct code_select_fixture *f, struct keys_selection *out)
{
    int num_heads = t->keys.num_kv_heads * t->keys.group;
    size_t bytes =
        code_select_scratch(num_heads, t->keys.num_kv_heads, t->keys.count, t->keys.budget);
    void *scratch[1] = {aligned_alloc(64, (bytes + 127) / 64 * 64)};
    const struct key_codes *codes[1];
    memset(out->nnz, 0xff, (size_t)t->keys.num_kv_heads * sizeof *out->nnz);
    struct code_select_args a = code_select_args_of(t, f, scratch, codes, out);
    variant(&a);
    free(scratch[0]);
}

/* The same ids, and the same weights within rounding. */
static inline void code_select_assert_equal(const struct code_select_case *t,
                                            const struct keys_selection *x,
                                            const struct keys_selection *expected)
{
    for (int h = 0; h < t->keys.num_kv_heads; h++) {
        assert_int_equal(x->nnz[h], expected->nnz[h]);
        int64_t first = h * x->room;
        assert_memory_equal(x->ids + first, expected->ids + first,
                            (size_t)x->nnz[h] * sizeof *x->ids);
        for (int32_t j = 0; j < x->nnz[h]; j++) {
            float expected_weight = expected->log_weights[first + j];
            assert_true(fabsf(x->log_weights[first + j] - expected_weight) < 2e-6f);
        }
    }
}

/* ---- views ---- */

/* What is encoded, of which a view has `count` tokens, a multiple of KV_GRANULE, and samples from
 * them. */
struct code_select_view_case {
    struct code_select_case t;
    int64_t count;
};

static const struct code_select_view_case CODE_SELECT_VIEWS[] = {
    {{{3000, 2, 4, 64, 60}, 2, 1.0f}, 2944},  {{{3000, 2, 4, 64, 60}, 2, 1.0f}, 64},
    {{{5001, 1, 8, 128, 512}, 2, 2.0f}, 512}, {{{1000, 2, 4, 80, 300}, 4, 2.0f}, 320},
    {{{777, 3, 2, 80, 1}, 1, 1.0f}, 704},     {{{40000, 2, 4, 64, 256}, 2, 2.0f}, 32832},
};
enum { NUM_CODE_SELECT_VIEWS = sizeof CODE_SELECT_VIEWS / sizeof CODE_SELECT_VIEWS[0] };

/* The case of a selection from the view. */
static inline struct code_select_case code_select_view_of(const struct code_select_view_case *v)
{
    struct code_select_case t = v->t;
    t.keys.count = v->count;
    return t;
}

/* The same as f, with codes of only the first `count` keys. Release its codes. */
static inline struct code_select_fixture code_select_first(const struct code_select_fixture *f,
                                                           int64_t count)
{
    struct code_select_fixture first = *f;
    first.keys.kv.count = count;
    first.codes.count = count;
    first.codes = codes_make(&first.codes);
    code_select_encode(&first);
    return first;
}

/* The same ids and weights, to the bit. */
static inline void code_select_assert_same(const struct code_select_case *t,
                                           const struct keys_selection *x,
                                           const struct keys_selection *expected)
{
    code_select_assert_equal(t, x, expected);
    for (int h = 0; h < t->keys.num_kv_heads; h++) {
        int64_t first = h * x->room;
        assert_memory_equal(x->log_weights + first, expected->log_weights + first,
                            (size_t)x->nnz[h] * sizeof *x->log_weights);
    }
}

/* ---- what a selection must be, in double precision ---- */

/* Adds a query head's softmax over the codes, times `share`, to pi. logits: room for all tokens. */
static inline void code_select_add_softmax(const struct code_select_fixture *f, int kv_head,
                                           const float *q, double share, double *logits, double *pi)
{
    const struct key_codes *codes = &f->codes;
    int d = codes->head_dim;
    float y[MP_MAX_HEAD_DIM];
    float largest = 0.0f;
    double max = -INFINITY;
    double z = 0.0;
    key_rotate(&f->rotation, q, y);
    for (int c = 0; c < d; c++) {
        largest = fmaxf(largest, fabsf(y[c]));
    }
    double unit = (double)largest / 127.0;
    for (int c = 0; c < d; c++) {
        y[c] = largest > 0.0f ? rintf(y[c] * (127.0f / largest)) : 0.0f;
    }
    for (int64_t i = 0; i < codes->count; i++) {
        double dot = 0.0;
        for (int c = 0; c < d; c++) {
            int level = codes_level_of(codes, kv_head, i, c);
            dot += (double)y[c] * (double)codes_center(level, codes->bits);
        }
        logits[i] = dot * unit * (double)codes_factor_of(codes, kv_head, i) / sqrt((double)d);
        max = fmax(max, logits[i]);
    }
    for (int64_t i = 0; i < codes->count; i++) {
        z += exp(logits[i] - max);
    }
    for (int64_t i = 0; i < codes->count; i++) {
        pi[i] += share * exp(logits[i] - max) / z;
    }
}

/* pi = min(1, c pi') that sum to `samples`, in place of pi'. */
static inline void code_select_cap(double *pi, int64_t tokens, double samples)
{
    int64_t capped = -1;
    double c = 0.0;
    for (;;) {
        double rest = 0.0;
        int64_t now = 0;
        for (int64_t i = 0; i < tokens; i++) {
            bool full = c * pi[i] >= 1.0;
            now += full;
            rest += full ? 0.0 : pi[i];
        }
        if (now == capped) {
            break;
        }
        capped = now;
        c = (samples - (double)capped) / rest;
    }
    for (int64_t i = 0; i < tokens; i++) {
        pi[i] = fmin(1.0, c * pi[i]);
    }
}

/* pi of each token of a KV head. Free with free(). */
static inline double *code_select_inclusion(const struct code_select_case *t,
                                            const struct code_select_fixture *f, int kv_head)
{
    int64_t tokens = t->keys.count;
    double *pi = mp_xmalloc((size_t)(tokens + 1) * sizeof *pi);
    double *logits = mp_xmalloc((size_t)(tokens + 1) * sizeof *logits);
    for (int64_t i = 0; i < tokens; i++) {
        pi[i] = tokens <= t->keys.budget ? 1.0 : CODES_ALPHA / (double)tokens;
    }
    for (int g = 0; g < t->keys.group && tokens > t->keys.budget; g++) {
        const float *q = f->keys.q + (kv_head * t->keys.group + g) * t->keys.head_dim;
        code_select_add_softmax(f, kv_head, q, (1.0 - CODES_ALPHA) / t->keys.group, logits, pi);
    }
    if (tokens > t->keys.budget) {
        code_select_cap(pi, tokens, (double)t->keys.budget);
    }
    free(logits);
    return pi;
}

/* A KV head's selection is that by pi: as many tokens as samples, give or take one; ids ascend;
 * the j-th is where the running sum of pi passes j + U; weights are -ln pi. */
static inline void code_select_check(const struct code_select_case *t, const double *pi,
                                     uint64_t seed, int kv_head, const uint32_t *ids,
                                     const float *log_weights, int32_t nnz)
{
    uint64_t state = random_state(seed, (uint64_t)(CODE_SELECT_FIRST_HEAD + kv_head));
    double u = (double)(random_draw(state, 0) >> 34) / (double)CODES_ONE;
    bool all = t->keys.count <= t->keys.budget;
    int64_t expected = all ? t->keys.count : t->keys.budget;
    long double sum = 0.0L;
    int64_t i = 0;
    assert_true(llabs(nnz - expected) <= !all);
    for (int32_t j = 0; j < nnz; j++) {
        assert_true(ids[j] < t->keys.count && (j == 0 || ids[j - 1] < ids[j]));
        for (; i < ids[j]; i++) {
            sum += (long double)pi[i];
        }
        assert_true(sum <= (long double)(j + u) + 0.02L);
        sum += (long double)pi[i++];
        assert_true(sum >= (long double)(j + u) - 0.02L);
        double weight = all ? 0.0 : -log(pi[ids[j]]);
        assert_true(fabs((double)log_weights[j] - weight) < 2e-4);
    }
}

#endif
