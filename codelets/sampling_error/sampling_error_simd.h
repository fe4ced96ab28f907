/* sampling_error for the instruction set this is compiled for. */
#include "codelets/common/attention/attention_simd.h"
#include "codelets/common/attention/support.h"
#include "codelets/sampling_error/sampling_error_lists.h"

#include <string.h>

/* Products with heads' vectors of a tile's rows, and the rows' squares; both scaled. */
struct tile_products {
    float dots[HEADS_AT_ONCE * TILE];
    float squares[TILE];
};

static inline __attribute__((always_inline)) void
multiply_tile(const struct token_rows *rows, const float *scales, int64_t first, int n,
              const float *x, const int heads, struct tile_products *out)
{
    tile_dots(rows, first, n, x, heads, out->dots, out->squares, false);
    for (int j = 0; j < TILE; j++) {
        out->squares[j] *= scales[j] * scales[j];
    }
    for (int i = 0; i < heads * TILE; i++) {
        out->dots[i] *= scales[i % TILE];
    }
}

/* sum_j (1 - pi_j) w_j^2 |v_j - o|^2 of a tile's n tokens, w_j = e^{z_j - lse} / pi_j. dots: of the
 * query with the keys; o_dots: of the output with the values. */
static float tile_error(const float *dots, const float *o_dots, const float *v_squares,
                        const float *log_weights, int n, float scale, float lse, float o_squared)
{
    vf sum = vf_zero();
    for (int j = 0; j < n; j += VF_LANES) {
        vf log_weight = vf_load(log_weights + j);
        vf z = vf_fma(vf_load(dots + j), vf_set1(scale), log_weight);
        vf weight = vf_exp(vf_min(vf_sub(z, vf_set1(lse)), vf_zero())); /* no more than all */
        vf rest = vf_sub(vf_set1(1.0f), vf_exp(vf_sub(vf_zero(), log_weight)));
        vf distance = vf_fma(vf_set1(-2.0f), vf_load(o_dots + j),
                             vf_add(vf_load(v_squares + j), vf_set1(o_squared)));
        distance = vf_max(distance, vf_zero()); /* by rounding it may be less */
        sum = vf_fma(vf_mul(weight, weight), vf_mul(rest, distance), sum);
    }
    return vf_reduce_add(sum);
}

/* Query heads g .. g + heads - 1 of a list. */
static inline __attribute__((always_inline)) void list_errors(const struct sampling_error_args *a,
                                                              const struct drawn_list *l,
                                                              const struct token_rows *tokens,
                                                              int g, const int heads)
{
    const struct token_rows values = {.k = tokens->v,
                                      .pitch = tokens->pitch,
                                      .ids = tokens->ids,
                                      .count = tokens->count,
                                      .head_dim = tokens->head_dim,
                                      .int8 = tokens->int8};
    const float *q = l->q + g * a->head_dim;
    const float *o = l->o + g * a->head_dim;
    float sums[HEADS_AT_ONCE] = {0};
    float o_squared[HEADS_AT_ONCE] = {0};
    for (int i = 0; i < heads * a->head_dim; i++) {
        o_squared[i / a->head_dim] += o[i] * o[i];
    }
    for (int64_t first = 0; first < l->count; first += TILE) {
        int n = l->count - first < TILE ? (int)(l->count - first) : TILE;
        struct tile_products keys = {0}, of_values = {0};
        float key_scales[TILE], value_scales[TILE];
        float log_weights[TILE] = {0}; /* beyond the list pi is 1: no error */
        for (int j = 0; j < TILE && !tokens->int8; j++) {
            key_scales[j] = value_scales[j] = 1.0f;
        }
        if (tokens->int8) {
            tile_key_scales(tokens, first, n, key_scales);
            tile_value_scales(tokens, first, n, value_scales);
        }
        memcpy(log_weights, l->log_weights + first, (size_t)n * sizeof *log_weights);
        multiply_tile(tokens, key_scales, first, n, q, heads, &keys);
        multiply_tile(&values, value_scales, first, n, o, heads, &of_values);
        for (int i = 0; i < heads; i++) {
            sums[i] +=
                tile_error(keys.dots + i * TILE, of_values.dots + i * TILE, of_values.squares,
                           log_weights, n, a->scale, l->lse[g + i], o_squared[i]);
        }
    }
    for (int i = 0; i < heads; i++) {
        l->error[g + i] = o_squared[i] > 0.0f ? sqrtf(sums[i] / o_squared[i]) : 0.0f;
    }
}

static struct token_rows tokens_of(const struct drawn_list *l, int head_dim)
{
    struct token_rows tokens = {.ids = l->ids, .count = l->count, .head_dim = head_dim};
    if (l->count > 0) {
        size_t first = kv_row_at(l->kv, 0, l->first_token);
        tokens.k = (const char *)l->kv->k + first;
        tokens.v = (const char *)l->kv->v + first;
        tokens.pitch = kv_pitch(l->kv);
        tokens.int8 = l->kv->dtype == MP_I8;
        tokens.scales = tokens.int8 ? l->kv->scales + l->first_token : NULL;
    }
    return tokens;
}

void VF_NAME(sampling_error)(const struct sampling_error_args *a)
{
    for (int64_t r = 0; r < a->rows; r++) {
        if (a->kv[r] != NULL) {
            mp_kernel_demand_rows("sampling_error", a->kv[r]->dtype, a->head_dim, VF_LANES);
        }
    }
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t r = 0; r < a->rows; r++) {
        for (int h = 0; h < a->num_kv_heads; h++) {
            struct drawn_list l = drawn_list_of(a, r, h);
            struct token_rows tokens = tokens_of(&l, a->head_dim);
            int g = 0;
            for (; g + HEADS_AT_ONCE <= l.group; g += HEADS_AT_ONCE) {
                list_errors(a, &l, &tokens, g, HEADS_AT_ONCE);
            }
            for (; g < l.group; g++) {
                list_errors(a, &l, &tokens, g, 1);
            }
        }
    }
}
