/* Characters: their categories by Unicode 16, whatever the libraries of a machine know, and sets of
 * them. Private to core/tokenizer. The tables are written by scripts/make-unicode-tables.mjs. */
#ifndef MP_CORE_TOKENIZER_UNICODE_H
#define MP_CORE_TOKENIZER_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MP_LAST_CHAR = 0x10ffff };

/* ---- tables (tables.c) ---- */

/* General categories. Those of one group (letters, marks, ...) follow each other. */
enum mp_category {
    MP_LU,
    MP_LL,
    MP_LT,
    MP_LM,
    MP_LO,
    MP_MN,
    MP_MC,
    MP_ME,
    MP_ND,
    MP_NL,
    MP_NO,
    MP_PC,
    MP_PD,
    MP_PS,
    MP_PE,
    MP_PI,
    MP_PF,
    MP_PO,
    MP_SM,
    MP_SC,
    MP_SK,
    MP_SO,
    MP_ZS,
    MP_ZL,
    MP_ZP,
    MP_CC,
    MP_CF,
    MP_CS,
    MP_CO,
    MP_CN,
};

struct mp_char_range {
    uint32_t first;
    uint32_t last; /* included */
};
/* Ranges in order, without overlap. */
struct mp_char_table {
    const struct mp_char_range *ranges; /* [count] */
    size_t count;
};

/* Where each run of characters of one category starts: code point << 8 | category. */
extern const uint32_t mp_unicode_runs[];
extern const size_t mp_unicode_run_count;

extern const struct mp_char_table mp_unicode_han;                /* the script */
extern const struct mp_char_table mp_unicode_alphabetic_symbols; /* such as circled letters */
extern const struct mp_char_table mp_unicode_assigned_9;         /* what Unicode 9 knows */

bool mp_char_in(const struct mp_char_table *table, uint32_t c);
enum mp_category mp_char_category(uint32_t c);
/* The property White_Space. */
bool mp_char_is_space(uint32_t c);
/* Alphabetic characters, marks, decimal digits and connectors such as '_'. */
bool mp_char_is_word(uint32_t c);

/* ---- sets (chars.c) ---- */

/* A set of characters. Start from {0}; free with mp_chars_free. */
struct mp_chars {
    struct mp_char_range *ranges; /* [count], in any order until mp_chars_settle */
    size_t count;
    size_t capacity;
};
void mp_chars_free(struct mp_chars *set);
void mp_chars_add(struct mp_chars *set, uint32_t first, uint32_t last);
void mp_chars_add_table(struct mp_chars *set, const struct mp_char_table *table);
void mp_chars_add_set(struct mp_chars *set, const struct mp_chars *other);
/* Adds a category by its name ("Lu"), or a group by its letter ("L"); false: there is none. */
bool mp_chars_add_category(struct mp_chars *set, const char *name, size_t length);
void mp_chars_add_spaces(struct mp_chars *set);
void mp_chars_add_words(struct mp_chars *set);
/* Puts the ranges in order and joins those that touch. */
void mp_chars_settle(struct mp_chars *set);
/* All other characters. The result is settled. */
void mp_chars_complement(struct mp_chars *set);
/* Leaves only what is in other too. The result is settled. */
void mp_chars_intersect(struct mp_chars *set, const struct mp_chars *other);
/* Whether c is in the set, which is settled. */
bool mp_chars_has(const struct mp_chars *set, uint32_t c);

#endif
