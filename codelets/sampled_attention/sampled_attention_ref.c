#include "codelets/common/scratch.h"
#include "codelets/sampled_attention/sampled_attention_lists.h"

#include <math.h>
#include <string.h>

/* What the elements of a row are multiplied with. */
static struct kv_scale row_scale(const struct offloaded_kv *kv, size_t token)
{
    return kv->dtype == MP_I8 ? kv->scales[token] : (struct kv_scale){1.0f, 1.0f};
}

/* The logit of token `id` of KV head h. log_weight: what is given for it, NULL if nothing is. */
static double logit(const struct sampled_attention_args *a, const struct offloaded_kv *kv, int h,
                    uint32_t id, const float *log_weight, const float *q)
{
    size_t token = (size_t)(h * kv->capacity + id);
    double scale = (double)row_scale(kv, token).k;
    double dot = 0.0;
    double q_squared = 0.0;
    double k_squared = 0.0;
    for (int c = 0; c < a->head_dim; c++) {
        double k = scale * (double)mp_load(kv->k, kv->dtype, token * (size_t)kv_pitch(kv) + c);
        dot += (double)q[c] * k;
        q_squared += (double)q[c] * (double)q[c];
        k_squared += k * k;
    }
    double z = dot * (double)a->scale;
    if (log_weight != NULL) {
        return z + (double)*log_weight;
    }
    if (a->weight == NULL) {
        return z;
    }
    double norms = sqrt(q_squared * k_squared);
    /* A zero vector (a single offloaded key is one, once centered) has no direction: its bits agree
     * with another vector's as often as those of an orthogonal one. */
    double cosine = norms > 0.0 ? dot / norms : 0.0;
    double u = lsh_collision_probability(cosine, a->weight->K, a->weight->L);
    return z - log(u + 1e-4);
}

/* One query head over its n selected tokens: two passes, all in double. */
static void attend(const struct sampled_attention_args *a, const struct offloaded_kv *kv, int h,
                   const float *q, const uint32_t *ids, const float *log_weights, int32_t n,
                   float *o, float *lse)
{
    mp_scratch_reset();
    double *z = mp_scratch((size_t)n, sizeof *z);
    double max = -INFINITY;
    for (int32_t j = 0; j < n; j++) {
        z[j] = logit(a, kv, h, ids[j], log_weights == NULL ? NULL : &log_weights[j], q);
        max = fmax(max, z[j]);
    }
    double *sum = mp_scratch((size_t)a->head_dim, sizeof *sum);
    memset(sum, 0, (size_t)a->head_dim * sizeof *sum);
    double total = 0.0;
    for (int32_t j = 0; j < n; j++) {
        double p = exp(z[j] - max);
        size_t token = (size_t)(h * kv->capacity + ids[j]);
        size_t first = token * (size_t)kv_pitch(kv);
        total += p;
        p *= (double)row_scale(kv, token).v;
        for (int c = 0; c < a->head_dim; c++) {
            sum[c] += p * (double)mp_load(kv->v, kv->dtype, first + c);
        }
    }
    for (int c = 0; c < a->head_dim; c++) {
        o[c] = (float)(sum[c] / total);
    }
    *lse = (float)(max + log(total));
}

void sampled_attention_ref(const struct sampled_attention_args *a)
{
    const struct sampled_lists lists = sampled_lists_of(a);
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t r = 0; r < a->rows; r++) {
        for (int h = 0; h < a->num_heads; h++) {
            int64_t head = r * a->num_heads + h;
            float *o = a->o + head * a->head_dim;
            const struct offloaded_kv *kv = a->kv[r];
            int64_t list = h / lists.heads;
            if (kv == NULL || kv->count == 0 || a->nnz[r * lists.per_row + list] == 0) {
                memset(o, 0, (size_t)a->head_dim * sizeof *o);
                a->lse[head] = -INFINITY;
                continue;
            }
            int64_t first = list * a->ids_stride[r];
            attend(a, kv, h / (a->num_heads / kv->num_kv_heads), a->q + head * a->head_dim,
                   a->ids[r] + first, a->log_weights == NULL ? NULL : a->log_weights[r] + first,
                   a->nnz[r * lists.per_row + list], o, &a->lse[head]);
        }
    }
}
