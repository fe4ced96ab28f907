#include "codelets/peer_mean/peer_mean.h"

void peer_mean_ref(const struct peer_mean_args *a)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < a->count; i++) {
        float sum = a->from[0][i];
        for (int s = 1; s < a->num_from; s++) {
            sum += a->from[s][i];
        }
        a->to[i] = a->scale * sum;
    }
}
