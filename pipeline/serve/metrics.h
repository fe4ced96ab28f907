/* What /metrics tells: counters and histograms, under the server's lock. */
#ifndef MP_SERVE_METRICS_H
#define MP_SERVE_METRICS_H

#include "pipeline/serve/job.h"

#include <stdint.h>
#include <stdio.h>

enum { MP_MOST_BUCKETS = 24 };

struct mp_histogram {
    int64_t counts[MP_MOST_BUCKETS]; /* each bucket by itself; the last has what is above all */
    double sum;
};

/* How requests end, in the words of OpenAI's finish_reason where it has them. */
enum mp_outcome {
    MP_OUTCOME_STOP,
    MP_OUTCOME_LENGTH,
    MP_OUTCOME_ABORT, /* the client has gone, the time was up, or the server ends */
    MP_OUTCOME_ERROR,
    MP_OUTCOMES,
};

struct mp_metrics {
    int64_t prompt_tokens, generated_tokens;
    int64_t cached_tokens; /* of the prompts', those that were known from another one */
    int64_t outcomes[MP_OUTCOMES];
    int64_t refused; /* for want of room in the queue */
    int64_t steps;
    struct mp_histogram first_token, inter_token, whole, queued, prefill, decode;
    double sampled_sum, error_sum; /* over the requests that have one */
    int64_t sampled_count, error_count;
};

void mp_histogram_add(struct mp_histogram *h, double seconds);

/* A job has ended. */
void mp_metrics_take(struct mp_metrics *m, const struct mp_job *job);

/* "stop", "length", "abort", "error". */
enum mp_outcome mp_job_outcome(const struct mp_job *job);
const char *mp_outcome_name(enum mp_outcome outcome);

/* Memory of this process; 0 where the system does not say. */
int64_t mp_resident_bytes(void);

/* Everything in Prometheus' text form. */
void mp_metrics_print(struct mp_server *server, FILE *out);

#endif
