/* Tokens of a template, and the white space that its tags take with them. */
#include "core/base/utf8.h"
#include "core/jinja/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BRACKETS = 2 * MPJ_MAX_NESTING };

struct lexer {
    struct mpj_work *work;
    const char *text; /* [length], with \n for all ends of lines */
    size_t length;
    size_t at;
    uint32_t line;
    struct mpj_token *tokens;
    size_t count;
    size_t capacity;
    bool line_starts;            /* what was read last has ended a line, or nothing was */
    char brackets[MAX_BRACKETS]; /* those that are open */
    int num_brackets;
};

/* ---- text ---- */

static bool looking_at(const struct lexer *l, size_t at, const char *text)
{
    size_t n = strlen(text);
    return n <= l->length - at && memcmp(l->text + at, text, n) == 0;
}

/* Where text is next, from `at` on, or SIZE_MAX. */
static size_t find(const struct lexer *l, size_t at, const char *text)
{
    const char *found = memmem(l->text + at, l->length - at, text, strlen(text));
    return found != NULL ? (size_t)(found - l->text) : SIZE_MAX;
}

static size_t skip_space(const struct lexer *l, size_t at)
{
    while (at < l->length && mpj_is_space(mpj_char_at(l->text + at, l->length - at))) {
        at += mp_utf8_length(l->text[at]);
    }
    return at;
}

/* The end of text[start .. end) without the white space at its end. */
static size_t strip_space(const struct lexer *l, size_t start, size_t end)
{
    size_t kept = start;
    for (size_t at = start; at < end;) {
        bool space = mpj_is_space(mpj_char_at(l->text + at, end - at));
        at += mp_utf8_length(l->text[at]);
        kept = space ? kept : at;
    }
    return kept;
}

/* Moves on, and counts the lines. */
static void move_to(struct lexer *l, size_t at)
{
    for (; l->at < at; l->at++) {
        l->line += l->text[l->at] == '\n';
    }
    l->work->line = l->line;
}

static void __attribute__((noreturn)) fail_character(struct lexer *l)
{
    mpj_fail(l->work, MP_ERR_FORMAT, "found \"%.*s\" in a tag, expected an expression",
             (int)mp_utf8_length(l->text[l->at]), l->text + l->at);
}

/* ---- tokens ---- */

static struct mpj_token *push(struct lexer *l, enum mpj_token_kind kind, const char *text,
                              size_t length)
{
    if (l->count == l->capacity) {
        size_t capacity = l->capacity == 0 ? 256 : 2 * l->capacity;
        struct mpj_token *tokens = mpj_alloc(l->work, capacity, sizeof *tokens);
        if (l->count > 0) {
            memcpy(tokens, l->tokens, l->count * sizeof *tokens);
        }
        l->tokens = tokens;
        l->capacity = capacity;
    }
    struct mpj_token *token = &l->tokens[l->count++];
    *token = (struct mpj_token){.kind = kind, .line = l->line, .length = length};
    token->text = mpj_copy(l->work, text, length);
    return token;
}

static bool is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void lex_name(struct lexer *l)
{
    size_t end = l->at;
    while (end < l->length && (is_name_start(l->text[end]) || is_digit(l->text[end]))) {
        end++;
    }
    push(l, MPJ_T_NAME, l->text + l->at, end - l->at);
    l->at = end;
}

static size_t skip_digits(const struct lexer *l, size_t at)
{
    while (at < l->length && (is_digit(l->text[at]) || l->text[at] == '_')) {
        at++;
    }
    return at;
}

/* Where the fraction and the exponent of a number end whose whole part ends at `end`: there are
 * none of a number that is an attribute's, "a.0". */
static size_t skip_fraction(const struct lexer *l, size_t end)
{
    if (l->at > 0 && l->text[l->at - 1] == '.') {
        return end;
    }
    if (end + 1 < l->length && l->text[end] == '.' && is_digit(l->text[end + 1])) {
        end = skip_digits(l, end + 1);
    }
    if (end < l->length && (l->text[end] == 'e' || l->text[end] == 'E')) {
        size_t digits = end + 1;
        digits += digits < l->length && (l->text[digits] == '+' || l->text[digits] == '-');
        end = digits < l->length && is_digit(l->text[digits]) ? skip_digits(l, digits) : end;
    }
    return end;
}

/* Decimal numbers. */
static void lex_number(struct lexer *l)
{
    size_t whole = skip_digits(l, l->at);
    size_t end = skip_fraction(l, whole);
    char number[64];
    size_t n = 0;
    for (size_t i = l->at; i < end && n < sizeof number - 1; i++) {
        number[n] = l->text[i];
        n += l->text[i] != '_';
    }
    number[n] = '\0';
    struct mpj_token *token =
        push(l, end > whole ? MPJ_T_FLOAT : MPJ_T_INT, l->text + l->at, end - l->at);
    errno = 0;
    if (end > whole) {
        token->real = strtod(number, NULL);
    } else {
        token->number = strtoll(number, NULL, 10);
    }
    if (n == sizeof number - 1 || (errno == ERANGE && end == whole) ||
        (end < l->length && is_name_start(l->text[end]))) {
        mpj_fail(l->work, MP_ERR_UNSUPPORTED,
                 "found %.60s%.1s, expected a decimal number of at most 64 bits", number,
                 l->text + end);
    }
    l->at = end;
}

/* ---- strings ---- */

static int hex_digit(char c)
{
    return is_digit(c)            ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The character whose code the digits digits at `at` are. */
static void put_code(struct lexer *l, struct mpj_text *out, size_t at, size_t digits)
{
    int64_t c = 0;
    for (size_t i = 0; i < digits; i++) {
        int digit = at + i < l->length ? hex_digit(l->text[at + i]) : -1;
        c = digit < 0 || c < 0 ? -1 : 16 * c + digit;
    }
    if (c <= 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) {
        mpj_fail(l->work, MP_ERR_FORMAT, "\\%c in a string: expected %zu digits of a character",
                 l->text[at - 1], digits);
    }
    mpj_put_char(out, (int32_t)c, false);
}

/* An escape as in Python; `at` is behind the backslash. Returns where it ends. */
static size_t lex_escape(struct lexer *l, struct mpj_text *out, size_t at)
{
    static const char letters[] = "n\nt\tr\r\\\\'\'\"\"a\ab\bf\fv\v";
    char c = l->text[at];
    for (const char *p = letters; *p != '\0'; p += 2) {
        if (*p == c) {
            mpj_put(out, p + 1, 1, false);
            return at + 1;
        }
    }
    if (c == 'x' || c == 'u' || c == 'U') {
        size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        put_code(l, out, at + 1, digits);
        return at + 1 + digits;
    }
    if (is_digit(c) || c == 'N') {
        mpj_fail(l->work, MP_ERR_UNSUPPORTED, "\\%c in a string is not served", c);
    }
    if (c == '\n') {
        return at + 1;
    }
    mpj_put(out, "\\", 1, false);
    return at;
}

static void lex_string(struct lexer *l)
{
    char quote = l->text[l->at];
    struct mpj_text value = {.work = l->work};
    size_t at = l->at + 1;
    while (at < l->length && l->text[at] != quote) {
        if (l->text[at] == '\\' && at + 1 < l->length) {
            at = lex_escape(l, &value, at + 1);
        } else {
            mpj_put(&value, l->text + at, 1, false);
            at++;
        }
    }
    if (at >= l->length) {
        mpj_fail(l->work, MP_ERR_FORMAT, "a string that starts with %c does not end", quote);
    }
    push(l, MPJ_T_STRING, value.data != NULL ? value.data : "", value.length);
    move_to(l, at + 1);
}

/* ---- operators ---- */

static void note_bracket(struct lexer *l, char c)
{
    static const char pairs[] = "()[]{}";
    const char *p = strchr(pairs, c);
    if (p == NULL) {
        return;
    }
    if ((p - pairs) % 2 == 0) {
        if (l->num_brackets == MAX_BRACKETS) {
            mpj_fail(l->work, MP_ERR_UNSUPPORTED, "more than %d brackets in each other",
                     MAX_BRACKETS);
        }
        l->brackets[l->num_brackets++] = p[1];
    } else if (l->num_brackets == 0 || l->brackets[--l->num_brackets] != c) {
        mpj_fail(l->work, MP_ERR_FORMAT, "found \"%c\" without its opening bracket", c);
    }
}

static void lex_operator(struct lexer *l)
{
    static const char *const operators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                            "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                            ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
        if (looking_at(l, l->at, operators[i])) {
            note_bracket(l, operators[i][0]);
            push(l, MPJ_T_OPERATOR, operators[i], strlen(operators[i]));
            l->at += strlen(operators[i]);
            return;
        }
    }
    fail_character(l);
}

/* ---- tags ---- */

/* Whether the end of a tag, "}}" or "%}", stands at l->at, with - or + before it; *next: what
 * follows, after the white space that the tag takes. */
static bool at_tag_end(const struct lexer *l, const char *end, size_t *next)
{
    bool block = end[0] != '}';
    char sign = l->text[l->at];
    bool minus = sign == '-' && looking_at(l, l->at + 1, end);
    bool plus = sign == '+' && block && looking_at(l, l->at + 1, end);
    if (!minus && !plus && !looking_at(l, l->at, end)) {
        return false;
    }
    *next = l->at + (minus || plus) + 2;
    if (minus) {
        *next = skip_space(l, *next);
    } else if (!plus && block && *next < l->length && l->text[*next] == '\n') {
        (*next)++; /* trim_blocks */
    }
    return true;
}

/* The tokens up to the end of the tag. */
static void lex_tag(struct lexer *l, const char *end)
{
    enum mpj_token_kind kind = end[0] == '}' ? MPJ_T_PRINT_END : MPJ_T_BLOCK_END;
    l->num_brackets = 0;
    for (;;) {
        move_to(l, skip_space(l, l->at));
        size_t next;
        if (l->at == l->length) {
            mpj_fail(l->work, MP_ERR_FORMAT, "the template ends in a tag, expected \"%s\"", end);
        }
        if (l->num_brackets == 0 && at_tag_end(l, end, &next)) {
            push(l, kind, "", 0);
            move_to(l, next);
            return;
        }
        char c = l->text[l->at];
        if (is_name_start(c)) {
            lex_name(l);
        } else if (is_digit(c)) {
            lex_number(l);
        } else if (c == '\'' || c == '"') {
            lex_string(l);
        } else {
            lex_operator(l);
        }
    }
}

static void lex_comment(struct lexer *l)
{
    size_t end = find(l, l->at, "#}");
    if (end == SIZE_MAX) {
        mpj_fail(l->work, MP_ERR_FORMAT, "a comment does not end, expected \"#}\"");
    }
    size_t next = 0;
    move_to(l, end > l->at && (l->text[end - 1] == '-' || l->text[end - 1] == '+') ? end - 1 : end);
    at_tag_end(l, "#}", &next);
    move_to(l, next);
}

/* Whether {%, a sign, a name and %} are at `at`; then where the inner name ends. */
static bool at_word_tag(const struct lexer *l, size_t at, const char *name, size_t *after)
{
    if (!looking_at(l, at, "{%")) {
        return false;
    }
    at += 2;
    at += at < l->length && (l->text[at] == '-' || l->text[at] == '+');
    at = skip_space(l, at);
    if (!looking_at(l, at, name)) {
        return false;
    }
    *after = skip_space(l, at + strlen(name));
    return looking_at(l, *after, "%}") || looking_at(l, *after, "-%}") ||
           looking_at(l, *after, "+%}");
}

/* The text before a tag at `tag`, without the white space that the tag takes. */
static void push_data(struct lexer *l, size_t tag, bool block)
{
    size_t end = tag;
    char sign = tag + 2 < l->length ? l->text[tag + 2] : '\0';
    if (sign == '-') {
        end = strip_space(l, l->at, tag);
    } else if (sign != '+' && block) {
        size_t start = tag; /* of the line */
        while (start > l->at && l->text[start - 1] != '\n') {
            start--;
        }
        if ((start > l->at || l->line_starts) && strip_space(l, start, tag) == start) {
            end = start; /* lstrip_blocks */
        }
    }
    if (end > l->at) {
        push(l, MPJ_T_DATA, l->text + l->at, end - l->at);
    }
    move_to(l, tag);
}

/* {% raw %}: text up to {% endraw %}. */
static void lex_raw(struct lexer *l, size_t after)
{
    move_to(l, after);
    move_to(l, l->text[l->at] == '-' ? skip_space(l, l->at + 3) : l->at + 2);
    l->line_starts = l->text[l->at - 1] == '\n';
    size_t end = l->at;
    while ((end = find(l, end, "{%")) != SIZE_MAX && !at_word_tag(l, end, "endraw", &after)) {
        end += 2;
    }
    if (end == SIZE_MAX) {
        mpj_fail(l->work, MP_ERR_FORMAT, "{%% raw %%} does not end, expected {%% endraw %%}");
    }
    push_data(l, end, true);
    move_to(l, after);
    size_t next = 0;
    at_tag_end(l, "%}", &next);
    move_to(l, next);
}

static void lex_one(struct lexer *l)
{
    size_t tag = l->at;
    while (tag < l->length && !(l->text[tag] == '{' && tag + 1 < l->length &&
                                memchr("{%#", l->text[tag + 1], 3) != NULL)) {
        tag++;
    }
    if (tag == l->length) {
        push(l, MPJ_T_DATA, l->text + l->at, tag - l->at);
        move_to(l, tag);
        return;
    }
    char kind = l->text[tag + 1];
    size_t after;
    push_data(l, tag, kind != '{');
    if (at_word_tag(l, tag, "raw", &after) && l->text[after] != '+') {
        lex_raw(l, after);
    } else {
        char sign = tag + 2 < l->length ? l->text[tag + 2] : '\0';
        move_to(l, tag + 2 + (sign == '-' || sign == '+'));
        if (kind == '#') {
            lex_comment(l);
        } else {
            push(l, kind == '{' ? MPJ_T_PRINT_BEGIN : MPJ_T_BLOCK_BEGIN, "", 0);
            lex_tag(l, kind == '{' ? "}}" : "%}");
        }
    }
    l->line_starts = l->text[l->at - 1] == '\n';
}

/* All ends of lines as \n, without the one at the end. */
static void normalize(struct lexer *l, const char *text, size_t length)
{
    char *copy = mpj_alloc(l->work, length + 1, 1);
    for (size_t i = 0; i < length; i++) {
        bool pair = text[i] == '\r' && i + 1 < length && text[i + 1] == '\n';
        if (!pair) {
            copy[l->length++] = text[i] == '\r' ? '\n' : text[i];
        }
    }
    l->length -= l->length > 0 && copy[l->length - 1] == '\n';
    copy[l->length] = '\0';
    l->text = copy;
}

struct mpj_token *mpj_lex(struct mpj_work *w, const char *text, size_t length)
{
    struct lexer l = {.work = w, .line = 1, .line_starts = true};
    w->line = 1;
    normalize(&l, text, length);
    while (l.at < l.length) {
        lex_one(&l);
    }
    push(&l, MPJ_T_END, "", 0);
    return l.tokens;
}
