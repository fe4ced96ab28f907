/* Rotary position embedding: inverse frequencies and the variants that stretch them beyond the
 * context a model was first trained on. */
#ifndef MP_MODELS_ROPE_H
#define MP_MODELS_ROPE_H

#include <stdbool.h>
#include <stdint.h>

enum mp_rope_type {
    MP_ROPE_DEFAULT, /* theta ^ (-2i / head_dim) */
    MP_ROPE_LINEAR,  /* every frequency divided by factor */
    MP_ROPE_DYNAMIC, /* theta grows with the sequence once it passes max_positions (NTK) */
    MP_ROPE_LLAMA3,  /* long waves divided by factor, short ones kept, a blend between */
    MP_ROPE_YARN,    /* the same idea over dimensions, plus a factor on cos and sin */
};

struct mp_rope {
    enum mp_rope_type type;
    int head_dim;          /* elements rotated per head, even; > 2 for dynamic */
    double theta;          /* base of the frequencies, > 1 */
    double factor;         /* context stretch, >= 1; all but default */
    int64_t max_positions; /* max_position_embeddings; dynamic: up to here nothing changes */
    int64_t original_max_positions; /* llama3, yarn: context before the stretch */
    double low_freq_factor;         /* llama3: longer than original / low is stretched */
    double high_freq_factor;        /* llama3: shorter than original / high is kept; > low */
    double beta_fast;               /* yarn: this many turns over the original context: kept */
    double beta_slow;               /* yarn: this few turns: stretched; <= beta_fast */
    double attention_factor;        /* yarn: multiplies cos and sin */
    bool truncate;                  /* yarn: round the blend's ends to whole dimensions */
};

/* Inverse frequencies [head_dim / 2], radians per token, for a sequence of seq_len tokens (only
 * dynamic looks at it), and the factor on cos and sin (1 but for yarn). */
void mp_rope_frequencies(const struct mp_rope *r, int64_t seq_len, float *inv_freq, float *scale);

/* Longest context of the model, at most INT32_MAX. Models are published with the positions that
 * they were trained on and a stretch by linear, dynamic or YaRN scaling, which multiplies them;
 * those of llama3 and of some with YaRN count the stretch already. */
int64_t mp_rope_positions(const struct mp_rope *r);

/* YaRN's factor on cos and sin for a context stretched by `factor`: 0.1 mscale ln(factor) + 1. */
double mp_rope_yarn_mscale(double factor, double mscale);

#endif
