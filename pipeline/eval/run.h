/* Asking every prompt with every setting: each prompt is read once, exactly, and then answered with
 * one attention after the other. */
#ifndef MP_PIPELINE_EVAL_RUN_H
#define MP_PIPELINE_EVAL_RUN_H

#include "pipeline/eval/items.h"
#include "pipeline/eval/predictions.h"
#include "pipeline/eval/settings.h"

/* Where the time of a run went, in seconds. */
struct mp_eval_times {
    double reading;  /* prompts */
    double adopting; /* making caches and indexes of them for the settings */
    double decoding; /* answers */
    double all;
};

/* An evaluation's engine, which reads prompts, with a variant a setting; what is asked, and what
 * has been answered. */
struct mp_eval {
    const struct mp_cli *cli;
    struct mp_config config; /* of the engine: the command line's, with full attention */
    struct mp_engine *engine;
    struct mp_settings settings;
    struct mp_items items;
    struct mp_predictions *predictions; /* NULL until there are any */
    struct mp_eval_times times;
};

/* Opens the engine and its variants, for so many prompts at a time, and reads what is asked. Errors
 * are those of the parts. mp_eval_close, also after an error; *out stays in place. */
int mp_eval_open(const struct mp_cli *cli, int batch, struct mp_eval *out, struct mp_error *err);
void mp_eval_close(struct mp_eval *e);

/* Starts the engine for prompts and answers of the items' lengths. */
int mp_eval_start(struct mp_eval *e, struct mp_error *err);

/* Answers what has no answer yet, in groups of runtime.batch consecutive prompts: the answers to a
 * group do not depend on what was answered before. A prompt for which there is no memory gets its
 * item's error set. MP_ERR_INTERRUPTED: what was answered by then is kept. */
int mp_eval_run(struct mp_eval *e, struct mp_error *err);

#endif
