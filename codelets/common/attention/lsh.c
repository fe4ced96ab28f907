#include "codelets/common/attention/lsh.h"

#include "core/base/memory.h"
#include "core/base/rng.h"

#include <math.h>

void lsh_projection_draw(float *w, int head_dim, int K, int L, uint64_t seed, uint64_t stream)
{
    struct mp_rng rng;
    mp_rng_init(&rng, seed, stream);
    size_t count = lsh_projection_size(head_dim, K, L);
    for (size_t i = 0; i < count; i++) {
        w[i] = (float)mp_rng_normal(&rng);
    }
}

float *lsh_projections_draw(int head_dim, int K, int L, uint64_t seed, uint64_t first_stream,
                            int count)
{
    size_t size = lsh_projection_size(head_dim, K, L);
    float *w = mp_xcalloc((size_t)count, size * sizeof *w);
    for (int i = 0; i < count; i++) {
        lsh_projection_draw(w + (size_t)i * size, head_dim, K, L, seed, first_stream + (uint64_t)i);
    }
    return w;
}

/* P[at least 2 of L] when each of L independent tables collides with probability p. */
static double at_least_two(double p, int L)
{
    if (L * p > 1.0) {
        return 1.0 - pow(1.0 - p, L - 1) * (L * p + 1.0 - p);
    }
    /* Here the difference would cancel. The binomial terms for 2, 3, ... L collisions are all
     * positive and fall off like 1 / j!. */
    double odds = p / (1.0 - p);
    double term = pow(1.0 - p, L) * L * odds;
    double sum = 0.0;
    for (int j = 2; j <= L; j++) {
        term *= odds * (L - j + 1) / j;
        sum += term;
    }
    return sum;
}

double lsh_collision_probability(double cosine, int K, int L)
{
    double c = cosine > -1.0 ? cosine : -1.0; /* NaN too */
    c = c < 1.0 ? c : 1.0;
    /* t = 1 - arccos(c) / pi, written without the cancellation near c = -1. */
    double t = acos(-c) / M_PI;
    return at_least_two(pow(t, K), L);
}

void lsh_weight_init(struct lsh_weight *w, int K, int L)
{
    w->K = K;
    w->L = L;
    for (int i = 0; i <= LSH_WEIGHT_STEPS; i++) {
        double cosine = -1.0 + 2.0 * i / LSH_WEIGHT_STEPS;
        w->log_u[i] = (float)log(lsh_collision_probability(cosine, K, L) + 1e-4);
    }
    w->log_u[LSH_WEIGHT_STEPS + 1] = w->log_u[LSH_WEIGHT_STEPS];
}
