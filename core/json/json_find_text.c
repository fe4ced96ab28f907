/* The text of a member: cJSON does not keep how numbers were written. */
#include "core/json/json.h"

#include <string.h>

/* Where the JSON value at `at` ends; it has been checked. */
static const char *value_end(const char *at, const char *end)
{
    int depth = 0;
    bool in_string = false;
    for (; at < end; at++) {
        if (in_string && *at == '\\') {
            at++;
        } else if (in_string) {
            in_string = *at != '"';
            if (!in_string && depth == 0) {
                return at + 1;
            }
        } else if (*at == '"') {
            in_string = true;
        } else if (*at == '{' || *at == '[') {
            depth++;
        } else if ((*at == '}' || *at == ']') && --depth <= 0) {
            return depth < 0 ? at : at + 1;
        } else if (depth == 0 && strchr(",: \t\r\n", *at) != NULL) {
            return at;
        }
    }
    return end;
}

static const char *skip(const char *at, const char *end, const char *what)
{
    while (at < end && *at != '\0' && strchr(what, *at) != NULL) {
        at++;
    }
    return at;
}

bool mp_json_find_text(const char *json, size_t length, const char *key, const char **out,
                       size_t *out_length)
{
    const char *end = json + length;
    size_t key_length = strlen(key);
    const char *at = skip(json, end, " \t\r\n{");
    while (at < end && *at == '"') {
        const char *name = at + 1;
        const char *name_end = value_end(at, end);
        const char *value = skip(name_end, end, " \t\r\n:");
        at = value_end(value, end);
        if ((size_t)(name_end - name) == key_length + 1 && memcmp(name, key, key_length) == 0) {
            *out = value;
            *out_length = (size_t)(at - value);
            return true;
        }
        at = skip(at, end, " \t\r\n,");
    }
    return false;
}
