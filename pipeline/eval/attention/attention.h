/* How far the attention of settings is from exact attention, layer by layer and head by head. */
#ifndef MP_PIPELINE_EVAL_ATTENTION_H
#define MP_PIPELINE_EVAL_ATTENTION_H

#include "pipeline/eval/run.h"

#include <stdio.h>

/* Of one setting. Errors are relative, |o - exact| / |exact| of a head's output for a token, as
 * means over the tokens of all prompts; NAN in layers that are dense. */
struct mp_attention_result {
    double error;        /* mean over sparse layers and heads; NAN: there are none */
    double *head_error;  /* [layers][heads] */
    double estimate;     /* what the steps themselves estimate, a root mean square over tokens and
                            heads, as a mean over sparse layers and prompts; NAN: nothing */
    double rms;          /* the error likewise */
    double estimates;    /* (sparse layer, prompt) pairs that it is of */
    double calibrated;   /* share of them whose estimate is within a factor of 1.5 of the error;
                            NAN: there are none */
    double *layer_error; /* [layers] mean over the heads */
    double selecting;    /* tokens of prompts that had something to select from */
    double sampled;      /* mean share of the offloaded tokens that a head attends to */
    double rows;         /* the same as a number of tokens */
    double bytes;        /* that attention moves for a token */
    int *keep_dense; /* [num_keep_dense] layers whose error is more than 1.5 times the median, at
                        most a quarter of all, ascending: better dense */
    int num_keep_dense;
    double error_if_dense; /* the mean error then, if these layers' were 0 */
};

struct mp_attention_results {
    const struct mp_settings *settings;
    struct mp_attention_result *items; /* [settings->count] */
    int layers, heads;
    int64_t prompts, tokens;
};

/* Each prompt is read to the end of its expected answer; the tokens that come after what is to be
 * exact, `most` of them at most, go through each setting once more, every layer with the input that
 * exact attention gives it. Prompts that cannot be read are logged; MP_ERR_FORMAT: none can. The
 * engine of e has been opened for one prompt at a time, and not started.
 * mp_attention_results_free, also after an error. */
int mp_attention_measure(struct mp_eval *e, int64_t most, struct mp_attention_results *out,
                         struct mp_error *err);
void mp_attention_results_free(struct mp_attention_results *r);

/* Fills what follows from head_error: everything about layers. */
void mp_attention_conclude(struct mp_attention_result *r, int layers, int heads);

/* ---- print_attention.c ---- */

/* For people: the settings, each layer's error, and which layers are better dense. */
void mp_attention_print(const struct mp_attention_results *r, FILE *out);

/* A line for each setting, layer and head. MP_ERR_IO. */
int mp_attention_write_csv(const struct mp_attention_results *r, const char *path,
                           struct mp_error *err);

/* The data of the page. The caller's: cJSON_Delete. */
struct cJSON;
struct cJSON *mp_attention_results_json(const struct mp_attention_results *r,
                                        const struct mp_eval *e);

#endif
