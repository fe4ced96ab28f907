/* oracle: tokens drawn from the attention itself, each weighed so that numerator and denominator
 * have their exact values in the mean. It reads every key: the best that sampling can do. */
#include "tasks/methods/budget.h"

static size_t scratch(const struct mp_attention *a, const struct mp_shard_size *size)
{
    (void)a;
    return key_select_scratch(KEY_SELECT_DRAWN, size->query_heads, size->tokens);
}

static void draw(struct mp_submit *sub, const struct mp_graph *g, const struct mp_decode_step *s,
                 int layer)
{
    mp_select_by_key(sub, g, s, layer, KEY_SELECT_DRAWN);
}

const struct mp_method mp_method_oracle = {
    .name = "oracle",
    .summary = "tokens drawn from the exact attention; reads every key",
    .keys = (const char *const[]){"attention.budget", "attention.seed", "attention.center",
                                  "attention.kv_dtype", NULL},
    .sparse = true,
    .keeps = true,
    .check = mp_budget_check,
    .describe = mp_budget_describe,
    .log_weights = true,
    .room = mp_budget_room,
    .selection_scratch = scratch,
    .select = draw,
    .expected_share = mp_budget_share,
};
