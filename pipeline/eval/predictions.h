/* The answers of an evaluation: JSON lines on disk, and what counts of them in memory. */
#ifndef MP_PIPELINE_EVAL_PREDICTIONS_H
#define MP_PIPELINE_EVAL_PREDICTIONS_H

#include "core/base/error.h"
#include "pipeline/eval/items.h"
#include "pipeline/eval/settings.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An answer. Numbers that make no sense for it are NAN: nothing was sampled, or no step done. */
struct mp_prediction {
    bool done;
    double score;   /* [0, 1] */
    double sampled; /* mean share of the offloaded tokens that a head attended to */
    double rows;    /* the same as a number of tokens */
    double bytes;   /* that attention moved for a token of a step, mean over its batch */
    int64_t steps;  /* decode steps */
    double seconds; /* of them, shared with the batch */
};

/* A line of the file. */
struct mp_line {
    char *id;
    char *task;
    char *setting; /* its key */
    char *text;    /* the answer */
    char *outputs; /* what was expected then: a JSON array */
    uint64_t fingerprint;
    int64_t exact, max_new_tokens;
    struct mp_prediction prediction;
    bool taken; /* by an item */
};

struct mp_predictions; /* opaque */

/* Reads the lines of a file. MP_ERR_IO; MP_ERR_FORMAT names the line that eval does not write. A
 * last line of its own cut short is left out: *end gets the offset after the last whole line, if
 * not NULL. mp_lines_free. */
int mp_lines_read(const char *path, struct mp_line **lines, size_t *count, int64_t *end,
                  struct mp_error *err);
void mp_lines_free(struct mp_line *lines, size_t count);

/* Takes over from the file, if there is one, the answers to these items with these settings, and
 * opens it for more, as it does a pipe or a device; path NULL: nothing is written. One run at a
 * time has it. *left gets the number of lines that are about others. MP_ERR_USAGE: it cannot be
 * written, another run has it, or it holds something else. */
int mp_predictions_open(const char *path, const struct mp_items *items,
                        const struct mp_settings *settings, struct mp_predictions **out,
                        size_t *left, struct mp_error *err);

/* Of an item with a setting, by their indices. */
const struct mp_prediction *mp_predictions_get(const struct mp_predictions *p, size_t setting,
                                               size_t item);

/* What an answer consists of beside its figures. */
struct mp_answer {
    const char *text; /* [length], may contain NUL */
    size_t length;
    const char *finish;
    int batch; /* prompts at a time, at most */
    int64_t tokens;
};

/* Keeps an answer, its figures as rounded as in its line, and writes that at once. */
int mp_predictions_add(struct mp_predictions *p, size_t setting, size_t item,
                       const struct mp_answer *answer, const struct mp_prediction *prediction,
                       struct mp_error *err);

/* NULL is fine. MP_ERR_IO: the last of it could not be written. */
int mp_predictions_close(struct mp_predictions *p, struct mp_error *err);

#endif
