/* Benchmarks of whole steps: what they measure, and how it is shown. */
#ifndef MP_PIPELINE_BENCH_H
#define MP_PIPELINE_BENCH_H

#include "core/base/rng.h"
#include "core/trace/profile.h"
#include "pipeline/cli/cli.h"
#include "pipeline/engine/hooks.h"
#include "pipeline/engine/plan.h"

#include <stdio.h>

struct cJSON;

/* What to measure, and how. */
struct mp_bench_options {
    const struct mp_cli *cli;       /* the command line */
    const struct mp_config *config; /* its configuration, changed for this measurement */
    double slow_step;  /* seconds: ends if the first timed steps are all slower; 0: never */
    bool no_bandwidth; /* spare the time to measure the devices' memory */
};

/* One measurement. Strings and arrays are owned. */
struct mp_bench_result {
    const char *what; /* "decode", "prefill"; static */
    int64_t question; /* last tokens of a prompt whose others were known; 0: all were read */
    char *title;      /* which of several rows this is */
    char *model;
    char *runtime;
    char *kernels;
    int64_t context; /* prompt tokens of each request */
    int batch;       /* requests together */
    int micro_batches;
    int ranks;         /* processes that step together; what is measured is rank 0's */
    double round_trip; /* seconds, as mp_ranks_round_trip has it; NAN: there is one rank */
    double tried[MP_MOST_MICRO_BATCHES + 1]; /* seconds of the shortest step by their number, from
                                                the search; 0: not tried */
    char *attention;                         /* mp_attention_describe */
    struct cJSON *attention_settings;        /* mp_attention_json */
    int num_layers;
    struct mp_plan plan;
    double
        bandwidth[MP_TRACK_KINDS]; /* measured bytes/s of each kind of device; 0: there is none */
    double *seconds;               /* [count] of each timed step, or prompt */
    uint64_t *begin_ns;            /* [count] of mp_clock_ns, when they began */
    size_t count;
    struct mp_profile profile; /* of the timed steps, or prompts */
    double sampled;            /* mean share of the offloaded tokens sampled; NaN: none were */
    double error;      /* estimated error of the attention's output, relative; NaN: no estimate */
    int64_t gpu_bytes; /* taken on the GPU, as the device tells */
    int64_t cpu_bytes; /* largest resident memory of the process */
};

void mp_bench_result_free(struct mp_bench_result *r);

/* The share of the offloaded tokens to sample; 0: a model's queries are its own, whatever comes. */
double mp_bench_sampled(const struct mp_cli *cli);

/* Whether the KV cache is filled by reading prompts. */
bool mp_bench_reads_prompts(const struct mp_cli *cli);

/* Measures `context` tokens of prompt being read, or steps being decoded after as many. */
int mp_bench_prefill(const struct mp_bench_options *o, struct mp_bench_result *out,
                     struct mp_error *err);
int mp_bench_decode(const struct mp_bench_options *o, struct mp_bench_result *out,
                    struct mp_error *err);

/* What benchmarks feed: a random token, and a prompt of them that is the same in every run and the
 * caller's. */
int32_t mp_bench_draw_token(const struct mp_engine *e, struct mp_rng *rng);
int32_t *mp_bench_draw_prompt(const struct mp_engine *e, int64_t tokens);

/* Adds a prompt to a session, to be read by its steps. */
int mp_bench_add_prompt(struct mp_session *s, const int32_t *ids, int64_t tokens,
                        int64_t new_tokens, int *slot, struct mp_error *err);

/* MP_ERR_MEMORY if the prompt in a slot found no memory for its KV. */
int mp_bench_check_prompt(const struct mp_session *s, int slot, struct mp_error *err);

/* MP_ERR_INTERRUPTED if the user asked to stop. */
int mp_bench_check_interrupted(struct mp_error *err);

/* ---- bench_join.c ---- */

/* A prompt that joins requests that decode. */
struct mp_bench_join {
    double first_token; /* seconds from its joining to its first token, worked out from a part */
    double step;        /* seconds of the others' steps meanwhile, mean */
};

/* Tokens of that prompt: the context, but a chunk at most. */
int64_t mp_bench_join_tokens(const struct mp_cli *cli, const struct mp_config *config);

/* Measures it beside config->batch - 1 others, at least one, which decode after cli->context
 * tokens. Some of the units of the prompt tell how long all of them take: it may be long. */
int mp_bench_join(const struct mp_cli *cli, const struct mp_config *config,
                  struct mp_bench_join *out, struct mp_error *err);

/* ---- bench_verbs.c ---- */

/* Whether the command line names either a shape or a model: MP_ERR_USAGE says what is missing or
 * too much. */
int mp_bench_check_model(const struct mp_cli *cli, struct mp_error *err);
/* Whether the options can be measured: MP_ERR_USAGE says what is missing or too much. */
int mp_bench_check(const struct mp_cli *cli, struct mp_error *err);
/* The command line's configuration, for texts that no token ends; what it points to stays the
 * command line's. */
struct mp_config mp_bench_config(const struct mp_cli *cli);

/* ---- bench_print.c ---- */

/* Median of n > 0 values, which it sorts. */
double mp_median(double *values, size_t n);

void mp_bench_print(const struct mp_bench_result *r, FILE *out);
/* A line each, to compare them. */
void mp_bench_print_rows(const struct mp_bench_result *rows, size_t count, FILE *out);
/* What was measured where: the first lines of that, and the table of ops, the last ones. */
void mp_bench_print_subject(const struct mp_bench_result *r, FILE *out);
void mp_bench_print_ops(const struct mp_bench_result *r, FILE *out);
/* MP_ERR_MEMORY: nothing is printed. */
int mp_bench_print_json(const struct mp_bench_result *rows, size_t count, FILE *out,
                        struct mp_error *err);

#endif
