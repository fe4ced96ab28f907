/* What the answers of an evaluation come to. */
#ifndef MP_PIPELINE_EVAL_RESULTS_H
#define MP_PIPELINE_EVAL_RESULTS_H

#include "pipeline/eval/run.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Of one setting at one class of length, in one task or over all. Means are NAN where there is
 * nothing to be averaged. */
struct mp_result {
    size_t prompts;   /* answered */
    double score;     /* [0, 1] mean of the prompts', or over all tasks of the tasks' means */
    double low, high; /* of the score: 95 % of what drawing the prompts anew, task by task, gives */
    double sampled;   /* mean share of the offloaded tokens that a query head attends to in a sparse
                         layer and a step */
    double rows;      /* the same as a number of tokens */
    double bytes;     /* mean that attention moves for a token */
    double ms;        /* of a decode step */
};

struct mp_results {
    const struct mp_settings *settings;
    int batch;    /* prompts at a time, which the costs of a step depend on */
    char **tasks; /* [num_tasks] in the order of the items, as are the classes of length */
    size_t num_tasks;
    int64_t *contexts; /* [num_contexts] ascending */
    size_t num_contexts;
    struct mp_result *all; /* [settings][num_contexts][1 + num_tasks]: over all, then each task */
};

/* The same answers give the same results. mp_results_free. */
void mp_results_make(const struct mp_eval *e, struct mp_results *out);
void mp_results_free(struct mp_results *r);

/* task -1: over all. */
const struct mp_result *mp_results_get(const struct mp_results *r, size_t setting, size_t context,
                                       int task);

/* ---- print_results.c ---- */

/* For people: a table a class of length, and the tasks' scores below it. */
void mp_results_print(const struct mp_results *r, FILE *out);

/* A line for each setting, class of length and task. MP_ERR_IO. */
int mp_results_write_csv(const struct mp_results *r, const char *path, struct mp_error *err);

/* The data of the page. The caller's: cJSON_Delete. */
struct cJSON;
struct cJSON *mp_results_json(const struct mp_results *r, const struct mp_eval *e);

#endif
