/* topk: the tokens with the largest q.k, which costs a read of every key: what the methods that
 * guess them are measured against. */
#include "tasks/methods/budget.h"

static size_t scratch(const struct mp_attention *a, const struct mp_shard_size *size)
{
    (void)a;
    return key_select_scratch(KEY_SELECT_LARGEST, size->query_heads, size->tokens);
}

static void select_largest(struct mp_submit *sub, const struct mp_graph *g,
                           const struct mp_decode_step *s, int layer)
{
    mp_select_by_key(sub, g, s, layer, KEY_SELECT_LARGEST);
}

const struct mp_method mp_method_topk = {
    .name = "topk",
    .summary = "tokens with the largest q.k; reads every key",
    .keys =
        (const char *const[]){"attention.budget", "attention.center", "attention.kv_dtype", NULL},
    .sparse = true,
    .keeps = true,
    .check = mp_budget_check,
    .describe = mp_budget_describe,
    .room = mp_budget_room,
    .selection_scratch = scratch,
    .select = select_largest,
    .expected_share = mp_budget_share,
};
