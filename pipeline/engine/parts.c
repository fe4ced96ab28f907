/* Parts: what each of several devices has of every layer. */
#include "core/base/memory.h"
#include "pipeline/engine/internal.h"

#include <stdlib.h>

static int check(const struct mp_engine *e, struct mp_error *err)
{
    const struct mp_shape *s = e->shape;
    const int gpus = mp_has_gpus(e) ? e->config->gpus : 0;
    if (gpus < 2) {
        return mp_fail(err, MP_ERR_USAGE,
                       "runtime.parallel: found tensor with %d GPU%s, expected 2 or more", gpus,
                       gpus == 1 ? "" : "s");
    }
    if (s->num_key_value_heads % gpus != 0 || s->intermediate_size % gpus != 0) {
        return mp_fail(
            err, MP_ERR_USAGE,
            "runtime.parallel: found tensor with %d GPUs, expected a number that divides "
            "the model's %d KV heads and its FFN's width, %d",
            gpus, s->num_key_value_heads, s->intermediate_size);
    }
    if (e->config->kv_dir != NULL) {
        return mp_fail(err, MP_ERR_USAGE,
                       "runtime.kv_dir: found with runtime.parallel tensor, expected layers");
    }
    return mp_runtime_check_peers(mp_dense(e).kind == MP_GPU ? gpus : 0, err);
}

/* The residual stream of a part is one of `parts` shares of the model's, and so is its root mean
 * square. */
static struct mp_shape part_shape(const struct mp_shape *whole, int parts)
{
    struct mp_shape s = *whole;
    s.num_attention_heads /= parts;
    s.num_key_value_heads /= parts;
    s.intermediate_size /= parts;
    s.rms_norm_eps /= (float)(parts * parts);
    return s;
}

static struct mp_engine *create_part(struct mp_engine *e, int index, int parts)
{
    struct mp_engine *part = mp_xmalloc(sizeof *part);
    *part = *e;
    part->whole = e;
    part->part = index;
    part->part_shape = part_shape(e->shape, parts);
    part->shape = &part->part_shape;
    part->attention.shape = part->shape;
    part->attention.first_kv_head = index * part->shape->num_key_value_heads;
    part->graph.shape = part->shape;
    part->graph.weights = &part->weights;
    part->graph.attention = &part->attention;
    part->graph.part = true;
    part->graph.placements.devices[0].index = index;
    return part;
}

int mp_parts_create(struct mp_engine *e, struct mp_error *err)
{
    int code = check(e, err);
    if (code != 0) {
        return code;
    }
    const int count = e->config->gpus;
    struct mp_engine **parts = mp_xcalloc((size_t)count, sizeof(struct mp_engine *));
    for (int i = 0; i < count; i++) {
        parts[i] = create_part(e, i, count);
    }
    e->parts = parts;
    e->num_parts = count;
    return 0;
}

void mp_parts_destroy(struct mp_engine *e)
{
    for (int i = 0; i < e->num_parts; i++) {
        struct mp_engine *part = e->parts[i];
        if (part->attention.shared != NULL) {
            part->attention.method->destroy_shared(&part->attention);
        }
        mp_placements_free(&part->graph.placements);
        free(part);
    }
    free(e->parts);
}
