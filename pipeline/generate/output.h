/* --output: one complete JSON line per finished request. */
#ifndef MP_PIPELINE_OUTPUT_H
#define MP_PIPELINE_OUTPUT_H

#include "core/base/error.h"
#include "pipeline/engine/magicpig.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mp_output; /* opaque */

/* Opens path for appending; "-" is stdout. If it exists and is not empty, resume must be set: its
 * finished lines can then be taken, and a last line cut short by a crash is removed. Lines may have
 * been written again by other tools; blank ones are fine. A file that holds other lines is refused,
 * and left as it is. */
int mp_output_open(const char *path, bool resume, struct mp_output **out, struct mp_error *err);

/* Whether lines go where stdout goes. */
bool mp_output_is_stdout(const struct mp_output *o);

/* An answer, by what it depends on: fingerprints of pipeline/generate/answer_key.h. */
struct mp_answer_id {
    const char *id; /* the record's */
    uint64_t prompt;
    uint64_t settings;
};

/* True if the file held this answer when it was opened. Each line counts once. */
bool mp_output_take(struct mp_output *o, const struct mp_answer_id *id);

/* Finished lines that were there and that nobody has taken: *settings gets those whose id and
 * prompt were asked for with other settings, *others the rest. */
void mp_output_left(const struct mp_output *o, size_t *settings, size_t *others);

/* Appends and flushes one line: id, text, token_ids, prompt_tokens, generated_tokens,
 * finish_reason, prefill_seconds, decode_seconds, cached_tokens, sampled_fraction (null if nothing
 * was sampled), attention_error (null if nothing estimates it), score (share of the
 * expected answers in the text; null if score is NaN: none were given), prompt and settings. text
 * NULL: there is no tokenizer. */
int mp_output_write(struct mp_output *o, const struct mp_answer_id *id, const char *text,
                    size_t length, const struct mp_request *request, double score,
                    struct mp_error *err);

/* Appends a line of another form (pipeline/generate/batch_output.h), and flushes it. */
int mp_output_write_line(struct mp_output *o, const char *line, struct mp_error *err);

/* Appends a line {"id", "error"} for a record that could not be run, unless the file held it when
 * it was opened. It does not count as done. */
int mp_output_write_error(struct mp_output *o, const char *id, const char *message,
                          struct mp_error *err);

int mp_output_close(struct mp_output *o, struct mp_error *err);

#endif
