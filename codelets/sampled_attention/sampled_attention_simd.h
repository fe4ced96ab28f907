/* sampled_attention for the instruction set this is compiled for. */
#include "codelets/common/attention/attention_simd.h"
#include "codelets/common/attention/support.h"
#include "codelets/common/scratch.h"
#include "codelets/sampled_attention/sampled_attention_lists.h"

#include <float.h>
#include <string.h>

static bool weighs_by_cosine(const struct sampled_attention_args *a)
{
    return a->log_weights == NULL && a->weight != NULL;
}

static struct attention_split split_lists(const struct sampled_attention_args *a,
                                          const struct sampled_lists *lists)
{
    int64_t count = a->rows * lists->per_row;
    int64_t *lengths = mp_scratch((size_t)count, sizeof *lengths);
    for (int64_t i = 0; i < count; i++) {
        const struct offloaded_kv *kv = a->kv[i / lists->per_row];
        lengths[i] = kv == NULL || kv->count == 0 ? 0 : a->nnz[i];
    }
    return attention_split(lengths, count,
                           lists->heads > 1 ? ATTENTION_SHARED_PIECE : ATTENTION_PIECE);
}

/* ln(u(cos) + 1e-4) of each lane; cos is clamped, NaN counts as -1. */
static vf log_weights(const struct lsh_weight *w, vf cosine)
{
    vf c = vf_min(vf_max(cosine, vf_set1(-1.0f)), vf_set1(1.0f));
    vf half = vf_set1(0.5f * LSH_WEIGHT_STEPS);
    return vf_interpolate(w->log_u, vf_fma(c, half, half));
}

/* z = q.k / sqrt(d) - ln(u(cos) + 1e-4) for all lanes of a tile. The norm of k is computed from the
 * row, which is in registers anyway: storing it would cost one more cache line a token. A zero
 * vector counts as orthogonal to everything. */
static void logits_by_cosine(const struct sampled_attention_args *a, const float *dot,
                             const float *k_squared, float q_squared, float *z)
{
    for (int j = 0; j < TILE; j += VF_LANES) {
        vf d = vf_load(dot + j);
        vf norms = vf_mul(vf_set1(sqrtf(q_squared)), vf_sqrt(vf_load(k_squared + j)));
        vf cosine = vf_div(d, vf_max(norms, vf_set1(FLT_MIN)));
        vf weight = log_weights(a->weight, cosine);
        vf_store(z + j, vf_sub(vf_mul(d, vf_set1(a->scale)), weight));
    }
}

/* z = q.k / sqrt(d) + the weights of the tile's n tokens; none: NULL. */
static void logits_listed(const struct sampled_attention_args *a, const float *dot,
                          const float *log_weights, int n, float *z)
{
    float added[TILE] = {0}; /* the list may end with the tile's tokens */
    if (log_weights != NULL) {
        memcpy(added, log_weights, (size_t)n * sizeof *added);
    }
    for (int j = 0; j < TILE; j += VF_LANES) {
        vf_store(z + j, vf_fma(vf_load(dot + j), vf_set1(a->scale), vf_load(added + j)));
    }
}

/* By the scales of int8 keys. */
static void scale_dots(const struct token_rows *tokens, int64_t first, int n, const int heads,
                       float *dots, float *k_squared)
{
    float by[TILE];
    tile_key_scales(tokens, first, n, by);
    for (int j = 0; j < TILE; j++) {
        k_squared[j] *= by[j] * by[j];
    }
    for (int i = 0; i < heads * TILE; i++) {
        dots[i] *= by[i % TILE];
    }
}

/* What a piece is attended for. */
struct piece_heads {
    const float *q;         /* [heads][head_dim] */
    const float *q_squared; /* [heads] |q|^2; set if by cosine */
    const float *added;     /* log-weight of each token of the piece; NULL: by cosine, or none */
    float *partials;        /* [heads][attention_partial_size] */
};

/* The n tokens from `first` on for `heads` query heads from g on, which share each row once
 * loaded. by_cosine, whether the weights are a->weight, is a constant wherever it is used: what
 * that needs costs the others nothing. */
static inline __attribute__((always_inline)) void
attend_tile(const struct sampled_attention_args *a, const struct token_rows *tokens, int64_t first,
            int n, const struct piece_heads *p, int g, const int heads, const bool by_cosine)
{
    float dots[HEADS_AT_ONCE * TILE] = {0};
    float k_squared[TILE] = {0};
    float z[HEADS_AT_ONCE * TILE];
    int64_t size = attention_partial_size(tokens->head_dim);
    tile_dots(tokens, first, n, p->q + g * tokens->head_dim, heads, dots,
              by_cosine ? k_squared : NULL, g == 0);
    if (tokens->int8) {
        scale_dots(tokens, first, n, heads, dots, k_squared);
    }
    for (int i = 0; i < heads; i++) {
        if (by_cosine) {
            logits_by_cosine(a, dots + i * TILE, k_squared, p->q_squared[g + i], z + i * TILE);
        } else {
            logits_listed(a, dots + i * TILE, p->added == NULL ? NULL : p->added + first, n,
                          z + i * TILE);
        }
        tile_softmax(z + i * TILE, n, p->partials + (g + i) * size, tokens->head_dim);
    }
    if (tokens->int8) {
        float by[TILE];
        tile_value_scales(tokens, first, n, by);
        for (int i = 0; i < heads * TILE; i++) {
            z[i] *= by[i % TILE];
        }
    }
    tile_values(tokens, first, n, z, heads, p->partials + g * size, g == 0);
}

/* Always inlined, so that with a constant head_dim the loops over channels unroll. All heads go
 * over each tile while it is in the cache. */
static inline __attribute__((always_inline)) void
attend_tiles(const struct sampled_attention_args *a, const struct token_rows *tokens,
             const struct piece_heads *p, const int heads, const bool by_cosine)
{
    prefetch_first_tile(tokens);
    for (int64_t first = 0; first < tokens->count; first += TILE) {
        int64_t rest = tokens->count - first;
        int n = rest < TILE ? (int)rest : TILE;
        int g = 0;
        for (; g + HEADS_AT_ONCE <= heads; g += HEADS_AT_ONCE) {
            attend_tile(a, tokens, first, n, p, g, HEADS_AT_ONCE, by_cosine);
        }
        for (; HEADS_AT_ONCE > 2 && g + 2 <= heads; g += 2) {
            attend_tile(a, tokens, first, n, p, g, 2, by_cosine);
        }
        for (; g < heads; g++) {
            attend_tile(a, tokens, first, n, p, g, 1, by_cosine);
        }
    }
}

static inline __attribute__((always_inline)) void
attend_tiles_unrolled(const struct sampled_attention_args *a, struct token_rows *tokens,
                      const struct piece_heads *p, const int heads, const bool by_cosine)
{
    switch (a->head_dim) {
    case 64:
        tokens->head_dim = 64;
        attend_tiles(a, tokens, p, heads, by_cosine);
        break;
    case 128:
        tokens->head_dim = 128;
        attend_tiles(a, tokens, p, heads, by_cosine);
        break;
    default:
        attend_tiles(a, tokens, p, heads, by_cosine);
    }
}

static inline __attribute__((always_inline)) void
attend_tiles_weighted(const struct sampled_attention_args *a, struct token_rows *tokens,
                      const struct piece_heads *p, const int heads)
{
    if (weighs_by_cosine(a)) {
        attend_tiles_unrolled(a, tokens, p, heads, true);
    } else {
        attend_tiles_unrolled(a, tokens, p, heads, false);
    }
}

/* A function for each type of rows and for one head and for several, so that these are constant. */
#define ATTEND_TILES(name, is_int8, heads)                                                         \
    static void name(const struct sampled_attention_args *a, const struct token_rows *tokens,      \
                     const struct piece_heads *p, int num_heads)                                   \
    {                                                                                              \
        (void)num_heads;                                                                           \
        struct token_rows own = *tokens;                                                           \
        own.int8 = is_int8;                                                                        \
        attend_tiles_weighted(a, &own, p, heads);                                                  \
    }
ATTEND_TILES(attend_bf16, false, 1)
ATTEND_TILES(attend_bf16_shared, false, num_heads)
ATTEND_TILES(attend_int8, true, 1)
ATTEND_TILES(attend_int8_shared, true, num_heads)

static float squared_norm(const float *x, int n)
{
    float sum = 0.0f;
    for (int c = 0; c < n; c++) {
        sum += x[c] * x[c];
    }
    return sum;
}

static void attend_piece(const struct sampled_attention_args *a, const struct sampled_lists *lists,
                         const struct attention_piece *piece, float *partials)
{
    int64_t row = piece->list / lists->per_row;
    int64_t list = piece->list % lists->per_row;
    const struct offloaded_kv *kv = a->kv[row];
    int64_t kv_head = list / (lists->per_row / kv->num_kv_heads);
    int64_t base = kv_head * kv->capacity;
    int64_t selected = list * a->ids_stride[row] + piece->first;
    size_t first = kv_row_at(kv, kv_head, 0);
    bool int8 = kv->dtype == MP_I8;
    const struct token_rows tokens = {.k = (const char *)kv->k + first,
                                      .v = (const char *)kv->v + first,
                                      .pitch = kv_pitch(kv),
                                      .scales = int8 ? kv->scales + base : NULL,
                                      .ids = a->ids[row] + selected,
                                      .count = piece->count,
                                      .head_dim = a->head_dim};
    float q_squared[lists->heads];
    const struct piece_heads p = {.q = a->q + piece->list * lists->heads * a->head_dim,
                                  .q_squared = q_squared,
                                  .added = a->log_weights == NULL ? NULL
                                                                  : a->log_weights[row] + selected,
                                  .partials = partials};
    bool by_cosine = weighs_by_cosine(a);
    for (int g = 0; g < lists->heads; g++) {
        q_squared[g] = by_cosine ? squared_norm(p.q + g * a->head_dim, a->head_dim) : 0.0f;
        partial_clear(partials + g * attention_partial_size(a->head_dim), a->head_dim);
    }
    if (lists->heads == 1) {
        (int8 ? attend_int8 : attend_bf16)(a, &tokens, &p, 1);
    } else {
        (int8 ? attend_int8_shared : attend_bf16_shared)(a, &tokens, &p, lists->heads);
    }
}

void VF_NAME(sampled_attention)(const struct sampled_attention_args *a)
{
    for (int64_t r = 0; r < a->rows; r++) {
        if (a->kv[r] != NULL) {
            mp_kernel_demand_rows("sampled_attention", a->kv[r]->dtype, a->head_dim, VF_LANES);
        }
    }
    mp_scratch_reset();
    const struct sampled_lists lists = sampled_lists_of(a);
    struct attention_split split = split_lists(a, &lists);
    int64_t size = lists.heads * attention_partial_size(a->head_dim);
    float *partials = mp_scratch((size_t)(split.num_pieces * size), sizeof *partials);
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < split.num_pieces; i++) {
        attend_piece(a, &lists, &split.pieces[i], partials + i * size);
    }
    attention_merge(&split, partials, lists.heads, a->head_dim,
                    &(struct attention_output){.o = a->o, .lse = a->lse});
}
