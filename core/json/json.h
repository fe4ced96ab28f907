/* Strict JSON on top of cJSON.
 *
 * Stricter than cJSON alone: duplicate keys, trailing bytes, invalid UTF-8 (raw or escaped lone
 * surrogates), NUL in strings, numbers a double cannot hold, leading zeros and other grammar slips,
 * and nesting deeper than MP_JSON_MAX_DEPTH are MP_ERR_FORMAT with "file:line:column: ...".
 * Columns count bytes. A byte order mark at the start of a text is skipped; UTF-16 is named.
 *
 * A document owns all its values; values are plain pointers that live as long as it does. Type and
 * range errors of the getters read "file: key.path[2]: expected ..., found ...".
 */
#ifndef MP_CORE_JSON_H
#define MP_CORE_JSON_H

#include "core/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MP_JSON_MAX_DEPTH = 128,      /* nested arrays and objects */
    MP_JSON_MAX_NUMBER_CHARS = 63 /* characters of one number */
};

/* Integers of larger magnitude are not exact in JSON: the getters refuse them. */
#define MP_JSON_MAX_INT (INT64_C(1) << 53)

struct cJSON;   /* one value; opaque outside json.c */
struct mp_json; /* a document: opaque */

/* ---- reading ---- */

/* Reads a whole file ("-": standard input) that holds one value. Files of more than max_bytes are
 * MP_ERR_FORMAT, files that cannot be read MP_ERR_IO. */
int mp_json_read_file(const char *path, size_t max_bytes, struct mp_json **out,
                      struct mp_error *err);

/* The same, but strings and keys may contain \u0000, which they then have as MP_JSON_NUL. */
#define MP_JSON_NUL "\xc0\x80" /* the one form of NUL that a C string can hold; no valid UTF-8 */
int mp_json_read_file_with_nul(const char *path, size_t max_bytes, struct mp_json **out,
                               struct mp_error *err);

/* The same for text in memory (no NUL needed at its end); name stands for the file in messages. */
int mp_json_parse(const char *name, const char *text, size_t length, struct mp_json **out,
                  struct mp_error *err);

/* The same, with \u0000 as in mp_json_read_file_with_nul. */
int mp_json_parse_with_nul(const char *name, const char *text, size_t length, struct mp_json **out,
                           struct mp_error *err);

/* A text that holds several values: where the next one starts. Begin with mp_json_text_init. */
struct mp_json_text {
    const char *name; /* the file in messages; not owned */
    const char *data; /* [length] bytes; not owned */
    size_t length;
    size_t at;         /* offset of the next byte to read */
    size_t line;       /* its line, from 1 */
    size_t line_start; /* offset of that line's first byte */
    bool allow_nul;    /* as in mp_json_read_file_with_nul; off at first */
};
void mp_json_text_init(struct mp_json_text *t, const char *name, const char *data, size_t length);

/* Steps over white space. False at the end of the text. */
bool mp_json_skip_space(struct mp_json_text *t);

/* Parses the value at t (white space before it is skipped) and moves t just past it. On failure t
 * stays where it was. Messages about the document begin with "name:line". */
int mp_json_next(struct mp_json_text *t, struct mp_json **out, struct mp_error *err);

/* Fills err with MP_ERR_FORMAT "name:line:column: message" for the position of t. */
int mp_json_text_fail(const struct mp_json_text *t, struct mp_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

void mp_json_free(struct mp_json *doc);

/* ---- values ---- */

enum mp_json_kind {
    MP_JSON_NULL,
    MP_JSON_BOOL,
    MP_JSON_NUMBER,
    MP_JSON_STRING,
    MP_JSON_ARRAY,
    MP_JSON_OBJECT,
};

const struct cJSON *mp_json_root(const struct mp_json *doc);
enum mp_json_kind mp_json_kind(const struct cJSON *value);

/* Elements of an array or members of an object, in the file's order:
 *   for (const struct cJSON *v = mp_json_first(a); v != NULL; v = mp_json_after(v)) */
const struct cJSON *mp_json_first(const struct cJSON *container);
const struct cJSON *mp_json_after(const struct cJSON *value);
size_t mp_json_count(const struct cJSON *container); /* walks the container */

/* Key of an object's member; NULL for array elements and the root. */
const char *mp_json_key(const struct cJSON *member);

/* Member by exact key, or NULL (also when object is NULL or no object). Linear: walk
 * objects of more than some dozens of keys once instead. */
const struct cJSON *mp_json_find(const struct cJSON *object, const char *key);

/* The text of the member `key` of an object's text, json[0 .. length), which has been read before:
 * *out [*out_length] in it. False: there is none, or its key is written with escapes. */
bool mp_json_find_text(const char *json, size_t length, const char *key, const char **out,
                       size_t *out_length);

/* Fills err with MP_ERR_FORMAT "file: key.path: message" for a value of the document. */
int mp_json_fail(const struct mp_json *doc, const struct cJSON *value, struct mp_error *err,
                 const char *format, ...) __attribute__((format(printf, 4, 5)));

/* ---- typed access to one value ---- */

/* Each fails with MP_ERR_FORMAT unless value has the type and range asked for. Integers may be
 * written 8, 8.0 or 8e0. Strings are UTF-8, never contain NUL and are owned by the document. */
int mp_json_as_int(const struct mp_json *doc, const struct cJSON *value, int64_t min, int64_t max,
                   int64_t *out, struct mp_error *err);
int mp_json_as_number(const struct mp_json *doc, const struct cJSON *value, double min, double max,
                      double *out, struct mp_error *err);
int mp_json_as_bool(const struct mp_json *doc, const struct cJSON *value, bool *out,
                    struct mp_error *err);
int mp_json_as_string(const struct mp_json *doc, const struct cJSON *value, const char **out,
                      struct mp_error *err);
/* A malloc'ed copy of a string of a document, NUL-terminated, each MP_JSON_NUL in it one NUL byte;
 * *length gets its bytes. */
char *mp_json_string_bytes(const char *string, size_t *length);
/* Checks that value is a container of this kind (MP_JSON_ARRAY or MP_JSON_OBJECT). */
int mp_json_expect(const struct mp_json *doc, const struct cJSON *value, enum mp_json_kind kind,
                   struct mp_error *err);

/* ---- typed access to a member ---- */

/* Required members: a missing key is MP_ERR_FORMAT too. */
int mp_json_get_int(const struct mp_json *doc, const struct cJSON *object, const char *key,
                    int64_t min, int64_t max, int64_t *out, struct mp_error *err);
int mp_json_get_number(const struct mp_json *doc, const struct cJSON *object, const char *key,
                       double min, double max, double *out, struct mp_error *err);
int mp_json_get_bool(const struct mp_json *doc, const struct cJSON *object, const char *key,
                     bool *out, struct mp_error *err);
int mp_json_get_string(const struct mp_json *doc, const struct cJSON *object, const char *key,
                       const char **out, struct mp_error *err);
int mp_json_get_array(const struct mp_json *doc, const struct cJSON *object, const char *key,
                      const struct cJSON **out, struct mp_error *err);
int mp_json_get_object(const struct mp_json *doc, const struct cJSON *object, const char *key,
                       const struct cJSON **out, struct mp_error *err);

/* Optional members: a missing key or null leaves *out as the caller set it, which is how a default
 * is given (for arrays, objects and strings set NULL first). */
int mp_json_opt_int(const struct mp_json *doc, const struct cJSON *object, const char *key,
                    int64_t min, int64_t max, int64_t *out, struct mp_error *err);
int mp_json_opt_number(const struct mp_json *doc, const struct cJSON *object, const char *key,
                       double min, double max, double *out, struct mp_error *err);
int mp_json_opt_bool(const struct mp_json *doc, const struct cJSON *object, const char *key,
                     bool *out, struct mp_error *err);
int mp_json_opt_string(const struct mp_json *doc, const struct cJSON *object, const char *key,
                       const char **out, struct mp_error *err);
int mp_json_opt_array(const struct mp_json *doc, const struct cJSON *object, const char *key,
                      const struct cJSON **out, struct mp_error *err);
int mp_json_opt_object(const struct mp_json *doc, const struct cJSON *object, const char *key,
                       const struct cJSON **out, struct mp_error *err);

/* ---- writing ---- */

/* text[0 .. length) as a JSON string with its quotes, malloc'ed. NULs become \u0000; text is UTF-8.
 */
char *mp_json_quote(const char *text, size_t length);

#endif
