/* The tokenizer of a Hugging Face model directory. */
#ifndef MP_MODELS_HF_TOKENIZER_H
#define MP_MODELS_HF_TOKENIZER_H

#include "core/tokenizer/tokenizer.h"

/* Reads tokenizer.json and applies what tokenizer_config.json, if there is one, says beside it:
 * which tokens are special, and, where tokenizer.json puts nothing around a text, whether BOS and
 * EOS are. MP_ERR_IO, MP_ERR_FORMAT, MP_ERR_UNSUPPORTED: the message names the file. *out:
 * mp_tokenizer_free.
 */
int mp_hf_tokenizer_load(const char *dir, struct mp_tokenizer **out, struct mp_error *err);

/* What a tokenizer class of transformers has for a key such as "bos_token" that
 * tokenizer_config.json leaves out; NULL: nothing. Static. */
const char *mp_hf_usual_token(const char *tokenizer_class, const char *key);

#endif
