/* A model: its shape, its options and its weights, from a directory as downloaded from Hugging
 * Face; or the shape of a known model alone, whose weights the caller makes up. */
#ifndef MP_MODELS_MODEL_H
#define MP_MODELS_MODEL_H

#include "core/base/error.h"
#include "core/base/sampling.h"
#include "core/base/shape.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mp_model; /* opaque: parsed config, open (mapped) safetensors if it has weights */

/* Reads config.json, generation_config.json (optional) and the safetensors headers of `dir`, and
 * checks that every tensor the shape needs is there with the right shape and a known dtype, and
 * that none is left over. No weights are read yet. */
int mp_model_open(const char *dir, struct mp_model **out, struct mp_error *err);

/* Positions of a shape with random weights: they know no length that they were trained for. */
enum { MP_SHAPE_POSITIONS = 1 << 24 };

/* A known model's shape by name ("llama-3.1-8b"; models/presets.c has them all), without weights
 * and end tokens, for benchmarks with random weights. num_layers, 1 to 4096, replaces the model's
 * own number of decoder layers, so that a part of it fits a smaller machine; 0 keeps it. Unknown
 * names and numbers out of range are MP_ERR_USAGE; the message lists the known names. */
int mp_model_open_shape(const char *name, int num_layers, struct mp_model **out,
                        struct mp_error *err);

void mp_model_close(struct mp_model *m);

/* Whether there are weights to load: false for models of mp_model_open_shape. */
bool mp_model_has_weights(const struct mp_model *m);

const struct mp_shape *mp_model_shape(const struct mp_model *m);

/* Longest context: max_position_embeddings, stretched by linear, dynamic or YaRN scaling. */
int64_t mp_model_max_positions(const struct mp_model *m);

/* End-of-sequence ids: generation_config.json's, else config.json's; may be none. */
const int32_t *mp_model_eos(const struct mp_model *m, int *count);

/* Whether generation_config.json asks for tokens to be sampled (do_sample), and how. Nothing
 * follows it by itself. */
bool mp_model_sampling(const struct mp_model *m, struct mp_sampling *out);

/* A number that other weights will hardly have: of the tensors' names, shapes and some of their
 * values. 0 for a shape without weights. */
uint64_t mp_model_fingerprint(const struct mp_model *m);

/* One line for people: "llama, 8 layers, 8/2 heads of 64, 8.0 M parameters", or by its name and
 * with ", random weights" at the end for models of mp_model_open_shape. */
const char *mp_model_description(const struct mp_model *m);

/* RoPE for a sequence of seq_len tokens: inv_freq [head_dim / 2], and the factor on cos and sin.
 * Only dynamic rope depends on seq_len; it is the only one for which the next call returns true. */
void mp_model_rope(const struct mp_model *m, int64_t seq_len, float *inv_freq, float *scale);
bool mp_model_rope_varies(const struct mp_model *m);

/* Memory for the weights, allocated by the caller with the sizes the ops' *_weights_at functions
 * give. The three arrays of blocks themselves are in host memory. */
struct mp_weight_blocks {
    uint16_t *embed;   /* [vocab_size][hidden_size] bf16 */
    uint16_t *lm_head; /* [vocab_size][hidden_size] bf16; NULL if shape->tied_embeddings */
    float *final_norm; /* [hidden_size] */
    void **projection; /* [num_hidden_layers] blocks of projection_weights_at */
    void **output;     /* [num_hidden_layers] blocks of output_weights_at */
    void **ffn;        /* [num_hidden_layers] blocks of ffn_weights_at */
};

/* Reads every tensor into its slot in host memory: matrices to bf16 (exact from bf16, rounded from
 * f16 and f32), vectors to f32. Gives the pages of the files back as it goes, so that memory does
 * not double. MP_ERR_INTERRUPTED once stop(user), asked before each, says true; NULL: nothing stops
 * it. Only for models that have weights: it panics on others. */
int mp_model_load(const struct mp_model *m, const struct mp_weight_blocks *dst,
                  bool (*stop)(void *user), void *user, struct mp_error *err);

enum mp_weight_kind {
    MP_WEIGHT_MATRIX, /* any matrix but the next */
    MP_WEIGHT_QUERY,  /* query projection: its rows are channels, [num_attention_heads][head_dim] */
    MP_WEIGHT_GAIN,   /* vector: the factor of an RMSNorm, 1 where it does nothing */
    MP_WEIGHT_BIAS,   /* vector: added to a projection, 0 where it does nothing */
};

/* One tensor of a model. */
struct mp_weight {
    enum mp_weight_kind kind;
    int64_t rows;    /* of a matrix; 0: a vector */
    int64_t columns; /* of a matrix, or elements of a vector */
    void *dst;       /* its place: matrix [rows][columns] bf16, vector [columns] float */
};

static inline int64_t mp_weight_elements(const struct mp_weight *w)
{
    return (w->rows == 0 ? 1 : w->rows) * w->columns;
}

/* Lists every weight with its place in the caller's blocks, for callers that fill them themselves;
 * always in the same order. The blocks may be in device memory: places are computed, not touched.
 * Returns how many there are; *out [that many] is malloc'ed. */
size_t mp_model_weights(const struct mp_model *m, const struct mp_weight_blocks *dst,
                        struct mp_weight **out);

#endif
