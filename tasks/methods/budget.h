/* What quest, topk and oracle share: a budget of tokens (attention.budget), and selection by the
 * keys themselves. */
#ifndef MP_TASKS_METHODS_BUDGET_H
#define MP_TASKS_METHODS_BUDGET_H

#include "codelets/key_select/key_select.h"
#include "tasks/methods/method.h"

/* Tokens that a head may select of so many offloaded ones, rounded: 1 .. offloaded, or 0 of 0. */
int64_t mp_budget_tokens(const struct mp_config *c, int64_t offloaded);

/* MP_ERR_USAGE: more than one token, but not a whole number of them. */
int mp_budget_check(const struct mp_config *c, struct mp_error *err);

/* "budget 2 %", "budget 1024 tokens". */
void mp_budget_describe(const struct mp_config *c, char *out, size_t size);

/* ---- parts of a method that selects by every key ---- */

/* method.expected_share and method.room, where the budget is what is selected. */
double mp_budget_share(const struct mp_attention *a, int64_t offloaded);
int64_t mp_budget_room(const struct mp_attention *a, const struct mp_shard_size *size);

/* method.select. Drawn tokens depend on attention.seed, and on the request's stream, the position,
 * the layer and the query head. */
void mp_select_by_key(struct mp_submit *sub, const struct mp_graph *g,
                      const struct mp_decode_step *s, int layer, enum key_select_mode mode);

#endif
