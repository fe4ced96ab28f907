/* Regular expressions of tokenizer.json are written for Oniguruma, in Ruby's syntax. They become
 * patterns of PCRE2 that match the same, with two means. Every set of characters (\s, \p{L},
 * [^\w-z], ...) is worked out by Unicode 16, so that neither library's idea of \s, \w or \h counts,
 * nor its Unicode version: what PCRE2 gets is a pattern, and a text, of kinds of characters, a byte
 * each. And only constructs that are known here pass: what else a pattern has is refused by name,
 * not left to a meaning that PCRE2 may give it. */
#ifndef MP_CORE_TOKENIZER_REGEX_H
#define MP_CORE_TOKENIZER_REGEX_H

#include "core/tokenizer/regex/kinds.h"
#include "core/tokenizer/tokenizer_internal.h"
#include "core/tokenizer/unicode/unicode.h"

/* Appends to out the PCRE2 pattern (without PCRE2_UTF) that matches in the kinds of a text's
 * characters, *kinds, where text[0..length), valid UTF-8, matches there. false: why[0..size) says
 * what is not supported or wrong, and at which byte of text. */
bool mp_regex_translate(const char *text, size_t length, struct mp_bytes *out,
                        struct mp_kinds **kinds, char *why, size_t size);

/* ---- private to this folder ---- */

struct mp_regex {
    const char *text; /* [length] */
    size_t length;
    size_t at;             /* the next byte to read */
    bool caseless;         /* inside (?i:...) */
    int depth;             /* of groups and classes around what is read */
    char before;           /* the lower-case letter read just before, inside (?i:...); or 0 */
    bool empty;            /* whether what was read last can match nothing */
    struct mp_bytes out;   /* the pattern, with "#n#" for sets[n] */
    struct mp_chars *sets; /* [set_count], settled, each once */
    size_t set_count;
    bool too_many_sets; /* one at least was left out */
    char *why;          /* [why_size] */
    size_t why_size;
};

static inline bool mp_regex_at_end(const struct mp_regex *r)
{
    return r->at == r->length;
}
/* Writes why, with the offset `at`; always false. */
bool mp_regex_fail(struct mp_regex *r, size_t at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Whether the next bytes are `what`, which is then read. */
bool mp_regex_take(struct mp_regex *r, const char *what);
/* Reads a character; there is one. */
uint32_t mp_regex_char(struct mp_regex *r);
/* Goes into a group or class (depth++); false if there are too many around it. */
bool mp_regex_enter(struct mp_regex *r);

/* ---- regex_write.c ---- */

/* Appends what means the same to PCRE2. */
void mp_regex_write(struct mp_regex *r, const char *text);
/* Appends a set of characters, which it takes over. */
void mp_regex_write_set(struct mp_regex *r, struct mp_chars *set);
void mp_regex_write_char(struct mp_regex *r, uint32_t c);
/* At the end: appends the pattern, with its sets written out, to out. false: why. */
bool mp_regex_finish(struct mp_regex *r, struct mp_bytes *out, struct mp_kinds **kinds);

/* ---- regex_class.c ---- */

/* Reads what follows a backslash: adds to set what it stands for; *single: one character. */
bool mp_regex_escape(struct mp_regex *r, struct mp_chars *set, bool *single);
/* Reads a class after its '[', up to its ']' and adds to set what it stands for. */
bool mp_regex_class(struct mp_regex *r, struct mp_chars *set);
/* Adds the other case of what set, all ASCII, has. false: it has more than ASCII. */
bool mp_regex_add_cases(struct mp_chars *set);

#endif
