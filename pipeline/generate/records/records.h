/* Input records: one JSON object, an array of objects, or JSON lines, whatever the suffix. */
#ifndef MP_PIPELINE_RECORDS_H
#define MP_PIPELINE_RECORDS_H

#include "core/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Which of OpenAI's batch lines a record is. */
enum mp_batch_kind { MP_BATCH_NONE, MP_BATCH_CHAT, MP_BATCH_COMPLETION };

struct mp_record {
    char *id;             /* "id", else "index", else "_id", else the record's position, as text */
    bool own_id;          /* it is not the position */
    char *text;           /* "input" as a string, behind "context" and an empty line, and before
                             "answer_prefix", with which the answer starts, if there are any;
                             NUL-terminated; NULL if ids or messages are given */
    size_t text_length;   /* bytes */
    size_t prefix_length; /* of them "answer_prefix" */
    char *chat; /* the record as it was written, if it has "messages"; NULL: it has a text or ids */
    int32_t *ids; /* "input_ids" (or "input" as an array of ids); NULL if text is given */
    size_t num_ids;
    char **outputs; /* "outputs" or "answers": the expected ones, may be none */
    size_t num_outputs;
    bool any;               /* one of them is enough */
    int64_t max_new_tokens; /* "max_new_tokens" or "max_tokens"; -1: not given */
    char **stop;            /* [num_stop] texts that end the answer */
    size_t num_stop;
    double temperature, top_p; /* NAN: not given */
    int64_t top_k, seed;       /* -1: not given */
    char *task;                /* "task", of a benchmark; NULL: not given */
    char *question;  /* "question": a part of the text, with which the question starts; NULL: not
                        given */
    int64_t context; /* "target_tokens": tokens that the benchmark asked for; -1: not given */
    enum mp_batch_kind batch;
    char *model; /* of a batch line, the name that it gives the model; NULL: none */
    size_t line; /* line in the file where the record starts, from 1 */
    /* A record that cannot be used: error holds why (file, line, key, found, expected), the rest
     * but id, own_id and line is empty. It does not stop the others. */
    char *error;
};

struct mp_records {
    struct mp_record *items;
    size_t count;
    bool batch; /* lines of OpenAI's batch form, all of them; others have an error */
};

/* What is in a file of records ("-": stdin): data, to be freed, has a 0 behind its `length` bytes.
 */
int mp_records_read(const char *path, char **data, size_t *length, struct mp_error *err);

/* All records in what was read from a file. Fails only if that is empty or no JSON at all; a broken
 * record or line becomes an item with `error` set. So does a record with a key that is not served,
 * but for those that files of RULER, LongBench and the original's harness carry along. */
int mp_records_parse(const char *path, const char *data, size_t length, struct mp_records *out,
                     struct mp_error *err);

/* One after the other. */
int mp_records_load(const char *path, struct mp_records *out, struct mp_error *err);

/* Whether the record says anything of how its tokens are sampled. */
bool mp_record_samples(const struct mp_record *r);

/* Gives each record an id of its own: one that a record before has too gets "#2", "#3", ... behind
 * it. Ids of the file come before positions, also those of records further on. Warns of ids of the
 * file, which is path, that were changed. */
void mp_records_make_ids_unique(struct mp_records *r, const char *path);
void mp_records_free(struct mp_records *r);

#endif
