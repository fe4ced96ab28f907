/* The rope section of a Hugging Face config.json. */
#ifndef MP_MODELS_HF_ROPE_H
#define MP_MODELS_HF_ROPE_H

#include "core/base/error.h"
#include "core/json/json.h"
#include "models/rope.h"

/* Reads rope_scaling or rope_parameters of a config's root object, or the top-level rope_theta
 * alone, into *out, whose head_dim and max_positions the caller has set. path stands for the file
 * in messages. Unknown rope types and keys are MP_ERR_UNSUPPORTED. */
int mp_hf_rope_read(const char *path, const struct mp_json *doc, const struct cJSON *root,
                    struct mp_rope *out, struct mp_error *err);

#endif
