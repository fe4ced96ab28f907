/* --output: one complete JSON line per finished request. */
#ifndef MP_PIPELINE_OUTPUT_H
#define MP_PIPELINE_OUTPUT_H

#include "core/base/error.h"
#include "pipeline/engine/magicpig.h"

#include <stdbool.h>
#include <stddef.h>

struct mp_output; /* opaque */

/* Opens path for appending. If it exists and is not empty, resume must be set: the ids of its
 * finished lines then count as done, and a last line cut short by a crash is removed. A file that
 * holds other lines is refused, and left as it is. */
int mp_output_open(const char *path, bool resume, struct mp_output **out, struct mp_error *err);

/* True if the file held a finished line of this id, for a prompt of so many tokens, when it was
 * opened; each line counts for one record only, so that records may share an id. */
bool mp_output_take(struct mp_output *o, const char *id, int64_t prompt_tokens);

/* Finished lines that were there and that no record has taken. */
size_t mp_output_left(const struct mp_output *o);

/* Appends and flushes one line: id, text, token_ids, prompt_tokens, generated_tokens,
 * finish_reason, prefill_seconds, decode_seconds, sampled_fraction (null if nothing was sampled), attention_error (null if nothing estimates it),
 * score (share of the expected answers in the text; null if score is NaN: none were given). */
int mp_output_write(struct mp_output *o, const char *id, const char *text, size_t length,
                    const struct mp_request *request, double score, struct mp_error *err);

/* Appends a line {"id", "error"} for a record that could not be run. It does not count as done. */
int mp_output_write_error(struct mp_output *o, const char *id, const char *message,
                          struct mp_error *err);

int mp_output_close(struct mp_output *o, struct mp_error *err);

#endif
