#include "pipeline/eval/run.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "pipeline/cli/interrupt.h"
#include "pipeline/cli/progress.h"
#include "pipeline/generate/records/score.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A batch of prompts, read by the engine. */
struct group {
    struct mp_eval *eval;
    size_t items[MP_MAX_BATCH]; /* [count] */
    int slots[MP_MAX_BATCH]; /* of the reading session: where each is; -1: it could not be read */
    int count;
    struct mp_session *reader;
};

/* ---- open and close ---- */

/* Steps of more rows than this may depend, in their last bits, on how they are split: the search
 * for the best split is left out then. */
enum { MOST_ROWS = 16 };

static void set_batch(struct mp_config *c, int batch)
{
    c->batch = batch;
    if (c->micro_batches > batch) {
        c->micro_batches = batch;
    }
    if (c->micro_batches == 0 && batch > MOST_ROWS) {
        c->micro_batches = (batch + MOST_ROWS - 1) / MOST_ROWS;
    }
}

int mp_eval_open(const struct mp_cli *cli, int batch, struct mp_eval *out, struct mp_error *err)
{
    *out = (struct mp_eval){.cli = cli};
    mp_config_copy(&out->config, &cli->config);
    set_batch(&out->config, batch);
    int code = mp_config_set(&out->config, "attention.method", mp_attention_exact(), err);
    if (code == 0) {
        code = mp_settings_parse(cli, &out->settings, err);
    }
    for (size_t i = 0; i < out->settings.count; i++) {
        set_batch(&out->settings.items[i].config, batch);
    }
    if (code == 0) {
        code = mp_cli_open_engine(cli, &out->config, &out->engine, err);
    }
    if (code == 0) {
        code = mp_settings_open(&out->settings, out->engine,
                                cli->sparse_from != NULL ? cli->sparse_from : "answer", err);
    }
    if (code == 0) {
        code = mp_items_load(cli, out->engine, &out->items, err);
    }
    if (code == 0) {
        mp_items_check(&out->items, out->engine);
    }
    return code;
}

void mp_eval_close(struct mp_eval *e)
{
    mp_settings_free(&e->settings);
    mp_engine_close(e->engine);
    mp_items_free(&e->items);
    mp_config_free(&e->config);
}

int mp_eval_start(struct mp_eval *e, struct mp_error *err)
{
    int64_t longest = 0;
    int64_t most = 0;
    for (size_t i = 0; i < e->items.count; i++) {
        const struct mp_item *item = &e->items.items[i];
        int64_t tokens = (int64_t)item->ids.count;
        int64_t more = tokens - item->exact + item->max_new_tokens;
        if (item->error == NULL) {
            longest = tokens > longest ? tokens : longest;
            most = more > most ? more : most;
        }
    }
    mp_interrupt_defer();
    int code = mp_engine_start(e->engine, longest, most, err);
    if (code == 0) {
        mp_log(MP_LOG_INFO, "%s", mp_engine_model(e->engine));
        mp_engine_log_workers(e->engine);
    }
    return code;
}

/* ---- a group ---- */

static bool has_all(const struct group *g, size_t setting)
{
    for (int i = 0; i < g->count; i++) {
        if (!mp_predictions_get(g->eval->predictions, setting, g->items[i])->done) {
            return false;
        }
    }
    return true;
}

/* A prompt for which there is no memory fails alone. */
static void fail_item(struct mp_item *item, const char *message)
{
    free(item->error);
    item->error = mp_item_locate(item, message);
    mp_log(MP_LOG_ERROR, "prompt %s: %s", item->id, item->error);
}

static int read_prompt(struct group *g, int i, struct mp_error *err)
{
    struct mp_item *item = &g->eval->items.items[g->items[i]];
    struct mp_request_options options = {
        .size = sizeof options,
        .ids = item->ids.data,
        .count = (int64_t)item->ids.count,
        .max_new_tokens = 1, /* the first one: it comes with the prompt */
        .stream = item->fingerprint,
    };
    g->slots[i] = -1;
    int slot;
    int code = mp_session_add(g->reader, &options, &slot, err);
    if (code == MP_ERR_MEMORY) {
        fail_item(item, err->message);
        return 0;
    }
    if (code == 0) {
        code = mp_session_read(g->reader, err);
    }
    if (code == 0 && mp_session_request(g->reader, slot)->finish == MP_FINISH_FAILED) {
        fail_item(item, mp_session_request(g->reader, slot)->failure.message);
    } else if (code == 0) {
        g->slots[i] = slot;
    }
    return code;
}

static int read_prompts(struct group *g, struct mp_error *err)
{
    double since = mp_clock_seconds();
    int code = mp_session_open(g->eval->engine, &g->reader, err);
    for (int i = 0; i < g->count && code == 0; i++) {
        code = mp_interrupted() ? mp_fail(err, MP_ERR_INTERRUPTED, "interrupted")
                                : read_prompt(g, i, err);
    }
    g->eval->times.reading += mp_clock_seconds() - since;
    return code;
}

/* Puts the prompts into a session of the setting; slots[i] of prompt i, -1: there is none. */
static int adopt(struct group *g, struct mp_session *s, int *slots, struct mp_error *err)
{
    double since = mp_clock_seconds();
    int code = 0;
    for (int i = 0; i < g->count && code == 0; i++) {
        struct mp_item *item = &g->eval->items.items[g->items[i]];
        struct mp_adoption a = {
            .from = g->reader,
            .slot = g->slots[i],
            .exact = item->exact,
            .max_new_tokens = item->max_new_tokens,
            .stream = item->fingerprint,
        };
        slots[i] = -1;
        if (item->error == NULL) {
            code = mp_session_adopt(s, &a, &slots[i], err);
        }
        if (code == MP_ERR_MEMORY) {
            fail_item(item, err->message);
            slots[i] = -1;
            code = 0;
        }
    }
    g->eval->times.adopting += mp_clock_seconds() - since;
    return code;
}

static int step_to_the_end(struct group *g, struct mp_session *s, struct mp_error *err)
{
    double since = mp_clock_seconds();
    int active = mp_session_decoding(s);
    int code = 0;
    while (active > 0 && code == 0) {
        code = mp_interrupted() ? mp_fail(err, MP_ERR_INTERRUPTED, "interrupted")
                                : mp_session_step(s, &active, err);
    }
    g->eval->times.decoding += mp_clock_seconds() - since;
    return code;
}

/* Bytes that attention has moved for a token of a step, mean over the session's. */
static double bytes_per_token(const struct mp_session *s, const int *slots, int count)
{
    int64_t steps = 0;
    for (int i = 0; i < count; i++) {
        steps += slots[i] >= 0 ? mp_session_request(s, slots[i])->generated_tokens - 1 : 0;
    }
    return steps > 0 ? mp_session_attention_bytes(s) / (double)steps : NAN;
}

/* What a finished request has answered. */
static int keep_answer(struct group *g, size_t setting, size_t index, const struct mp_request *r,
                       double bytes, struct mp_error *err)
{
    struct mp_eval *e = g->eval;
    struct mp_item *item = &e->items.items[index];
    const struct mp_config *c = &e->settings.items[setting].config;
    if (r->finish == MP_FINISH_FAILED) {
        fail_item(item, r->failure.message);
        return 0;
    }
    int64_t given = (int64_t)item->ids.count - r->prompt_tokens;
    int64_t offloaded =
        r->prompt_tokens > c->device_budget ? r->prompt_tokens - c->device_budget : 0;
    struct mp_answer answer = {
        .batch = e->config.batch,
        .finish = r->finish == MP_FINISH_EOS ? "eos" : "length",
        .tokens = r->generated_tokens - given,
    };
    char *text;
    int code = mp_engine_decode(e->engine, r->ids + item->ids.count, answer.tokens, &text,
                                &answer.length, err);
    if (code != 0) {
        fail_item(item, err->message);
        return 0;
    }
    answer.text = text;
    struct mp_prediction p = {
        .done = true,
        .score = mp_answer_score(text, answer.length, item->outputs, item->num_outputs, item->any),
        .sampled = r->sampled_mean,
        .rows = r->sampled_mean * (double)offloaded,
        .bytes = bytes,
        .steps = r->generated_tokens - 1,
        .seconds = r->decode_seconds,
    };
    code = mp_predictions_add(e->predictions, setting, index, &answer, &p, err);
    mp_free(text);
    return code;
}

/* Answers the group with one setting, and keeps the answers that there were not. */
static int answer(struct group *g, size_t setting, struct mp_error *err)
{
    struct mp_session *s = NULL;
    int slots[MP_MAX_BATCH];
    int code = mp_session_open(g->eval->settings.items[setting].engine, &s, err);
    if (code == 0) {
        code = adopt(g, s, slots, err);
    }
    if (code == 0) {
        code = step_to_the_end(g, s, err);
    }
    double bytes = code == 0 ? bytes_per_token(s, slots, g->count) : NAN;
    for (int i = 0; i < g->count && code == 0; i++) {
        if (slots[i] >= 0 &&
            !mp_predictions_get(g->eval->predictions, setting, g->items[i])->done) {
            code =
                keep_answer(g, setting, g->items[i], mp_session_request(s, slots[i]), bytes, err);
        }
    }
    mp_session_close(s);
    return code;
}

/* What of a group has no answer yet. */
static int run_group(struct group *g, struct mp_progress *progress, int64_t *done,
                     struct mp_error *err)
{
    int code = 0;
    for (size_t s = 0; s < g->eval->settings.count && code == 0; s++) {
        if (!has_all(g, s)) {
            code = g->reader == NULL ? read_prompts(g, err) : 0;
            code = code == 0 ? answer(g, s, err) : code;
        }
        mp_progress_set(progress, *done += g->count);
    }
    mp_session_close(g->reader);
    g->reader = NULL;
    return code;
}

/* Takes prompts from item `next` on, of one class of length: what a step costs is shared. Returns
 * the item after them. */
static size_t fill(struct group *g, size_t next)
{
    const struct mp_items *items = &g->eval->items;
    int64_t context = 0;
    for (; next < items->count && g->count < g->eval->config.batch; next++) {
        const struct mp_item *item = &items->items[next];
        if (item->error != NULL) {
            continue;
        }
        if (g->count > 0 && item->context != context) {
            break;
        }
        context = item->context;
        g->items[g->count++] = next;
    }
    return next;
}

int mp_eval_run(struct mp_eval *e, struct mp_error *err)
{
    struct mp_progress *progress =
        mp_progress_start("answers", "answer", (int64_t)(e->items.count * e->settings.count));
    double since = mp_clock_seconds();
    int64_t done = 0;
    int code = 0;
    for (size_t next = 0; next < e->items.count && code == 0;) {
        struct group g = {.eval = e};
        next = fill(&g, next);
        code = run_group(&g, progress, &done, err);
    }
    mp_progress_end(progress);
    e->times.all = mp_clock_seconds() - since;
    const struct mp_eval_times *t = &e->times;
    mp_log(MP_LOG_INFO,
           "%.2f s: %.2f reading prompts, %.2f making caches and indexes of them, %.2f decoding",
           t->all, t->reading, t->adopting, t->decoding);
    return code;
}
