#include "codelets/common/attention/attention_part.h"

#include <math.h>

float attention_part_merge(const struct attention_part *parts, int num_parts, int64_t row, int head,
                      int head_dim, float *out)
{
    float weight[ATTENTION_MAX_PARTS]; /* lse, then exp(lse - max) */
    const float *o[ATTENTION_MAX_PARTS];
    int n = 0;
    float max = -INFINITY;
    for (int i = 0; i < num_parts; i++) {
        const struct attention_part *p = &parts[i];
        if (attention_part_covers(p, head)) {
            int64_t at = attention_part_at(p, row, head);
            weight[n] = p->lse == NULL ? 0.0f : p->lse[at];
            o[n] = p->o + at * head_dim;
            if (weight[n] != -INFINITY) {
                max = fmaxf(max, weight[n]);
                n++;
            }
        }
    }
    float total = 0.0f;
    for (int i = 0; i < n; i++) {
        weight[i] = expf(weight[i] - max);
        total += weight[i];
    }
    for (int c = 0; c < head_dim; c++) {
        float sum = 0.0f;
        for (int i = 0; i < n; i++) {
            sum += weight[i] * o[i][c];
        }
        out[c] = n == 0 ? 0.0f : sum / total;
    }
    return n == 0 ? -INFINITY : max + logf(total);
}
