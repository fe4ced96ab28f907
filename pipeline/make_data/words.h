/* Growing lists of strings, and sets of strings that have been drawn. */
#ifndef MP_PIPELINE_MAKE_DATA_WORDS_H
#define MP_PIPELINE_MAKE_DATA_WORDS_H

#include "core/json/strmap.h"

#include <stdbool.h>
#include <stddef.h>

/* Start from {0}. */
struct mp_words {
    char **items; /* [count] the list's own, NUL-terminated */
    size_t count;
    size_t capacity;
    struct mp_strmap seen; /* of mp_words_place alone */
};

/* Appends a copy of text[0 .. length). */
void mp_words_add(struct mp_words *w, const char *text, size_t length);

/* Index of text in a list that is filled by these two functions alone: it is appended unless it is
 * there already. */
size_t mp_words_place(struct mp_words *w, const char *text);
/* The same; whether it was appended. */
bool mp_words_add_new(struct mp_words *w, const char *text);

void mp_words_free(struct mp_words *w);

#endif
