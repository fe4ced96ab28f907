/* The search for the settings under which a model decodes fastest: what there is to set, how one
 * choice is measured, and what is written down meanwhile. */
#ifndef MP_PIPELINE_TUNE_H
#define MP_PIPELINE_TUNE_H

#include "core/base/error.h"
#include "pipeline/cli/cli.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct cJSON;

enum { MP_TUNE_MAX_AXES = 8 };

/* What the axes depend on. */
struct mp_tune_machine {
    char model[256];       /* the model, for people and to tell states apart */
    char description[512]; /* the machine, likewise */
    int cores;             /* this process may use */
    int numa_nodes;        /* with any of them */
    int batch;             /* requests decoded together */
    int64_t join_tokens;   /* of the prompt that joins in a measurement */
    bool gpu;              /* the dense work runs on one */
    int gpu_kv_layers;     /* sparse layers whose KV and tables fit in its memory */
};

/* ---- tune_axes.c ---- */

/* One key of the configuration, and the values to try. */
struct mp_tune_axis {
    const char *path; /* in a file: "runtime.threads"; static */
    const char *flag; /* on the command line: "threads"; static */
    bool joins;       /* acts while a prompt joins, and not otherwise */
    char **values;    /* [count] as typed after the flag; the first is the start's */
    size_t count;     /* at least 2 */
};

/* The axes that have anything to choose from on this machine: at most MP_TUNE_MAX_AXES. start: the
 * configuration to tune. */
struct mp_tune_axes {
    struct mp_tune_axis items[MP_TUNE_MAX_AXES];
    size_t count;
};
void mp_tune_axes_make(const struct mp_config *start, const struct mp_tune_machine *machine,
                       struct mp_tune_axes *out);
void mp_tune_axes_free(struct mp_tune_axes *axes);

/* A choice of one value on each axis. */
struct mp_tune_point {
    size_t at[MP_TUNE_MAX_AXES]; /* [count of axes] index of the value */
};

/* ---- measuring ---- */

struct mp_tune_request {
    struct mp_tune_point point;
    bool joins;       /* what a prompt that joins takes, rather than decode steps alone */
    double slow_step; /* seconds: not worth more than its first steps if they are slower; 0: any */
    double limit;     /* seconds after which the measurement is given up; 0: none */
};

struct mp_tune_sample {
    double step;        /* seconds, median of the steps, or mean while a prompt is read; INFINITY:
                           could not be measured */
    double first_token; /* seconds until a prompt that joins has its first token; 0: none joined */
    double cpu_busy;    /* share of the time in which CPU workers computed, 0..1; not while a prompt
                           is read */
    double gpu_busy;    /* the GPU */
    double both;        /* both at once */
    double wall;        /* seconds the whole measurement took, its start included */
    char why[512];      /* it could not be measured */
};

/* What the search makes small, in seconds: the step, or its geometric mean with the time to the
 * first token, if a prompt joined.
 *
 * Tokens/s would not do there: the sooner the prompt is read the more requests decode, so that all
 * of the time for it is always best, and the others stand still. The product is least in between: a
 * larger share is better as long as it shortens the one's wait by a larger factor than it lengthens
 * the others' steps. If reading only ever took turns with decoding, that would be half of the time;
 * less is enough where one runs beside the other. */
double mp_tune_cost(const struct mp_tune_sample *sample);

/* Measures one point; fails only if the search cannot go on. */
typedef int mp_tune_measure(void *arg, const struct mp_tune_request *request,
                            struct mp_tune_sample *out, struct mp_error *err);

/* ---- tune_measure.c: in a process of its own ---- */

/* Looks at the machine and the model without loading it, and checks that the context fits. */
int mp_tune_probe(const struct mp_cli *cli, struct mp_tune_machine *out, struct mp_error *err);

/* Measures what the request asks for, under the command line's configuration changed to its point.
 */
int mp_tune_measure_point(const struct mp_cli *cli, const struct mp_tune_axes *axes,
                          const struct mp_tune_request *request, struct mp_tune_sample *out,
                          struct mp_error *err);

/* ---- tune.c: the search ---- */

struct mp_tune_table; /* opaque: tune_table.c */

struct mp_tune_search {
    const struct mp_tune_axes *axes;
    mp_tune_measure *measure;
    /* Called with every better point. */
    int (*accept)(void *arg, const struct mp_tune_point *point, struct mp_error *err);
    void *arg;
    struct mp_tune_table *table;
};

struct mp_tune_result {
    struct mp_tune_point best;
    bool improved;     /* its decode steps are shorter than the start's */
    double start_step; /* seconds: medians of runs side by side, if improved; INFINITY: it could not
                          be measured then */
    double best_step;
};

/* MP_ERR_INTERRUPTED comes from `measure`. */
int mp_tune_search(const struct mp_tune_search *s, struct mp_tune_result *out,
                   struct mp_error *err);

/* ---- tune_table.c: what is shown while it runs ---- */

struct mp_tune_table *mp_tune_table_new(FILE *out, const struct mp_tune_machine *machine);
void mp_tune_table_free(struct mp_tune_table *t);

/* From here on a prompt joins in every measurement: other columns. */
void mp_tune_table_join(struct mp_tune_table *t);

/* A line with a bar, scaled to the first one's. what: the key, value: its value. best: cost in
 * seconds to compare with; 0: none yet. */
void mp_tune_table_row(struct mp_tune_table *t, const char *what, const char *value,
                       const struct mp_tune_sample *sample, double best);

/* The outcome of `runs` measurements of each of two, side by side: the median ones. */
void mp_tune_table_pair(struct mp_tune_table *t, const char *what, const char *value,
                        const struct mp_tune_sample *sample, const struct mp_tune_sample *other,
                        int runs, bool better);

/* ---- tune_state.c ---- */

/* The measurements done, in the order of the search: a line of JSON each, after a line that says
 * what they are of. The search asks for the same ones in the same order every time, so that a
 * second run takes them from here and goes on where the first one ended. */
struct mp_tune_state; /* opaque */

/* Opens path, new or, to resume, the state of the same subject. MP_ERR_USAGE: it exists and is not
 * to be resumed, or is of another subject. */
int mp_tune_state_open(const char *path, const struct cJSON *subject, bool resume,
                       struct mp_tune_state **out, struct mp_error *err);
void mp_tune_state_close(struct mp_tune_state *s);

/* The next of the measurements done before, which must be of this point; past their end, one made
 * by `measure`, which is added to the file. */
int mp_tune_state_measure(struct mp_tune_state *s, const struct mp_tune_axes *axes,
                          const struct mp_tune_request *request, mp_tune_measure *measure,
                          void *arg, struct mp_tune_sample *out, struct mp_error *err);

/* ---- tune_config.c ---- */

/* Writes the configuration to cli->output, all of it or nothing: the --config file as it is, what
 * flags changed, and the values of the point. */
int mp_tune_write_config(const struct mp_cli *cli, const struct mp_tune_axes *axes,
                         const struct mp_tune_point *point, struct mp_error *err);

#endif
