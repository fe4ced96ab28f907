/* The main job: answer the prompts of a file. */
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/ranks/ranks.h"
#include "pipeline/cli/cli.h"
#include "pipeline/cli/interrupt.h"
#include "pipeline/engine/hooks.h"
#include "pipeline/engine/plan.h"
#include "pipeline/engine/recording.h"
#include "pipeline/generate/answer_key.h"
#include "pipeline/generate/batch_output.h"
#include "pipeline/generate/output.h"
#include "pipeline/generate/prompts.h"
#include "pipeline/generate/records/score.h"
#include "pipeline/generate/summary.h"
#include "pipeline/report/report.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What stdout still owes of one record. Texts appear in the records' order: the first unfinished
 * one streams, later ones wait. */
struct answer {
    char *text;     /* so far; NULL: none yet */
    size_t length;  /* bytes */
    size_t printed; /* bytes already on stdout */
    bool closed;    /* no more text will come */
    char *line;     /* of a batch, for --output: its lines come in the records' order, too */
};

struct generate {
    const struct mp_cli *cli;
    struct mp_prompts prompts;
    struct mp_engine *engine;
    struct mp_plan plan;
    struct mp_session *session;
    struct mp_output *output; /* NULL: no --output */
    uint64_t *settings;       /* [records] fingerprints; NULL: no --output */
    bool has_text;            /* false: the model has no tokenizer */
    struct answer *answers;   /* [records] */
    long *record_of;          /* [batch] record in each slot, -1: free */
    size_t next;              /* next record to start */
    size_t cursor;            /* first record whose text is not all on stdout */
    bool mute;                /* stdout gets no texts, or no more */
    struct mp_summary summary;
    int failed; /* records that could not be run */
};

/* ---- text ---- */

/* Writes the line that an answer has waited with. */
static int write_line(struct generate *g, struct answer *a, struct mp_error *err)
{
    int code = a->line != NULL ? mp_output_write_line(g->output, a->line, err) : 0;
    free(a->line);
    a->line = NULL;
    return code;
}

/* Prints what the record at the cursor has, and moves on past closed ones. */
static int print_ready(struct generate *g, struct mp_error *err)
{
    bool wrote = false;
    int code = 0;
    while (g->cursor < g->prompts.records.count && code == 0) {
        struct answer *a = &g->answers[g->cursor];
        if (!g->mute && a->length > a->printed) {
            fwrite(a->text + a->printed, 1, a->length - a->printed, stdout);
            wrote = true;
        }
        a->printed = a->length;
        if (!a->closed) {
            break;
        }
        if (!g->mute && a->length > 0) {
            fputc('\n', stdout);
            wrote = true;
        }
        code = write_line(g, a, err);
        free(a->text);
        a->text = NULL;
        g->cursor++;
    }
    if (code == 0 && wrote && (fflush(stdout) != 0 || ferror(stdout))) {
        g->mute = true;
        if (g->output == NULL) {
            return mp_fail(err, MP_ERR_IO, "stdout: cannot write: %s", strerror(errno));
        }
        mp_log(MP_LOG_WARNING, "stdout: cannot write: %s; going on for --output", strerror(errno));
        clearerr(stdout);
    }
    return code;
}

/* A token of the request in a slot; its text may contain NULs. */
static void take_piece(void *arg, int slot, int32_t id, const char *piece, size_t n)
{
    (void)id;
    struct generate *g = arg;
    struct answer *a = &g->answers[g->record_of[slot]];
    a->text = mp_xrealloc(a->text, a->length + n + 1, 1);
    memcpy(a->text + a->length, piece, n);
    a->text[a->length + n] = '\0';
    a->length += n;
}

/* ---- records ---- */

/* Of a record with an error. */
static int report_failure(struct generate *g, size_t record, struct mp_error *err)
{
    const struct mp_record *r = &g->prompts.records.items[record];
    mp_log(MP_LOG_ERROR, "record %s: %s", r->id, r->error);
    g->failed++;
    g->answers[record].closed = true;
    if (g->output == NULL) {
        return 0;
    }
    if (!g->prompts.records.batch) {
        return mp_output_write_error(g->output, r->id, r->error, err);
    }
    g->answers[record].line = mp_batch_failure(r, err);
    return g->answers[record].line != NULL ? 0 : MP_ERR_MEMORY;
}

static struct mp_answer_id id_of(const struct generate *g, size_t record)
{
    const struct mp_ids *ids = &g->prompts.ids[record];
    return (struct mp_answer_id){
        .id = g->prompts.records.items[record].id,
        .prompt = mp_prompt_fingerprint(ids->data, ids->count),
        .settings = g->settings[record],
    };
}

/* Without a tokenizer, what stdout gets are the ids of the answer. */
static void take_ids(struct answer *a, const struct mp_request *r)
{
    char *text = NULL;
    FILE *out = mp_xstream_open(&text, &a->length);
    for (int64_t i = 0; i < r->generated_tokens; i++) {
        fprintf(out, "%s%d", i > 0 ? " " : "", (int)r->ids[r->prompt_tokens + i]);
    }
    mp_xstream_close(out);
    a->text = text;
}

/* The line of --output. */
static int output_answer(struct generate *g, size_t record, const struct mp_request *request,
                         double score, struct mp_error *err)
{
    struct answer *a = &g->answers[record];
    const struct mp_answer_id id = id_of(g, record);
    if (!g->prompts.records.batch) {
        return mp_output_write(g->output, &id, g->has_text ? a->text : NULL, a->length, request,
                               score, err);
    }
    a->line = mp_batch_answer(&g->prompts.records.items[record], &id, g->cli->config.model_path,
                              a->text, a->length, request, err);
    return a->line != NULL ? 0 : MP_ERR_MEMORY;
}

static int finish_record(struct generate *g, int slot, struct mp_error *err)
{
    size_t record = (size_t)g->record_of[slot];
    const struct mp_record *r = &g->prompts.records.items[record];
    const struct mp_request *request = mp_session_request(g->session, slot);
    struct answer *a = &g->answers[record];

    a->closed = true;
    if (!g->has_text) {
        take_ids(a, request);
    }
    double score = g->has_text && r->num_outputs > 0
                       ? mp_answer_score(a->text, a->length, r->outputs, r->num_outputs, r->any)
                       : NAN;
    int code = g->output != NULL ? output_answer(g, record, request, score, err) : 0;
    mp_summary_add(&g->summary, request, score);
    g->record_of[slot] = -1;
    mp_session_remove(g->session, slot);
    return code;
}

static int fail_record(struct generate *g, int slot, struct mp_error *err)
{
    size_t record = (size_t)g->record_of[slot];
    mp_prompts_fail(&g->prompts, record, g->cli,
                    mp_session_request(g->session, slot)->failure.message);
    int code = report_failure(g, record, err);
    g->record_of[slot] = -1;
    mp_session_remove(g->session, slot);
    return code;
}

/* Starts one record: its prompt will be read. A record that cannot run is reported. */
static int start_record(struct generate *g, size_t record, struct mp_error *err)
{
    const struct mp_record *r = &g->prompts.records.items[record];
    const struct mp_ids *ids = &g->prompts.ids[record];
    if (g->answers[record].closed) {
        return 0; /* done in an earlier run */
    }
    if (r->error != NULL) {
        return report_failure(g, record, err);
    }
    int slot;
    struct mp_sampling sampling = mp_prompts_sampling(r, g->cli);
    const struct mp_request_options options = {
        .size = sizeof options,
        .ids = ids->data,
        .count = (int64_t)ids->count,
        .max_new_tokens = mp_prompts_max_new_tokens(r, g->cli),
        /* A record with a seed of its own draws the same tokens wherever it stands. */
        .stream = r->seed >= 0 ? 0 : record,
        .own_sampling = true,
        .temperature = sampling.temperature,
        .top_p = sampling.top_p,
        .top_k = sampling.top_k,
        .seed = sampling.seed,
        .stop = (const char *const *)r->stop,
        .num_stop = (int)r->num_stop,
        .on_token = g->has_text ? take_piece : NULL,
        .user = g,
    };
    int code = mp_session_add(g->session, &options, &slot, err);
    if (code == MP_ERR_MEMORY && g->cli->ranks == NULL) { /* the others would go on with it */
        mp_prompts_fail(&g->prompts, record, g->cli, err->message);
        return report_failure(g, record, err);
    }
    if (code != 0) {
        return code;
    }
    g->record_of[slot] = (long)record;
    return 0;
}

/* ---- the loop ---- */

static int free_slots(const struct generate *g)
{
    int n = 0;
    for (int i = 0; i < g->cli->config.batch; i++) {
        n += g->record_of[i] < 0;
    }
    return n;
}

/* Prints what the slots have got, and takes finished requests out. */
static int collect(struct generate *g, struct mp_error *err)
{
    int code = 0;
    for (int i = 0; i < g->cli->config.batch && code == 0; i++) {
        if (g->record_of[i] < 0) {
            continue;
        }
        const struct mp_request *r = mp_session_request(g->session, i);
        if (r->finish == MP_FINISH_FAILED) {
            code = fail_record(g, i, err);
        } else if (r->finish != MP_FINISH_NONE) {
            code = finish_record(g, i, err);
        }
    }
    return code == 0 ? print_ready(g, err) : code;
}

/* One step of the session, and its time. */
static int step(struct generate *g, struct mp_error *err)
{
    int active;
    uint64_t begin = mp_clock_ns();
    int rows = mp_session_decoding(g->session);
    mp_recording_choose((int64_t)g->summary.num_steps);
    int code = mp_session_step(g->session, &active, err);
    uint64_t end = mp_clock_ns();
    if (code == 0 && rows > 0) {
        mp_summary_add_step(&g->summary, rows, begin, end);
    } else if (code == 0) {
        mp_recording_take(NULL, begin, end);
    }
    return code == 0 ? collect(g, err) : code;
}

/* Without a session no record can run: each is done already, or will be reported. */
static bool can_start(const struct generate *g)
{
    return g->session == NULL || mp_session_can_add(g->session);
}

static int run(struct generate *g, struct mp_error *err)
{
    size_t count = g->prompts.records.count;
    int code = 0;
    while (code == 0) {
        while (code == 0 && g->next < count && can_start(g)) {
            code = start_record(g, g->next++, err);
        }
        if (code == 0) {
            code = print_ready(g, err); /* of records that could not be started */
        }
        if (code == 0 && mp_interrupted()) {
            code = mp_fail(err, MP_ERR_INTERRUPTED, "interrupted: %lld of %zu requests finished",
                           (long long)g->summary.requests, count);
        }
        if (code != 0 || free_slots(g) == g->cli->config.batch) {
            break;
        }
        code = step(g, err);
    }
    return code;
}

/* Closes the answers that --output already holds. */
static void skip_done(struct generate *g)
{
    for (size_t i = 0; i < g->prompts.records.count; i++) {
        struct mp_answer_id id = id_of(g, i);
        if (g->prompts.records.items[i].error == NULL && mp_output_take(g->output, &id)) {
            g->answers[i].closed = true;
        }
    }
    size_t settings, others;
    mp_output_left(g->output, &settings, &others);
    if (settings > 0) {
        mp_log(
            MP_LOG_WARNING,
            "--resume: %zu finished line%s of %s %s made by another model or with other settings, "
            "and not counted",
            settings, settings == 1 ? "" : "s", g->cli->output, settings == 1 ? "was" : "were");
    }
    if (others > 0) {
        mp_log(MP_LOG_WARNING,
               "--resume: %zu finished line%s of %s belong%s to no record of the input: has it "
               "changed?",
               others, others == 1 ? "" : "s", g->cli->output, others == 1 ? "s" : "");
    }
}

/* Of closed answers, which rank 0 alone knows: they neither run nor count in the plan. */
static int tell_done(struct generate *g, struct mp_error *err)
{
    int code = 0;
    for (size_t i = 0; i < g->prompts.records.count && code == 0; i++) {
        bool *closed = &g->answers[i].closed;
        code = mp_ranks_tell(g->cli->ranks, closed, sizeof *closed, err);
        g->prompts.ids[i].count = *closed ? 0 : g->prompts.ids[i].count;
    }
    return code;
}

static int open_output(struct generate *g, struct mp_error *err)
{
    if (g->prompts.records.batch && g->cli->resume) {
        return mp_fail(err, MP_ERR_USAGE, "--resume does not act for lines with a \"custom_id\"");
    }
    int code = mp_output_open(g->cli->output, g->cli->resume, &g->output, err);
    if (code == 0) {
        g->settings = mp_prompts_settings(&g->prompts, g->cli, g->engine);
        g->mute = mp_output_is_stdout(g->output); /* its lines have the texts */
    }
    return code;
}

/* What the model's makers suggest is not followed, which is better said. */
static void log_sampling(const struct generate *g)
{
    struct mp_sampling s;
    if (g->cli->config.sampling.temperature > 0.0f ||
        !mp_engine_suggested_sampling(g->engine, &s)) {
        return;
    }
    mp_log(
        MP_LOG_INFO,
        "generation_config.json suggests sampling, which is not used: --temperature %g --top-p %g "
        "--top-k %d asks for it",
        (double)s.temperature, (double)s.top_p, s.top_k);
}

static int open_all(struct generate *g, struct mp_error *err)
{
    const struct mp_config *config = &g->cli->config;
    int code = mp_cli_open_engine(g->cli, config, &g->engine, err);
    if (code == 0) {
        code = mp_prompts_load(g->cli, g->engine, &g->prompts, err);
    }
    if (code == 0 && g->cli->output != NULL) {
        code = open_output(g, err);
    }
    if (code != 0) {
        return code;
    }
    g->has_text = mp_engine_has_tokenizer(g->engine);
    mp_prompts_check(&g->prompts, g->cli, g->engine);
    g->answers = mp_xcalloc(g->prompts.records.count, sizeof *g->answers);
    g->record_of = mp_xcalloc((size_t)config->batch, sizeof *g->record_of);
    for (int i = 0; i < config->batch; i++) {
        g->record_of[i] = -1;
    }
    if (g->output != NULL) {
        skip_done(g);
    }
    code = tell_done(g, err);
    if (code != 0) {
        return code;
    }
    int64_t longest = mp_prompts_longest(&g->prompts);
    if (longest == 0) {
        return 0; /* nothing to run: all done before, or broken */
    }
    int64_t new_tokens = mp_prompts_most_new_tokens(&g->prompts, g->cli);
    mp_engine_plan(g->engine, longest, new_tokens, &g->plan);
    mp_interrupt_defer();
    code = mp_engine_start(g->engine, longest, new_tokens, err);
    if (code == 0) {
        code = mp_session_open(g->engine, &g->session, err);
    }
    if (code == 0) {
        mp_log(MP_LOG_INFO, "%s", mp_engine_model(g->engine));
        mp_engine_log_workers(g->engine);
        log_sampling(g);
    }
    return code;
}

static int close_all(struct generate *g, int code, struct mp_error *err)
{
    mp_session_close(g->session);
    mp_engine_close(g->engine);
    if (g->output != NULL) {
        int close_code = mp_output_close(g->output, code == 0 ? err : NULL);
        code = code == 0 ? close_code : code;
    }
    for (size_t i = 0; g->answers != NULL && i < g->prompts.records.count; i++) {
        free(g->answers[i].text);
        free(g->answers[i].line);
    }
    free(g->answers);
    free(g->record_of);
    free(g->settings);
    mp_prompts_free(&g->prompts);
    mp_summary_free(&g->summary);
    return code;
}

/* The page that --report asks for, if anything has run. */
static int write_report(const struct generate *g, struct mp_error *err)
{
    const struct mp_summary *s = &g->summary;
    if (s->requests == 0) {
        return 0;
    }
    double sampled[s->num_layers];
    double error[s->num_layers];
    for (int l = 0; l < s->num_layers; l++) {
        sampled[l] = mp_summary_sampled(s, l);
        error[l] = mp_summary_error(s, l);
    }
    const struct mp_report report = {
        .command = g->cli->command,
        .context = g->plan.tokens,
        .profile = &s->profile,
        .step_begin_ns = s->step_begin_ns,
        .step_seconds = s->step_seconds,
        .num_steps = s->num_steps,
        .sampled = sampled,
        .error = error,
    };
    return mp_report_write_run(&report, &g->cli->config, g->engine, g->session, err);
}

int mp_verb_generate(const struct mp_cli *cli, struct mp_error *err)
{
    if (cli->resume && cli->output == NULL) {
        return mp_fail(err, MP_ERR_USAGE, "--resume needs --output FILE");
    }
    if (cli->quiet) {
        mp_log_set_level(MP_LOG_WARNING);
    }
    struct generate g = {.cli = cli};
    int code = open_all(&g, err);
    if (code == 0) {
        code = run(&g, err);
        if (!cli->quiet && g.summary.requests > 0) {
            g.summary.waited = mp_hook_waited(g.engine);
            mp_summary_print(&g.summary, mp_engine_kernels(g.engine), &g.plan);
        }
    }
    if (code == 0 || code == MP_ERR_INTERRUPTED) {
        mp_recording_gather(cli->ranks);
        int report_code = write_report(&g, code == 0 ? err : NULL);
        code = code == 0 ? report_code : code;
    }
    if (code == 0 && g.failed > 0) {
        code = mp_fail(err, MP_ERR_FORMAT, "%d of %zu records could not be run", g.failed,
                       g.prompts.records.count);
    }
    return close_all(&g, code, err);
}
