/* What a decode step will take, worked out from its work and from rates that were measured. */
#ifndef MP_PIPELINE_PREDICTION_H
#define MP_PIPELINE_PREDICTION_H

#include "pipeline/engine/plan.h"
#include "pipeline/plan/rates.h"

#include <stdio.h>

/* Between ranks. */
struct mp_network {
    double speed;   /* bytes/s of a link, each way */
    double latency; /* seconds from a rank to another */
};

/* MP_ERR_USAGE: the text is not like "25Gbit,10us". */
int mp_network_read(const char *text, struct mp_network *out, struct mp_error *err);

/* Seconds of a step that messages are under way; *latency, if not NULL, gets what of them would
 * stay if they were empty. */
double mp_network_seconds(const struct mp_network *n, const struct mp_plan *plan, double *latency);

/* A step's parts, which follow each other. */
enum mp_step_part {
    MP_STEP_DENSE,     /* what every rank does: all but what follows */
    MP_STEP_SELECTING, /* what a method selects by, of a rank's heads */
    MP_STEP_ROWS,      /* attention to what was selected, likewise */
    MP_STEP_HAND_OVER, /* between the tasks */
    MP_STEP_EXCHANGE,  /* of ranks: what it takes the processes to pass messages on */
    MP_STEP_NETWORK,   /* of ranks: on the wire */
    MP_STEP_PARTS,
};

struct mp_prediction {
    double seconds[MP_STEP_PARTS]; /* without ops that are not known; NAN: nothing is known */
    double total;                  /* sum of what is known */
    char **unknown;                /* [num_unknown] what is not known, for people */
    size_t num_unknown;
};

/* network: NULL if it is not known. Free with mp_prediction_free. */
void mp_predict(const struct mp_step_work *work, const struct mp_plan *plan,
                const struct mp_step_rates *rates, const struct mp_network *network,
                struct mp_prediction *out);
void mp_prediction_free(struct mp_prediction *p);

void mp_prediction_print(const struct mp_prediction *p, const struct mp_plan *plan,
                         const struct mp_step_rates *rates, FILE *out);

/* For programs: the parts, their sum, and what is not known. The caller's: cJSON_Delete. */
struct cJSON *mp_prediction_json(const struct mp_prediction *p);

#endif
