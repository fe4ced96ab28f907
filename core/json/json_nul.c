/* NULs in strings. cJSON has none: on the way in each escape becomes MP_JSON_NUL, two bytes that
 * valid UTF-8 never contains, and mp_json_string_bytes turns them back. */
#include "core/base/memory.h"
#include "core/json/json_scan.h"

#include <string.h>

static const char escape[] = "\\u0000";
enum { ESCAPE_LENGTH = sizeof escape - 1, NUL_LENGTH = sizeof MP_JSON_NUL - 1 };

char *mp_json_replace_nul_escapes(const char *text, size_t *length)
{
    char *copy = mp_xmalloc(*length);
    size_t used = 0;
    for (size_t at = 0; at < *length;) {
        size_t rest = *length - at;
        if (rest >= ESCAPE_LENGTH && memcmp(text + at, escape, ESCAPE_LENGTH) == 0) {
            memcpy(copy + used, MP_JSON_NUL, NUL_LENGTH);
            used += NUL_LENGTH;
            at += ESCAPE_LENGTH;
        } else {
            /* An escape as a whole: in "\\u0000" the second backslash starts none. */
            size_t n = text[at] == '\\' && rest > 1 ? 2 : 1;
            memcpy(copy + used, text + at, n);
            used += n;
            at += n;
        }
    }
    *length = used;
    return copy;
}

char *mp_json_string_bytes(const char *string, size_t *length)
{
    size_t rest = strlen(string);
    char *bytes = mp_xmalloc(rest + 1);
    size_t used = 0;
    const char *nul;
    while ((nul = strstr(string, MP_JSON_NUL)) != NULL) {
        size_t before = (size_t)(nul - string);
        memcpy(bytes + used, string, before);
        used += before;
        bytes[used++] = '\0';
        string = nul + NUL_LENGTH;
        rest -= before + NUL_LENGTH;
    }
    memcpy(bytes + used, string, rest + 1);
    *length = used + rest;
    return bytes;
}
