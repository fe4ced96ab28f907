/* Characters that a regular expression does not tell apart are of one kind. Where they are few, a
 * text is matched as the string of its characters' kinds, a byte each: as quick for one script as
 * for another. Private to core/tokenizer. */
#ifndef MP_CORE_TOKENIZER_KINDS_H
#define MP_CORE_TOKENIZER_KINDS_H

#include "core/tokenizer/unicode/unicode.h"

enum { MP_MOST_KINDS = 256 };

struct mp_kinds; /* opaque, immutable */

/* The kinds that sets[0..count), which are settled, tell apart; NULL: more than MP_MOST_KINDS. */
struct mp_kinds *mp_kinds_new(const struct mp_chars *sets, size_t count);
void mp_kinds_free(struct mp_kinds *k);

/* How many there are: they are numbered from 0. */
int mp_kinds_count(const struct mp_kinds *k);
/* A character of the kind. */
uint32_t mp_kinds_char(const struct mp_kinds *k, int kind);

/* The kinds of the characters of text[0..length), valid UTF-8: out[length] has room for them.
 * Returns how many there are. */
size_t mp_kinds_of(const struct mp_kinds *k, const char *text, size_t length, unsigned char *out);

#endif
