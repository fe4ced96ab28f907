/* UTF-8: characters of a text, and texts that were cut. */
#ifndef MP_CORE_UTF8_H
#define MP_CORE_UTF8_H

#include <stddef.h>

/* Looks at the character at the start of text[0..length), length > 0. Its bytes if it is valid
 * UTF-8; 0 if the text ends before the character does; -n if the first n bytes can never become
 * one (n is as large as possible: each such part is one U+FFFD when decoding). */
int mp_utf8_next(const char *text, size_t length);

/* Bytes of the character that starts with this byte of valid UTF-8. */
static inline size_t mp_utf8_length(char first)
{
    unsigned char c = (unsigned char)first;
    return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

/* Makes a NUL-terminated text valid UTF-8, in place and never longer: the beginning of a character
 * without its end, which is what a cut leaves, goes; other bytes that are none become '?'. */
void mp_utf8_repair(char *text);

#endif
