/* The mathematics of MagicPIG's locality-sensitive hashing (arXiv 2410.16179, section 4). */
#ifndef MP_CODELETS_COMMON_LSH_H
#define MP_CODELETS_COMMON_LSH_H

#include <stddef.h>
#include <stdint.h>

/* Draws W (head_dim x K*L, row-major, i.i.d. N(0,1)) from generator (seed, stream). */
void lsh_projection_draw(float *w, int head_dim, int K, int L, uint64_t seed, uint64_t stream);

/* Elements of W. */
static inline size_t lsh_projection_size(int head_dim, int K, int L)
{
    return (size_t)head_dim * (size_t)K * (size_t)L;
}

/* `count` W's one after the other, from the streams first_stream, first_stream + 1, ... The
 * caller's: free. */
float *lsh_projections_draw(int head_dim, int K, int L, uint64_t seed, uint64_t first_stream,
                            int count);

/* u(cos): probability that a key at this cosine collides with the query in at least 2 of the L
 * tables of K bits: t = 1 - arccos(cos)/pi, p = t^K, u = 1 - (1-p)^(L-1) (L p + 1 - p).
 * cos is clamped to [-1, 1]. Accurate for tiny u as well (no cancellation). */
double lsh_collision_probability(double cosine, int K, int L);

enum { LSH_WEIGHT_STEPS = 4096 };

/* ln(u(cos) + 1e-4) for fixed (K, L), tabulated over cos in [-1, 1] for linear interpolation: it
 * replaces an arccos, two powers and a logarithm per token. */
struct lsh_weight {
    float log_u[LSH_WEIGHT_STEPS + 2]; /* entry i: cos = -1 + 2 i / LSH_WEIGHT_STEPS; the last
                                          repeats the one before, so that i + 1 is always there */
    int K;
    int L;
};

void lsh_weight_init(struct lsh_weight *w, int K, int L);

#endif
