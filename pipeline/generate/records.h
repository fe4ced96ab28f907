/* Input records: one JSON object, an array of objects, or JSON lines, whatever the suffix. */
#ifndef MP_PIPELINE_RECORDS_H
#define MP_PIPELINE_RECORDS_H

#include "core/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mp_record {
    char *id;   /* "id", else "index", else the record's position, as text */
    char *text; /* "input" as a string, and "answer_prefix", with which the answer starts, if
                   there is one; NUL-terminated; NULL if ids are given */
    size_t text_length; /* bytes */
    int32_t *ids;       /* "input_ids" (or "input" as an array of ids); NULL if text is given */
    size_t num_ids;
    char **outputs; /* expected answers, may be none */
    size_t num_outputs;
    int64_t max_new_tokens; /* -1: not given */
    char *task;             /* "task", of a benchmark; NULL: not given */
    char *question;         /* "question": a part of the text, with which the question starts; NULL:
                               not given */
    int64_t context; /* "target_tokens": tokens that the benchmark asked for; -1: not given */
    size_t line;     /* line in the file where the record starts, from 1 */
    /* A record that cannot be used: error holds why (file, line, key, found, expected), the rest
     * but id and line is empty. It does not stop the others. */
    char *error;
};

struct mp_records {
    struct mp_record *items;
    size_t count;
};

/* Reads all records of a file ("-": stdin). Fails only if the file cannot be read, is empty, or is
 * no JSON at all; a broken record or line becomes an item with `error` set. Unknown keys of a
 * record are fine (the original's files carry several). */
int mp_records_load(const char *path, struct mp_records *out, struct mp_error *err);
void mp_records_free(struct mp_records *r);

#endif
