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
