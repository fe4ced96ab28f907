#include "core/tokenizer/tokenizer_internal.h"

#include "core/base/memory.h"

#include <stdlib.h>
#include <string.h>

void mp_bytes_append(struct mp_bytes *b, const char *data, size_t length)
{
    if (length >= b->capacity - b->length) {
        size_t needed = b->length + length + 1;
        b->capacity = needed > 2 * b->capacity ? needed : 2 * b->capacity;
        b->data = mp_xrealloc(b->data, b->capacity, 1);
    }
    if (length > 0) {
        memcpy(b->data + b->length, data, length);
        b->length += length;
    }
    b->data[b->length] = '\0';
}

void mp_bytes_free(struct mp_bytes *b)
{
    free(b->data);
    *b = (struct mp_bytes){0};
}

size_t mp_utf8_length(char first)
{
    unsigned char c = (unsigned char)first;
    return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

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

/* Bytes that print are their own Latin-1 character; the other 68 are U+0100 and up, in order. */
static bool prints(int byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/* Bytes below byte that do not print; of the four ranges, the first is 0x00 to 0x20. */
static int not_printing_below(int byte)
{
    if (byte <= 0x20) {
        return byte;
    }
    return byte <= 0xa0 ? byte - 0x7f + 0x21 : 0x21 + 0x22;
}

void mp_byte_char_append(struct mp_bytes *b, unsigned char byte)
{
    int c = prints(byte) ? byte : 0x100 + not_printing_below(byte);
    if (c < 0x80) {
        mp_bytes_append(b, &(char){(char)c}, 1);
    } else {
        char utf8[2] = {(char)(0xc0 | (c >> 6)), (char)(0x80 | (c & 0x3f))};
        mp_bytes_append(b, utf8, 2);
    }
}

int mp_byte_char_decode(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    if (p[0] < 0x80) {
        return prints(p[0]) ? p[0] : -1;
    }
    int c = mp_utf8_length(text[0]) == 2 ? ((p[0] & 0x1f) << 6) | (p[1] & 0x3f) : -1;
    if (c < 0x100) {
        return c >= 0 && prints(c) ? c : -1;
    }
    int i = c - 0x100;
    return i <= 0x20 ? i : i <= 0x42 ? i - 0x21 + 0x7f : i == 0x43 ? 0xad : -1;
}
