/* Prompts that a session of the engine's base has read. */
#include "core/base/memory.h"
#include "pipeline/engine/session/session.h"

#include <string.h>

static int check(const struct mp_session *s, const struct mp_adoption *a, struct mp_error *err)
{
    const struct mp_session *from = a->from;
    if (s->engine->base == NULL || s->engine->base != from->engine) {
        return mp_fail(err, MP_ERR_USAGE, "a variant's session adopts the prompts of its base's");
    }
    if (a->slot < 0 || a->slot >= from->batch || from->slots[a->slot].info.generated_tokens == 0) {
        return mp_fail(err, MP_ERR_USAGE, "slot %d: found no prompt that has been read", a->slot);
    }
    int64_t tokens = from->slots[a->slot].info.prompt_tokens;
    if (a->exact < 1 || a->exact > tokens) {
        return mp_fail(err, MP_ERR_USAGE, "exact: found %lld of a prompt of %lld tokens",
                       (long long)a->exact, (long long)tokens);
    }
    if (a->max_new_tokens < 1) {
        return mp_fail(err, MP_ERR_USAGE, "max_new_tokens: found %lld, expected at least 1",
                       (long long)a->max_new_tokens);
    }
    return 0;
}

/* Makes the KV and the index of every layer from what the base has kept of the prompt. */
static int take_layers(struct mp_session *s, struct mp_slot *r, const struct mp_slot *from,
                       int slot, struct mp_error *err)
{
    const struct mp_engine *e = s->engine;
    struct mp_allocator a = {.err = err};
    struct mp_keep keep = {
        .request = slot,
        .tokens = r->info.prompt_tokens,
        .kv = r->segment->layers,
        .scratch = mp_index_scratch_create(e, &a, mp_slot_offloaded(r)),
    };
    struct mp_submit sub = mp_submit_begin(s->group, err);
    sub.code = a.code;
    for (int l = 0; l < e->shape->num_hidden_layers && sub.code == 0; l++) {
        const struct mp_buffer *staging = &from->segment->layers[l].static_buffer;
        sub.code = mp_kv_create_layer(e, &keep.kv[l], l, keep.tokens, mp_slot_growth(r, e), err);
        if (sub.code == 0) {
            mp_submit_keep(&sub, &e->graph, &keep, l, &staging, 1);
        }
    }
    mp_task_group_wait(s->group, 0);
    mp_index_scratch_destroy(e, keep.scratch);
    return sub.code;
}

/* A slot whose prompt ends with the exact tokens, and which has the others as its given ones. */
static int open_slot(const struct mp_session *s, struct mp_slot *r, const struct mp_slot *from,
                     const struct mp_adoption *a, struct mp_error *err)
{
    int64_t left = from->info.prompt_tokens - a->exact;
    int code = mp_slot_open(r, s->engine, from->ids, a->exact, left + a->max_new_tokens, a->stream,
                            &(struct mp_prefix){0}, err);
    if (code == 0) {
        memcpy(r->ids + a->exact, from->ids + a->exact, (size_t)left * sizeof *r->ids);
        r->given = a->exact + left;
    }
    if (code == 0 && left == 0 && r->sampling.temperature > 0.0f) {
        mp_rng_uniform(&r->rng); /* the first token was drawn there with this one */
    }
    return code;
}

int mp_session_adopt(struct mp_session *s, const struct mp_adoption *a, int *slot,
                     struct mp_error *err)
{
    int code = check(s, a, err);
    if (code == 0) {
        code = mp_session_find_slot(s, slot, err);
    }
    if (code != 0) {
        return code;
    }
    struct mp_slot *r = &s->slots[*slot];
    const struct mp_slot *from = &a->from->slots[a->slot];
    code = open_slot(s, r, from, a, err);
    if (code == 0) {
        code = take_layers(s, r, from, *slot, err);
    }
    if (code == 0) {
        mp_slot_append(r, s->engine, from->ids[from->info.prompt_tokens]);
    } else {
        mp_session_remove(s, *slot);
    }
    return code;
}
