/* A set of requests decoded together: its life, and who is in it. */
#include "pipeline/engine/session/session.h"

#include "core/base/clock.h"
#include "core/base/memory.h"

#include <stdlib.h>

/* ---- life of a session ---- */

int mp_session_open(struct mp_engine *e, struct mp_session **out, struct mp_error *err)
{
    if (e->runtime == NULL) {
        return mp_fail(err, MP_ERR_USAGE, "a session needs an engine that is started");
    }
    struct mp_session *s = mp_xcalloc(1, sizeof *s);
    s->engine = e;
    s->batch = e->config->batch;
    s->prefill.pace.share = e->config->prefill_share;
    s->group = mp_task_group_create();
    mp_micro_batches_init(&s->micro_batches, e->config, mp_searches_micro_batches(e));
    s->slots = mp_xcalloc((size_t)s->batch, sizeof *s->slots);
    const size_t parts = (size_t)mp_num_parts(e);
    s->buffers = mp_xcalloc(parts * (size_t)s->micro_batches.most, sizeof *s->buffers);
    s->steps = mp_xcalloc(parts * (size_t)s->batch, sizeof *s->steps);
    s->rows = mp_xcalloc(parts * (size_t)s->batch, sizeof *s->rows);
    struct mp_allocator a = {.err = err};
    for (int m = 0; m < s->micro_batches.most; m++) {
        for (int p = 0; p < mp_num_parts(e); p++) {
            mp_step_buffers_create(mp_part(e, p), &a, mp_micro_batch_rows(s->batch, m),
                                   &mp_session_buffers(s, m)[p]);
        }
    }
    if (a.code != 0) {
        mp_session_close(s);
        return a.code;
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
    for (int m = 0; m < s->micro_batches.most; m++) {
        for (int p = 0; p < mp_num_parts(s->engine); p++) {
            mp_step_buffers_destroy(mp_part(s->engine, p), &mp_session_buffers(s, m)[p]);
        }
    }
    mp_task_group_destroy(s->group);
    free(s->buffers);
    free(s->steps);
    free(s->rows);
    free(s->slots);
    free(s);
}

struct mp_step_buffers *mp_session_buffers(const struct mp_session *s, int micro_batch)
{
    return s->buffers + micro_batch * mp_num_parts(s->engine);
}

struct mp_decode_step *mp_session_steps(const struct mp_session *s, int micro_batch)
{
    return s->steps + micro_batch * mp_num_parts(s->engine);
}

struct mp_decode_parts mp_session_parts(const struct mp_session *s, int micro_batch)
{
    struct mp_decode_parts parts = {.count = mp_num_parts(s->engine)};
    for (int p = 0; p < parts.count; p++) {
        parts.graphs[p] = &mp_part(s->engine, p)->graph;
        parts.steps[p] = &mp_session_steps(s, micro_batch)[p];
    }
    return parts;
}

int mp_session_micro_batches(const struct mp_session *s)
{
    return s->micro_batches.best;
}

double mp_session_tried(const struct mp_session *s, int micro_batches)
{
    return micro_batches <= MP_MOST_MICRO_BATCHES ? s->micro_batches.tried[micro_batches] : 0.0;
}

const struct mp_request *mp_session_request(const struct mp_session *s, int slot)
{
    return &s->slots[slot].info;
}

void mp_session_remove(struct mp_session *s, int slot)
{
    /* A step that was begun and not ended uses the slot. */
    mp_task_group_wait(s->group, 0);
    mp_session_stop_reading(s, slot);
    mp_slot_close(&s->slots[slot], s->engine);
}

void mp_session_cancel(struct mp_session *s, int slot)
{
    struct mp_slot *r = &s->slots[slot];
    if (!r->used || r->info.finish != MP_FINISH_NONE) {
        return;
    }
    r->info.finish = MP_FINISH_CANCELLED;
    if (s->prefill.slot != slot || !s->reading) {
        mp_session_stop_reading(s, slot);
    }
}

/* ---- a new request ---- */

static int first_free(const struct mp_session *s)
{
    int slot = 0;
    while (slot < s->batch && s->slots[slot].used) {
        slot++;
    }
    return slot;
}

bool mp_session_has_slot(const struct mp_session *s)
{
    return first_free(s) < s->batch;
}

bool mp_session_can_add(const struct mp_session *s)
{
    return mp_session_has_slot(s) && s->prefill.run == NULL && !s->stepping;
}

static int refuse(const struct mp_session *s, struct mp_error *err)
{
    return mp_fail(err, MP_ERR_USAGE,
                   "all %d slots are in use, a prompt is being read, or a step is under way",
                   s->batch);
}

int mp_session_find_slot(const struct mp_session *s, int *slot, struct mp_error *err)
{
    *slot = first_free(s);
    return mp_session_can_add(s) ? 0 : refuse(s, err);
}

bool mp_hook_prepare_prompt(struct mp_session *s, const int32_t *ids, int64_t count,
                            int64_t max_new_tokens)
{
    return mp_prefix_prepare(s->engine, s, ids, count, max_new_tokens);
}

/* For the prompt that is being read. */
static bool waits(const struct mp_session *s, int64_t count, const struct mp_prefix *known)
{
    return s->prefill.run != NULL &&
           (!mp_prefill_is_between_layers(s->prefill.run) || !mp_session_lets_in(s, count, known));
}

/* Opens a slot for a prompt that has been found to be fine, and begins to read it. */
static int add(struct mp_session *s, const struct mp_request_options *o,
               const struct mp_prefix *known, int slot, struct mp_error *err)
{
    struct mp_slot *r = &s->slots[slot];
    struct mp_reading reading = {
        .slot = slot, .since = mp_clock_seconds(), .pace = s->prefill.pace};
    mp_pace_begin(&reading.pace);
    int code =
        mp_slot_open(r, s->engine, o->ids, o->count, o->max_new_tokens, o->stream, known, err);
    if (code == 0) {
        code = mp_slot_configure(r, s->engine, o, slot, err);
    }
    if (code == 0) {
        struct mp_prefill_options prefill = {
            .request = slot,
            .ids = r->ids,
            .count = o->count,
            .kv = r->segment->layers,
            .growth = mp_slot_growth(r, s->engine),
            .prefix = known,
            .rope = &r->rope,
            .last_logits = &s->buffers[0].logits,
            .read_tokens = &r->info.read_tokens,
            .sink = r->logprobs.prompt ? mp_slot_prompt_logprobs : NULL,
            .sink_arg = r,
            .interrupted = s->prefill.run,
        };
        code = mp_prefill_open(s->engine, &prefill, &reading.run, err);
    }
    if (code == 0) {
        mp_session_start_reading(s, &reading);
    } else {
        mp_session_remove(s, slot);
    }
    return code;
}

int mp_session_add(struct mp_session *s, const struct mp_request_options *options, int *slot,
                   struct mp_error *err)
{
    struct mp_request_options o;
    int code = mp_options_copy(&o, sizeof o, options, options->size, "mp_request_options", err);
    if (code == 0) {
        code = mp_engine_check_prompt(s->engine, o.ids, o.count, o.max_new_tokens, err);
    }
    if (code == 0) {
        code = mp_request_options_check(s->engine, &o, err);
    }
    if (code == 0 && (!mp_session_has_slot(s) || s->stepping)) {
        code = refuse(s, err);
    }
    if (code != 0) {
        return code;
    }
    /* The probabilities of a prompt's tokens need all of it. One that is let in waits for no file.
     */
    struct mp_prefix known = {0};
    if (!o.prompt_logprobs) {
        known =
            mp_prefix_find(s->engine, s, o.ids, o.count, o.max_new_tokens, s->prefill.run == NULL);
    }
    mp_prefix_hold(&known);
    *slot = first_free(s);
    code = waits(s, o.count, &known) ? refuse(s, err) : add(s, &o, &known, *slot, err);
    mp_prefix_release(s->engine, &known);
    return code;
}

int mp_session_add_synthetic(struct mp_session *s, int64_t tokens, int64_t max_new_tokens,
                             double sampled, bool nearest, int *slot, struct mp_error *err)
{
    int code = mp_session_find_slot(s, slot, err);
    if (code != 0) {
        return code;
    }
    int32_t *ids = mp_xcalloc((size_t)tokens, sizeof *ids);
    struct mp_slot *r = &s->slots[*slot];
    code = mp_slot_open(r, s->engine, ids, tokens, max_new_tokens, 0, &(struct mp_prefix){0}, err);
    if (code == 0) {
        code = mp_synthetic_fill(s->engine, r->segment->layers, tokens,
                                 mp_slot_growth(r, s->engine), sampled, nearest, err);
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

/* ---- steps ---- */

double mp_session_attention_bytes(const struct mp_session *s)
{
    return s->attention_bytes;
}

/* With a share of 1 a prompt is read to its end before anybody goes on. */
int mp_session_decoding(const struct mp_session *s)
{
    const struct mp_reading *p = &s->prefill;
    return p->run != NULL && p->pace.share == 1.0 ? 0 : mp_session_count_decoding(s);
}

int mp_session_step(struct mp_session *s, int *active, struct mp_error *err)
{
    int code = 0;
    *active = 0;
    if (mp_session_decoding(s) > 0) {
        code = mp_session_begin_step(s, err);
        return code == 0 ? mp_session_end_step(s, active, err) : code;
    }
    if (s->prefill.run != NULL) {
        code = mp_session_read(s, err);
        *active = mp_session_count_decoding(s) + mp_session_count_reading(s);
    }
    return code;
}
