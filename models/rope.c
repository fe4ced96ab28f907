#include "models/rope.h"

#include <math.h>

/* Inverse frequency of dimension pair i. */
static double base_frequency(const struct mp_rope *r, double theta, int i)
{
    return pow(theta, -2.0 * i / r->head_dim);
}

/* NTK: theta is raised so that the slowest wave stretches exactly as much as the context. */
static double dynamic_theta(const struct mp_rope *r, int64_t seq_len)
{
    if (seq_len <= r->max_positions) {
        return r->theta;
    }
    double stretch = (double)seq_len / (double)r->max_positions;
    return r->theta *
           pow(r->factor * stretch - (r->factor - 1.0), (double)r->head_dim / (r->head_dim - 2));
}

/* Share of the unstretched frequency: 1 for waves that turn at least high_freq_factor times in the
 * original context, 0 for those that turn at most low_freq_factor times, linear between. */
static double llama3_keep(const struct mp_rope *r, double frequency)
{
    double turns = (double)r->original_max_positions * frequency / (2.0 * M_PI);
    double keep = (turns - r->low_freq_factor) / (r->high_freq_factor - r->low_freq_factor);
    return fmin(fmax(keep, 0.0), 1.0);
}

/* The (fractional) dimension pair whose wave turns `turns` times in the original context. */
static double yarn_dimension(const struct mp_rope *r, double turns)
{
    return r->head_dim * log((double)r->original_max_positions / (turns * 2.0 * M_PI)) /
           (2.0 * log(r->theta));
}

/* Share of the unstretched frequency of pair i: 1 below the dimension of beta_fast, 0 above that
 * of beta_slow, linear between. */
static double yarn_keep(const struct mp_rope *r, int i)
{
    double low = yarn_dimension(r, r->beta_fast);
    double high = yarn_dimension(r, r->beta_slow);
    if (r->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0.0);
    high = fmin(high, r->head_dim - 1);
    if (low == high) {
        high += 0.001;
    }
    return 1.0 - fmin(fmax((i - low) / (high - low), 0.0), 1.0);
}

int64_t mp_rope_positions(const struct mp_rope *r)
{
    double stretched = 0.0;
    switch (r->type) {
    case MP_ROPE_DEFAULT:
    case MP_ROPE_LLAMA3:
        break;
    case MP_ROPE_LINEAR:
    case MP_ROPE_DYNAMIC:
        stretched = r->factor * (double)r->max_positions;
        break;
    case MP_ROPE_YARN:
        stretched = r->factor * (double)r->original_max_positions;
        break;
    }
    int64_t positions = (int64_t)fmin(stretched, INT32_MAX);
    return positions > r->max_positions ? positions : r->max_positions;
}

double mp_rope_yarn_mscale(double factor, double mscale)
{
    return factor <= 1.0 ? 1.0 : 0.1 * mscale * log(factor) + 1.0;
}

void mp_rope_frequencies(const struct mp_rope *r, int64_t seq_len, float *inv_freq, float *scale)
{
    double theta = r->type == MP_ROPE_DYNAMIC ? dynamic_theta(r, seq_len) : r->theta;
    for (int i = 0; i < r->head_dim / 2; i++) {
        double frequency = base_frequency(r, theta, i);
        double keep = 1.0;
        switch (r->type) {
        case MP_ROPE_DEFAULT:
        case MP_ROPE_DYNAMIC:
            break;
        case MP_ROPE_LINEAR:
            keep = 0.0;
            break;
        case MP_ROPE_LLAMA3:
            keep = llama3_keep(r, frequency);
            break;
        case MP_ROPE_YARN:
            keep = yarn_keep(r, i);
            break;
        }
        inv_freq[i] =
            (float)(keep < 1.0 ? frequency * (keep + (1.0 - keep) / r->factor) : frequency);
    }
    *scale = r->type == MP_ROPE_YARN ? (float)r->attention_factor : 1.0F;
}
