/* What an evaluation asks: prompts with their answers. */
#ifndef MP_PIPELINE_EVAL_ITEMS_H
#define MP_PIPELINE_EVAL_ITEMS_H

#include "core/tokenizer/tokenizer.h"
#include "pipeline/cli/cli.h"

#include <stdbool.h>
#include <stdint.h>

struct mp_engine;

struct mp_item {
    char *id;
    char *task;           /* of a benchmark; "prompts" where nothing says which */
    int64_t context;      /* its class of length, in tokens: what was asked for, else the power of
                             two at or above its own length */
    struct mp_ids ids;    /* the prompt */
    int64_t exact;        /* first tokens of it that are read exactly; the others go through the
                             method, one by one */
    uint64_t fingerprint; /* of ids */
    int64_t max_new_tokens;
    char **outputs; /* [num_outputs] expected answers, at least one */
    size_t num_outputs;
    bool any;         /* one of them is enough */
    const char *file; /* of its record, and the line there; NULL: a sample. Not owned. */
    size_t line;
    char *error; /* why it cannot be asked; NULL */
};

struct mp_items {
    struct mp_item *items; /* [count] */
    size_t count;
};

/* What the command line names: the records of --input, or samples of --task at each length of
 * --tokens. With --sparse-from question a prompt is read exactly up to its question: to the last
 * place where the record's "question" begins, or else one of the phrases with which RULER's tasks
 * ask. MP_ERR_USAGE; MP_ERR_IO, MP_ERR_FORMAT: a file. *out: mp_items_free, {0} after an error. */
int mp_items_load(const struct mp_cli *cli, struct mp_engine *e, struct mp_items *out,
                  struct mp_error *err);

/* MP_ERR_USAGE: neither or both of --input and --task with --tokens, or an option that does not act
 * for the one that is given. */
int mp_items_check_options(const struct mp_cli *cli, struct mp_error *err);

/* Sets the error of those that the engine cannot run. */
void mp_items_check(struct mp_items *items, const struct mp_engine *e);

/* Logs the errors. MP_ERR_FORMAT: none of them is without. */
int mp_items_report_errors(const struct mp_items *items, struct mp_error *err);

/* MP_ERR_FORMAT: some have an error. */
int mp_items_check_failed(const struct mp_items *items, struct mp_error *err);

/* A message about an item, behind "FILE:LINE: " if it has them. The caller's. */
char *mp_item_locate(const struct mp_item *item, const char *why);

void mp_items_free(struct mp_items *items);

/* Whether --sparse-from says that questions go through the method. MP_ERR_USAGE: it says neither.
 */
int mp_items_sparse_question(const struct mp_cli *cli, bool *out, struct mp_error *err);

/* Where the question starts, in bytes; -1: nowhere. question: with which it starts; NULL or empty:
 * as RULER's tasks ask. */
int64_t mp_items_find_question(const char *text, const char *question);

#endif
