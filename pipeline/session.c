/* A set of requests decoded together. */
#include "core/clock.h"
#include "core/memory.h"
#include "core/rng.h"
#include "pipeline/slot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct mp_session {
    struct mp_engine *engine;
    struct mp_slot *slots; /* [batch] */
    int batch;
    int micro_batches;
    int rows_per_micro_batch;
    struct mp_step_buffers *buffers; /* [micro_batches] */
};

/* ---- life of a session ---- */

int mp_session_open(struct mp_engine *e, struct mp_session **out, struct mp_error *err)
{
    struct mp_session *s = mp_xcalloc(1, sizeof *s);
    s->engine = e;
    s->batch = e->config->batch;
    s->micro_batches = e->config->micro_batches < s->batch ? e->config->micro_batches : s->batch;
    s->rows_per_micro_batch = (s->batch + s->micro_batches - 1) / s->micro_batches;
    s->slots = mp_xcalloc((size_t)s->batch, sizeof *s->slots);
    s->buffers = mp_xcalloc((size_t)s->micro_batches, sizeof *s->buffers);
    for (int m = 0; m < s->micro_batches; m++) {
        int code = mp_step_buffers_create(e, s->rows_per_micro_batch, &s->buffers[m], err);
        if (code != 0) {
            s->micro_batches = m;
            mp_session_close(s);
            return code;
        }
    }
    *out = s;
    return 0;
}

void mp_session_close(struct mp_session *s)
{
    if (s == NULL) {
        return;
    }
    for (int i = 0; i < s->batch; i++) {
        mp_session_remove(s, i);
    }
    for (int m = 0; m < s->micro_batches; m++) {
        mp_step_buffers_destroy(s->engine, &s->buffers[m]);
    }
    free(s->buffers);
    free(s->slots);
    free(s);
}

const struct mp_request *mp_session_request(const struct mp_session *s, int slot)
{
    return &s->slots[slot].info;
}

void mp_session_remove(struct mp_session *s, int slot)
{
    mp_slot_close(&s->slots[slot], s->engine);
}

/* ---- a new request ---- */

/* Each chunk's attention depends on all chunks before it: their number squared is bounded. */
enum { MAX_CHUNKS = 1024 };

int mp_engine_check_length(const struct mp_engine *e, int64_t count, struct mp_error *err)
{
    int64_t limit = mp_model_max_positions(e->model);
    if (count < 1) {
        return mp_fail(err, MP_ERR_USAGE,
                       "the prompt is empty: found 0 tokens, expected at least 1");
    }
    if (count > limit) {
        return mp_fail(err, MP_ERR_USAGE,
                       "the prompt is too long: found %lld tokens, the model has %lld positions",
                       (long long)count, (long long)limit);
    }
    if ((count - 1) / e->config->chunk_size >= MAX_CHUNKS) {
        return mp_fail(err, MP_ERR_USAGE,
                       "chunk_size: found %lld, which cuts a prompt of %lld tokens into more than "
                       "%d chunks; expected at least %lld",
                       (long long)e->config->chunk_size, (long long)count, MAX_CHUNKS,
                       (long long)((count + MAX_CHUNKS - 1) / MAX_CHUNKS));
    }
    return 0;
}

int mp_engine_check_prompt(const struct mp_engine *e, const int32_t *ids, int64_t count,
                           int64_t max_new_tokens, struct mp_error *err)
{
    int code = mp_engine_check_length(e, count, err);
    if (code != 0) {
        return code;
    }
    if (max_new_tokens < 1) {
        return mp_fail(err, MP_ERR_USAGE, "max_new_tokens: found %lld, expected at least 1",
                       (long long)max_new_tokens);
    }
    for (int64_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= e->shape->vocab_size) {
            return mp_fail(err, MP_ERR_USAGE, "token %lld: found id %d, expected 0 to %d",
                           (long long)i, (int)ids[i], e->shape->vocab_size - 1);
        }
    }
    return 0;
}

static struct mp_slot *free_slot(struct mp_session *s, int *slot)
{
    int i = 0;
    while (i < s->batch && s->slots[i].used) {
        i++;
    }
    if (i == s->batch) {
        mp_panic("session: all %d slots are in use", s->batch);
    }
    *slot = i;
    return &s->slots[i];
}

static int prefill_slot(struct mp_session *s, int slot, struct mp_error *err)
{
    struct mp_slot *r = &s->slots[slot];
    struct mp_step_buffers *b = &s->buffers[slot % s->micro_batches];
    const struct mp_graph *g = &s->engine->graph;
    struct mp_prefill_job job = {
        .request = slot,
        .ids = r->ids,
        .count = r->info.prompt_tokens,
        .kv = r->kv,
        .rope = &r->rope,
        .last_logits = &b->logits,
    };
    int code = mp_prefill_run(s->engine, &job, err);
    if (code != 0) {
        return code;
    }
    struct mp_rng *rng = &r->rng;
    struct mp_span_info about = {.layer = -1, .request = slot, .chunk = -1, .micro_batch = -1};
    code = mp_submit_sample(g, &b->logits, &b->ids, &s->engine->config->sampling, &rng, 1, &about,
                            err);
    if (code == 0) {
        code = mp_buffer_acquire(&b->ids, false, err);
    }
    if (code == 0) {
        mp_slot_append(r, s->engine, *(const int32_t *)b->ids.data);
        mp_buffer_return(&b->ids);
    }
    return code;
}

int mp_session_add(struct mp_session *s, const int32_t *ids, int64_t count, int64_t max_new_tokens,
                   uint64_t stream, int *slot, struct mp_error *err)
{
    int code = mp_engine_check_prompt(s->engine, ids, count, max_new_tokens, err);
    if (code != 0) {
        return code;
    }
    struct mp_slot *r = free_slot(s, slot);
    double start = mp_clock_seconds();
    code = mp_slot_open(r, s->engine, ids, count, max_new_tokens, stream, err);
    if (code == 0) {
        code = prefill_slot(s, *slot, err);
    }
    if (code != 0) {
        mp_session_remove(s, *slot);
        return code;
    }
    r->info.prefill_seconds = mp_clock_seconds() - start;
    return 0;
}

int mp_session_add_synthetic(struct mp_session *s, int64_t tokens, int64_t max_new_tokens,
                             double sampled, int *slot, struct mp_error *err)
{
    int32_t *ids = mp_xcalloc((size_t)tokens, sizeof *ids);
    struct mp_slot *r = free_slot(s, slot);
    int code = mp_slot_open(r, s->engine, ids, tokens, max_new_tokens, 0, err);
    if (code == 0) {
        code = mp_synthetic_fill(s->engine, r->kv, sampled, err);
    }
    if (code == 0) {
        mp_slot_append(r, s->engine, 0);
    } else {
        mp_session_remove(s, *slot);
    }
    free(ids);
    return code;
}

void mp_session_feed(struct mp_session *s, int slot, int32_t id)
{
    struct mp_slot *r = &s->slots[slot];
    r->ids[r->info.prompt_tokens + r->info.generated_tokens - 1] = id;
}

/* ---- a decode step ---- */

/* Fills the rows of micro-batch m from its unfinished requests; slot_of[row] tells whose they are.
 */
static int gather_rows(struct mp_session *s, int m, struct mp_decode_row *rows, int *slot_of,
                       int *num_rows, struct mp_error *err)
{
    struct mp_step_buffers *b = &s->buffers[m];
    int code = mp_buffer_acquire(&b->ids, true, err);
    if (code != 0) {
        return code;
    }
    int n = 0;
    for (int i = m; i < s->batch && code == 0; i += s->micro_batches) {
        struct mp_slot *r = &s->slots[i];
        if (!r->used || r->info.finish != MP_FINISH_NONE) {
            continue;
        }
        code = mp_slot_feed(r, s->engine, b, n, &rows[n], err);
        slot_of[n++] = i;
    }
    mp_buffer_return(&b->ids);
    *num_rows = n;
    return code;
}

/* Submits one token step of every micro-batch, interleaved by layer, so that one may be attended
 * on the CPU while another runs its dense part. */
static int submit_step(const struct mp_session *s, const struct mp_decode_step *steps,
                       struct mp_error *err)
{
    const struct mp_graph *g = &s->engine->graph;
    int code = 0;
    for (int m = 0; m < s->micro_batches && code == 0; m++) {
        if (steps[m].num_rows > 0) {
            code = mp_submit_decode_embed(g, &steps[m], err);
        }
    }
    for (int l = 0; l < s->engine->shape->num_hidden_layers && code == 0; l++) {
        for (int m = 0; m < s->micro_batches && code == 0; m++) {
            if (steps[m].num_rows > 0) {
                code = mp_submit_decode_layer(g, &steps[m], l, err);
            }
        }
    }
    for (int m = 0; m < s->micro_batches && code == 0; m++) {
        if (steps[m].num_rows > 0) {
            code = mp_submit_decode_sample(g, &steps[m], err);
        }
    }
    return code;
}

int mp_session_step(struct mp_session *s, int *active, struct mp_error *err)
{
    double start = mp_clock_seconds();
    struct mp_decode_row rows[s->micro_batches][s->rows_per_micro_batch];
    int slot_of[s->micro_batches][s->rows_per_micro_batch];
    struct mp_decode_step steps[s->micro_batches];
    for (int m = 0; m < s->micro_batches; m++) {
        steps[m] = (struct mp_decode_step){
            .micro_batch = m,
            .rows = rows[m],
            .buffers = &s->buffers[m],
            .sampling = &s->engine->config->sampling,
        };
        int code = gather_rows(s, m, rows[m], slot_of[m], &steps[m].num_rows, err);
        if (code != 0) {
            return code;
        }
    }

    int code = submit_step(s, steps, err);
    /* Tasks of a step that was submitted in part still use the session: wait in any case. */
    int wait_code = mp_runtime_wait(code == 0 ? err : NULL);
    if (code != 0 || wait_code != 0) {
        return code != 0 ? code : wait_code;
    }

    double seconds = mp_clock_seconds() - start;
    *active = 0;
    for (int m = 0; m < s->micro_batches; m++) {
        for (int n = 0; n < steps[m].num_rows; n++) {
            struct mp_slot *r = &s->slots[slot_of[m][n]];
            r->info.decode_seconds += seconds;
            mp_slot_count(r, s->engine, &s->buffers[m], n);
            mp_slot_append(r, s->engine, ((const int32_t *)s->buffers[m].ids.data)[n]);
            *active += r->info.finish == MP_FINISH_NONE;
        }
    }
    return 0;
}
