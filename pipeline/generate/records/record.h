/* One record of an input. Private to pipeline/generate. */
#ifndef MP_PIPELINE_RECORD_H
#define MP_PIPELINE_RECORD_H

#include "core/json/json.h"
#include "pipeline/generate/records/records.h"

/* One that says nothing, from this line. */
struct mp_record mp_record_empty(size_t line);

/* Reads the object, which is written as json[0 .. length), into *r, which is empty. MP_ERR_FORMAT:
 * a key that nothing serves, or a value that cannot be; r->id is then set if the record has one
 * that can be read. */
int mp_record_read(const struct mp_json *doc, const char *json, size_t length, size_t position,
                   struct mp_record *r, struct mp_error *err);

/* The same for a line of OpenAI's batch form, which has a "custom_id" (batch_record.c). */
int mp_batch_read(const struct mp_json *doc, const char *json, size_t length, const char *name,
                  struct mp_record *r, struct mp_error *err);

/* What both have: "stop", the length of the answer, how it is sampled. */
int mp_record_read_settings(const struct mp_json *doc, struct mp_record *r, struct mp_error *err);
/* MP_ERR_FORMAT for a key of the object that is none of keys [count]. */
int mp_record_check_keys(const struct mp_json *doc, const char *const *keys, size_t count,
                         struct mp_error *err);

/* Frees all but the id. */
void mp_record_free(struct mp_record *r);

#endif
