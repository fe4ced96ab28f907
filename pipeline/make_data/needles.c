/* niah_*: keys with values hidden in a haystack, and a question about some of the keys. */
#include "core/base/memory.h"
#include "pipeline/make_data/draw.h"
#include "pipeline/make_data/task.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NUM_DEPTHS = 40,  /* evenly spaced, from 0 to 100 % of the haystack */
    MAX_NEEDLES = 16, /* keys times values */
    NUMBER_DIGITS = 7,
    TRIES = 1000, /* to draw what has not been drawn yet */
};

/* What singular and plural of the values are called, by their kind. */
static const struct {
    const char *one, *many;
} VALUES[] = {
    [MP_NEEDLE_WORDS] = {"word", "words"},
    [MP_NEEDLE_NUMBERS] = {"number", "numbers"},
    [MP_NEEDLE_UUIDS] = {"uuid", "uuids"},
};

/* A text with needles, while it is written. */
struct hay {
    const struct mp_task *task;
    const struct mp_draft *draft;
    struct mp_rng rng;
    struct mp_words keys;   /* distinct, those of the task before those of the haystack */
    struct mp_words values; /* distinct, of each key num_values */
    int num_needles;        /* of the task */
    int order[MAX_NEEDLES]; /* [num_needles] in which they stand in the text */
    int depth[MAX_NEEDLES]; /* [num_needles] where, in percent of the haystack, ascending */
    int placed;             /* of them, so far */
    FILE *out;
    bool started; /* something has been written */
};

/* ---- keys and values ---- */

static int draw_new(struct hay *h, enum mp_needle_kind kind, struct mp_words *list,
                    struct mp_error *err)
{
    const struct mp_sources *s = h->draft->sources;
    for (int i = 0; i < TRIES; i++) {
        char text[MP_UUID_SIZE];
        char *pair = NULL;
        if (kind == MP_NEEDLE_WORDS) {
            int64_t a = mp_draw_below(&h->rng, (int64_t)s->adjectives.count);
            int64_t n = mp_draw_below(&h->rng, (int64_t)s->nouns.count);
            pair = mp_xasprintf("%s-%s", s->adjectives.items[a], s->nouns.items[n]);
        } else if (kind == MP_NEEDLE_NUMBERS) {
            snprintf(text, sizeof text, "%" PRId64, mp_draw_number(&h->rng, NUMBER_DIGITS));
        } else {
            mp_draw_uuid(&h->rng, text);
        }
        bool is_new = mp_words_add_new(list, pair != NULL ? pair : text);
        free(pair);
        if (is_new) {
            return 0;
        }
    }
    return mp_fail(err, MP_ERR_USAGE,
                   "--words: %zu adjectives and %zu nouns are too few for the keys of %s, of which "
                   "no two are the same",
                   s->adjectives.count, s->nouns.count, h->task->name);
}

/* A key with its values. */
static int draw_key(struct hay *h, struct mp_error *err)
{
    const struct mp_needles *hides = &h->task->hides;
    int code = draw_new(h, hides->keys, &h->keys, err);
    for (int i = 0; i < hides->num_values && code == 0; i++) {
        code = draw_new(h, hides->values, &h->values, err);
    }
    return code;
}

/* Needles in an order of their own, at as many of the depths. */
static void draw_places(struct hay *h)
{
    int32_t order[MAX_NEEDLES], depths[NUM_DEPTHS];
    mp_draw_order(&h->rng, order, h->num_needles);
    mp_draw_order(&h->rng, depths, NUM_DEPTHS);
    for (int i = 0; i < h->num_needles; i++) {
        h->order[i] = order[i];
        /* i 39ths of 100 %, rounded */
        int depth = (200 * depths[i] + NUM_DEPTHS - 1) / (2 * (NUM_DEPTHS - 1));
        int at = i;
        for (; at > 0 && h->depth[at - 1] > depth; at--) {
            h->depth[at] = h->depth[at - 1];
        }
        h->depth[at] = depth;
    }
}

/* ---- the text ---- */

static void write_needle(struct hay *h, size_t value)
{
    fprintf(h->out, "One of the special magic %s for %s is: %s.",
            VALUES[h->task->hides.values].many,
            h->keys.items[value / (size_t)h->task->hides.num_values], h->values.items[value]);
}

/* Before piece number `piece` of `count`, the needles that belong there. */
static void place_needles(struct hay *h, int64_t piece, int64_t count, const char *separator)
{
    while (h->placed < h->num_needles && count * h->depth[h->placed] / 100 <= piece) {
        fputs(h->started ? separator : "", h->out);
        write_needle(h, (size_t)h->order[h->placed++]);
        h->started = true;
    }
}

/* Lines of noise, or of other needles. */
static int write_lines(struct hay *h, struct mp_error *err)
{
    int64_t count = h->draft->units;
    for (int64_t i = 0; i < count; i++) {
        place_needles(h, i, count, "\n");
        fputs(h->started ? "\n" : "", h->out);
        h->started = true;
        if (h->task->hides.haystack == MP_HAYSTACK_NOISE) {
            fputs(mp_noise_line, h->out);
            continue;
        }
        int code = draw_key(h, err);
        if (code != 0) {
            return code;
        }
        write_needle(h, h->values.count - 1);
    }
    place_needles(h, count, count, "\n");
    return 0;
}

/* So many words of the essay from a sentence on, needles between its sentences. */
static void write_essay(struct hay *h)
{
    const struct mp_essay *essay = &h->draft->sources->essay;
    size_t first = essay->sentences[mp_draw_below(&h->rng, (int64_t)essay->num_sentences)];
    int64_t sentences = 0;
    for (int64_t i = 0; i < h->draft->units; i++) {
        const char *word = essay->words.items[(first + (size_t)i) % essay->words.count];
        sentences += mp_ends_sentence(word) || i == h->draft->units - 1;
    }
    int64_t sentence = 0;
    bool starts = true;
    for (int64_t i = 0; i < h->draft->units; i++) {
        const char *word = essay->words.items[(first + (size_t)i) % essay->words.count];
        if (starts) {
            place_needles(h, sentence++, sentences, " ");
        }
        fprintf(h->out, "%s%s", h->started ? " " : "", word);
        h->started = true;
        starts = mp_ends_sentence(word);
    }
    place_needles(h, sentences, sentences, " ");
}

/* ---- the question ---- */

/* "a", "a, and b", "a, b, and c": keys drawn from those of the task, whose values are the answer.
 */
static char *ask(struct hay *h, struct mp_sample *out)
{
    const struct mp_needles *hides = &h->task->hides;
    int32_t keys[MAX_NEEDLES];
    mp_draw_order(&h->rng, keys, hides->num_keys);
    char *query = mp_xstrdup(h->keys.items[keys[0]]);
    for (int i = 0; i < hides->num_queries; i++) {
        if (i > 0) {
            char *longer =
                mp_xasprintf("%s, %s%s", query, i == hides->num_queries - 1 ? "and " : "",
                             h->keys.items[keys[i]]);
            free(query);
            query = longer;
        }
        for (int v = 0; v < hides->num_values; v++) {
            const char *value = h->values.items[keys[i] * hides->num_values + v];
            mp_words_add(&out->outputs, value, strlen(value));
        }
    }
    return query;
}

static int write_sample(struct hay *h, struct mp_sample *out, struct mp_error *err)
{
    const struct mp_needles *hides = &h->task->hides;
    char *query = ask(h, out);
    bool one = hides->num_queries * hides->num_values == 1;
    const char *values = one ? VALUES[hides->values].one : VALUES[hides->values].many;
    fprintf(h->out,
            "%s special magic %s %s hidden within the following text. Make sure to memorize it. I "
            "will quiz you about the %s afterwards.\n",
            one ? "A" : "Some", values, one ? "is" : "are", values);
    int code = 0;
    if (hides->haystack == MP_HAYSTACK_ESSAY) {
        write_essay(h);
    } else {
        code = write_lines(h, err);
    }
    fprintf(h->out, "\nWhat %s special magic %s for %s mentioned in the provided text?",
            one ? "is the" : "are all the", values, query);
    out->answer_prefix =
        mp_xasprintf("The special magic %s for %s mentioned in the provided text %s", values, query,
                     one ? "is" : "are");
    free(query);
    return code;
}

int mp_write_needles(const struct mp_task *t, const struct mp_draft *d, struct mp_sample *out,
                     struct mp_error *err)
{
    struct hay h = {.task = t,
                    .draft = d,
                    .rng = d->rng,
                    .num_needles = t->hides.num_keys * t->hides.num_values};
    int code = 0;
    for (int i = 0; i < t->hides.num_keys && code == 0; i++) {
        code = draw_key(&h, err);
    }
    if (code == 0) {
        draw_places(&h);
        size_t length;
        h.out = mp_xstream_open(&out->text, &length);
        h.started = false;
        code = write_sample(&h, out, err);
        mp_xstream_close(h.out);
    }
    mp_words_free(&h.keys);
    mp_words_free(&h.values);
    return code;
}
