/* pps's estimator, for the tests of code_select on the CPU and on the GPU: over many seeds each
 * token is selected as often as its pi says, and the sums of attention over the selected tokens,
 * each weighed by 1 / pi, have those over all tokens as their means. */
#ifndef MP_TESTS_CODE_SELECT_MEANS_H
#define MP_TESTS_CODE_SELECT_MEANS_H

#include "tests/unit/codelets/code_select_test.h"

enum { CODE_MEANS_SEEDS = 2000, CODE_MEANS_TOKENS = 400, CODE_MEANS_GROUP = 2 };

static const struct code_select_case CODE_MEANS_CASE = {
    {CODE_MEANS_TOKENS, 1, CODE_MEANS_GROUP, 64, 40}, 2, 2.0f};

/* A selection of the case from a fixture in memory of the host, into memory of the host. */
typedef void code_select_sampler(void *state, const struct code_select_case *t,
                                 const struct code_select_fixture *f, struct keys_selection *out);

/* Attention of query head h over the selected tokens. */
static inline struct attention_sums code_select_sums(const struct code_select_fixture *f, int h,
                                                     const struct keys_selection *s)
{
    struct attention_sums sums = {{0.0}, 0.0};
    size_t d = (size_t)f->codes.head_dim;
    for (int32_t j = 0; j < s->nnz[0]; j++) {
        double dot = 0.0;
        for (size_t c = 0; c < d; c++) {
            dot += (double)f->keys.q[(size_t)h * d + c] *
                   (double)mp_load(f->keys.kv.k, MP_BF16, s->ids[j] * d + c);
        }
        double p = exp(dot / sqrt((double)d) + (double)s->log_weights[j]);
        sums.denominator += p;
        for (size_t c = 0; c < MEAN_CHANNELS; c++) {
            sums.numerator[c] += p * (double)mp_load(f->keys.kv.v, MP_BF16, s->ids[j] * d + c);
        }
    }
    return sums;
}

/* Of so many tokens some are beyond three standard errors: one in 370. */
static inline void code_select_assert_frequencies(const int *times, const double *pi)
{
    int beyond = 0;
    for (int i = 0; i < CODE_MEANS_TOKENS; i++) {
        double error = sqrt(pi[i] * (1.0 - pi[i]) / CODE_MEANS_SEEDS) + 1e-6;
        double off = fabs((double)times[i] / CODE_MEANS_SEEDS - pi[i]);
        beyond += off > 3.0 * error;
        if (off > 4.5 * error) {
            fail_msg("token %d: selected %d times of %d, pi %g", i, times[i], CODE_MEANS_SEEDS,
                     pi[i]);
        }
    }
    assert_true(beyond <= CODE_MEANS_TOKENS / 100);
}

static inline void code_select_assert_sums(const struct attention_sums found[CODE_MEANS_SEEDS],
                                           const struct attention_sums *expected)
{
    static double values[CODE_MEANS_SEEDS];
    for (int c = 0; c <= MEAN_CHANNELS; c++) {
        bool numerator = c < MEAN_CHANNELS;
        for (int i = 0; i < CODE_MEANS_SEEDS; i++) {
            values[i] = numerator ? found[i].numerator[c] : found[i].denominator;
        }
        assert_mean_of(values, CODE_MEANS_SEEDS,
                       numerator ? expected->numerator[c] : expected->denominator,
                       expected->denominator, numerator ? "numerator" : "denominator");
    }
}

static inline void code_select_assert_means(code_select_sampler *select, void *state)
{
    static struct attention_sums found[CODE_MEANS_GROUP][CODE_MEANS_SEEDS];
    const struct code_select_case *t = &CODE_MEANS_CASE;
    struct code_select_fixture f = code_select_make(t);
    struct keys_selection s = code_selection_make(t);
    int times[CODE_MEANS_TOKENS] = {0};
    for (int i = 0; i < CODE_MEANS_SEEDS; i++) {
        f.keys.seed = 7000 + (uint64_t)i;
        select(state, t, &f, &s);
        for (int32_t j = 0; j < s.nnz[0]; j++) {
            times[s.ids[j]]++;
        }
        for (int h = 0; h < CODE_MEANS_GROUP; h++) {
            found[h][i] = code_select_sums(&f, h, &s);
        }
    }
    double *pi = code_select_inclusion(t, &f, 0);
    code_select_assert_frequencies(times, pi);
    for (int h = 0; h < CODE_MEANS_GROUP; h++) {
        struct attention_sums exact = exact_sums(&t->keys, &f.keys, h);
        code_select_assert_sums(found[h], &exact);
    }
    free(pi);
    keys_selection_release(&s);
    code_select_release(&f);
}

#endif
