/* static_attention for the instruction set this is compiled for. */
#include "codelets/common/attention/attention_simd.h"
#include "codelets/common/attention/support.h"
#include "codelets/common/scratch.h"
#include "codelets/static_attention/static_attention.h"

/* One list a (row, KV head): the tokens of its cache. */
static struct attention_split split_kv_heads(const struct static_attention_args *a,
                                             int num_kv_heads)
{
    int64_t lists = a->rows * num_kv_heads;
    int64_t *lengths = mp_scratch((size_t)lists, sizeof *lengths);
    for (int64_t i = 0; i < lists; i++) {
        lengths[i] = a->length[i / num_kv_heads];
    }
    return attention_split(lengths, lists, ATTENTION_PIECE);
}

/* One tile of tokens for `heads` query heads, whose partials follow each other. */
static inline __attribute__((always_inline)) void attend_tile(const struct token_rows *tokens,
                                                              int64_t first, int n, const float *q,
                                                              const int heads, float scale,
                                                              float *partials, bool prefetch)
{
    float z[HEADS_AT_ONCE * TILE];
    tile_dots(tokens, first, n, q, heads, z, NULL, prefetch);
    for (int g = 0; g < heads; g++) {
        for (int j = 0; j < n; j++) {
            z[g * TILE + j] *= scale;
        }
        tile_softmax(z + g * TILE, n, partials + g * attention_partial_size(tokens->head_dim),
                     tokens->head_dim);
    }
    tile_values(tokens, first, n, z, heads, partials, prefetch);
}

/* All query heads of a KV head go over each tile while it is in the cache. */
static void attend_piece(const struct static_attention_args *a, const struct attention_piece *piece,
                         int group, float *partials)
{
    int num_kv_heads = a->num_heads / group;
    const struct kv_cache *cache = a->cache[piece->list / num_kv_heads];
    int64_t kv_head = piece->list % num_kv_heads;
    int64_t base = (kv_head * cache->capacity + piece->first) * a->head_dim;
    struct token_rows tokens = {.k = (const uint16_t *)cache->k + base,
                                .v = (const uint16_t *)cache->v + base,
                                .pitch = a->head_dim,
                                .count = piece->count,
                                .head_dim = a->head_dim,
                                .int8 = false};
    const float *q = a->q + piece->list * group * a->head_dim;
    int64_t size = attention_partial_size(a->head_dim);
    prefetch_first_tile(&tokens);
    for (int g = 0; g < group; g++) {
        partial_clear(partials + g * size, a->head_dim);
    }
    for (int64_t first = 0; first < piece->count; first += TILE) {
        int n = piece->count - first < TILE ? (int)(piece->count - first) : TILE;
        int g = 0;
        for (; g + HEADS_AT_ONCE <= group; g += HEADS_AT_ONCE) {
            attend_tile(&tokens, first, n, q + g * a->head_dim, HEADS_AT_ONCE, a->scale,
                        partials + g * size, g == 0);
        }
        for (; g < group; g++) {
            attend_tile(&tokens, first, n, q + g * a->head_dim, 1, a->scale, partials + g * size,
                        g == 0);
        }
    }
}

void VF_NAME(static_attention)(const struct static_attention_args *a)
{
    if (a->rows == 0) {
        return;
    }
    for (int64_t r = 0; r < a->rows; r++) {
        mp_kernel_demand("static_attention", a->cache[r]->dtype, a->head_dim, VF_LANES);
    }
    mp_scratch_reset();
    int num_kv_heads = a->cache[0]->num_kv_heads;
    int group = a->num_heads / num_kv_heads;
    struct attention_split split = split_kv_heads(a, num_kv_heads);
    int64_t size = group * attention_partial_size(a->head_dim);
    float *partials = mp_scratch((size_t)(split.num_pieces * size), sizeof *partials);
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < split.num_pieces; i++) {
        attend_piece(a, &split.pieces[i], group, partials + i * size);
    }
    attention_merge(&split, partials, group, a->head_dim,
                    &(struct attention_output){.o = a->o, .lse = a->lse});
}
