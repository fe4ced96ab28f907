/* The hash functions of a run. */
#include "codelets/common/attention/lsh.h"

#include "core/base/memory.h"
#include "pipeline/engine/internal.h"

#include <stdlib.h>

int mp_lsh_create(struct mp_engine *e, struct mp_error *err)
{
    const struct mp_config *c = e->config;
    struct mp_lsh *lsh = &e->lsh;
    lsh->K = c->lsh_K;
    lsh->L = c->lsh_L;
    if (e->num_sparse_layers == 0) {
        return 0;
    }
    lsh_weight_init(&lsh->weight, lsh->K, lsh->L);

    int layers = e->shape->num_hidden_layers;
    bool shared = c->lsh_projection == MP_LSH_SHARED;
    lsh->layers_per_group = shared ? layers : c->lsh_layer_group;
    lsh->kv_heads_per_projection = shared ? e->shape->num_key_value_heads : 1;

    int groups = (layers + lsh->layers_per_group - 1) / lsh->layers_per_group;
    int per_group = e->shape->num_key_value_heads / lsh->kv_heads_per_projection;
    size_t size = (size_t)e->shape->head_dim * (size_t)(lsh->K * lsh->L);
    lsh->projections = mp_xcalloc((size_t)groups, sizeof *lsh->projections);
    size_t bytes = (size_t)per_group * size * sizeof(float);
    float *w = mp_xmalloc(bytes);
    int code = 0;
    for (int g = 0; g < groups && code == 0; g++) {
        for (int p = 0; p < per_group; p++) {
            lsh_projection_draw(w + (size_t)p * size, e->shape->head_dim, lsh->K, lsh->L,
                                c->lsh_seed, (uint64_t)(g * per_group + p));
        }
        code = mp_buffer_alloc(&lsh->projections[g], e->dense_place, bytes, "LSH projections", err);
        if (code == 0) {
            code = mp_buffer_fill(&lsh->projections[g], w, err);
        }
    }
    free(w);
    return code;
}

void mp_lsh_destroy(struct mp_engine *e)
{
    struct mp_lsh *lsh = &e->lsh;
    if (lsh->projections == NULL) {
        return;
    }
    int layers = e->shape->num_hidden_layers;
    int groups = (layers + lsh->layers_per_group - 1) / lsh->layers_per_group;
    for (int g = 0; g < groups; g++) {
        mp_buffer_release(&lsh->projections[g]);
    }
    free(lsh->projections);
    lsh->projections = NULL;
}
