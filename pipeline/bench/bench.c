/* The benchmarks of decoding and of reading prompts. */
#include "pipeline/bench/bench.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/ranks/ranks.h"
#include "pipeline/cli/interrupt.h"
#include "pipeline/cli/progress.h"
#include "pipeline/engine/hooks.h"
#include "pipeline/engine/recording.h"
#include "pipeline/report/report.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum {
    FIRST_STEPS = 3,
    DECODE_STEPS = 32,
    DECODE_WARMUP = 8,
    PREFILL_STEPS = 1,
    PREFILL_WARMUP = 0
};

void mp_bench_result_free(struct mp_bench_result *r)
{
    free(r->title);
    free(r->model);
    free(r->runtime);
    free(r->kernels);
    free(r->attention);
    cJSON_Delete(r->attention_settings);
    free(r->seconds);
    free(r->begin_ns);
    mp_profile_free(&r->profile);
    *r = (struct mp_bench_result){0};
}

/* What a measurement needs while it runs. */
struct bench {
    const struct mp_bench_options *options;
    const struct mp_cli *cli;       /* options->cli */
    const struct mp_config *config; /* options->config */
    struct mp_engine *engine;
    struct mp_session *session;
    struct mp_bench_result *result;
    int64_t steps;  /* timed */
    int64_t warmup; /* before them */
};

/* ---- opening and closing ---- */

static void describe(const struct bench *b)
{
    struct mp_bench_result *r = b->result;
    r->model = mp_xstrdup(mp_engine_model(b->engine));
    r->runtime = mp_xstrdup(mp_engine_runtime(b->engine));
    r->kernels = mp_xstrdup(mp_engine_kernels(b->engine));
    r->num_layers = mp_engine_num_layers(b->engine);
    r->context = b->cli->context;
    r->batch = b->config->batch;
    r->micro_batches = b->config->micro_batches;
    r->ranks = mp_ranks_count(b->cli->ranks);
    r->round_trip = mp_ranks_round_trip(b->cli->ranks);
    r->attention = mp_attention_describe(b->config);
    r->attention_settings = mp_attention_json(b->config);
    r->sampled = NAN;
    r->error = NAN;
}

/* Plans, loads and measures the bandwidths for prompts of cli->context tokens. */
static int start(struct bench *b, int64_t new_tokens, struct mp_error *err)
{
    struct mp_bench_result *r = b->result;
    int code = mp_cli_open_engine(b->cli, b->config, &b->engine, err);
    if (code == 0) {
        code = mp_engine_check_length(b->engine, b->cli->context, err);
    }
    if (code == 0 && mp_engine_check_length(b->engine, b->cli->context + new_tokens, NULL) != 0) {
        code =
            mp_fail(err, MP_ERR_USAGE,
                    "--context: found %lld, which with the %lld tokens of the steps is more than "
                    "the model's positions",
                    (long long)b->cli->context, (long long)new_tokens);
    }
    if (code == 0) {
        mp_engine_plan(b->engine, b->cli->context, new_tokens, &r->plan);
        if (b->cli->sampled > 0.0 && mp_attention_has_chance(b->config) &&
            r->plan.kept_layers == 0) {
            code = mp_fail(err, MP_ERR_USAGE,
                           "--sampled: every layer is in cache_layers, expected one that samples");
        }
    }
    if (code == 0) {
        mp_interrupt_defer();
        code = mp_engine_start(b->engine, b->cli->context, new_tokens, err);
    }
    if (code == 0) {
        describe(b);
        mp_log(MP_LOG_INFO, "%s", r->model);
        mp_engine_log_workers(b->engine);
    }
    if (code == 0 && !b->options->no_bandwidth) {
        code = mp_engine_bandwidth(b->engine, r->bandwidth, err);
    }
    return code == 0 ? mp_session_open(b->engine, &b->session, err) : code;
}

static int finish(struct bench *b, int code)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    b->result->cpu_bytes = (int64_t)usage.ru_maxrss * 1024;
    if (b->session != NULL) {
        b->result->gpu_bytes = mp_engine_gpu_used(b->engine);
    }
    mp_session_close(b->session);
    mp_engine_close(b->engine);
    return code;
}

/* ---- shared with bench_join.c ---- */

int32_t mp_bench_draw_token(const struct mp_engine *e, struct mp_rng *rng)
{
    return (int32_t)(mp_rng_next(rng) % (uint64_t)mp_engine_vocab_size(e));
}

int32_t *mp_bench_draw_prompt(const struct mp_engine *e, int64_t tokens)
{
    struct mp_rng rng;
    mp_rng_init(&rng, 1, 0);
    int32_t *ids = mp_xcalloc((size_t)tokens, sizeof *ids);
    for (int64_t i = 0; i < tokens; i++) {
        ids[i] = mp_bench_draw_token(e, &rng);
    }
    return ids;
}

int mp_bench_add_prompt(struct mp_session *s, const int32_t *ids, int64_t tokens,
                        int64_t new_tokens, int *slot, struct mp_error *err)
{
    const struct mp_request_options options = {
        .size = sizeof options, .ids = ids, .count = tokens, .max_new_tokens = new_tokens};
    return mp_session_add(s, &options, slot, err);
}

int mp_bench_check_prompt(const struct mp_session *s, int slot, struct mp_error *err)
{
    const struct mp_request *r = mp_session_request(s, slot);
    if (r->finish != MP_FINISH_FAILED) {
        return 0;
    }
    *err = r->failure;
    return MP_ERR_MEMORY;
}

int mp_bench_check_interrupted(struct mp_error *err)
{
    return mp_interrupted() ? mp_fail(err, MP_ERR_INTERRUPTED, "interrupted") : 0;
}

/* Reads a prompt to its end. */
static int read_prompt(struct bench *b, const int32_t *ids, int64_t new_tokens, int *slot,
                       struct mp_error *err)
{
    int code = mp_bench_add_prompt(b->session, ids, b->cli->context, new_tokens, slot, err);
    if (code == 0) {
        code = mp_session_read(b->session, err);
    }
    return code == 0 ? mp_bench_check_prompt(b->session, *slot, err) : code;
}

/* A measurement of so many steps after a warm-up, unless the command line says. */
static struct bench prepare(const struct mp_bench_options *o, const char *what, int64_t steps,
                            int64_t warmup, struct mp_bench_result *out)
{
    const struct mp_cli *cli = o->cli;
    struct bench b = {
        .options = o,
        .cli = cli,
        .config = o->config,
        .result = out,
        .steps = cli->steps > 0 ? cli->steps : steps,
        .warmup = cli->warmup >= 0 ? cli->warmup : warmup,
    };
    out->what = what;
    out->seconds = mp_xcalloc((size_t)b.steps, sizeof *out->seconds);
    out->begin_ns = mp_xcalloc((size_t)b.steps, sizeof *out->begin_ns);
    return b;
}

/* ---- decode ---- */

double mp_bench_sampled(const struct mp_cli *cli)
{
    const double usual = 0.02;
    return cli->shape == NULL ? 0.0 : cli->sampled > 0.0 ? cli->sampled : usual;
}

bool mp_bench_reads_prompts(const struct mp_cli *cli)
{
    return cli->kv != NULL && strcmp(cli->kv, "prompt") == 0;
}

static int add_request(struct bench *b, int64_t new_tokens, int *slot, struct mp_error *err)
{
    if (!mp_bench_reads_prompts(b->cli)) {
        return mp_session_add_synthetic(b->session, b->cli->context, new_tokens,
                                        mp_bench_sampled(b->cli), b->cli->sampled == 0.0, slot,
                                        err);
    }
    int32_t *ids = mp_bench_draw_prompt(b->engine, b->cli->context);
    int code = read_prompt(b, ids, new_tokens, slot, err);
    free(ids);
    return code;
}

static int add_requests(struct bench *b, int64_t new_tokens, struct mp_error *err)
{
    struct mp_progress *bar =
        mp_bench_reads_prompts(b->cli)
            ? NULL
            : mp_progress_start("filling the KV cache", "requests", b->config->batch);
    int code = 0;
    for (int i = 0; i < b->config->batch && code == 0; i++) {
        int slot;
        code = add_request(b, new_tokens, &slot, err);
        code = code == 0 ? mp_bench_check_interrupted(err) : code;
        mp_progress_set(bar, i + 1);
    }
    mp_progress_end(bar);
    return code;
}

/* Whether the first steps were all slower than any that are of interest. */
static bool is_slow(const struct bench *b)
{
    const struct mp_bench_result *r = b->result;
    bool slow = b->options->slow_step > 0.0 && r->count == FIRST_STEPS;
    for (size_t i = 0; i < r->count && slow; i++) {
        slow = r->seconds[i] > b->options->slow_step;
    }
    return slow;
}

/* One step, fed random tokens, the same in every run. If it is timed, its time and its profile are
 * kept. */
static int run_step(struct bench *b, struct mp_rng *rng, bool timed, struct mp_error *err)
{
    struct mp_bench_result *r = b->result;
    for (int slot = 0; slot < b->config->batch; slot++) {
        mp_session_feed(b->session, slot, mp_bench_draw_token(b->engine, rng));
    }
    int active;
    uint64_t begin = mp_clock_ns();
    int code = mp_session_step(b->session, &active, err);
    uint64_t end = mp_clock_ns();
    if (code == 0 && timed) {
        r->begin_ns[r->count] = begin;
        r->seconds[r->count++] = (double)(end - begin) * 1e-9;
        mp_recording_take(&r->profile, begin, end);
    }
    return code == 0 ? mp_bench_check_interrupted(err) : code;
}

/* Warm-up, then the timed steps, which are recorded: that takes no time to speak of. */
static int run_steps(struct bench *b, struct mp_error *err)
{
    struct mp_rng rng;
    mp_rng_init(&rng, 2, 0);
    int code = 0;
    mp_recording_on(false);
    for (int64_t i = 0; i < b->warmup && code == 0; i++) {
        code = run_step(b, &rng, false, err);
    }
    mp_recording_on(true);
    for (int64_t i = 0; i < b->steps && code == 0 && !is_slow(b); i++) {
        code = run_step(b, &rng, true, err);
    }
    return code;
}

/* Mean share sampled over the requests. */
static double sampled_share(const struct bench *b)
{
    double sum = 0.0;
    for (int slot = 0; slot < b->config->batch; slot++) {
        sum += mp_session_request(b->session, slot)->sampled_mean;
    }
    return sum / b->config->batch;
}

/* Mean of the requests' estimated errors. */
static double estimated_error(const struct bench *b)
{
    double sum = 0.0;
    for (int slot = 0; slot < b->config->batch; slot++) {
        sum += mp_session_request(b->session, slot)->error_mean;
    }
    return sum / b->config->batch;
}

/* The page that --report asks for. */
static int write_report(const struct bench *b, struct mp_error *err)
{
    const struct mp_bench_result *r = b->result;
    struct mp_report report = {
        .command = b->cli->command,
        .context = r->context,
        .profile = &r->profile,
        .step_begin_ns = r->begin_ns,
        .step_seconds = r->seconds,
        .num_steps = r->count,
        .sampled = mp_session_request(b->session, 0)->sampled,
        .error = mp_session_request(b->session, 0)->error,
    };
    memcpy(report.bandwidth, r->bandwidth, sizeof report.bandwidth);
    return mp_report_write_run(&report, b->config, b->engine, b->session, err);
}

int mp_bench_decode(const struct mp_bench_options *o, struct mp_bench_result *out,
                    struct mp_error *err)
{
    struct bench b = prepare(o, "decode", DECODE_STEPS, DECODE_WARMUP, out);
    int64_t new_tokens = b.warmup + b.steps + 1;
    int code = start(&b, new_tokens, err);
    if (code == 0) {
        code = add_requests(&b, new_tokens, err);
    }
    if (code == 0) {
        code = run_steps(&b, err);
    }
    if (code == 0 || code == MP_ERR_INTERRUPTED) {
        mp_recording_gather(b.cli->ranks);
    }
    if (code == 0) {
        out->sampled = sampled_share(&b);
        out->error = estimated_error(&b);
        out->micro_batches = mp_session_micro_batches(b.session);
        for (int m = 1; m <= MP_MOST_MICRO_BATCHES; m++) {
            out->tried[m] = mp_session_tried(b.session, m);
        }
        code = write_report(&b, err);
    }
    return finish(&b, code);
}

/* ---- prefill ---- */

/* Reads a prompt and forgets it. If it is timed, its time and its profile are kept. */
static int run_prompt(struct bench *b, const int32_t *ids, bool timed, struct mp_error *err)
{
    struct mp_bench_result *r = b->result;
    int slot;
    uint64_t begin = mp_clock_ns();
    int code = read_prompt(b, ids, 1, &slot, err);
    uint64_t end = mp_clock_ns();
    if (code != 0) {
        return code;
    }
    if (timed) {
        r->begin_ns[r->count] = begin;
        r->seconds[r->count++] = (double)(end - begin) * 1e-9;
    }
    mp_recording_take(timed ? &r->profile : NULL, begin, end);
    mp_session_remove(b->session, slot);
    return 0;
}

/* Other last tokens than those of the prompts before. */
static void ask_anew(const struct bench *b, int32_t *ids, struct mp_rng *rng)
{
    for (int64_t i = b->cli->context - b->cli->question; i < b->cli->context; i++) {
        ids[i] = mp_bench_draw_token(b->engine, rng);
    }
}

int mp_bench_prefill(const struct mp_bench_options *o, struct mp_bench_result *out,
                     struct mp_error *err)
{
    struct bench b = prepare(o, "prefill", PREFILL_STEPS, PREFILL_WARMUP, out);
    struct mp_rng rng;
    mp_rng_init(&rng, 3, 0);
    int code = start(&b, 1, err);
    int32_t *ids = code == 0 ? mp_bench_draw_prompt(b.engine, o->cli->context) : NULL;
    out->question = o->cli->question;
    mp_recording_on(true);
    if (code == 0 && out->question > 0) {
        code = run_prompt(&b, ids, false, err);
    }
    for (int64_t i = -b.warmup; i < b.steps && code == 0; i++) {
        ask_anew(&b, ids, &rng);
        code = run_prompt(&b, ids, i >= 0, err);
    }
    free(ids);
    return finish(&b, code);
}
