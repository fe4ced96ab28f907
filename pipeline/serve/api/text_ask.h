/* What the bodies of /tokenize and /detokenize ask for. */
#ifndef MP_SERVE_TEXT_ASK_H
#define MP_SERVE_TEXT_ASK_H

#include "core/tokenizer/tokenizer.h"
#include "pipeline/serve/api/api_error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mp_json;

struct mp_text_ask {
    struct mp_json *doc; /* the body */
    const char *model;   /* in doc; NULL: not given */
    char *text;          /* of /tokenize: [length] and a NUL; it may contain NULs */
    size_t length;       /* bytes */
    bool add_special;    /* the tokenizer puts its special tokens around the text */
    bool strings;        /* each token's text too */
    struct mp_ids ids;   /* of /detokenize */
};

/* Read a body; ids are 0 to most_id. Return 0 or the status in *error, after which there is nothing
 * to free. */
int mp_tokenize_read(const char *body, size_t length, struct mp_text_ask *out,
                     struct mp_api_error *error);
int mp_detokenize_read(const char *body, size_t length, int64_t most_id, struct mp_text_ask *out,
                       struct mp_api_error *error);
void mp_text_ask_free(struct mp_text_ask *ask);

#endif
