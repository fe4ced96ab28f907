/* The HTML report of a run: one page that needs nothing else. */
#ifndef MP_PIPELINE_REPORT_H
#define MP_PIPELINE_REPORT_H

#include "core/base/error.h"
#include "core/trace/profile.h"

#include <stddef.h>
#include <stdint.h>

struct cJSON;
struct mp_config;
struct mp_engine;
struct mp_session;

/* What a page shows beside the recorder's spans. Strings are UTF-8 and may hold any character. */
struct mp_report {
    const char *model;   /* mp_engine_model */
    const char *runtime; /* mp_engine_runtime */
    const char *kernels; /* mp_engine_kernels */
    const char *command; /* the command line */
    int64_t context;     /* tokens of the longest prompt */
    int batch;           /* requests decoded together */
    int micro_batches;
    const char *attention;                  /* mp_attention_describe */
    const struct cJSON *attention_settings; /* mp_attention_json */
    const struct mp_profile *profile;       /* of the decode steps */
    const uint64_t *step_begin_ns;          /* [num_steps] of mp_clock_ns, ascending */
    const double *step_seconds;             /* [num_steps] */
    size_t num_steps;
    const double *sampled; /* [num_layers] share of the offloaded tokens that each layer
                              sampled; NaN: a layer that attends to all */
    const double *error; /* [num_layers] its estimated error, relative to exact attention's output;
                            NaN: there is no estimate */
    int num_layers;
    double bandwidth[MP_TRACK_KINDS]; /* measured bytes/s of each kind of device; 0: not measured */
};

/* Writes the page: timeline of the recorder's last spans, of all ranks, table of ops, overlap,
 * histogram of step times, sampled share per layer. Only while nobody records. MP_ERR_IO names the
 * file, of which then nothing is left. */
int mp_report_write(const char *path, const struct mp_report *r, struct mp_error *err);

/* Writes the page to config->report_path, if that is given. What the engine, its session and the
 * configuration tell is filled in; `run` brings the rest: command, context, profile, steps, sampled
 * shares and bandwidths. */
int mp_report_write_run(const struct mp_report *run, const struct mp_config *config,
                        const struct mp_engine *e, const struct mp_session *s,
                        struct mp_error *err);

#endif
