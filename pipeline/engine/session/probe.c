/* What the layers of a step compute, one after the other. */
#include "codelets/common/attention/attention_part.h"
#include "core/base/clock.h"
#include "core/base/memory.h"
#include "pipeline/engine/session/session.h"

#include <stdlib.h>

/* A part of the attention's output for one row, in host memory. */
static int read_part(const struct mp_buffer *o, const struct mp_buffer *lse, int first_head,
                     int num_heads, int head_dim, struct attention_part *out, struct mp_error *err)
{
    size_t count = (size_t)num_heads;
    float *values = mp_xcalloc(count * (size_t)(head_dim + 1), sizeof *values);
    *out = (struct attention_part){
        .o = values,
        .lse = values + count * (size_t)head_dim,
        .first_head = first_head,
        .num_heads = num_heads,
    };
    int code = mp_memory_copy(MP_HOST, values, o->place, o->data,
                              count * (size_t)head_dim * sizeof *values, err);
    return code != 0 ? code
                     : mp_memory_copy(MP_HOST, values + count * (size_t)head_dim, lse->place,
                                      lse->data, count * sizeof *values, err);
}

/* The parts of a layer's output: static attention, and each shard's if there is anything to sample
 * from. They are the caller's, o of each, also after an error. */
static int read_parts(const struct mp_session *s, int layer, struct attention_part *parts,
                      int *num_parts, struct mp_error *err)
{
    const struct mp_graph *g = &s->engine->graph;
    const struct mp_step_buffers *b = &s->buffers[0];
    const struct mp_shards *shards = mp_shards_of(&g->placements, layer);
    int group = mp_shape_group(g->shape);
    int d = g->shape->head_dim;
    bool sampled = s->step.rows[0].kv[layer].offloaded > 0;
    *num_parts = 1;
    int code = read_part(&b->o_static, &b->lse_static, 0, g->shape->num_attention_heads, d,
                         &parts[0], err);
    for (int i = 0; sampled && i < shards->count && code == 0; i++) {
        const struct mp_shard *shard = &shards->list[i];
        const struct mp_step_shard *of = &b->shards[g->placements.layers[layer].cut][i];
        code = read_part(&of->o, &of->lse, shard->first_kv_head * group,
                         shard->num_kv_heads * group, d, &parts[(*num_parts)++], err);
    }
    return code;
}

/* The attention's output in a layer that has run: o [num_attention_heads][head_dim]. */
static int read_output(const struct mp_session *s, int layer, float *o, struct mp_error *err)
{
    const struct mp_shape *shape = s->engine->shape;
    struct attention_part parts[1 + MP_MAX_SHARDS];
    int num_parts;
    int code = read_parts(s, layer, parts, &num_parts, err);
    for (int h = 0; h < shape->num_attention_heads && code == 0; h++) {
        attention_part_merge(parts, num_parts, 0, h, shape->head_dim, o + h * shape->head_dim);
    }
    for (int i = 0; i < num_parts; i++) {
        free((void *)parts[i].o);
    }
    return code;
}

/* One layer, with what enters it and what its attention comes to. */
static int probe_layer(struct mp_session *s, int layer, const float *given,
                       const struct mp_probe *out, struct mp_error *err)
{
    const struct mp_shape *shape = s->engine->shape;
    const struct mp_buffer *x = &s->buffers[0].x;
    size_t hidden = (size_t)shape->hidden_size;
    size_t bytes = hidden * sizeof *given;
    float *in = out->x + (size_t)layer * hidden;
    int code = 0;
    if (given != NULL) {
        code =
            mp_memory_copy(x->place, x->data, MP_HOST, given + (size_t)layer * hidden, bytes, err);
    }
    if (code == 0) {
        code = mp_memory_copy(MP_HOST, in, x->place, x->data, bytes, err);
    }
    if (code == 0) {
        struct mp_submit sub = mp_submit_begin(s->group, err);
        s->attention_bytes +=
            mp_submit_decode_layer(&sub, &s->engine->graph, &s->step.parts[0], layer);
        code = sub.code;
    }
    return code == 0 ? read_output(s, layer,
                                   out->o + (size_t)layer * (size_t)mp_shape_q_width(shape), err)
                     : code;
}

int mp_session_probe(struct mp_session *s, const float *given, const struct mp_probe *out,
                     struct mp_error *err)
{
    const struct mp_graph *g = &s->engine->graph;
    if (mp_session_count_decoding(s) != 1 || s->prefill != NULL) {
        return mp_fail(err, MP_ERR_USAGE, "a probe needs one request that decodes, found %d",
                       mp_session_count_decoding(s));
    }
    /* What a GPU has only been told to do cannot be read. */
    mp_task_one_at_a_time(true);
    int code = mp_session_prepare_step(s, err);
    if (code == 0 && s->step.num_rows == 1) {
        struct mp_submit sub = mp_submit_begin(s->group, err);
        mp_submit_decode_embed(&sub, g, &s->step.parts[0]);
        code = sub.code;
        for (int l = 0; l < g->shape->num_hidden_layers && code == 0; l++) {
            code = probe_layer(s, l, given, out, err);
        }
        sub.code = code;
        mp_submit_decode_sample(&sub, g, &s->step.parts[0]);
        code = sub.code;
    }
    mp_task_one_at_a_time(false);
    if (code == 0 && s->step.num_rows == 0) {
        return mp_fail(err, MP_ERR_MEMORY, "no memory for another token of the request");
    }
    if (code == 0) {
        mp_session_collect(s, mp_clock_seconds() - s->step.since);
    }
    return code;
}
