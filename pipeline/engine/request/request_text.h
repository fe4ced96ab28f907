/* The text of a request as its tokens come: pieces for the program, and stop strings. */
#ifndef MP_PIPELINE_REQUEST_TEXT_H
#define MP_PIPELINE_REQUEST_TEXT_H

#include "core/tokenizer/tokenizer.h"
#include "pipeline/engine/magicpig.h"

struct mp_request_text; /* opaque */

/* For a request in `slot` that has stop strings or a callback; NULL, which the others accept, for
 * one that has neither. The stop strings are copied; t stays in place. MP_ERR_USAGE: an empty stop
 * string. */
int mp_request_text_open(const struct mp_tokenizer *t, const struct mp_request_options *o, int slot,
                         struct mp_request_text **out, struct mp_error *err);
void mp_request_text_close(struct mp_request_text *t);

/* Takes the token that the request got last, and passes on what is certain of the text.
 * info->finish says whether it was the last one; it becomes MP_FINISH_STOP at a stop string. */
void mp_request_text_append(struct mp_request_text *t, struct mp_request *info);

#endif
