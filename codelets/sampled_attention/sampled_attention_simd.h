/* sampled_attention for the instruction set this is compiled for. */
#include "codelets/common/attention/attention_simd.h"
#include "codelets/common/attention/support.h"
#include "codelets/common/scratch.h"
#include "codelets/sampled_attention/sampled_attention.h"

#include <float.h>
#include <string.h>

/* Where the weights of the tokens come from. A constant wherever it is used: what one way needs
 * costs the others nothing. */
enum weighting {
    UNWEIGHTED, /* they all weigh 1 */
    LISTED,     /* a->log_weights */
    BY_COSINE,  /* a->weight */
};

/* One list a query head: its selected tokens. */
static struct attention_split split_heads(const struct sampled_attention_args *a)
{
    int64_t heads = a->rows * a->num_heads;
    int64_t *lengths = mp_scratch((size_t)heads, sizeof *lengths);
    for (int64_t i = 0; i < heads; i++) {
        const struct offloaded_kv *kv = a->kv[i / a->num_heads];
        lengths[i] = kv == NULL || kv->count == 0 ? 0 : a->nnz[i];
    }
    return attention_split(lengths, heads);
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

/* Always inlined, so that with a constant head_dim the loops over channels unroll. */
static inline __attribute__((always_inline)) void
attend_piece(const struct sampled_attention_args *a, const struct attention_piece *piece,
             const enum weighting weighting, const int head_dim, float *partial)
{
    int64_t row = piece->list / a->num_heads;
    int64_t head = piece->list % a->num_heads;
    const struct offloaded_kv *kv = a->kv[row];
    const float *q = a->q + piece->list * head_dim;
    int64_t kv_head = head / (a->num_heads / kv->num_kv_heads);
    int64_t base = kv_head * kv->capacity * head_dim;
    int64_t selected = head * a->ids_stride[row] + piece->first;
    const float *log_weights = weighting == LISTED ? a->log_weights[row] + selected : NULL;
    struct token_rows tokens = {.k = (const uint16_t *)kv->k + base,
                                .v = (const uint16_t *)kv->v + base,
                                .ids = a->ids[row] + selected,
                                .count = piece->count,
                                .head_dim = head_dim};
    prefetch_first_tile(&tokens);
    float q_squared = 0.0f;
    for (int c = 0; weighting == BY_COSINE && c < head_dim; c++) {
        q_squared += q[c] * q[c];
    }
    partial_clear(partial, head_dim);
    for (int64_t first = 0; first < piece->count; first += TILE) {
        float dot[TILE] = {0};
        float k_squared[TILE] = {0};
        float z[TILE];
        int n = piece->count - first < TILE ? (int)(piece->count - first) : TILE;
        tile_dots(&tokens, first, n, q, 1, dot, weighting == BY_COSINE ? k_squared : NULL, true);
        if (weighting == BY_COSINE) {
            logits_by_cosine(a, dot, k_squared, q_squared, z);
        } else {
            logits_listed(a, dot, weighting == LISTED ? log_weights + first : NULL, n, z);
        }
        tile_softmax(z, n, partial, head_dim);
        tile_values(&tokens, first, n, z, 1, partial, true);
    }
}

static inline __attribute__((always_inline)) void
attend_piece_unrolled(const struct sampled_attention_args *a, const struct attention_piece *piece,
                      const enum weighting weighting, float *partial)
{
    switch (a->head_dim) {
    case 64:
        attend_piece(a, piece, weighting, 64, partial);
        break;
    case 128:
        attend_piece(a, piece, weighting, 128, partial);
        break;
    default:
        attend_piece(a, piece, weighting, a->head_dim, partial);
    }
}

static void attend_piece_weighted(const struct sampled_attention_args *a,
                                  const struct attention_piece *piece, float *partial)
{
    if (a->log_weights != NULL) {
        attend_piece_unrolled(a, piece, LISTED, partial);
    } else if (a->weight != NULL) {
        attend_piece_unrolled(a, piece, BY_COSINE, partial);
    } else {
        attend_piece_unrolled(a, piece, UNWEIGHTED, partial);
    }
}

void VF_NAME(sampled_attention)(const struct sampled_attention_args *a)
{
    for (int64_t r = 0; r < a->rows; r++) {
        if (a->kv[r] != NULL) {
            mp_kernel_demand("sampled_attention", a->kv[r]->dtype, a->head_dim, VF_LANES);
        }
    }
    mp_scratch_reset();
    struct attention_split split = split_heads(a);
    int64_t size = attention_partial_size(a->head_dim);
    float *partials = mp_scratch((size_t)(split.num_pieces * size), sizeof *partials);
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < split.num_pieces; i++) {
        attend_piece_weighted(a, &split.pieces[i], partials + i * size);
    }
    attention_merge(&split, partials, 1, a->head_dim,
                    &(struct attention_output){.o = a->o, .lse = a->lse});
}
