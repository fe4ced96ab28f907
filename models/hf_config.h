/* Hugging Face config.json and generation_config.json -> shape, rope and end tokens. */
#ifndef MP_MODELS_HF_CONFIG_H
#define MP_MODELS_HF_CONFIG_H

#include "core/base/error.h"
#include "core/base/sampling.h"
#include "core/base/shape.h"
#include "models/rope.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    MP_MAX_EOS = 16,      /* end-of-sequence ids of one model */
    MP_MAX_LAYERS = 4096, /* decoder layers */
};

struct mp_hf_config {
    const char *model_type; /* "llama", "mistral", "qwen2" or "qwen3"; static */
    struct mp_shape shape;
    struct mp_rope rope;
    int64_t max_positions;   /* longest context, stretched by the rope (mp_rope_positions) */
    int32_t eos[MP_MAX_EOS]; /* end-of-sequence ids, each < vocab_size */
    int num_eos;             /* 0: none given */
    bool samples;            /* generation_config.json's do_sample, and with what */
    struct mp_sampling sampling;
};

/* Reads a config.json. Anything that would change the arithmetic and is not implemented (another
 * model or rope type, quantized weights, sliding windows, ...) is MP_ERR_UNSUPPORTED; a missing
 * key, a wrong type or a number out of range is MP_ERR_FORMAT. Messages name file and key. */
int mp_hf_config_read(const char *path, struct mp_hf_config *out, struct mp_error *err);

/* The same for a config.json's text, NUL-terminated; name stands for the file in messages. */
int mp_hf_config_parse(const char *name, const char *text, struct mp_hf_config *out,
                       struct mp_error *err);

/* Reads a generation_config.json over it: its eos_token_id, if it has one, replaces config's, and
 * its sampling is taken. Other keys are not looked at. */
int mp_hf_generation_config_read(const char *path, struct mp_hf_config *config,
                                 struct mp_error *err);

#endif
