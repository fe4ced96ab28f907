#include "pipeline/make_data/fit.h"

#include "core/base/memory.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_DRAFTS = 32,   /* for one sample */
    MISSING_PART = 50, /* one part of so many may be missing of the length, */
    NEAR_PART = 400,   /* and with so little of it missing, nothing longer is tried */
};

/* The search for the most units with which a draft is not too long. */
struct search {
    const struct mp_maker *maker;
    const struct mp_task *task;
    struct mp_draft draft;
    struct mp_sample best;   /* with `fits` units, once there is one */
    int64_t fits;            /* units of the longest sample that is known not to be too long */
    int64_t too_many;        /* units of the shortest one that is known to be, or beyond the most */
    int64_t too_many_tokens; /* of that sample; 0: it has not been written */
    bool retry;              /* after an error: another draft may have the length */
};

/* ---- one text ---- */

static void apply_template(const struct mp_maker *m, struct mp_sample *s)
{
    if (m->before == NULL) {
        char *prefix = mp_xasprintf(" %s", s->answer_prefix);
        free(s->answer_prefix);
        s->answer_prefix = prefix;
        return;
    }
    char *text = mp_xasprintf("%s%s%s", m->before, s->text, m->after);
    free(s->text);
    s->text = text;
}

static int count_tokens(const struct search *f, struct mp_sample *s, struct mp_error *err)
{
    struct mp_ids ids = {0};
    char *prompt = mp_xasprintf("%s%s", s->text, s->answer_prefix);
    int code = mp_tokenizer_encode(f->maker->tokenizer, prompt, strlen(prompt), false, &ids, err);
    s->tokens = (int64_t)ids.count + f->task->new_tokens;
    mp_ids_free(&ids);
    free(prompt);
    return code;
}

/* Writes the draft with so many units, and takes it for the best if it is not too long. *tokens:
 * its length. */
static int try_units(struct search *f, int64_t units, int64_t *tokens, struct mp_error *err)
{
    struct mp_sample s = {0};
    f->draft.units = units;
    int code = f->task->write(f->task, &f->draft, &s, err);
    if (code == 0) {
        apply_template(f->maker, &s);
        code = count_tokens(f, &s, err);
    }
    *tokens = s.tokens;
    if (code == 0 && s.tokens <= f->maker->tokens) {
        mp_sample_free(&f->best);
        f->best = s;
        f->fits = units;
        return 0;
    }
    mp_sample_free(&s);
    if (code == 0) {
        f->too_many = units;
        f->too_many_tokens = *tokens;
    }
    return code;
}

/* ---- the search ---- */

/* Units between the two bounds: where a straight line through them has the length, and every other
 * time the middle, so that the bounds close in whatever the texts are like. */
static int64_t next_units(const struct search *f, int step, int64_t least, int64_t least_tokens)
{
    int64_t wanted = f->maker->tokens - f->best.tokens;
    int64_t units = f->fits + (f->too_many - f->fits) / 2;
    if (f->too_many_tokens == 0 && f->fits > least) {
        /* No sample has been too long: at the units a token that they have had so far. More units
         * need not have more tokens. */
        int64_t more = f->best.tokens - least_tokens;
        units = f->fits + wanted * (f->fits - least) / (more > 0 ? more + 1 : 1);
    } else if (f->too_many_tokens == 0) {
        units = 2 * f->fits + 16;
    } else if (step % 2 == 0) {
        units = f->fits + wanted * (f->too_many - f->fits) / (f->too_many_tokens - f->best.tokens);
    }
    units = units <= f->fits ? f->fits + 1 : units;
    return units < f->too_many ? units : f->too_many - 1;
}

/* Writes the shortest sample of a draft, and sets the bounds of the search. *limited: the sources
 * end it before the length does. */
static int begin(struct search *f, bool *limited, struct mp_error *err)
{
    const struct mp_task *t = f->task;
    /* Whatever a unit is, it has half a token. */
    int64_t most = 2 * f->maker->tokens;
    *limited = t->most != NULL && t->most(t, f->maker->sources) < most;
    if (*limited) {
        most = t->most(t, f->maker->sources);
    }
    if (*limited && most < t->least) {
        return mp_fail(err, MP_ERR_USAGE, "%s: the file has too few %s for %s", t->source, t->unit,
                       t->name);
    }
    most = most < t->least ? t->least : most;
    int64_t tokens;
    int code = try_units(f, t->least, &tokens, err);
    if (code == 0 && f->best.text == NULL) {
        f->retry = true;
        code = mp_fail(err, MP_ERR_USAGE,
                       "--tokens: found %" PRId64 ", but %s needs at least %" PRId64
                       " with this tokenizer",
                       f->maker->tokens, t->name, tokens);
    }
    f->too_many = most + 1;
    f->too_many_tokens = 0;
    return code;
}

/* Says why the best sample is too short. */
static int fail_short(struct search *f, bool limited, struct mp_error *err)
{
    const struct mp_task *t = f->task;
    if (limited && f->too_many_tokens == 0) {
        return mp_fail(err, MP_ERR_USAGE,
                       "%s: %s has %" PRId64 " tokens with all the %s, expected %" PRId64
                       ": give a file with more",
                       t->source, t->name, f->best.tokens, t->unit, f->maker->tokens);
    }
    f->retry = true;
    return mp_fail(err, MP_ERR_USAGE,
                   "--tokens: found %" PRId64 ", but %s has %" PRId64 " or %" PRId64
                   " tokens: one of its %s is more than 2 %% of the length",
                   f->maker->tokens, t->name, f->best.tokens, f->too_many_tokens, t->unit);
}

/* Finds the best sample of a draft, trying `guess` units first. */
static int search(struct search *f, int64_t guess, struct mp_error *err)
{
    const int64_t wanted = f->maker->tokens;
    bool limited = false;
    int code = begin(f, &limited, err);
    if (code != 0) {
        return code;
    }
    const int64_t least_tokens = f->best.tokens;
    for (int step = 0; f->too_many - f->fits > 1 && wanted - f->best.tokens > wanted / NEAR_PART;
         step++) {
        bool guessed = step == 0 && guess > f->fits && guess < f->too_many;
        int64_t units = guessed ? guess : next_units(f, step, f->task->least, least_tokens);
        int64_t tokens;
        code = try_units(f, units, &tokens, err);
        if (code != 0) {
            return code;
        }
    }
    return wanted - f->best.tokens <= wanted / MISSING_PART ? 0 : fail_short(f, limited, err);
}

int mp_make_sample(const struct mp_maker *m, struct mp_series *s, struct mp_sample *out,
                   struct mp_error *err)
{
    int code = 0;
    for (int draft = 0; draft < MAX_DRAFTS; draft++) {
        struct search f = {.maker = m,
                           .task = &mp_tasks[s->task],
                           .draft = {.sources = m->sources, .turn = s->turn, .tokens = m->tokens}};
        mp_rng_init(&f.draft.rng, m->seed, (uint64_t)s->task << 48 | (uint64_t)s->turn);
        s->turn++;
        code = search(&f, s->units, err);
        if (code == 0) {
            *out = f.best;
            s->units = f.fits;
            return 0;
        }
        mp_sample_free(&f.best);
        if (!f.retry) {
            break;
        }
    }
    *out = (struct mp_sample){0};
    return code;
}
