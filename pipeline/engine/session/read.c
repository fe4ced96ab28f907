/* Reading prompts: one at a time, but that a long one lets in short ones between two of its layers.
 */
#include "core/base/clock.h"
#include "core/ranks/ranks.h"
#include "pipeline/engine/session/session.h"

/* ---- whose turn it is ---- */

void mp_session_start_reading(struct mp_session *s, const struct mp_reading *reading)
{
    if (s->prefill.run != NULL) {
        s->interrupted = s->prefill;
    }
    s->prefill = *reading;
    s->lets_in = false;
}

/* The prompt is out of the session before it is closed: the last progress call may cancel its
 * request. */
void mp_session_stop_reading(struct mp_session *s, int slot)
{
    struct mp_prefill_run *r = NULL;
    if (s->interrupted.run != NULL && s->interrupted.slot == slot) {
        r = s->interrupted.run;
        s->interrupted.run = NULL;
    } else if (s->prefill.run != NULL && s->prefill.slot == slot) {
        r = s->prefill.run;
        s->prefill.run = NULL;
    }
    if (s->prefill.run == NULL && s->interrupted.run != NULL) {
        s->prefill = s->interrupted;
        s->interrupted.run = NULL;
    }
    mp_prefill_close(r);
}

int mp_session_count_reading(const struct mp_session *s)
{
    return (s->prefill.run != NULL) + (s->interrupted.run != NULL);
}

bool mp_session_lets_in(const struct mp_session *s, int64_t count, const struct mp_prefix *known)
{
    int64_t own = known->shared ? count - known->tokens : count;
    return mp_session_count_reading(s) == 1 && mp_prefill_lets_in(s->prefill.run, count, own);
}

bool mp_hook_lets_in(const struct mp_session *s, const int32_t *ids, int64_t count,
                     int64_t max_new_tokens)
{
    const struct mp_prefix all = {.tokens = count, .shared = true};
    if (!mp_session_has_slot(s) || !mp_session_lets_in(s, count, &all)) {
        return false;
    }
    struct mp_prefix known = mp_prefix_find(s->engine, s, ids, count, max_new_tokens, false);
    return mp_session_lets_in(s, count, &known);
}

bool mp_hook_interrupt(struct mp_session *s)
{
    s->lets_in = true;
    return !s->stepping && !s->reading && mp_prefill_is_between_layers(s->prefill.run);
}

int mp_session_units_left(const struct mp_session *s)
{
    return s->prefill.run != NULL ? mp_prefill_units_left(s->prefill.run) : 0;
}

/* ---- its end ---- */

/* Samples the first token of the prompt that has been read. Between steps: it borrows the buffers
 * of the first micro-batch. */
static int sample_first(struct mp_session *s, struct mp_error *err)
{
    struct mp_slot *r = &s->slots[s->prefill.slot];
    struct mp_step_buffers *b = &s->buffers[0];
    struct mp_submit sub = mp_submit_begin(s->group, err);
    struct sample_row row = mp_slot_sample(r, s->engine);
    sub.priority = MP_PREFILL_PRIORITY;
    sub.about.request = s->prefill.slot;
    sample_insert(&sub, s->engine->shape, &b->logits, &row, &b->ids, 1);
    mp_task_group_wait(s->group, 0);
    mp_prefill_wait(s->prefill.run);
    int code = sub.code;
    if (code == 0) {
        code = mp_buffer_acquire(&b->ids, true, err);
    }
    if (code != 0) {
        return code;
    }
    int32_t *id = b->ids.data;
    code = mp_ranks_tell(s->engine->graph.ranks, id, sizeof *id, err);
    if (code == 0) {
        mp_slot_tell_logprobs(r, b->logits.data, *id);
        mp_slot_append(r, s->engine, *id);
        r->info.prefill_seconds = mp_clock_seconds() - s->prefill.since;
    }
    mp_buffer_return(&b->ids);
    return code;
}

int mp_session_finish_reading(struct mp_session *s, struct mp_error *err)
{
    const int slot = s->prefill.slot;
    const struct mp_slot *r = &s->slots[slot];
    const struct mp_request *info = &r->info;
    s->reading = true;
    int code = mp_prefill_finish(s->prefill.run, err);
    if (code == 0) {
        mp_prefix_offer(s->engine, s, r->segment, r->ids, info->prompt_tokens);
    }
    if (code == MP_ERR_INTERRUPTED && info->finish == MP_FINISH_CANCELLED) {
        code = 0; /* it was while the prompt's logits were computed */
    }
    if (code == 0 && info->finish == MP_FINISH_NONE) {
        code = sample_first(s, err);
    }
    s->reading = false;
    code = mp_session_read_failed(s, slot, code, err);
    mp_session_stop_reading(s, slot);
    return code;
}

bool mp_session_fails_alone(const struct mp_session *s, int code)
{
    return code == MP_ERR_MEMORY && s->engine->graph.ranks == NULL;
}

int mp_session_read_failed(struct mp_session *s, int slot, int code, struct mp_error *err)
{
    if (!mp_session_fails_alone(s, code)) {
        return code;
    }
    struct mp_slot *r = &s->slots[slot];
    if (r->used && r->info.finish == MP_FINISH_NONE) { /* not cancelled meanwhile */
        r->info.finish = MP_FINISH_FAILED;
        r->info.failure = *err;
    }
    mp_session_stop_reading(s, slot);
    return 0;
}

/* ---- all of it ---- */

/* Reads on to the end of the prompt, of its request, or of a layer, if another one is let in. */
static int read_on(struct mp_session *s, const struct mp_request *info, struct mp_error *err)
{
    struct mp_prefill_run *run = s->prefill.run;
    int code = 0;
    bool goes_on = true;
    /* The program's callbacks are called meanwhile, and may cancel the request. */
    s->reading = true;
    while (code == 0 && goes_on) {
        code = mp_prefill_submit_next(run, err);
        goes_on = info->finish == MP_FINISH_NONE && mp_prefill_units_left(run) > 0 &&
                  !(s->lets_in && mp_prefill_is_between_layers(run));
    }
    if (code == 0 && s->lets_in) {
        code = mp_prefill_catch_up(run, err);
    }
    s->lets_in = false;
    s->reading = false;
    return code;
}

int mp_session_read(struct mp_session *s, struct mp_error *err)
{
    if (s->prefill.run == NULL) {
        return 0;
    }
    const int slot = s->prefill.slot;
    const struct mp_request *info = &s->slots[slot].info;
    int code = read_on(s, info, err);
    if (code == 0 && info->finish == MP_FINISH_CANCELLED) {
        mp_session_stop_reading(s, slot);
    } else if (code == 0 && mp_prefill_units_left(s->prefill.run) == 0) {
        code = mp_session_finish_reading(s, err);
    }
    return mp_session_read_failed(s, slot, code, err);
}
