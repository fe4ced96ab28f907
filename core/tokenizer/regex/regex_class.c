/* Escapes and classes: sets of characters. */
#include "core/tokenizer/regex/regex.h"

#include <string.h>

/* ---- case ---- */

bool mp_regex_add_cases(struct mp_chars *set)
{
    mp_chars_settle(set);
    if (set->count > 0 && set->ranges[set->count - 1].last >= 0x80) {
        return false;
    }
    struct mp_chars others = {0};
    for (uint32_t c = 'a'; c <= 'z'; c++) {
        uint32_t upper = c - 'a' + 'A';
        if (mp_chars_has(set, c) || mp_chars_has(set, upper)) {
            mp_chars_add(&others, c, c);
            mp_chars_add(&others, upper, upper);
            if (c == 's' || c == 'k') { /* the long s, the Kelvin sign */
                uint32_t third = c == 's' ? 0x17f : 0x212a;
                mp_chars_add(&others, third, third);
            }
        }
    }
    mp_chars_add_set(set, &others);
    mp_chars_free(&others);
    return true;
}

/* ---- escapes ---- */

/* \p{Lu}, \p{^Lu}, \P{Lu}: categories, and the script Han. After the letter. */
static bool property(struct mp_regex *r, size_t start, struct mp_chars *set, bool negated)
{
    if (!mp_regex_take(r, "{")) {
        return mp_regex_fail(r, start, "expected {NAME} after \\p");
    }
    negated = mp_regex_take(r, "^") != negated;
    const char *name = r->text + r->at;
    const char *end = memchr(name, '}', r->length - r->at);
    if (end == NULL) {
        return mp_regex_fail(r, start, "\\p{ without its \"}\"");
    }
    size_t length = (size_t)(end - name);
    r->at += length + 1;
    if (length == 3 && memcmp(name, "Han", 3) == 0) {
        mp_chars_add_table(set, &mp_unicode_han);
    } else if (!mp_chars_add_category(set, name, length)) {
        return mp_regex_fail(r, start,
                             "\\p{%.*s} is not supported (Han and one- or two-letter categories "
                             "such as L and Lu are)",
                             length < 40 ? (int)length : 40, name);
    }
    if (negated) {
        mp_chars_complement(set);
    }
    return true;
}

/* Up to max hexadecimal digits; false if there is none, or the character does not exist. */
static bool hexadecimal(struct mp_regex *r, int max, uint32_t *out)
{
    *out = 0;
    int digits = 0;
    for (; digits < max && !mp_regex_at_end(r); digits++, r->at++) {
        static const char values[] = "0123456789abcdef";
        char c = r->text[r->at];
        const char *digit = c == '\0' ? NULL : strchr(values, c >= 'A' && c <= 'F' ? c + 32 : c);
        if (digit == NULL) {
            break;
        }
        *out = 16 * *out + (uint32_t)(digit - values);
    }
    return digits > 0 && *out <= MP_LAST_CHAR && (*out < 0xd800 || *out > 0xdfff);
}

/* \xHH below 80 (above, it is a byte in Oniguruma), \x{H...}, \uHHHH. After the letter. */
static bool code_point(struct mp_regex *r, size_t start, char letter, struct mp_chars *set)
{
    uint32_t c;
    size_t first = r->at;
    bool ok;
    if (letter == 'u') {
        ok = hexadecimal(r, 4, &c) && r->at == first + 4;
    } else if (mp_regex_take(r, "{")) {
        ok = hexadecimal(r, 6, &c) && mp_regex_take(r, "}");
    } else {
        ok = hexadecimal(r, 2, &c) && r->at == first + 2 && c < 0x80;
    }
    mp_chars_add(set, c, c);
    return ok || mp_regex_fail(r, start, "expected \\xHH below 80, \\x{H...} or \\uHHHH");
}

/* The sets \d, \h, \s and \w, and their complements in capitals; false for other letters. */
static bool add_named_set(char letter, struct mp_chars *set)
{
    switch (letter | 32) {
    case 'd':
        mp_chars_add_category(set, "Nd", 2);
        break;
    case 'h':
        mp_chars_add(set, '0', '9');
        mp_chars_add(set, 'A', 'F');
        mp_chars_add(set, 'a', 'f');
        break;
    case 's':
        mp_chars_add_spaces(set);
        break;
    case 'w':
        mp_chars_add_words(set);
        break;
    default:
        return false;
    }
    if (letter >= 'A' && letter <= 'Z') {
        mp_chars_complement(set);
    }
    return true;
}

static bool is_letter_or_digit(uint32_t c)
{
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z' && c < 0x80);
}

bool mp_regex_escape(struct mp_regex *r, struct mp_chars *set, bool *single)
{
    size_t start = r->at - 1;
    *single = false;
    if (mp_regex_at_end(r)) {
        return mp_regex_fail(r, start, "a \"\\\" at the end");
    }
    uint32_t c = mp_regex_char(r);
    if (c == 'p' || c == 'P') {
        return property(r, start, set, c == 'P');
    }
    if (is_letter_or_digit(c) && add_named_set((char)c, set)) {
        return true;
    }
    *single = true;
    if (c == 'x' || c == 'u') {
        return code_point(r, start, (char)c, set);
    }
    static const char letters[] = "aefnrtv";
    static const char meanings[] = "\a\033\f\n\r\t\v";
    const char *letter = c < 0x80 && c != '\0' ? strchr(letters, (int)c) : NULL;
    if (letter != NULL) {
        c = (uint32_t)meanings[letter - letters];
    } else if (is_letter_or_digit(c)) {
        return mp_regex_fail(r, start, "\"\\%c\" is not supported", (char)c);
    }
    mp_chars_add(set, c, c);
    return true;
}

/* ---- classes ---- */

/* A character, a range of them, a set or a class inside the class. */
static bool class_item(struct mp_regex *r, struct mp_chars *set)
{
    size_t start = r->at;
    if (mp_regex_take(r, "[")) {
        if (!mp_regex_at_end(r) && r->text[r->at] == ':') {
            return mp_regex_fail(r, start,
                                 "classes by name ([:alpha:] and the like) are not "
                                 "supported");
        }
        if (r->caseless) {
            return mp_regex_fail(r, start,
                                 "a class inside a class inside (?i:...) is not supported");
        }
        return mp_regex_class(r, set);
    }
    struct mp_chars item = {0};
    bool single = true;
    bool ok = true;
    if (mp_regex_take(r, "\\")) {
        ok = mp_regex_escape(r, &item, &single);
    } else {
        uint32_t c = mp_regex_char(r);
        mp_chars_add(&item, c, c);
    }
    if (ok && r->length - r->at >= 2 && r->text[r->at] == '-' && r->text[r->at + 1] != ']') {
        r->at++;
        if (r->length - r->at >= 2 && memcmp(r->text + r->at, "&&", 2) == 0) {
            mp_chars_free(&item);
            return mp_regex_fail(r, r->at - 1, "expected \\- for \"-\" before \"&&\"");
        }
        uint32_t first = item.ranges[0].first;
        bool last_single = r->text[r->at] != '[';
        item.count = 0;
        if (mp_regex_take(r, "\\")) {
            ok = mp_regex_escape(r, &item, &last_single);
        } else {
            uint32_t c = mp_regex_char(r);
            mp_chars_add(&item, c, c);
        }
        if (ok && (!single || !last_single || item.ranges[0].last < first)) {
            ok = mp_regex_fail(r, start, "expected a range of two characters in order");
        }
        if (ok) {
            item.ranges[0].first = first;
        }
    }
    mp_chars_add_set(set, &item);
    mp_chars_free(&item);
    return ok;
}

/* What is between "[", "&&" and "]": the union of items. */
static bool class_part(struct mp_regex *r, size_t start, struct mp_chars *set)
{
    size_t first = r->at;
    while (!mp_regex_at_end(r) && r->text[r->at] != ']') {
        if (r->length - r->at >= 2 && memcmp(r->text + r->at, "&&", 2) == 0) {
            break;
        }
        /* '-' is a character of its own only at the ends of the class. */
        bool at_start = r->at == first;
        if (r->text[r->at] == '-' && !(r->at + 1 < r->length && r->text[r->at + 1] == ']') &&
            !(at_start && r->at + 1 < r->length && r->text[r->at + 1] != '-')) {
            return mp_regex_fail(r, r->at, "expected \\- for \"-\" inside a class");
        }
        if (!class_item(r, set)) {
            return false;
        }
    }
    if (mp_regex_at_end(r)) {
        return mp_regex_fail(r, start, "a class without its \"]\"");
    }
    return r->at > first ||
           mp_regex_fail(r, r->at, "expected a character of a class, found \"%c\"", r->text[r->at]);
}

bool mp_regex_class(struct mp_regex *r, struct mp_chars *set)
{
    size_t start = r->at - 1;
    bool negated = mp_regex_take(r, "^");
    struct mp_chars all = {0};
    bool ok = mp_regex_enter(r) && class_part(r, start, &all);
    while (ok && mp_regex_take(r, "&&")) {
        struct mp_chars part = {0};
        ok = class_part(r, start, &part);
        if (ok && r->caseless) {
            ok = mp_regex_fail(r, start, "\"&&\" inside (?i:...) is not supported");
        }
        mp_chars_intersect(&all, &part);
        mp_chars_free(&part);
    }
    ok = ok && mp_regex_take(r, "]");
    if (ok && r->caseless && !mp_regex_add_cases(&all)) {
        ok = mp_regex_fail(r, start, "a class of more than ASCII inside (?i:...) is not supported");
    }
    if (negated) {
        mp_chars_complement(&all);
    }
    mp_chars_add_set(set, &all);
    mp_chars_free(&all);
    r->depth--;
    return ok;
}
