#include "tasks/methods/budget.h"

#include <stdio.h>

int64_t mp_budget_tokens(const struct mp_config *c, int64_t offloaded)
{
    double budget = (double)c->attention_budget;
    double tokens = budget <= 1.0 ? budget * (double)offloaded : budget;
    int64_t rounded = tokens < (double)offloaded ? (int64_t)(tokens + 0.5) : offloaded;
    return rounded > 0 || offloaded == 0 ? rounded : 1;
}

int mp_budget_check(const struct mp_config *c, struct mp_error *err)
{
    double budget = (double)c->attention_budget;
    if (budget > 1.0 && budget != (double)(int64_t)budget) {
        return mp_fail(err, MP_ERR_USAGE,
                       "attention.budget: expected a share of the tokens, up to 1, or a whole "
                       "number of them, found %g",
                       budget);
    }
    return 0;
}

void mp_budget_describe(const struct mp_config *c, char *out, size_t size)
{
    double budget = (double)c->attention_budget;
    if (budget <= 1.0) {
        snprintf(out, size, "budget %.4g %%", 100.0 * budget);
    } else {
        snprintf(out, size, "budget %.0f tokens", budget);
    }
}

double mp_budget_share(const struct mp_attention *a, int64_t offloaded)
{
    return (double)mp_budget_tokens(a->config, offloaded) / (double)offloaded;
}

int64_t mp_budget_room(const struct mp_attention *a, const struct mp_shard_size *size)
{
    return mp_budget_tokens(a->config, size->tokens);
}

void mp_select_by_key(struct mp_submit *sub, const struct mp_graph *g,
                      const struct mp_decode_step *s, int layer, enum key_select_mode mode)
{
    const struct mp_shards *shards = mp_shards_of(&g->placements, layer);
    int cut = g->placements.layers[layer].cut;
    for (int i = 0; i < shards->count; i++) {
        const struct mp_step_shard *part = &s->buffers->shards[cut][i];
        struct key_select_row rows[s->num_rows];
        for (int r = 0; r < s->num_rows; r++) {
            const struct mp_layer_kv *kv = &s->rows[r].kv[layer];
            const struct mp_selection *to = &s->rows[r].selections[cut][i];
            rows[r] = (struct key_select_row){
                .kv = &kv->shards[i].offloaded_buffer,
                .tokens = kv->offloaded,
                .ids = &to->ids,
                .log_weights = &to->log_weights,
                .room = to->room,
                .scratch = &to->scratch,
                .budget = mp_budget_tokens(g->attention->config, kv->offloaded),
                .seed = mp_draw_seed(g, &s->rows[r], layer),
            };
        }
        sub->device = shards->list[i].device;
        key_select_insert(sub, g->shape, &shards->list[i], mode, part->q, rows, s->num_rows,
                          &part->nnz[layer]);
    }
}
