#include "codelets/sampling_error/sampling_error_lists.h"

#include <math.h>

/* Channel c of a drawn token's key or value. */
static double channel(const struct drawn_list *l, const void *rows, float scale, size_t token,
                      int c)
{
    double x = (double)mp_load(rows, l->kv->dtype, token * (size_t)kv_pitch(l->kv) + (size_t)c);
    return l->kv->dtype == MP_I8 ? x * (double)scale : x;
}

/* (1 - pi) |r|^2 / D^2 of drawn token j for query head g. */
static double part(const struct drawn_list *l, int g, int32_t j, double scale)
{
    int d = l->kv->head_dim;
    size_t token = (size_t)l->first_token + l->ids[j];
    struct kv_scale scales = l->kv->dtype == MP_I8 ? l->kv->scales[token] : (struct kv_scale){0};
    double dot = 0.0;
    double distance = 0.0;
    for (int c = 0; c < d; c++) {
        double v = channel(l, l->kv->v, scales.v, token, c) - (double)l->o[g * d + c];
        dot += (double)l->q[g * d + c] * channel(l, l->kv->k, scales.k, token, c);
        distance += v * v;
    }
    double log_weight = (double)l->log_weights[j];
    double weight = exp(dot * scale + log_weight - (double)l->lse[g]);
    return (1.0 - exp(-log_weight)) * weight * weight * distance;
}

static float head_error(const struct drawn_list *l, int g, int head_dim, double scale)
{
    double norm = 0.0;
    for (int c = 0; c < head_dim; c++) {
        norm += (double)l->o[g * head_dim + c] * (double)l->o[g * head_dim + c];
    }
    double sum = 0.0;
    for (int32_t j = 0; j < l->count; j++) {
        sum += part(l, g, j, scale);
    }
    return norm > 0.0 ? (float)sqrt(sum / norm) : 0.0f;
}

void sampling_error_ref(const struct sampling_error_args *a)
{
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t r = 0; r < a->rows; r++) {
        for (int h = 0; h < a->num_kv_heads; h++) {
            struct drawn_list l = drawn_list_of(a, r, h);
            for (int g = 0; g < l.group; g++) {
                l.error[g] = head_error(&l, g, a->head_dim, (double)a->scale);
            }
        }
    }
}
