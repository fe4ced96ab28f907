/* vt: variables that get their value from one another, in lines of noise. */
#include "core/base/memory.h"
#include "pipeline/make_data/draw.h"
#include "pipeline/make_data/task.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HOPS = 4,
    VARIABLES = HOPS + 1,
    NAME_LETTERS = 5,
    VALUE_DIGITS = 5,
    EXAMPLE_LINES = 12, /* of noise, in the example that comes first */
};

/* One text with a chain: VAR A = 12345, VAR B = VAR A, ... */
struct chain {
    const char *names[VARIABLES];
    int64_t value;
    int64_t lines;            /* of noise */
    int64_t place[VARIABLES]; /* before which line each assignment stands, ascending */
};

/* names: those drawn so far, of all chains. */
static void draw_chain(struct mp_rng *rng, int64_t lines, struct mp_words *names, struct chain *c)
{
    c->value = mp_draw_number(rng, VALUE_DIGITS);
    c->lines = lines;
    for (int i = 0; i < VARIABLES; i++) {
        char name[NAME_LETTERS + 1];
        do {
            mp_draw_letters(rng, 'A', NAME_LETTERS, name);
        } while (!mp_words_add_new(names, name));
        c->names[i] = names->items[names->count - 1];
        /* A share of the lines, so that with more of them the draws are the same. */
        int64_t place = mp_draw_below(rng, INT64_C(1) << 32) * (lines + 1) >> 32;
        int at = i;
        for (; at > 0 && c->place[at - 1] > place; at--) {
            c->place[at] = c->place[at - 1];
        }
        c->place[at] = place;
    }
}

static void write_assignment(FILE *out, const struct chain *c, int i)
{
    if (i == 0) {
        fprintf(out, "VAR %s = %" PRId64 "\n", c->names[0], c->value);
    } else {
        fprintf(out, "VAR %s = VAR %s\n", c->names[i], c->names[i - 1]);
    }
}

static void write_text(FILE *out, const struct chain *c)
{
    fputs(
        "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n",
        out);
    int next = 0;
    for (int64_t line = 0; line <= c->lines; line++) {
        for (; next < VARIABLES && c->place[next] == line; next++) {
            write_assignment(out, c, next);
        }
        if (line < c->lines) {
            fprintf(out, "%s\n", mp_noise_line);
        }
    }
    fprintf(out,
            "Question: Find all variables that are assigned the value %" PRId64
            " in the text above.",
            c->value);
}

static char *answer_prefix(const struct chain *c)
{
    return mp_xasprintf("Answer: According to the chain(s) of variable assignment in the text "
                        "above, %d variables are assigned the value %" PRId64 ", they are:",
                        VARIABLES, c->value);
}

static void write_example(FILE *out, const struct chain *c)
{
    write_text(out, c);
    char *prefix = answer_prefix(c);
    fprintf(out, " %s", prefix);
    free(prefix);
    for (int i = 0; i < VARIABLES; i++) {
        fprintf(out, "%s %s", i > 0 ? "," : "", c->names[i]);
    }
    fputs("\n\n", out);
}

int mp_write_chain(const struct mp_task *t, const struct mp_draft *d, struct mp_sample *out,
                   struct mp_error *err)
{
    (void)t;
    (void)err;
    struct mp_rng rng = d->rng;
    struct mp_words names = {0};
    struct chain example, asked;
    draw_chain(&rng, EXAMPLE_LINES, &names, &example);
    do {
        draw_chain(&rng, d->units, &names, &asked);
    } while (asked.value == example.value);

    size_t length;
    FILE *text = mp_xstream_open(&out->text, &length);
    write_example(text, &example);
    write_text(text, &asked);
    mp_xstream_close(text);
    out->answer_prefix = answer_prefix(&asked);
    for (int i = 0; i < VARIABLES; i++) {
        mp_words_add(&out->outputs, asked.names[i], strlen(asked.names[i]));
    }
    mp_words_free(&names);
    return 0;
}
