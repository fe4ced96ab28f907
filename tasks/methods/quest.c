/* quest: whole pages of tokens, those in which a key could have the largest q.k by the least and
 * the largest value that each channel has there (arXiv 2406.10774). A last page that is not full is
 * always attended to, beside the budget. */
#include "codelets/page_bounds/page_bounds.h"
#include "codelets/page_select/page_select.h"
#include "core/base/memory.h"
#include "tasks/methods/budget.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void describe(const struct mp_config *c, char *out, size_t size)
{
    mp_budget_describe(c, out, size);
    size_t used = strlen(out);
    snprintf(out + used, size - used, ", pages of %d", c->page_size);
}

/* Full pages that a head may select of so many tokens': the budget, rounded. */
static int64_t budget_pages(const struct mp_config *c, int64_t offloaded)
{
    int64_t tokens = mp_budget_tokens(c, offloaded);
    int64_t pages = (tokens + c->page_size / 2) / c->page_size;
    if (tokens == offloaded) {
        return key_pages_full(offloaded, c->page_size);
    }
    return pages > 0 ? pages : 1;
}

/* Tokens of the pages that a head selects, with room for a last page that is nearly full: so that
 * more tokens never have less room, and the plan for the longest prompt serves every other. */
static int64_t room(const struct mp_attention *a, const struct mp_shard_size *size)
{
    int page_size = a->config->page_size;
    int64_t tokens = budget_pages(a->config, size->tokens) * page_size + page_size - 1;
    return tokens < size->tokens ? tokens : size->tokens;
}

static double expected_share(const struct mp_attention *a, int64_t offloaded)
{
    int page_size = a->config->page_size;
    int64_t budget = budget_pages(a->config, offloaded);
    int64_t tokens = key_pages_selected(offloaded, page_size, budget) * page_size +
                     key_pages_tail(offloaded, page_size);
    return (double)tokens / (double)offloaded;
}

/* ---- bounds of the pages ---- */

static void *create_index(const struct mp_attention *a, struct mp_allocator *alloc,
                          struct mp_place place, const struct mp_shard_size *size,
                          struct mp_buffer *wrap)
{
    struct key_pages *p = mp_xcalloc(1, sizeof *p);
    *p = (struct key_pages){
        .count = size->tokens,
        .capacity = size->tokens,
        .num_kv_heads = size->kv_heads,
        .head_dim = a->shape->head_dim,
        .page_size = a->config->page_size,
        .dtype = size->dtype,
    };
    p->bounds = mp_allocate(alloc, place, key_pages_bytes(p), "page bounds");
    mp_buffer_wrap(alloc, wrap, MP_HOST, p, sizeof *p);
    return p;
}

static void destroy_index(struct mp_place place, void *index)
{
    struct key_pages *p = index;
    mp_memory_free(place, p->bounds, key_pages_bytes(p));
    free(p);
}

static int index_parts(const void *index, int head, int64_t tokens,
                       struct mp_index_part parts[MP_INDEX_PARTS])
{
    const struct key_pages *p = index;
    size_t page = 2 * (size_t)p->head_dim * mp_dtype_size(p->dtype);
    size_t own = (size_t)key_pages_of(p->capacity, p->page_size) * (size_t)head;
    size_t pages = (size_t)key_pages_of(tokens, p->page_size);
    parts[0] = (struct mp_index_part){(char *)p->bounds + own * page, pages * page};
    return 1;
}

static void build(struct mp_submit *sub, const struct mp_graph *g, int layer, int shard,
                  struct mp_shard_kv *kv, const struct mp_index_scratch *scratch)
{
    const struct mp_shard *s = &mp_shards_of(&g->placements, layer)->list[shard];
    sub->device = s->device;
    page_bounds_insert(sub, s, mp_indexed_keys(kv, scratch), &kv->index_buffer, g->shape->head_dim,
                       g->attention->config->page_size, kv->offloaded.count);
}

/* ---- a step ---- */

static size_t scratch(const struct mp_attention *a, const struct mp_shard_size *size)
{
    return page_select_scratch(size->query_heads, size->tokens, a->config->page_size);
}

static void select_pages(struct mp_submit *sub, const struct mp_graph *g,
                         const struct mp_decode_step *s, int layer)
{
    const struct mp_shards *shards = mp_shards_of(&g->placements, layer);
    const struct mp_config *c = g->attention->config;
    int cut = g->placements.layers[layer].cut;
    for (int i = 0; i < shards->count; i++) {
        const struct mp_step_shard *part = &s->buffers->shards[cut][i];
        struct page_select_row rows[s->num_rows];
        for (int r = 0; r < s->num_rows; r++) {
            const struct mp_layer_kv *kv = &s->rows[r].kv[layer];
            const struct mp_selection *to = &s->rows[r].selections[cut][i];
            rows[r] = (struct page_select_row){
                .pages = &kv->shards[i].index_buffer,
                .tokens = kv->offloaded,
                .ids = &to->ids,
                .room = to->room,
                .scratch = &to->scratch,
                .budget = budget_pages(c, kv->offloaded),
            };
        }
        sub->device = shards->list[i].device;
        page_select_insert(sub, g->shape, &shards->list[i], part->q, rows, s->num_rows,
                           c->page_size, &part->nnz[layer]);
    }
}

const struct mp_method mp_method_quest = {
    .name = "quest",
    .summary = "whole pages of tokens, by the bounds of their keys (arXiv 2406.10774)",
    .keys = (const char *const[]){"attention.budget", "attention.page_size", "attention.center",
                                  "attention.kv_dtype", NULL},
    .sparse = true,
    .keeps = true,
    .check = mp_budget_check,
    .describe = describe,
    .index_name = "page bounds",
    .create_index = create_index,
    .destroy_index = destroy_index,
    .index_view = {sizeof(struct key_pages), offsetof(struct key_pages, count)},
    .index_parts = index_parts,
    .build = build,
    .room = room,
    .selection_scratch = scratch,
    .select = select_pages,
    .expected_share = expected_share,
};
