#include "core/json/json_scan.h"

#include "core/base/file.h"
#include "core/base/memory.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* One key met so far. Keys are compared character by character in the text, escapes decoded. */
struct seen_key {
    uint64_t hash;
    size_t object; /* offset of the object's '{'; entries are free where it is SIZE_MAX */
    size_t at;     /* offset of the key's first character */
};

struct scanner {
    struct mp_json_text *t;
    struct mp_error *err;
    struct seen_key *keys; /* [capacity], open addressing, over all objects of the value */
    size_t capacity;       /* a power of two, or 0 */
    size_t count;
};

/* depth: arrays and objects around the value */
static int scan_value(struct scanner *s, int depth);

/* ---- positions and messages ---- */

void mp_json_text_init(struct mp_json_text *t, const char *name, const char *data, size_t length)
{
    static const char byte_order_mark[] = "\xef\xbb\xbf";
    bool marked = length >= 3 && memcmp(data, byte_order_mark, 3) == 0;
    *t = (struct mp_json_text){
        .name = name, .data = data, .length = length, .at = marked ? 3 : 0, .line = 1};
}

int mp_json_text_fail(const struct mp_json_text *t, struct mp_error *err, const char *format, ...)
{
    char message[sizeof err->message];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return mp_fail(err, MP_ERR_FORMAT, "%s:%zu:%zu: %s", t->name, t->line,
                   t->at - t->line_start + 1, message);
}

static int peek(const struct mp_json_text *t)
{
    return t->at < t->length ? (unsigned char)t->data[t->at] : EOF;
}

/* Fails with "expected <what>, found <the byte at t>". */
static int fail_expected(const struct scanner *s, const char *what)
{
    int c = peek(s->t);
    if (c == EOF) {
        return mp_json_text_fail(s->t, s->err, "expected %s, found the end of the text", what);
    }
    if (c <= ' ' || c >= 0x7f) {
        return mp_json_text_fail(s->t, s->err, "expected %s, found byte 0x%02x", what, c);
    }
    return mp_json_text_fail(s->t, s->err, "expected %s, found '%c'", what, c);
}

bool mp_json_skip_space(struct mp_json_text *t)
{
    for (; t->at < t->length; t->at++) {
        char c = t->data[t->at];
        if (c == '\n') {
            t->line++;
            t->line_start = t->at + 1;
        } else if (c != ' ' && c != '\t' && c != '\r') {
            return true;
        }
    }
    return false;
}

/* ---- strings ---- */

/* Value of the four hexadecimal digits at data[at], or -1. */
static int hex4(const struct mp_json_text *t, size_t at)
{
    int value = 0;
    for (size_t i = at; i < at + 4; i++) {
        int c = i < t->length ? (unsigned char)t->data[i] : 0;
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) {
            return -1;
        }
        value = 16 * value + digit;
    }
    return value;
}

/* Decodes the \u escape at data[*at] (its backslash), a surrogate pair included. */
static const char *decode_unicode_escape(const struct mp_json_text *t, size_t *at, int32_t *out)
{
    int32_t high = hex4(t, *at + 2);
    if (high < 0) {
        return "\\u needs four hexadecimal digits";
    }
    *at += 6;
    if (high == 0 && !t->allow_nul) {
        return "NUL character in a string";
    }
    if (high < 0xd800 || high > 0xdfff) {
        *out = high;
        return NULL;
    }
    bool more = *at + 1 < t->length && t->data[*at] == '\\' && t->data[*at + 1] == 'u';
    int32_t low = more ? hex4(t, *at + 2) : -1;
    if (high > 0xdbff || low < 0xdc00 || low > 0xdfff) {
        return "lone surrogate in a \\u escape";
    }
    *at += 6;
    *out = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
    return NULL;
}

/* Decodes the character of a string at data[*at] and steps over it. NULL, or what is wrong. */
static const char *decode_char(const struct mp_json_text *t, size_t *at, int32_t *out)
{
    unsigned char c = *at < t->length ? (unsigned char)t->data[*at] : '\0';
    if (*at >= t->length) {
        return "string is not closed";
    }
    if (c < ' ') {
        return c == '\0' ? "NUL character in a string" : "unescaped control character in a string";
    }
    if (c >= 0x80) {
        utf8proc_ssize_t rest = (utf8proc_ssize_t)(t->length - *at);
        utf8proc_ssize_t n =
            utf8proc_iterate((const utf8proc_uint8_t *)t->data + *at, rest > 4 ? 4 : rest, out);
        if (n <= 0) {
            return "invalid UTF-8 in a string";
        }
        *at += (size_t)n;
        return NULL;
    }
    if (c != '\\') {
        *out = c;
        *at += 1;
        return NULL;
    }
    char escaped = *at + 1 < t->length ? t->data[*at + 1] : '\0';
    if (escaped == 'u') {
        return decode_unicode_escape(t, at, out);
    }
    static const char letters[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    const char *which = escaped == '\0' ? NULL : strchr(letters, escaped);
    if (which == NULL) {
        return "unknown escape in a string";
    }
    *out = meanings[which - letters];
    *at += 2;
    return NULL;
}

/* Checks the string at t (its quote) and gives a hash of its characters. */
static int scan_string(struct scanner *s, uint64_t *hash)
{
    struct mp_json_text *t = s->t;
    uint64_t h = 0xcbf29ce484222325U; /* FNV-1a, over characters */
    t->at++;
    while (peek(t) != '"') {
        int32_t c;
        size_t next = t->at;
        const char *wrong = decode_char(t, &next, &c);
        if (wrong != NULL) {
            return mp_json_text_fail(t, s->err, "%s", wrong);
        }
        t->at = next;
        h = (h ^ (uint64_t)c) * 0x100000001b3U;
    }
    t->at++;
    *hash = h;
    return MP_OK;
}

/* ---- duplicate keys ---- */

/* Whether the checked strings whose first characters are at a and b have the same characters. */
static bool same_key(const struct mp_json_text *t, size_t a, size_t b)
{
    while (t->data[a] != '"' && t->data[b] != '"') {
        int32_t x = 0;
        int32_t y = 0;
        decode_char(t, &a, &x);
        decode_char(t, &b, &y);
        if (x != y) {
            return false;
        }
    }
    return t->data[a] == t->data[b];
}

static struct seen_key *key_slot(const struct scanner *s, const struct seen_key *key)
{
    uint64_t h = (key->hash ^ key->object) * 0x9e3779b97f4a7c15U;
    size_t i = (h >> 32) & (s->capacity - 1);
    while (s->keys[i].object != SIZE_MAX &&
           (s->keys[i].hash != key->hash || s->keys[i].object != key->object ||
            !same_key(s->t, s->keys[i].at, key->at))) {
        i = (i + 1) & (s->capacity - 1);
    }
    return &s->keys[i];
}

static void grow_keys(struct scanner *s)
{
    struct seen_key *old = s->keys;
    size_t old_capacity = s->capacity;
    s->capacity = old_capacity == 0 ? 64 : 2 * old_capacity;
    s->keys = mp_xmalloc(s->capacity * sizeof *s->keys);
    for (size_t i = 0; i < s->capacity; i++) {
        s->keys[i].object = SIZE_MAX;
    }
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i].object != SIZE_MAX) {
            *key_slot(s, &old[i]) = old[i];
        }
    }
    free(old);
}

/* Remembers a key of an object; false if the object has it already. */
static bool add_key(struct scanner *s, size_t object, size_t at, uint64_t hash)
{
    if (2 * (s->count + 1) > s->capacity) {
        grow_keys(s);
    }
    struct seen_key key = {.hash = hash, .object = object, .at = at};
    struct seen_key *slot = key_slot(s, &key);
    if (slot->object != SIZE_MAX) {
        return false;
    }
    *slot = key;
    s->count++;
    return true;
}

/* ---- the other values ---- */

static int scan_literal(struct scanner *s, const char *word)
{
    size_t n = strlen(word);
    if (s->t->length - s->t->at < n || memcmp(s->t->data + s->t->at, word, n) != 0) {
        return mp_json_text_fail(s->t, s->err, "unknown word, expected \"%s\"", word);
    }
    s->t->at += n;
    return MP_OK;
}

static size_t skip_digits(const char *p)
{
    return strspn(p, "0123456789");
}

/* Length of the JSON number at the start of p, or 0. */
static size_t number_length(const char *p)
{
    size_t n = p[0] == '-' ? 1 : 0;
    size_t digits = skip_digits(p + n);
    if (digits == 0 || (digits > 1 && p[n] == '0')) {
        return 0;
    }
    n += digits;
    if (p[n] == '.') {
        digits = skip_digits(p + n + 1);
        n = digits == 0 ? 0 : n + 1 + digits;
    }
    if (n > 0 && (p[n] == 'e' || p[n] == 'E')) {
        size_t sign = p[n + 1] == '+' || p[n + 1] == '-' ? 2 : 1;
        digits = skip_digits(p + n + sign);
        n = digits == 0 ? 0 : n + sign + digits;
    }
    return n;
}

static int scan_number(struct scanner *s)
{
    /* Everything that could be meant as one number, as a string of its own. */
    char buffer[MP_JSON_MAX_NUMBER_CHARS + 1];
    size_t n = 0;
    for (size_t at = s->t->at; at < s->t->length; at++, n++) {
        char c = s->t->data[at];
        if (!isalnum((unsigned char)c) && c != '+' && c != '-' && c != '.') {
            break;
        }
        if (n == MP_JSON_MAX_NUMBER_CHARS) {
            return mp_json_text_fail(s->t, s->err, "number of more than %d characters",
                                     MP_JSON_MAX_NUMBER_CHARS);
        }
        buffer[n] = c;
    }
    buffer[n] = '\0';
    if (number_length(buffer) != n) {
        return mp_json_text_fail(s->t, s->err, "malformed number %s", buffer);
    }
    if (isinf(strtod(buffer, NULL))) {
        return mp_json_text_fail(s->t, s->err, "number %s is out of range", buffer);
    }
    s->t->at += n;
    return MP_OK;
}

static int scan_array(struct scanner *s, int depth)
{
    struct mp_json_text *t = s->t;
    t->at++;
    mp_json_skip_space(t);
    if (peek(t) == ']') {
        t->at++;
        return MP_OK;
    }
    for (;;) {
        int rc = scan_value(s, depth + 1);
        if (rc != MP_OK) {
            return rc;
        }
        mp_json_skip_space(t);
        if (peek(t) == ']') {
            t->at++;
            return MP_OK;
        }
        if (peek(t) != ',') {
            return fail_expected(s, "',' or ']'");
        }
        t->at++;
        mp_json_skip_space(t);
    }
}

static int scan_member(struct scanner *s, size_t object, int depth)
{
    struct mp_json_text *t = s->t;
    if (peek(t) != '"') {
        return fail_expected(s, "a key in double quotes");
    }
    struct mp_json_text start = *t;
    uint64_t hash;
    int rc = scan_string(s, &hash);
    if (rc != MP_OK) {
        return rc;
    }
    if (!add_key(s, object, start.at + 1, hash)) {
        return mp_json_text_fail(&start, s->err, "duplicate key %.*s",
                                 (int)(t->at - start.at > 80 ? 80 : t->at - start.at),
                                 t->data + start.at);
    }
    mp_json_skip_space(t);
    if (peek(t) != ':') {
        return fail_expected(s, "':'");
    }
    t->at++;
    mp_json_skip_space(t);
    return scan_value(s, depth + 1);
}

static int scan_object(struct scanner *s, int depth)
{
    struct mp_json_text *t = s->t;
    size_t object = t->at++;
    mp_json_skip_space(t);
    if (peek(t) == '}') {
        t->at++;
        return MP_OK;
    }
    for (;;) {
        int rc = scan_member(s, object, depth);
        if (rc != MP_OK) {
            return rc;
        }
        mp_json_skip_space(t);
        if (peek(t) == '}') {
            t->at++;
            return MP_OK;
        }
        if (peek(t) != ',') {
            return fail_expected(s, "',' or '}'");
        }
        t->at++;
        mp_json_skip_space(t);
    }
}

static int scan_value(struct scanner *s, int depth)
{
    uint64_t unused_hash;
    int c = peek(s->t);
    if (depth == MP_JSON_MAX_DEPTH && (c == '{' || c == '[')) {
        return mp_json_text_fail(s->t, s->err, "nested deeper than %d levels", MP_JSON_MAX_DEPTH);
    }
    switch (c) {
    case '{':
        return scan_object(s, depth);
    case '[':
        return scan_array(s, depth);
    case '"':
        return scan_string(s, &unused_hash);
    case 't':
        return scan_literal(s, "true");
    case 'f':
        return scan_literal(s, "false");
    case 'n':
        return scan_literal(s, "null");
    default:
        return c == '-' || (c >= '0' && c <= '9') ? scan_number(s) : fail_expected(s, "a value");
    }
}

/* With its byte order mark, or by the zero byte beside the first character. */
static bool is_utf16(const struct mp_json_text *t)
{
    const unsigned char *data = (const unsigned char *)t->data;
    return t->length >= 2 &&
           ((data[0] == 0xff && data[1] == 0xfe) || (data[0] == 0xfe && data[1] == 0xff) ||
            (data[0] == 0) != (data[1] == 0));
}

int mp_json_scan(struct mp_json_text *t, struct mp_error *err)
{
    if (is_utf16(t)) {
        return mp_json_text_fail(t, err, "found a text in UTF-16, expected UTF-8");
    }
    if (mp_file_is_lfs_pointer(t->data + t->at, t->length - t->at)) {
        return mp_json_text_fail(t, err,
                                 "found a Git LFS pointer, expected JSON: run git lfs pull");
    }
    struct scanner s = {.t = t, .err = err};
    int rc = scan_value(&s, 0);
    free(s.keys);
    return rc;
}
