/* What the layers of a step compute, one after the other. */
#include "core/base/clock.h"
#include "core/base/memory.h"
#include "pipeline/engine/session/session.h"

#include <math.h>
#include <string.h>

/* The heads' estimated errors in a layer, if there are any. */
static void read_errors(const struct mp_session *s, int layer, float *error)
{
    const struct mp_graph *g = &s->engine->graph;
    const struct mp_shards *shards = mp_shards_of(&g->placements, layer);
    int group = mp_shape_group(g->shape);
    bool estimated = g->attention->method->estimates_error && shards != NULL &&
                     s->rows[0].kv[layer].offloaded > 0;
    for (int h = 0; h < g->shape->num_attention_heads; h++) {
        error[h] = NAN;
    }
    for (int i = 0; estimated && i < shards->count; i++) {
        const struct mp_step_shard *of = &s->buffers[0].shards[g->placements.layers[layer].cut][i];
        memcpy(error + shards->list[i].first_kv_head * group, of->error[layer].data,
               (size_t)(shards->list[i].num_kv_heads * group) * sizeof *error);
    }
}

/* One layer, with what enters it and what its attention comes to. */
static int probe_layer(struct mp_session *s, int layer, const float *given,
                       const struct mp_probe *out, struct mp_error *err)
{
    const struct mp_shape *shape = s->engine->shape;
    const struct mp_buffer *x = &mp_dense_buffers_of(&s->engine->graph, s->steps, layer)->x;
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
        const struct mp_decode_parts parts = mp_session_parts(s, 0);
        struct mp_submit sub = mp_submit_begin(s->group, err);
        s->attention_bytes += mp_submit_decode_layer(&sub, &parts, layer);
        code = sub.code;
    }
    if (code == 0) {
        size_t width = (size_t)mp_shape_q_width(shape);
        memcpy(out->o + (size_t)layer * width, s->buffers[0].o_merged.data, width * sizeof *out->o);
        read_errors(s, layer, out->error + layer * shape->num_attention_heads);
    }
    return code;
}

int mp_session_probe(struct mp_session *s, const float *given, const struct mp_probe *out,
                     struct mp_error *err)
{
    const struct mp_graph *g = &s->engine->graph;
    if (mp_session_count_decoding(s) != 1 || s->prefill.run != NULL) {
        return mp_fail(err, MP_ERR_USAGE, "a probe needs one request that decodes, found %d",
                       mp_session_count_decoding(s));
    }
    /* What a GPU has only been told to do cannot be read. */
    mp_task_one_at_a_time(true);
    int code = mp_session_prepare_step(s, err);
    if (code == 0 && s->step.num_rows == 1) {
        const struct mp_decode_parts parts = mp_session_parts(s, 0);
        s->steps[0].observe = true;
        struct mp_submit sub = mp_submit_begin(s->group, err);
        mp_submit_decode_embed(&sub, &parts);
        code = sub.code;
        for (int l = 0; l < g->shape->num_hidden_layers && code == 0; l++) {
            code = probe_layer(s, l, given, out, err);
        }
        sub.code = code;
        mp_submit_decode_sample(&sub, &parts);
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
