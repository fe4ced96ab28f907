#include "core/base/utf8.h"

#include <stdbool.h>
#include <string.h>

int mp_utf8_next(const char *text, size_t length)
{
    const unsigned char *p = (const unsigned char *)text;
    if (p[0] < 0x80) {
        return 1;
    }
    if (p[0] < 0xc2 || p[0] > 0xf4) {
        return -1;
    }
    /* The second byte of some characters has a narrower range: no overlong forms, no surrogates,
     * nothing above U+10FFFF. */
    unsigned char low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    int n = (int)mp_utf8_length(text[0]);
    for (int i = 1; i < n; i++) {
        if ((size_t)i == length) {
            return 0;
        }
        if (p[i] < low || p[i] > high) {
            return -i;
        }
        low = 0x80;
        high = 0xbf;
    }
    return n;
}

void mp_utf8_repair(char *text)
{
    size_t length = strlen(text);
    size_t out = 0;
    for (size_t at = 0; at < length;) {
        int n = mp_utf8_next(text + at, length - at);
        size_t step = n > 0 ? (size_t)n : n < 0 ? (size_t)-n : length - at;
        unsigned char first = (unsigned char)text[at];
        bool begins = first >= 0xc2 && first <= 0xf4;
        if (n > 0) {
            memmove(text + out, text + at, step);
            out += step;
        } else if (!begins) {
            text[out++] = '?';
        }
        at += step;
    }
    text[out] = '\0';
}
