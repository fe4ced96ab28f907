/* What an answer depends on: its prompt and the settings that it was given with. Lines of answers
 * carry both, so that a later run knows which of them are its own. */
#ifndef MP_PIPELINE_ANSWER_KEY_H
#define MP_PIPELINE_ANSWER_KEY_H

#include "core/config/config.h"
#include "pipeline/engine/magicpig.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of token ids: FNV-1a over their bytes. */
uint64_t mp_prompt_fingerprint(const int32_t *ids, size_t count);

/* Of a text, in the same way. */
uint64_t mp_text_fingerprint(const char *text);

/* Whether a configuration attends to every token: nothing but the method then says to which. */
bool mp_answer_is_exact(const struct mp_config *c);

/* The engine's model and arithmetic, in one word for keys. The caller's. */
char *mp_answer_model(const struct mp_engine *e);

/* A JSON object in one line: the attention, the sampling if tokens are drawn, the end tokens if
 * they are not the model's, and the model (mp_answer_model). sparse_from: of which part of a prompt
 * the attention is sparse, of eval; NULL: the answer. The caller's. */
char *mp_answer_key(const struct mp_config *c, const char *model, const char *sparse_from);

#endif
