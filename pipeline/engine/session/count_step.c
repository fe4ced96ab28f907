/* The work of a decode step that is not run: all that it needs is made with an allocator that only
 * counts, and its tasks are counted where they would be submitted. */
#include "core/base/memory.h"
#include "pipeline/engine/session/session.h"

#include <math.h>
#include <stdlib.h>

/* A step of requests that are all alike, and what it stands on. */
struct planned_step {
    struct mp_engine e; /* a copy that holds nothing */
    struct mp_allocator counter;
    int64_t counted[MP_MEMORIES];
    struct mp_layer_kv *kv; /* [num_hidden_layers] of each request */
    struct mp_selection **selections;
    double *expected_nnz; /* [num_hidden_layers] */
    int64_t *samples;     /* [num_hidden_layers] */
    struct mp_rope rope;
    struct mp_rng rng;
    struct mp_step_buffers buffers;
    struct mp_decode_row rows[MP_MAX_BATCH];
    struct mp_decode_step step;
};

static void make_request(struct planned_step *p, int64_t tokens, double share)
{
    const struct mp_engine *e = &p->e;
    const int64_t offloaded = tokens - mp_static_tokens(&e->graph, tokens);
    const double selected = isnan(share)
                                ? mp_expected_selected(e, offloaded)
                                : share * (double)offloaded * e->shape->num_attention_heads;
    size_t layers = (size_t)e->shape->num_hidden_layers;
    p->kv = mp_xcalloc(layers, sizeof *p->kv);
    p->expected_nnz = mp_xcalloc(layers, sizeof *p->expected_nnz);
    p->samples = mp_xcalloc(layers, sizeof *p->samples);
    for (int l = 0; l < e->shape->num_hidden_layers; l++) {
        mp_kv_create_static(e, &p->counter, &p->kv[l], l, tokens, 0);
        mp_kv_create_offloaded(e, &p->counter, &p->kv[l], l, tokens, 0);
        mp_kv_create_index(e, &p->counter, &p->kv[l], l);
        p->expected_nnz[l] = selected;
        p->samples[l] = e->config->samples;
    }
    p->selections = mp_selections_create(e, &p->counter, offloaded);
}

static void make_step(struct planned_step *p, int64_t tokens)
{
    const struct mp_engine *e = &p->e;
    const int rows = e->config->batch;
    mp_step_buffers_create(e, &p->counter, rows, &p->buffers);
    for (int r = 0; r < rows; r++) {
        p->rows[r] = (struct mp_decode_row){
            .kv = p->kv,
            .selections = p->selections,
            .rope = &p->rope,
            .position = tokens,
            .static_index = mp_static_tokens(&e->graph, tokens),
            .sample = {.sampling = &e->config->sampling, .rng = &p->rng},
            .expected_nnz = p->expected_nnz,
            .samples = p->samples,
        };
    }
    p->step = (struct mp_decode_step){.num_rows = rows, .rows = p->rows, .buffers = &p->buffers};
}

static void count(struct planned_step *p, struct mp_step_work *out)
{
    const struct mp_graph *g = &p->e.graph;
    const struct mp_decode_parts whole = {1, {g}, {&p->step}};
    struct mp_submit all = mp_submit_begin(NULL, NULL);
    struct mp_submit selecting = mp_submit_begin(NULL, NULL);
    all.counted = &out->all;
    selecting.counted = &out->selecting;
    mp_submit_decode_embed(&all, &whole);
    for (int l = 0; l < g->shape->num_hidden_layers; l++) {
        mp_submit_decode_layer(&all, &whole, l);
        if (p->kv[l].offloaded > 0) {
            g->attention->method->select(&selecting, g, &p->step, l);
        }
    }
    mp_submit_decode_sample(&all, &whole);
}

static void destroy(struct planned_step *p)
{
    const struct mp_engine *e = &p->e;
    mp_step_buffers_destroy(e, &p->buffers);
    mp_selections_destroy(e, p->selections);
    mp_kv_destroy(e, p->kv);
    free(p->expected_nnz);
    free(p->samples);
}

void mp_plan_count_step(const struct mp_engine *e, const struct mp_plan *plan, double share,
                        struct mp_step_work *out)
{
    struct planned_step *p = mp_xcalloc(1, sizeof *p);
    struct mp_engine *placed = &p->e;
    const struct mp_method *method = e->attention.method;
    bool shares = mp_engine_kept_layers(e) > 0 && method->create_shared != NULL;
    *out = (struct mp_step_work){0};
    p->counter.counted = p->counted;
    mp_plan_place(e, &plan->stages, plan->gpu_kv_layers, placed);
    mp_weights_create(placed, &p->counter);
    if (shares) {
        method->create_shared(&placed->attention, &p->counter, mp_memory_of(mp_dense(e)));
    }
    make_request(p, plan->tokens, share);
    make_step(p, plan->tokens);
    count(p, out);
    destroy(p);
    if (shares) {
        method->destroy_shared(&placed->attention);
    }
    mp_weights_destroy(placed);
    mp_placements_free(&placed->graph.placements);
    free(p);
}
