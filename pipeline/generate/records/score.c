#include "pipeline/generate/records/score.h"

#include "core/base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* In lower case, code point by code point; what is no UTF-8 stays. */
static char *lower(const char *text, size_t length)
{
    char *out = mp_xmalloc(4 * length + 1); /* no code point has more bytes */
    size_t used = 0;
    for (size_t at = 0; at < length;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text + at,
                                              (utf8proc_ssize_t)(length - at), &c);
        if (n <= 0) {
            out[used++] = text[at++];
            continue;
        }
        used += (size_t)utf8proc_encode_char(utf8proc_tolower(c), (utf8proc_uint8_t *)out + used);
        at += (size_t)n;
    }
    out[used] = '\0';
    return out;
}

/* Control characters, NUL among them, as newlines. Whether there is anything else than white space.
 */
static bool clean(char *text, size_t length)
{
    bool some = false;
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)text[i] < 0x20) {
            text[i] = '\n';
        }
        some = some || (text[i] != '\n' && text[i] != ' ');
    }
    return some;
}

double mp_answer_score(const char *text, size_t length, char *const *expected, size_t count,
                       bool any)
{
    char *cleaned = mp_xmalloc(length + 1);
    memcpy(cleaned, text, length);
    size_t found = 0;
    if (clean(cleaned, length)) {
        char *answer = lower(cleaned, length);
        for (size_t i = 0; i < count; i++) {
            char *wanted = lower(expected[i], strlen(expected[i]));
            found += strstr(answer, wanted) != NULL;
            free(wanted);
        }
        free(answer);
    }
    free(cleaned);
    return any ? (found > 0 ? 1.0 : 0.0) : (double)found / (double)count;
}

bool mp_answer_any(const char *task)
{
    return task != NULL && strncmp(task, "qa", 2) == 0 && (task[2] == '\0' || task[2] == '_');
}
