#include "tasks/methods/method.h"

#include "codelets/common/random_draw.h"

#include <stdio.h>
#include <string.h>

#define ADDRESS_OF_METHOD(name) &mp_method_##name,
static const struct mp_method *const METHODS[] = {MP_METHODS(ADDRESS_OF_METHOD)};
enum { NUM_METHODS = sizeof METHODS / sizeof METHODS[0] };

const struct mp_method *mp_method_at(int index)
{
    return index < NUM_METHODS ? METHODS[index] : NULL;
}

const struct mp_method *mp_method_exact(void)
{
    return &mp_method_full;
}

static int fail_unknown(const char *name, struct mp_error *err)
{
    char known[256] = "";
    for (int i = 0; i < NUM_METHODS; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "", METHODS[i]->name);
    }
    return mp_fail(err, MP_ERR_USAGE, "attention.method: found \"%s\", expected one of %s", name,
                   known);
}

int mp_method_choose(const struct mp_config *c, const struct mp_method **out, struct mp_error *err)
{
    const struct mp_method *method = c->lsh_K == 0 ? mp_method_exact() : METHODS[0];
    if (c->attention_method != NULL) {
        method = NULL;
        for (int i = 0; i < NUM_METHODS; i++) {
            method = strcmp(METHODS[i]->name, c->attention_method) == 0 ? METHODS[i] : method;
        }
        if (method == NULL) {
            return fail_unknown(c->attention_method, err);
        }
    }
    *out = method;
    return method->check == NULL ? 0 : method->check(c, err);
}

/* ---- where and how a method selects ---- */

static bool on_gpu(const struct mp_method *m, const struct mp_shard *shard)
{
    return m->on_dense && shard->dense.kind == MP_GPU;
}

struct mp_device mp_selecting_device(const struct mp_method *m, const struct mp_shard *shard)
{
    return on_gpu(m, shard) ? shard->dense : shard->device;
}

struct mp_place mp_selecting_place(const struct mp_method *m, const struct mp_shard *shard)
{
    return on_gpu(m, shard) ? mp_memory_of(shard->dense) : mp_index_place(shard);
}

struct mp_place mp_selection_place(const struct mp_method *m, const struct mp_shard *shard)
{
    return on_gpu(m, shard) ? mp_exchange_place(shard) : mp_index_place(shard);
}

uint64_t mp_draw_seed(const struct mp_graph *g, const struct mp_decode_row *row, int layer)
{
    uint64_t request = random_state(g->attention->config->lsh_seed, row->stream);
    return random_state(random_state(request, (uint64_t)row->position), (uint64_t)layer);
}
