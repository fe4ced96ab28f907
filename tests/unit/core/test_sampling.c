/* Choice of the next token: greedy ties and NaN, top-k and top-p cuts, frequencies. */
#include "core/base/sampling.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { DRAWS = 20000, MAX_TOKENS = 8 };

/* Share of each token over DRAWS draws. */
static void shares(const struct mp_sampling *s, const float *logits, int count, double *out)
{
    int hits[MAX_TOKENS] = {0};
    struct mp_rng rng;
    mp_rng_init(&rng, s->seed, 0);
    for (int i = 0; i < DRAWS; i++) {
        int32_t id = mp_sample(s, &rng, logits, count);
        assert_true(id >= 0 && id < count);
        hits[id]++;
    }
    for (int i = 0; i < count; i++) {
        out[i] = (double)hits[i] / DRAWS;
    }
}

/* Within five standard deviations of a fair coin; 0 means never. */
static void assert_shares(const double *found, const double *expected, int count)
{
    for (int i = 0; i < count; i++) {
        if (expected[i] == 0.0) {
            assert_true(found[i] == 0.0);
        } else {
            assert_true(fabs(found[i] - expected[i]) < 2.5 / sqrt(DRAWS));
        }
    }
}

/* log of 1/2, 1/4, 1/8, 1/16, 1/16, shuffled: ids 2, 0, 4, 1, 3 from most to least likely. */
static const float halves[] = {-1.386294f, -2.772589f, -0.693147f, -2.772589f, -2.079442f};

static void test_greedy(void **state)
{
    (void)state;
    const struct mp_sampling greedy = {.temperature = 0.0f, .top_p = 1.0f};
    struct mp_rng rng;
    mp_rng_init(&rng, 0, 0);
    uint64_t before = rng.state;
    assert_int_equal(mp_sample(&greedy, &rng, halves, 5), 2);
    assert_int_equal(mp_sample(&greedy, &rng, (float[]){1, 3, 3, 2}, 4), 1);
    assert_int_equal(mp_sample(&greedy, &rng, (float[]){NAN, -5, NAN, -4}, 4), 3);
    assert_int_equal(mp_sample(&greedy, &rng, (float[]){-INFINITY, -INFINITY}, 2), 0);
    assert_int_equal(mp_sample(&greedy, &rng, (float[]){NAN, -INFINITY}, 2), 1);
    assert_int_equal(mp_sample(&greedy, &rng, (float[]){NAN, NAN}, 2), 0);
    assert_int_equal(mp_sample(&greedy, &rng, (float[]){7}, 1), 0);
    assert_true(rng.state == before);
}

static void test_softmax_frequencies(void **state)
{
    (void)state;
    double found[MAX_TOKENS];
    struct mp_sampling s = {.temperature = 1.0f, .top_p = 1.0f, .seed = 1};
    shares(&s, halves, 5, found);
    assert_shares(found, (double[]){0.25, 0.0625, 0.5, 0.0625, 0.125}, 5);
    /* Temperature 1/2 squares the probabilities: 64 : 16 : 4 : 1 : 1 of 86. */
    s.temperature = 0.5f;
    shares(&s, halves, 5, found);
    assert_shares(found, (double[]){16 / 86.0, 1 / 86.0, 64 / 86.0, 1 / 86.0, 4 / 86.0}, 5);
}

static void test_top_k(void **state)
{
    (void)state;
    double found[MAX_TOKENS];
    struct mp_sampling s = {.temperature = 1.0f, .top_p = 1.0f, .top_k = 3, .seed = 2};
    shares(&s, halves, 5, found);
    assert_shares(found, (double[]){2 / 7.0, 0, 4 / 7.0, 0, 1 / 7.0}, 5);
    s.top_k = 1;
    shares(&s, halves, 5, found);
    assert_shares(found, (double[]){0, 0, 1, 0, 0}, 5);
    /* Of the tie for the fourth place the lower id stays. */
    s.top_k = 4;
    shares(&s, halves, 5, found);
    assert_true(found[1] > 0.0 && found[3] == 0.0);
    s.top_k = 100;
    shares(&s, halves, 5, found);
    assert_true(found[3] > 0.0);
}

static void test_top_p(void **state)
{
    (void)state;
    double found[MAX_TOKENS];
    struct mp_sampling s = {.temperature = 1.0f, .top_p = 0.7f, .seed = 3};
    shares(&s, halves, 5, found);
    assert_shares(found, (double[]){1 / 3.0, 0, 2 / 3.0, 0, 0}, 5);
    s.top_p = 0.8f;
    shares(&s, halves, 5, found);
    assert_shares(found, (double[]){2 / 7.0, 0, 4 / 7.0, 0, 1 / 7.0}, 5);
    s.top_p = 1e-6f; /* never empty */
    shares(&s, halves, 5, found);
    assert_shares(found, (double[]){0, 0, 1, 0, 0}, 5);
}

/* top_p counts the mass that top_k has left: of 4 : 2 : 1, two tokens hold 6/7. */
static void test_top_k_then_top_p(void **state)
{
    (void)state;
    double found[MAX_TOKENS];
    const struct mp_sampling s = {.temperature = 1.0f, .top_p = 0.85f, .top_k = 3, .seed = 4};
    shares(&s, halves, 5, found);
    assert_shares(found, (double[]){1 / 3.0, 0, 2 / 3.0, 0, 0}, 5);
}

/* Relative to the likeliest token, before top_p: 1 : 1/2 : 1/4 stay. */
static void test_min_p(void **state)
{
    (void)state;
    double found[MAX_TOKENS];
    struct mp_sampling s = {.temperature = 1.0f, .top_p = 1.0f, .seed = 7, .min_p = 0.2f};
    shares(&s, halves, 5, found);
    assert_shares(found, (double[]){2 / 7.0, 0, 4 / 7.0, 0, 1 / 7.0}, 5);
    s.top_p = 0.85f; /* of these */
    shares(&s, halves, 5, found);
    assert_shares(found, (double[]){1 / 3.0, 0, 2 / 3.0, 0, 0}, 5);
    s.top_p = 1.0f;
    s.top_k = 4;
    shares(&s, halves, 5, found);
    assert_shares(found, (double[]){2 / 7.0, 0, 4 / 7.0, 0, 1 / 7.0}, 5);
    s.min_p = 1.0f;
    shares(&s, halves, 5, found);
    assert_shares(found, (double[]){0, 0, 1, 0, 0}, 5);
}

static void check_logprobs(const float *logits, int count, int32_t id, int top, const int32_t *ids,
                           const double *logprobs)
{
    int32_t found_ids[1 + MAX_TOKENS];
    float found[1 + MAX_TOKENS];
    mp_logprobs(logits, count, id, top, found_ids, found);
    for (int i = 0; i <= top; i++) {
        assert_int_equal(found_ids[i], ids[i]);
        assert_true((double)found[i] == logprobs[i] || fabs((double)found[i] - logprobs[i]) < 1e-5);
    }
}

static void test_logprobs(void **state)
{
    (void)state;
    const double none = -(double)INFINITY;
    const double l = log(2.0);
    check_logprobs(halves, 5, 4, 0, (int32_t[]){4}, (double[]){-3 * l});
    check_logprobs(halves, 5, 3, 5, (int32_t[]){3, 2, 0, 4, 1, 3},
                   (double[]){-4 * l, -l, -2 * l, -3 * l, -4 * l, -4 * l});
    /* Shifted, with ties, and with what is no number. */
    check_logprobs((float[]){500, 500, NAN, -INFINITY}, 4, 2, 3, (int32_t[]){2, 0, 1, 2},
                   (double[]){none, -l, -l, none});
    check_logprobs((float[]){NAN, NAN}, 2, 1, 1, (int32_t[]){1, 0}, (double[]){-l, -l});
    check_logprobs((float[]){1, INFINITY}, 2, 0, 2, (int32_t[]){0, 1, 0},
                   (double[]){none, 0, none});
}

static void test_strange_logits(void **state)
{
    (void)state;
    static const struct mp_sampling ways[] = {
        {.temperature = 1.0f, .top_p = 1.0f},
        {.temperature = 1.0f, .top_p = 0.9f},
        {.temperature = 1.0f, .top_p = 1.0f, .top_k = 2},
        {.temperature = 1e-30f, .top_p = 0.9f, .top_k = 2},
    };
    for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
        double found[MAX_TOKENS];
        shares(&ways[w], (float[]){NAN, 2, NAN, -INFINITY}, 4, found);
        assert_true(found[1] == 1.0);
        shares(&ways[w], (float[]){1, INFINITY, NAN}, 3, found);
        assert_true(found[1] == 1.0);
        shares(&ways[w], (float[]){NAN, NAN}, 2, found);
        assert_true(found[0] == 1.0);
        shares(&ways[w], (float[]){NAN, -INFINITY, -INFINITY}, 3, found);
        assert_true(found[0] == 0.0);
        shares(&ways[w], (float[]){-3}, 1, found);
        assert_true(found[0] == 1.0);
    }
}

/* A vocabulary large enough that the ranking works: top-k against a full sort's answer. */
static void test_large_vocabulary(void **state)
{
    (void)state;
    enum { COUNT = 5003 };
    static float logits[COUNT];
    for (int i = 0; i < COUNT; i++) {
        logits[i] =
            (float)(i * 2311 % COUNT) * 0.001f; /* a permutation: 2311 and COUNT are prime */
    }
    const struct mp_sampling s = {.temperature = 1.0f, .top_p = 1.0f, .top_k = 50, .seed = 6};
    struct mp_rng rng;
    mp_rng_init(&rng, s.seed, 0);
    for (int i = 0; i < 500; i++) {
        int32_t id = mp_sample(&s, &rng, logits, COUNT);
        assert_true(id * 2311 % COUNT >= COUNT - 50);
    }
}

static void test_same_seed_same_tokens(void **state)
{
    (void)state;
    const struct mp_sampling s = {.temperature = 1.0f, .top_p = 0.95f, .seed = 9};
    struct mp_rng a, b;
    mp_rng_init(&a, s.seed, 3);
    mp_rng_init(&b, s.seed, 3);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(mp_sample(&s, &a, halves, 5), mp_sample(&s, &b, halves, 5));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_softmax_frequencies),
        cmocka_unit_test(test_top_k),
        cmocka_unit_test(test_top_p),
        cmocka_unit_test(test_top_k_then_top_p),
        cmocka_unit_test(test_min_p),
        cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_strange_logits),
        cmocka_unit_test(test_large_vocabulary),
        cmocka_unit_test(test_same_seed_same_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
