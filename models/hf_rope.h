/* The rope section of a Hugging Face config.json. */
#ifndef MP_MODELS_HF_ROPE_H
#define MP_MODELS_HF_ROPE_H

#include "core/base/error.h"
#include "core/json/json.h"
#include "models/rope.h"

/* Reads rope_scaling, else rope_parameters of a config's root object, or the top-level rope_theta
 * alone, into *out, whose head_dim and max_positions the caller has set and whose rest is 0. path
 * stands for the file in messages. Sections and keys are taken as transformers takes them: an empty
 * section is none, and what a section lacks does not come from the other one. Two that do not say
 * the same are MP_ERR_FORMAT; unknown rope types and keys are MP_ERR_UNSUPPORTED. */
int mp_hf_rope_read(const char *path, const struct mp_json *doc, const struct cJSON *root,
                    struct mp_rope *out, struct mp_error *err);

#endif
