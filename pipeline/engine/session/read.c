/* Reading the prompt that was added last. */
#include "core/base/clock.h"
#include "core/ranks/ranks.h"
#include "pipeline/engine/session/session.h"

void mp_session_stop_reading(struct mp_session *s)
{
    struct mp_prefill_run *r = s->prefill;
    s->prefill = NULL; /* first: the last progress call may cancel the request */
    mp_prefill_close(r);
}

int mp_session_units_left(const struct mp_session *s)
{
    return s->prefill != NULL ? mp_prefill_units_left(s->prefill) : 0;
}

/* Samples the first token of the prompt that has been read. Between steps: it borrows the buffers
 * of the first micro-batch. */
static int sample_first(struct mp_session *s, struct mp_error *err)
{
    struct mp_slot *r = &s->slots[s->prefill_slot];
    struct mp_step_buffers *b = &s->buffers[0];
    struct mp_submit sub = mp_submit_begin(s->group, err);
    struct sample_row row = mp_slot_sample(r, s->engine);
    sub.priority = MP_PREFILL_PRIORITY;
    sub.about.request = s->prefill_slot;
    sample_insert(&sub, s->engine->shape, &b->logits, &row, &b->ids, 1);
    mp_task_group_wait(s->group, 0);
    mp_prefill_wait(s->prefill);
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
        r->info.prefill_seconds = mp_clock_seconds() - s->prefill_since;
    }
    mp_buffer_return(&b->ids);
    return code;
}

int mp_session_finish_reading(struct mp_session *s, struct mp_error *err)
{
    const struct mp_slot *slot = &s->slots[s->prefill_slot];
    const struct mp_request *info = &slot->info;
    s->reading = true;
    int code = mp_prefill_finish(s->prefill, err);
    if (code == 0) {
        mp_prefix_offer(s->engine, s, slot->segment, slot->ids, info->prompt_tokens);
    }
    if (code == MP_ERR_INTERRUPTED && info->finish == MP_FINISH_CANCELLED) {
        code = 0; /* it was while the prompt's logits were computed */
    }
    if (code == 0 && info->finish == MP_FINISH_NONE) {
        code = sample_first(s, err);
    }
    s->reading = false;
    code = mp_session_read_failed(s, code, err);
    mp_session_stop_reading(s);
    return code;
}

bool mp_session_fails_alone(const struct mp_session *s, int code)
{
    return code == MP_ERR_MEMORY && s->engine->graph.ranks == NULL;
}

int mp_session_read_failed(struct mp_session *s, int code, struct mp_error *err)
{
    if (!mp_session_fails_alone(s, code)) {
        return code;
    }
    if (s->prefill == NULL) {
        return 0; /* cancelled meanwhile */
    }
    struct mp_request *info = &s->slots[s->prefill_slot].info;
    if (info->finish == MP_FINISH_NONE) { /* not cancelled in the same call */
        info->finish = MP_FINISH_FAILED;
        info->failure = *err;
    }
    mp_session_stop_reading(s);
    return 0;
}

int mp_session_read(struct mp_session *s, struct mp_error *err)
{
    if (s->prefill == NULL) {
        return 0;
    }
    const struct mp_request *info = &s->slots[s->prefill_slot].info;
    /* The program's callbacks are called meanwhile, and may cancel the request. */
    s->reading = true;
    int code = 0;
    while (code == 0 && info->finish == MP_FINISH_NONE && mp_prefill_units_left(s->prefill) > 0) {
        code = mp_prefill_submit_next(s->prefill, err);
    }
    s->reading = false;
    if (code == 0 && info->finish == MP_FINISH_CANCELLED) {
        mp_session_stop_reading(s);
        return 0;
    }
    if (code == 0) {
        code = mp_session_finish_reading(s, err);
    }
    return mp_session_read_failed(s, code, err);
}
