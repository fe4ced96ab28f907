/* The figures of a run, for people, on stderr. */
#ifndef MP_PIPELINE_SUMMARY_H
#define MP_PIPELINE_SUMMARY_H

#include "core/trace/profile.h"
#include "pipeline/engine/hooks.h"
#include "pipeline/engine/plan.h"

#include <stdint.h>

/* Sums over finished requests, and the decode steps. Start from zeros; free with mp_summary_free.
 */
struct mp_summary {
    int64_t requests;
    int64_t prompt_tokens;
    int64_t cached_tokens; /* of these, those that were not read: known from another prompt */
    int64_t generated_tokens;
    int64_t decoded_tokens; /* of all decode steps */
    double prefill_seconds;
    double first_token_seconds; /* the slowest request's */
    double *sampled_sum;        /* [num_layers] sum of the requests' means */
    int64_t *sampled_count;     /* [num_layers] requests that sampled in the layer */
    double waited;        /* share of the time for which a thread waited for a core, at most */
    double *error_sum;    /* [num_layers] sum of the requests' estimated errors */
    int64_t *error_count; /* [num_layers] requests that estimated it in the layer */
    int num_layers;
    struct mp_profile profile; /* of the decode steps that were recorded */
    double *step_seconds;      /* [num_steps] of each decode step */
    uint64_t *step_begin_ns;   /* [num_steps] of mp_clock_ns */
    size_t num_steps;
    int64_t checked;  /* requests that came with expected answers */
    double score_sum; /* sum of their scores */
};

/* score: of its answer; NaN if the record expects none. */
void mp_summary_add(struct mp_summary *s, const struct mp_request *request, double score);
/* A decode step of `rows` requests that ran in [begin_ns, end_ns) of mp_clock_ns. */
void mp_summary_add_step(struct mp_summary *s, int rows, uint64_t begin_ns, uint64_t end_ns);
void mp_summary_free(struct mp_summary *s);

/* Mean share sampled in a layer; NaN where no request did. */
double mp_summary_sampled(const struct mp_summary *s, int layer);

/* Mean of the requests' estimated errors of a layer's attention; NaN where there is none. */
double mp_summary_error(const struct mp_summary *s, int layer);

/* Prints tokens, speeds, how the devices overlapped, sampled fraction per layer, peak memory beside
 * the plan, and the kernels chosen. */
void mp_summary_print(const struct mp_summary *s, const char *kernels, const struct mp_plan *plan);

#endif
