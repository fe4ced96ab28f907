/* What it takes to make the index of a layer's offloaded keys. */
#include "core/base/memory.h"
#include "pipeline/engine/internal.h"

#include <stdlib.h>

/* Whether an index is made of other keys than the offloaded ones: those are rounded, or far from
 * the device that reads them. */
static bool has_keys(const struct mp_engine *e, const struct mp_shard *shard)
{
    const struct mp_method *method = e->attention.method;
    bool far = method->keys_on_dense && shard->dense.kind == MP_GPU && mp_shard_in_host(shard);
    return method->build != NULL && (far || mp_offloaded_dtype(e) != e->dtype);
}

/* The dense device writes them. */
static struct mp_place keys_place(const struct mp_engine *e, const struct mp_shard *shard)
{
    return e->attention.method->keys_on_dense ? mp_memory_of(shard->dense)
                                              : mp_exchange_place(shard);
}

static size_t keys_bytes(const struct offloaded_kv *keys)
{
    return kv_bytes(keys->num_kv_heads, keys->head_dim, keys->dtype, keys->capacity);
}

static void create(const struct mp_engine *e, struct mp_allocator *a, const struct mp_shard *shard,
                   int64_t offloaded, struct mp_index_scratch *out)
{
    const struct mp_method *method = e->attention.method;
    if (has_keys(e, shard)) {
        out->keys = (struct offloaded_kv){
            .count = offloaded,
            .capacity = offloaded,
            .num_kv_heads = shard->num_kv_heads,
            .head_dim = e->shape->head_dim,
            .dtype = e->dtype,
        };
        out->keys.k = mp_allocate(a, keys_place(e, shard), keys_bytes(&out->keys), "keys to index");
        mp_buffer_wrap(a, &out->keys_buffer, MP_HOST, &out->keys, sizeof out->keys);
    }
    if (method->scratch_bytes != NULL) {
        struct mp_shard_size size = mp_kv_shard_size(e, shard, offloaded);
        mp_buffer_create(a, &out->work, mp_exchange_place(shard),
                         method->scratch_bytes(&e->attention, &size), "index scratch");
    }
}

static void destroy(const struct mp_engine *e, const struct mp_shard *shard,
                    struct mp_index_scratch *s)
{
    mp_buffer_release(&s->work);
    mp_buffer_release(&s->keys_buffer);
    mp_memory_free(keys_place(e, shard), s->keys.k, keys_bytes(&s->keys));
}

struct mp_index_scratch **mp_index_scratch_create(const struct mp_engine *e, struct mp_allocator *a,
                                                  int64_t offloaded)
{
    const struct mp_placements *p = &e->graph.placements;
    struct mp_index_scratch **s = mp_xcalloc((size_t)p->num_cuts + 1, sizeof *s);
    for (int c = 0; c < p->num_cuts; c++) {
        s[c] = mp_xcalloc((size_t)p->cuts[c].count, sizeof *s[c]);
        for (int i = 0; i < p->cuts[c].count; i++) {
            create(e, a, &p->cuts[c].list[i], offloaded, &s[c][i]);
        }
    }
    return s;
}

void mp_index_scratch_destroy(const struct mp_engine *e, struct mp_index_scratch **s)
{
    const struct mp_placements *p = &e->graph.placements;
    for (int c = 0; s != NULL && c < p->num_cuts; c++) {
        for (int i = 0; i < p->cuts[c].count; i++) {
            destroy(e, &p->cuts[c].list[i], &s[c][i]);
        }
        free(s[c]);
    }
    free(s);
}
