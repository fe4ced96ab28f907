/* Prompts and settings without a model, and answers to them. */
#ifndef MP_TESTS_PREDICTIONS_FIXTURE_H
#define MP_TESTS_PREDICTIONS_FIXTURE_H

#include "eval_fixture.h"

#include "pipeline/eval/predictions.h"

/* An item of two expected answers; "fingerprint" stands for its tokens. */
#define ITEM(name, of_task, prompt)                                                                \
    {                                                                                              \
        .id = (name), .task = (of_task), .context = 1024, .ids = {.count = 900}, .exact = 800,     \
        .fingerprint = (prompt), .max_new_tokens = 20, .outputs = some_outputs, .num_outputs = 2   \
    }

static char *some_outputs[] = {"4711", "a \"quoted\" one"};

/* Answers that have both of these, one, and none. */
static const char right[] = "It is 4711, or a \"quoted\" one.";
static const char half_right[] = "It is 4711.";
static const char wrong[] = "It is 4712.";

#define SETTING(text, of_key)                                                                      \
    {                                                                                              \
        .name = (text), .key = (of_key)                                                            \
    }

/* An answer's figures, in an order that is short to write. */
static inline struct mp_prediction figures(double score, double sampled, double rows, double bytes,
                                           int64_t steps, double seconds)
{
    return (struct mp_prediction){true, score, sampled, rows, bytes, steps, seconds};
}

static inline void assert_same_number(double found, double wanted)
{
    if (isnan(wanted) ? !isnan(found) : found != wanted) {
        fail_msg("found %.17g, expected %.17g", found, wanted);
    }
}

static inline void assert_figures(const struct mp_prediction *found,
                                  const struct mp_prediction *wanted)
{
    assert_int_equal(found->done, wanted->done);
    assert_same_number(found->score, wanted->score);
    assert_same_number(found->sampled, wanted->sampled);
    assert_same_number(found->rows, wanted->rows);
    assert_same_number(found->bytes, wanted->bytes);
    assert_int_equal(found->steps, wanted->steps);
    assert_same_number(found->seconds, wanted->seconds);
}

/* Keeps an answer of this text. */
static inline int add_text(struct mp_predictions *p, size_t setting, size_t item, const char *text,
                           size_t length, const struct mp_prediction *prediction,
                           struct mp_error *err)
{
    struct mp_answer answer = {
        .text = text, .length = length, .finish = "eos", .batch = 4, .tokens = 3};
    return mp_predictions_add(p, setting, item, &answer, prediction, err);
}

/* One of this score: 1, 0.5 or 0. */
static inline void add_answer(struct mp_predictions *p, size_t setting, size_t item, double score)
{
    struct mp_error err;
    const struct mp_prediction prediction = figures(score, 0.25, 30.0, 4096.0, 2, 0.5);
    const char *text = score == 1.0 ? right : score == 0.5 ? half_right : wrong;
    ASSERT_OK(add_text(p, setting, item, text, strlen(text), &prediction, &err));
}

#endif
