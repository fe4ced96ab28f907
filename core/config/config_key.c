#include "core/config/config_key.h"

#include "core/base/memory.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(int) == sizeof(int32_t), "lists of int and of int32_t are stored alike");

void config_key_describe(const struct config_key *key, char *out, size_t size)
{
    switch (key->type) {
    case CONFIG_INT:
    case CONFIG_INT64:
    case CONFIG_SEED:
        snprintf(out, size, "an integer from %.0f to %.0f", key->min, key->max);
        break;
    case CONFIG_FLOAT:
        snprintf(out, size, "a number from %g to %g", key->min, key->max);
        break;
    case CONFIG_BOOL:
        snprintf(out, size, "0, 1, true or false");
        break;
    case CONFIG_STRING:
        snprintf(out, size, "a string that is not empty");
        break;
    case CONFIG_CHOICE:
    case CONFIG_ENUM:
        snprintf(out, size, "one of %s", key->choices);
        break;
    case CONFIG_LIST:
        snprintf(out, size, "integers from %.0f to %.0f with commas between them, \"none\"%s%s",
                 key->min, key->max, key->unset != NULL ? " or " : "",
                 key->unset != NULL ? key->unset : "");
        break;
    case CONFIG_BYTES:
        snprintf(out, size, "bytes, or a size such as 8GiB or 512MiB");
        break;
    }
}

/* ---- storing ---- */

static void *field(const struct config_key *key, struct mp_config *c)
{
    return (char *)c + key->offset;
}

static void store_integer(const struct config_key *key, struct mp_config *c, int64_t value)
{
    switch (key->type) {
    case CONFIG_INT:
    case CONFIG_ENUM:
        *(int *)field(key, c) = (int)value;
        break;
    case CONFIG_SEED:
        *(uint64_t *)field(key, c) = (uint64_t)value;
        break;
    case CONFIG_BOOL:
        *(bool *)field(key, c) = value != 0;
        break;
    default:
        *(int64_t *)field(key, c) = value;
        break;
    }
}

static void store_list(const struct config_key *key, struct mp_config *c, int *list, int count)
{
    int **data = field(key, c);
    free(*data);
    *data = list;
    *(int *)((char *)c + key->count_offset) = count;
}

/* Index of word in "a|b|c", or -1. */
static int choice_index(const char *choices, const char *word)
{
    size_t n = strlen(word);
    int index = 0;
    for (const char *p = choices;; index++) {
        size_t length = strcspn(p, "|");
        if (n == length && strncmp(p, word, n) == 0) {
            return index;
        }
        if (p[length] == '\0') {
            return -1;
        }
        p += length + 1;
    }
}

static bool store_string(const struct config_key *key, struct mp_config *c, const char *text)
{
    int index = key->choices == NULL ? 0 : choice_index(key->choices, text);
    if (text[0] == '\0' || index < 0) {
        return false;
    }
    if (key->type == CONFIG_ENUM) {
        store_integer(key, c, index);
        return true;
    }
    char **string = field(key, c);
    free(*string);
    *string = mp_xstrdup(text);
    return true;
}

void config_key_free(const struct config_key *key, struct mp_config *c)
{
    if (key->type == CONFIG_STRING || key->type == CONFIG_CHOICE || key->type == CONFIG_LIST) {
        void **data = field(key, c);
        free(*data);
        *data = NULL;
    }
}

/* ---- from text ---- */

static bool parse_integer(const struct config_key *key, const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (isspace((unsigned char)text[0]) || end == text || *end != '\0' || errno != 0 ||
        (double)value < key->min || (double)value > key->max) {
        return false;
    }
    *out = value;
    return true;
}

static bool parse_float(const struct config_key *key, const char *text, float *out)
{
    char *end;
    double value = strtod(text, &end);
    if (isspace((unsigned char)text[0]) || end == text || *end != '\0' || isnan(value) ||
        value < key->min || value > key->max) {
        return false;
    }
    *out = (float)value;
    return true;
}

static bool parse_bool(const char *text, int64_t *out)
{
    *out = strcmp(text, "1") == 0 || strcmp(text, "true") == 0;
    return *out != 0 || strcmp(text, "0") == 0 || strcmp(text, "false") == 0;
}

/* "123", "512MiB", "7.5GiB" */
static bool parse_bytes(const struct config_key *key, const char *text, int64_t *out)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t digits = strspn(text, "0123456789.");
    char *end;
    double value = strtod(text, &end);
    if (key->min < 0.0 && strcmp(text, "-1") == 0) {
        *out = -1;
        return true;
    }
    if (digits == 0 || end != text + digits) {
        return false;
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(end, units[i]) == 0) {
            double bytes = ldexp(value, 10 * (int)i);
            *out = bytes <= key->max ? (int64_t)bytes : 0;
            return bytes <= key->max;
        }
    }
    return false;
}

/* Any of the types that are kept as a whole number. */
static bool parse_whole(const struct config_key *key, const char *text, int64_t *out)
{
    switch (key->type) {
    case CONFIG_BOOL:
        return parse_bool(text, out);
    case CONFIG_BYTES:
        return parse_bytes(key, text, out);
    default:
        return parse_integer(key, text, out);
    }
}

/* "0,16", "none", or the key's word for "not given" */
static bool store_list_text(const struct config_key *key, struct mp_config *c, const char *text)
{
    if (strcmp(text, "none") == 0 || (key->unset != NULL && strcmp(text, key->unset) == 0)) {
        store_list(key, c, NULL, strcmp(text, "none") == 0 ? 0 : -1);
        return true;
    }
    int *list = mp_xcalloc(strlen(text) + 1, sizeof *list);
    int count = 0;
    bool good = true;
    for (const char *p = text; good;) {
        size_t length = strcspn(p, ",");
        char *item = mp_xstrndup(p, length);
        int64_t value = 0;
        good = parse_integer(key, item, &value);
        free(item);
        list[count++] = (int)value;
        if (p[length] == '\0') {
            break;
        }
        p += length + 1;
    }
    if (good) {
        store_list(key, c, list, count);
    } else {
        free(list);
    }
    return good;
}

int config_key_set_text(const struct config_key *key, struct mp_config *c, const char *text,
                        struct mp_error *err)
{
    bool good = false;
    int64_t whole = 0;
    switch (key->type) {
    case CONFIG_FLOAT:
        good = parse_float(key, text, field(key, c));
        break;
    case CONFIG_STRING:
    case CONFIG_CHOICE:
    case CONFIG_ENUM:
        good = store_string(key, c, text);
        break;
    case CONFIG_LIST:
        good = store_list_text(key, c, text);
        break;
    default:
        good = parse_whole(key, text, &whole);
        if (good) {
            store_integer(key, c, whole);
        }
        break;
    }
    if (!good) {
        char what[160];
        config_key_describe(key, what, sizeof what);
        return mp_fail(err, MP_ERR_USAGE, "expected %s, found \"%.200s\"", what, text);
    }
    return MP_OK;
}

/* ---- from JSON ---- */

static int set_integer_json(const struct config_key *key, struct mp_config *c,
                            const struct mp_json *doc, const struct cJSON *value,
                            struct mp_error *err)
{
    int64_t integer;
    int rc = mp_json_as_int(doc, value, (int64_t)key->min, (int64_t)key->max, &integer, err);
    if (rc == MP_OK) {
        store_integer(key, c, integer);
    }
    return rc;
}

static int set_string_json(const struct config_key *key, struct mp_config *c,
                           const struct mp_json *doc, const struct cJSON *value,
                           struct mp_error *err)
{
    const char *text;
    int rc = mp_json_as_string(doc, value, &text, err);
    if (rc != MP_OK) {
        return rc;
    }
    int64_t bytes = 0;
    bool good =
        key->type == CONFIG_BYTES ? parse_bytes(key, text, &bytes) : store_string(key, c, text);
    if (!good) {
        char what[160];
        config_key_describe(key, what, sizeof what);
        return mp_json_fail(doc, value, err, "expected %s, found \"%.200s\"", what, text);
    }
    if (key->type == CONFIG_BYTES) {
        store_integer(key, c, bytes);
    }
    return MP_OK;
}

static int set_list_json(const struct config_key *key, struct mp_config *c,
                         const struct mp_json *doc, const struct cJSON *value, struct mp_error *err)
{
    bool single = mp_json_kind(value) == MP_JSON_NUMBER;
    int rc = single ? MP_OK : mp_json_expect(doc, value, MP_JSON_ARRAY, err);
    if (rc != MP_OK) {
        return rc;
    }
    size_t count = single ? 1 : mp_json_count(value);
    const struct cJSON *item = single ? value : mp_json_first(value);
    int *list = mp_xcalloc(count, sizeof *list);
    for (size_t i = 0; i < count && rc == MP_OK; i++, item = mp_json_after(item)) {
        int64_t integer = 0;
        rc = mp_json_as_int(doc, item, (int64_t)key->min, (int64_t)key->max, &integer, err);
        list[i] = (int)integer;
    }
    if (rc == MP_OK) {
        store_list(key, c, list, (int)count);
    } else {
        free(list);
    }
    return rc;
}

int config_key_set_json(const struct config_key *key, struct mp_config *c,
                        const struct mp_json *doc, const struct cJSON *value, struct mp_error *err)
{
    enum mp_json_kind kind = mp_json_kind(value);
    double number = 0.0;
    int rc = MP_OK;
    switch (key->type) {
    case CONFIG_INT:
    case CONFIG_INT64:
    case CONFIG_SEED:
        return set_integer_json(key, c, doc, value, err);
    case CONFIG_BYTES:
        return kind == MP_JSON_STRING ? set_string_json(key, c, doc, value, err)
                                      : set_integer_json(key, c, doc, value, err);
    case CONFIG_BOOL:
        return kind == MP_JSON_BOOL ? mp_json_as_bool(doc, value, field(key, c), err)
                                    : set_integer_json(key, c, doc, value, err);
    case CONFIG_FLOAT:
        rc = mp_json_as_number(doc, value, key->min, key->max, &number, err);
        if (rc == MP_OK) {
            *(float *)field(key, c) = (float)number;
        }
        return rc;
    case CONFIG_LIST:
        return set_list_json(key, c, doc, value, err);
    default:
        return set_string_json(key, c, doc, value, err);
    }
}

/* ---- to JSON ---- */

void config_key_copy(const struct config_key *key, struct mp_config *to,
                     const struct mp_config *from)
{
    const char *at = (const char *)from + key->offset;
    switch (key->type) {
    case CONFIG_INT:
    case CONFIG_ENUM:
        *(int *)field(key, to) = *(const int *)(const void *)at;
        break;
    case CONFIG_INT64:
    case CONFIG_SEED:
    case CONFIG_BYTES:
        *(int64_t *)field(key, to) = *(const int64_t *)(const void *)at;
        break;
    case CONFIG_FLOAT:
        *(float *)field(key, to) = *(const float *)(const void *)at;
        break;
    case CONFIG_BOOL:
        *(bool *)field(key, to) = *(const bool *)(const void *)at;
        break;
    case CONFIG_STRING:
    case CONFIG_CHOICE: {
        const char *text = *(char *const *)(const void *)at;
        config_key_free(key, to);
        *(char **)field(key, to) = text == NULL ? NULL : mp_xstrdup(text);
        break;
    }
    case CONFIG_LIST: {
        int count = *(const int *)(const void *)((const char *)from + key->count_offset);
        int *list = count > 0 ? mp_xcalloc((size_t)count, sizeof *list) : NULL;
        if (count > 0) {
            memcpy(list, *(int *const *)(const void *)at, (size_t)count * sizeof *list);
        }
        store_list(key, to, list, count);
        break;
    }
    }
}

/* Word number `index` of "a|b|c". */
static cJSON *choice_json(const char *choices, int index)
{
    for (; index > 0; index--) {
        choices += strcspn(choices, "|") + 1;
    }
    char *word = mp_xstrndup(choices, strcspn(choices, "|"));
    cJSON *value = cJSON_CreateString(word);
    free(word);
    return value;
}

/* cJSON's own numbers are printed with 15 digits: too few for a seed. */
static cJSON *whole_json(int64_t number)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)number);
    return cJSON_CreateRaw(text);
}

/* The shortest number that is read as this float: 0.9, not 0.89999998. */
static cJSON *float_json(float number)
{
    char text[32];
    int digits = 6;
    do {
        snprintf(text, sizeof text, "%.*g", digits, (double)number);
    } while (strtof(text, NULL) != number && ++digits <= 9);
    return cJSON_CreateNumber(strtod(text, NULL));
}

cJSON *config_key_json(const struct config_key *key, const struct mp_config *c)
{
    const char *base = (const char *)c;
    const void *at = base + key->offset;
    switch (key->type) {
    case CONFIG_INT:
        return whole_json(*(const int *)at);
    case CONFIG_INT64:
    case CONFIG_BYTES:
        return whole_json(*(const int64_t *)at);
    case CONFIG_SEED:
        return whole_json((int64_t) * (const uint64_t *)at);
    case CONFIG_FLOAT:
        return float_json(*(const float *)at);
    case CONFIG_BOOL:
        return whole_json(*(const bool *)at);
    case CONFIG_ENUM:
        return choice_json(key->choices, *(const int *)at);
    case CONFIG_STRING:
    case CONFIG_CHOICE: {
        const char *text = *(char *const *)at;
        return text == NULL ? cJSON_CreateNull() : cJSON_CreateString(text);
    }
    case CONFIG_LIST: {
        int count = *(const int *)(const void *)(base + key->count_offset);
        return count < 0    ? cJSON_CreateNull()
               : count == 0 ? cJSON_CreateArray()
                            : cJSON_CreateIntArray(*(int *const *)at, count);
    }
    }
    return NULL;
}
