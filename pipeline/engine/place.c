/* Where the layers of an engine are: which device has which of them, and who has their KV heads. */
#include "core/base/memory.h"
#include "pipeline/engine/internal.h"

#include <string.h>

static bool is_sparse(const struct mp_engine *e, int layer)
{
    const struct mp_config *c = e->config;
    bool sparse = e->attention.method->sparse;
    for (int i = 0; i < c->num_cache_layers; i++) {
        sparse = sparse && c->cache_layers[i] != layer;
    }
    return sparse;
}

/* Whether what it offloads is kept, to be selected from. */
static bool is_kept(const struct mp_engine *e, int layer)
{
    return e->attention.method->keeps && is_sparse(e, layer);
}

int mp_engine_kept_layers(const struct mp_engine *e)
{
    int n = 0;
    for (int l = 0; l < e->shape->num_hidden_layers; l++) {
        n += is_kept(e, l);
    }
    return n;
}

/* Whether the GPU attends to what is selected in CPU memory, so that no step waits for a hand-over.
 * Measured on an H200, 512 rows of 8 bits a KV head: 85 us a layer; CPU workers 62, and 20 for the
 * hand-over, which larger batches hide behind each other's dense work. */
static bool gathers_on_gpu(const struct mp_engine *e)
{
    const struct mp_config *c = e->config;
    bool few = c->batch == 1 && e->attention.method->shared_rows;
    return mp_dense(e).kind == MP_GPU &&
           (c->gather == MP_GATHER_GPU || (c->gather == MP_GATHER_AUTO && few));
}

bool mp_engine_is_dense(const struct mp_engine *e, int layer)
{
    return !is_sparse(e, layer);
}

/* ---- the layers of each device ---- */

/* Bytes that each layer takes on its device, as far as all of them are there: weights, caches, and,
 * unless the configuration wants none of it there, what it keeps to select from. */
static void count_layers(const struct mp_engine *e, int64_t tokens, int64_t new_tokens,
                         int64_t *bytes)
{
    const int layers = e->shape->num_hidden_layers;
    const struct mp_stages whole = {.first = {0, layers}};
    enum mp_plan_device device = mp_dense(e).kind == MP_GPU ? MP_PLAN_GPU : MP_PLAN_CPU;
    struct mp_engine one = *e;
    one.graph.placements.num_devices = 1;
    mp_engine_place(&one, &whole, e->config->gpu_kv_layers == 0 ? 0 : mp_engine_kept_layers(e),
                    &one.graph.placements);
    for (int l = 0; l < layers; l++) {
        int64_t counted[MP_MEMORIES] = {0};
        int64_t by_device[MP_PLAN_DEVICES];
        struct mp_allocator counter = {.counted = counted};
        if (new_tokens > 0) {
            mp_kv_count_layer(&one, &counter, l, tokens, new_tokens);
        }
        mp_plan_by_device(counted, by_device);
        bytes[l] = mp_bytes_add(mp_weights_layer_bytes(e),
                                mp_bytes_mul(e->config->batch, by_device[device]));
    }
    mp_placements_free(&one.graph.placements);
}

/* So that the device that has most has as little as can be, and each has a layer at least. sums
 * [layers + 1]: bytes of the layers before each, and of all; end: what the first one and the last
 * one have beside theirs. Goes from device to device: most[s][l] of the first s + 1 of them, if
 * they have l layers, of which the last one's begin with from[s][l]. */
static void split(const int64_t *sums, int layers, int devices, int64_t end, struct mp_stages *out)
{
    int64_t most[devices][layers + 1];
    int from[devices][layers + 1];
    for (int s = 0; s < devices; s++) {
        const int64_t ends = (s == 0 ? end : 0) + (s == devices - 1 ? end : 0);
        for (int l = s + 1; l <= layers; l++) {
            most[s][l] = INT64_MAX;
            for (int first = s; first < (s == 0 ? 1 : l); first++) {
                int64_t own = mp_bytes_add(sums[l] - sums[first], ends);
                int64_t before = s == 0 ? 0 : most[s - 1][first];
                int64_t larger = own > before ? own : before;
                if (first == s || larger < most[s][l]) {
                    most[s][l] = larger;
                    from[s][l] = first;
                }
            }
        }
    }
    for (int s = devices; s > 0; s--) {
        out->first[s] = s == devices ? layers : from[s][out->first[s + 1]];
    }
    out->first[0] = 0;
}

void mp_engine_split(const struct mp_engine *e, int64_t tokens, int64_t new_tokens,
                     struct mp_stages *out)
{
    const struct mp_engine *of =
        e->base != NULL ? e->base : e; /* a variant has its base's weights */
    const int layers = e->shape->num_hidden_layers;
    const int devices = e->graph.placements.num_devices;
    int64_t bytes[layers];
    int64_t sums[layers + 1];
    *out = (struct mp_stages){.first = {0, layers}};
    if (devices == 1) {
        return;
    }
    count_layers(of, tokens, new_tokens, bytes);
    sums[0] = 0;
    for (int l = 0; l < layers; l++) {
        sums[l + 1] = mp_bytes_add(sums[l], bytes[l]);
    }
    split(sums, layers, devices, mp_weights_matrix_bytes(e), out);
}

/* ---- placement ---- */

/* The cut that gives a rank's heads of whole layers of a device to that, or a shard of them to each
 * CPU worker. */
static int add_cut(const struct mp_engine *e, struct mp_device dense, bool on_device,
                   struct mp_placements *p)
{
    struct mp_kv_heads own = mp_heads_of_rank(e, e->rank);
    struct mp_shards *cut = &p->cuts[p->num_cuts];
    bool on_cpu = !on_device && !gathers_on_gpu(e);
    if (!on_cpu) {
        mp_shards_of_device(dense, own, cut);
        cut->list[0].in_host = !on_device;
    } else if (e->runtime != NULL) {
        mp_runtime_cut(e->runtime, own, cut);
    } else {
        mp_shards_of_device((struct mp_device){MP_CPU, -1}, own, cut);
    }
    for (int r = 0; r < e->num_ranks; r++) {
        if (r != e->rank) {
            mp_shards_add_rank(cut, mp_heads_of_rank(e, r),
                               on_cpu && e->rank_shards != NULL ? e->rank_shards[r] : 1);
        }
    }
    for (int i = 0; i < cut->total; i++) {
        cut->list[i].dense = dense;
        cut->list[i].heads_before = e->attention.first_kv_head;
    }
    return p->num_cuts++;
}

/* Layers first .. end - 1, all on one device; `on_device` of those that keep what they offload keep
 * it there, the first ones. */
static void place_stage(const struct mp_engine *e, int stage, int first, int end, int on_device,
                        struct mp_placements *p)
{
    const struct mp_device dense = p->devices[stage];
    int cuts[2] = {-1, -1}; /* of layers on CPU workers and on the device, once there is one */
    for (int l = first; l < end; l++) {
        struct mp_placement *at = &p->layers[l];
        *at = (struct mp_placement){
            .dense = dense, .stage = stage, .sparse = is_sparse(e, l), .cut = -1};
        if (is_kept(e, l)) {
            bool here = on_device-- > 0;
            if (cuts[here] < 0) {
                cuts[here] = add_cut(e, dense, here, p);
            }
            at->cut = cuts[here];
        }
    }
}

void mp_engine_place(const struct mp_engine *e, const struct mp_stages *stages, int gpu_kv_layers,
                     struct mp_placements *out)
{
    const struct mp_placements *of = &e->graph.placements;
    const int layers = e->shape->num_hidden_layers;
    const int kept = mp_engine_kept_layers(e);
    struct mp_placements p = {
        .layers = mp_xcalloc((size_t)layers, sizeof *p.layers),
        .num_layers = layers,
        .num_devices = of->num_devices,
        .cuts = mp_xcalloc(2 * (size_t)of->num_devices, sizeof *p.cuts),
    };
    memcpy(p.devices, of->devices, sizeof p.devices);
    int before = 0; /* kept layers of the devices before */
    for (int s = 0; s < p.num_devices; s++) {
        int first = stages->first[s];
        int end = stages->first[s + 1];
        int here = before;
        for (int l = first; l < end; l++) {
            here += is_kept(e, l);
        }
        int on_device = kept == 0 ? 0 : gpu_kv_layers * here / kept - gpu_kv_layers * before / kept;
        place_stage(e, s, first, end, on_device, &p);
        before = here;
    }
    *out = p;
}
