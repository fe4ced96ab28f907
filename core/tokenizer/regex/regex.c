/* Groups, counts and anchors. */
#include "core/tokenizer/regex/regex.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { MAX_DEPTH = 100, MAX_COUNT = 65535 /* PCRE2's */ };

/* ---- reading ---- */

bool mp_regex_fail(struct mp_regex *r, size_t at, const char *format, ...)
{
    char what[192];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    snprintf(r->why, r->why_size, "regular expression, at byte %zu: %s", at, what);
    return false;
}

bool mp_regex_take(struct mp_regex *r, const char *what)
{
    size_t n = strlen(what);
    if (r->length - r->at < n || memcmp(r->text + r->at, what, n) != 0) {
        return false;
    }
    r->at += n;
    return true;
}

uint32_t mp_regex_char(struct mp_regex *r)
{
    int32_t c = 0;
    utf8proc_iterate((const utf8proc_uint8_t *)r->text + r->at,
                     (utf8proc_ssize_t)(r->length - r->at), &c);
    r->at += mp_utf8_length(r->text[r->at]);
    return (uint32_t)c;
}

bool mp_regex_enter(struct mp_regex *r)
{
    return ++r->depth <= MAX_DEPTH ||
           mp_regex_fail(r, r->at, "more than %d groups or classes inside each other", MAX_DEPTH);
}

/* ---- characters and sets ---- */

/* Inside (?i:...), Oniguruma takes some pairs of letters for one character too, such as ss for
 * U+00DF and fi for U+FB01. */
static bool is_folded_pair(char first, char second)
{
    static const char *const pairs[] = {"ff", "fi", "fl", "ss", "st"};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        if (first == pairs[i][0] && second == pairs[i][1]) {
            return true;
        }
    }
    return false;
}

static bool literal(struct mp_regex *r, size_t start, uint32_t c)
{
    if (!r->caseless) {
        mp_regex_write_char(r, c);
        return true;
    }
    struct mp_chars set = {0};
    mp_chars_add(&set, c, c);
    bool ascii = mp_regex_add_cases(&set);
    mp_regex_write_set(r, &set);
    if (!ascii) {
        return mp_regex_fail(r, start, "more than ASCII inside (?i:...) is not supported");
    }
    char letter = c >= 'A' && c <= 'Z' ? (char)(c + 'a' - 'A') : (char)c;
    if (is_folded_pair(r->before, letter)) {
        return mp_regex_fail(r, start, "\"%c%c\" inside (?i:...) is not supported", r->before,
                             letter);
    }
    r->before = letter;
    return true;
}

/* Outside of classes, \w has the superscripts and fractions of Latin-1 too: Oniguruma looks there
 * in another table. */
static void add_latin_numbers(struct mp_chars *word, char letter)
{
    static const struct mp_char_range numbers[] = {{0xb2, 0xb3}, {0xb9, 0xb9}, {0xbc, 0xbe}};
    if (letter == 'W') {
        mp_chars_complement(word);
    }
    if (letter == 'w' || letter == 'W') {
        mp_chars_add_table(word, &(struct mp_char_table){numbers, 3});
    }
    if (letter == 'W') {
        mp_chars_complement(word);
    }
}

static bool escape_or_class(struct mp_regex *r, size_t start, bool is_class)
{
    struct mp_chars set = {0};
    bool single = false;
    bool ok = is_class ? mp_regex_class(r, &set) : mp_regex_escape(r, &set, &single);
    if (ok && single) {
        ok = literal(r, start, set.ranges[0].first);
    } else if (ok) {
        r->before = 0;
        if (!is_class) {
            add_latin_numbers(&set, r->text[start + 1]);
        }
        if (r->caseless && !is_class) {
            ok = mp_regex_fail(r, start, "\"\\%c\" inside (?i:...) is not supported",
                               r->text[start + 1]);
        }
        mp_regex_write_set(r, &set);
    }
    mp_chars_free(&set);
    return ok;
}

/* ---- groups ---- */

/* Reads up to the ')' of the group around it, or to the end. */
static bool alternatives(struct mp_regex *r);

/* (?i) and (?-i): in Ruby's syntax they go as far as the group around them, alternatives included:
 * a(?i)b|c is a(?i:b|c). */
static bool rest_of_group(struct mp_regex *r, bool caseless)
{
    bool outside = r->caseless;
    r->caseless = caseless;
    mp_regex_write(r, "(?:");
    bool ok = mp_regex_enter(r) && alternatives(r);
    mp_regex_write(r, ")");
    r->depth--;
    r->caseless = outside;
    return ok;
}

static bool group_body(struct mp_regex *r, size_t start, bool caseless)
{
    bool outside = r->caseless;
    r->caseless = caseless;
    bool ok = mp_regex_enter(r) && alternatives(r);
    if (ok && !mp_regex_take(r, ")")) {
        ok = mp_regex_fail(r, start, "a group without its \")\"");
    }
    mp_regex_write(r, ")");
    r->depth--;
    r->caseless = outside;
    return ok;
}

/* After '('. *counts: a count may follow. */
static bool group(struct mp_regex *r, size_t start, bool *counts)
{
    static const char *const assertions[] = {"?=", "?!", "?<=", "?<!"};
    for (size_t i = 0; i < sizeof assertions / sizeof assertions[0]; i++) {
        if (mp_regex_take(r, assertions[i])) {
            *counts = false;
            mp_regex_write(r, "(");
            mp_regex_write(r, assertions[i]);
            bool ok = group_body(r, start, r->caseless);
            r->empty = true;
            return ok;
        }
    }
    if (mp_regex_take(r, "?i)") || mp_regex_take(r, "?-i)")) {
        *counts = false;
        return rest_of_group(r, r->text[r->at - 3] == '?');
    }
    bool caseless = r->caseless;
    if (mp_regex_take(r, "?>")) {
        mp_regex_write(r, "(?>");
        return group_body(r, start, caseless);
    }
    if (mp_regex_take(r, "?i:")) {
        caseless = true;
    } else if (mp_regex_take(r, "?-i:")) {
        caseless = false;
    } else if (!mp_regex_take(r, "?:") && !mp_regex_at_end(r) &&
               (r->text[r->at] == '?' || r->text[r->at] == '*')) {
        size_t left = r->length - r->at;
        return mp_regex_fail(r, start, "a group that starts with \"(%.*s\" is not supported",
                             left < 3 ? (int)left : 3, r->text + r->at);
    }
    mp_regex_write(r, "(?:"); /* nothing can refer to what a group matched */
    return group_body(r, start, caseless);
}

/* ---- counts ---- */

static bool number(struct mp_regex *r, long *out)
{
    size_t start = r->at;
    *out = 0;
    while (!mp_regex_at_end(r) && r->text[r->at] >= '0' && r->text[r->at] <= '9') {
        *out = *out > MAX_COUNT ? *out : 10 * *out + (r->text[r->at] - '0');
        r->at++;
    }
    return r->at > start;
}

/* {n}, {n,}, {n,m} or {,m}, which is {0,m}; *most: -1 for no limit. Nothing is read if there is
 * none: '{' is then an ordinary character. */
static bool interval(struct mp_regex *r, long *least, long *most)
{
    size_t start = r->at;
    if (mp_regex_take(r, "{")) {
        bool has_least = number(r, least);
        bool has_most = has_least;
        *most = *least;
        if (mp_regex_take(r, ",")) {
            has_most = number(r, most);
            *most = has_most ? *most : -1;
        }
        if ((has_least || has_most) && mp_regex_take(r, "}")) {
            return true;
        }
    }
    r->at = start;
    return false;
}

/* Encloses what was written from `start` on. */
static void enclose(struct mp_regex *r, size_t start)
{
    static const char open[] = "(?:";
    const size_t n = sizeof open - 1;
    mp_regex_write(r, "(?:)"); /* room for both ends */
    memmove(r->out.data + start + n, r->out.data + start, r->out.length - start - n - 1);
    memcpy(r->out.data + start, open, n);
}

/* What follows {n,m} is not a possessive mark as after *, but a count of its own: {n}? is
 * (?:{n})?, {n,m}+ is (?:{n,m})+. Only {n,m}? is lazy. */
static void write_interval(struct mp_regex *r, size_t out_start, long least, long most)
{
    char text[64];
    bool exact = least == most;
    if (exact) {
        snprintf(text, sizeof text, "{%ld}", least);
    } else if (most < 0) {
        snprintf(text, sizeof text, "{%ld,}", least);
    } else {
        snprintf(text, sizeof text, "{%ld,%ld}", least, most);
    }
    mp_regex_write(r, text);
    const char *after = mp_regex_take(r, "?") ? "?" : mp_regex_take(r, "+") ? "+" : "";
    if (after[0] == '+' || (after[0] == '?' && exact)) {
        enclose(r, out_start);
    }
    r->empty = r->empty || least == 0 || (after[0] == '?' && exact);
    mp_regex_write(r, after);
}

/* *, + or ?, alone or with a second mark that makes it lazy or possessive: both engines agree. */
static bool copy_mark(struct mp_regex *r)
{
    static const char *const marks[] = {"*?", "*+", "*", "+?", "++", "+", "??", "?+", "?"};
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        if (mp_regex_take(r, marks[i])) {
            mp_regex_write(r, marks[i]);
            return true;
        }
    }
    return false;
}

static bool starts_count(struct mp_regex *r)
{
    size_t at = r->at;
    long least;
    long most;
    bool found = interval(r, &least, &most) || mp_regex_take(r, "*") || mp_regex_take(r, "+") ||
                 mp_regex_take(r, "?");
    r->at = at;
    return found;
}

static bool count_interval(struct mp_regex *r, size_t out_start)
{
    size_t at = r->at;
    long least;
    long most;
    interval(r, &least, &most);
    if (least > MAX_COUNT || most > MAX_COUNT || (most >= 0 && least > most)) {
        return mp_regex_fail(r, at, "expected {n,m} with n <= m <= %d", MAX_COUNT);
    }
    if (r->empty && most != 0 && most != 1) {
        /* Oniguruma leaves the loop at the first time that matches nothing. */
        return mp_regex_fail(r, at, "{n,m} after what can match nothing is not supported");
    }
    write_interval(r, out_start, least, most);
    return true;
}

/* The count after an atom that was written from out_start on, if there is one. */
static bool count(struct mp_regex *r, size_t out_start, bool counts)
{
    size_t at = r->at;
    if (!starts_count(r)) {
        return true;
    }
    if (!counts) {
        return mp_regex_fail(r, at, "a count after what has no width is not supported");
    }
    if (copy_mark(r)) {
        r->empty = r->empty || r->text[at] != '+';
    } else if (!count_interval(r, out_start)) {
        return false;
    }
    r->before = 0;
    return !starts_count(r) || mp_regex_fail(r, r->at, "a count after a count is not supported");
}

/* ---- the whole ---- */

/* Of lines, always, and of the text: without \z, after which Oniguruma does not see what is before.
 */
static bool anchor(struct mp_regex *r)
{
    if (mp_regex_take(r, "^")) {
        mp_regex_write(r, "(?:\\A|(?<=");
        mp_regex_write_char(r, '\n');
        mp_regex_write(r, ")(?!\\z))");
    } else if (mp_regex_take(r, "$")) {
        mp_regex_write(r, "(?=");
        mp_regex_write_char(r, '\n');
        mp_regex_write(r, "|\\z)");
    } else if (mp_regex_take(r, "\\A")) {
        mp_regex_write(r, "\\A");
    } else {
        return false;
    }
    return true;
}

static bool atom(struct mp_regex *r, bool *counts)
{
    size_t start = r->at;
    char before = r->before;
    r->before = 0;
    r->empty = false;
    *counts = true;
    if (anchor(r)) {
        *counts = false;
        r->empty = true;
        return true;
    }
    if (mp_regex_take(r, "(")) {
        return group(r, start, counts);
    }
    if (mp_regex_take(r, ".")) {
        struct mp_chars set = {0};
        mp_chars_add(&set, '\n', '\n');
        mp_chars_complement(&set);
        mp_regex_write_set(r, &set);
        return true;
    }
    if (starts_count(r)) {
        return mp_regex_fail(r, start, "a count of nothing");
    }
    r->before = before;
    if (mp_regex_take(r, "[")) {
        return escape_or_class(r, start, true);
    }
    if (mp_regex_take(r, "\\")) {
        return escape_or_class(r, start, false);
    }
    return literal(r, start, mp_regex_char(r));
}

static bool alternatives(struct mp_regex *r)
{
    r->before = 0;
    bool some_empty = false; /* an alternative before this one; */
    bool empty = true;       /* this one, so far */
    while (!mp_regex_at_end(r) && r->text[r->at] != ')') {
        if (mp_regex_take(r, "|")) {
            mp_regex_write(r, "|");
            r->before = 0;
            some_empty = some_empty || empty;
            empty = true;
            continue;
        }
        size_t out_start = r->out.length;
        bool counts;
        if (!atom(r, &counts) || !count(r, out_start, counts)) {
            return false;
        }
        empty = empty && r->empty;
    }
    r->before = 0;
    r->empty = some_empty || empty;
    return true;
}

bool mp_regex_translate(const char *text, size_t length, struct mp_bytes *out,
                        struct mp_kinds **kinds, char *why, size_t size)
{
    struct mp_regex r = {.text = text, .length = length, .why = why, .why_size = size};
    bool ok = alternatives(&r);
    ok = ok && (mp_regex_at_end(&r) || mp_regex_fail(&r, r.at, "\")\" without its \"(\""));
    ok = ok && mp_regex_finish(&r, out, kinds);
    for (size_t i = 0; i < r.set_count; i++) {
        mp_chars_free(&r.sets[i]);
    }
    free(r.sets);
    mp_bytes_free(&r.out);
    return ok;
}
