#include "core/json/json.h"

#include "core/base/file.h"
#include "core/base/memory.h"
#include "core/json/json_print.h"
#include "core/json/json_scan.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct mp_json {
    char *name; /* the file, for messages */
    cJSON *root;
};

/* ---- reading ---- */

/* mp_json_next, with the name that the document uses in its messages. */
static int parse_value(struct mp_json_text *t, const char *name, struct mp_json **out,
                       struct mp_error *err)
{
    const char *start = t->data + t->at;
    int rc = mp_json_scan(t, err);
    if (rc != MP_OK) {
        return rc;
    }
    size_t length = (size_t)(t->data + t->at - start);
    char *copy = t->allow_nul ? mp_json_replace_nul_escapes(start, &length) : NULL;
    cJSON *root = cJSON_ParseWithLengthOpts(copy != NULL ? copy : start, length, NULL, 0);
    free(copy);
    if (root == NULL) {
        /* The scanner found the text well-formed: cJSON can only have run out of memory. */
        mp_json_forget_lost_memory();
        return mp_fail(err, MP_ERR_MEMORY, "%s: out of memory while parsing %zu bytes of JSON",
                       name, length);
    }
    struct mp_json *doc = mp_xmalloc(sizeof *doc);
    *doc = (struct mp_json){.name = mp_xstrdup(name), .root = root};
    *out = doc;
    return MP_OK;
}

int mp_json_next(struct mp_json_text *t, struct mp_json **out, struct mp_error *err)
{
    struct mp_json_text at = *t;
    mp_json_skip_space(&at);
    char *name = mp_xasprintf("%s:%zu", t->name, at.line);
    int rc = parse_value(&at, name, out, err);
    free(name);
    if (rc == MP_OK) {
        *t = at;
    }
    return rc;
}

/* The one value of a text. */
static int parse_whole(struct mp_json_text *t, struct mp_json **out, struct mp_error *err)
{
    mp_json_skip_space(t);
    struct mp_json *doc = NULL;
    int rc = parse_value(t, t->name, &doc, err);
    if (rc != MP_OK) {
        return rc;
    }
    if (mp_json_skip_space(t)) {
        mp_json_free(doc);
        return mp_json_text_fail(t, err, "trailing bytes after the value");
    }
    *out = doc;
    return MP_OK;
}

int mp_json_parse(const char *name, const char *text, size_t length, struct mp_json **out,
                  struct mp_error *err)
{
    struct mp_json_text t;
    mp_json_text_init(&t, name, text, length);
    return parse_whole(&t, out, err);
}

int mp_json_parse_with_nul(const char *name, const char *text, size_t length, struct mp_json **out,
                           struct mp_error *err)
{
    struct mp_json_text t;
    mp_json_text_init(&t, name, text, length);
    t.allow_nul = true;
    return parse_whole(&t, out, err);
}

static int read_file(const char *path, size_t max_bytes, bool allow_nul, struct mp_json **out,
                     struct mp_error *err)
{
    char *text;
    size_t length;
    int rc = mp_file_read(path, max_bytes, &text, &length, err);
    if (rc == MP_OK) {
        struct mp_json_text t;
        mp_json_text_init(&t, mp_file_name(path), text, length);
        t.allow_nul = allow_nul;
        rc = parse_whole(&t, out, err);
        free(text);
    }
    return rc;
}

int mp_json_read_file(const char *path, size_t max_bytes, struct mp_json **out,
                      struct mp_error *err)
{
    return read_file(path, max_bytes, false, out, err);
}

int mp_json_read_file_with_nul(const char *path, size_t max_bytes, struct mp_json **out,
                               struct mp_error *err)
{
    return read_file(path, max_bytes, true, out, err);
}

void mp_json_free(struct mp_json *doc)
{
    if (doc != NULL) {
        cJSON_Delete(doc->root);
        free(doc->name);
        free(doc);
    }
}

/* ---- values ---- */

const cJSON *mp_json_root(const struct mp_json *doc)
{
    return doc->root;
}

enum mp_json_kind mp_json_kind(const cJSON *value)
{
    switch (value->type & 0xff) {
    case cJSON_False:
    case cJSON_True:
        return MP_JSON_BOOL;
    case cJSON_Number:
        return MP_JSON_NUMBER;
    case cJSON_String:
        return MP_JSON_STRING;
    case cJSON_Array:
        return MP_JSON_ARRAY;
    case cJSON_Object:
        return MP_JSON_OBJECT;
    default:
        return MP_JSON_NULL;
    }
}

const cJSON *mp_json_first(const cJSON *container)
{
    return container->child;
}

const cJSON *mp_json_after(const cJSON *value)
{
    return value->next;
}

size_t mp_json_count(const cJSON *container)
{
    size_t count = 0;
    for (const cJSON *v = container->child; v != NULL; v = v->next) {
        count++;
    }
    return count;
}

const char *mp_json_key(const cJSON *member)
{
    return member->string;
}

const cJSON *mp_json_find(const cJSON *object, const char *key)
{
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
}

/* Writes the path from node to target after path[0..used); false if target is not below node. */
static bool find_path(const cJSON *node, const cJSON *target, char *path, size_t size, size_t used)
{
    if (node == target) {
        return true;
    }
    size_t i = 0;
    for (const cJSON *v = node->child; v != NULL; v = v->next, i++) {
        int n = v->string == NULL
                    ? snprintf(path + used, size - used, "[%zu]", i)
                    : snprintf(path + used, size - used, "%s%s", used > 0 ? "." : "", v->string);
        size_t end = used + (n > 0 ? (size_t)n : 0);
        if (find_path(v, target, path, size, end < size ? end : size - 1)) {
            return true;
        }
    }
    path[used] = '\0';
    return false;
}

int mp_json_fail(const struct mp_json *doc, const cJSON *value, struct mp_error *err,
                 const char *format, ...)
{
    char path[256] = "";
    find_path(doc->root, value, path, sizeof path, 0);
    char message[sizeof err->message];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    const char *separator = path[0] == '\0' ? "" : ": ";
    return mp_fail(err, MP_ERR_FORMAT, "%s: %s%s%s", doc->name, path, separator, message);
}

/* ---- typed access to one value ---- */

/* "expected <what>, found <value>" */
static int fail_type(const struct mp_json *doc, const cJSON *value, const char *what,
                     struct mp_error *err)
{
    char number[32];
    switch (mp_json_kind(value)) {
    case MP_JSON_NULL:
        return mp_json_fail(doc, value, err, "expected %s, found null", what);
    case MP_JSON_BOOL:
        return mp_json_fail(doc, value, err, "expected %s, found %s", what,
                            cJSON_IsTrue(value) ? "true" : "false");
    case MP_JSON_NUMBER:
        /* 17 digits are exact but turn 0.7 into 0.69999999999999996. */
        snprintf(number, sizeof number, "%.15g", value->valuedouble);
        if (strtod(number, NULL) != value->valuedouble) {
            snprintf(number, sizeof number, "%.17g", value->valuedouble);
        }
        return mp_json_fail(doc, value, err, "expected %s, found %s", what, number);
    case MP_JSON_STRING:
        return mp_json_fail(doc, value, err, "expected %s, found \"%.80s\"", what,
                            value->valuestring);
    case MP_JSON_ARRAY:
        return mp_json_fail(doc, value, err, "expected %s, found an array", what);
    default:
        return mp_json_fail(doc, value, err, "expected %s, found an object", what);
    }
}

int mp_json_as_int(const struct mp_json *doc, const cJSON *value, int64_t min, int64_t max,
                   int64_t *out, struct mp_error *err)
{
    int64_t low = min > -MP_JSON_MAX_INT ? min : -MP_JSON_MAX_INT;
    int64_t high = max < MP_JSON_MAX_INT ? max : MP_JSON_MAX_INT;
    double v = value->valuedouble;
    if (!cJSON_IsNumber(value) || v < (double)low || v > (double)high || v != floor(v)) {
        char what[80];
        snprintf(what, sizeof what, "an integer from %lld to %lld", (long long)low,
                 (long long)high);
        return fail_type(doc, value, what, err);
    }
    *out = (int64_t)v;
    return MP_OK;
}

int mp_json_as_number(const struct mp_json *doc, const cJSON *value, double min, double max,
                      double *out, struct mp_error *err)
{
    double v = value->valuedouble;
    if (!cJSON_IsNumber(value) || v < min || v > max) {
        char what[80];
        snprintf(what, sizeof what, "a number from %g to %g", min, max);
        return fail_type(doc, value, isinf(min) && isinf(max) ? "a number" : what, err);
    }
    *out = v;
    return MP_OK;
}

int mp_json_as_bool(const struct mp_json *doc, const cJSON *value, bool *out, struct mp_error *err)
{
    if (!cJSON_IsBool(value)) {
        return fail_type(doc, value, "true or false", err);
    }
    *out = cJSON_IsTrue(value);
    return MP_OK;
}

int mp_json_as_string(const struct mp_json *doc, const cJSON *value, const char **out,
                      struct mp_error *err)
{
    if (!cJSON_IsString(value)) {
        return fail_type(doc, value, "a string", err);
    }
    *out = value->valuestring;
    return MP_OK;
}

int mp_json_expect(const struct mp_json *doc, const cJSON *value, enum mp_json_kind kind,
                   struct mp_error *err)
{
    if (mp_json_kind(value) != kind) {
        return fail_type(doc, value, kind == MP_JSON_ARRAY ? "an array" : "an object", err);
    }
    return MP_OK;
}
