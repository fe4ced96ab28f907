#include "core/base/memory.h"
#include "core/json/json.h"

#include <stdio.h>
#include <string.h>

/* Longest escape of one byte: \u0000. */
enum { MAX_ESCAPE = 6 };

/* Writes byte c escaped if JSON asks for it; returns the characters written. */
static size_t put_byte(char *to, unsigned char c)
{
    static const char named[] = "\"\\\b\f\n\r\t";
    static const char letters[] = "\"\\bfnrt";
    const char *found = c != '\0' ? strchr(named, c) : NULL;
    if (found != NULL) {
        to[0] = '\\';
        to[1] = letters[found - named];
        return 2;
    }
    if (c < 0x20) {
        return (size_t)snprintf(to, MAX_ESCAPE + 1, "\\u%04x", c);
    }
    to[0] = (char)c;
    return 1;
}

char *mp_json_quote(const char *text, size_t length)
{
    char *quoted = mp_xmalloc(length * MAX_ESCAPE + 3);
    size_t used = 0;
    quoted[used++] = '"';
    for (size_t i = 0; i < length; i++) {
        used += put_byte(quoted + used, (unsigned char)text[i]);
    }
    quoted[used++] = '"';
    quoted[used] = '\0';
    return quoted;
}
