/* A model directory as downloaded from Hugging Face: its shape, its options and its weights. */
#ifndef MP_MODELS_MODEL_H
#define MP_MODELS_MODEL_H

#include "core/error.h"
#include "core/shape.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mp_model; /* opaque: parsed config, open (mapped) safetensors */

/* Reads config.json, generation_config.json (optional) and the safetensors headers of `dir`, and
 * checks that every tensor the shape needs is there with the right shape and a known dtype, and
 * that none is left over. No weights are read yet. */
int mp_model_open(const char *dir, struct mp_model **out, struct mp_error *err);
void mp_model_close(struct mp_model *m);

const struct mp_shape *mp_model_shape(const struct mp_model *m);

/* Longest context the model was trained for (max_position_embeddings). */
int64_t mp_model_max_positions(const struct mp_model *m);

/* End-of-sequence ids: generation_config.json's, else config.json's; may be none. */
const int32_t *mp_model_eos(const struct mp_model *m, int *count);

/* One line for people: "llama, 8 layers, 8/2 heads of 64, 8.0 M parameters". */
const char *mp_model_description(const struct mp_model *m);

/* RoPE for a sequence of seq_len tokens: inv_freq [head_dim / 2], and the factor on cos and sin.
 * Only dynamic rope depends on seq_len; it is the only one for which the next call returns true. */
void mp_model_rope(const struct mp_model *m, int64_t seq_len, float *inv_freq, float *scale);
bool mp_model_rope_varies(const struct mp_model *m);

/* Host memory for the weights, allocated by the caller with the sizes the ops' *_weights_at
 * functions give. */
struct mp_weight_blocks {
    uint16_t *embed;   /* [vocab_size][hidden_size] bf16 */
    uint16_t *lm_head; /* [vocab_size][hidden_size] bf16; NULL if shape->tied_embeddings */
    float *final_norm; /* [hidden_size] */
    void **projection; /* [num_hidden_layers] blocks of projection_weights_at */
    void **output;     /* [num_hidden_layers] blocks of output_weights_at */
    void **ffn;        /* [num_hidden_layers] blocks of ffn_weights_at */
};

/* Reads every tensor into its slot: matrices to bf16 (exact from bf16, rounded from f16 and f32),
 * vectors to f32. Gives the pages of the files back as it goes, so that memory does not double. */
int mp_model_load(const struct mp_model *m, const struct mp_weight_blocks *dst,
                  struct mp_error *err);

#endif
