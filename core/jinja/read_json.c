/* JSON to values. The text has been checked by json.h's strict reader: what is here only has to
 * follow it. Numbers keep what Python keeps of them: whole ones are integers. */
#include "core/jinja/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct reader {
    struct mpj_work *work;
    const char *at;
    const char *end;
    const struct mp_jinja_variable *variable;
    int depth; /* of the value that is read: 1 is the variable's own */
};

enum { ITEM_DEPTH = 2 }; /* of the objects that a variable is an array of */

static struct mpj_value read_value(struct reader *r, bool content);

static void __attribute__((noreturn)) fail_json(const struct reader *r)
{
    mpj_fail(r->work, MP_ERR_FORMAT, "%s is no JSON at byte offset %zu", r->variable->name,
             (size_t)(r->at - r->variable->json));
}

/* The next character that is no white space; the end of the text is '\0'. */
static char next(struct reader *r)
{
    while (r->at < r->end && strchr(" \t\r\n", *r->at) != NULL && *r->at != '\0') {
        r->at++;
    }
    return r->at < r->end ? *r->at : '\0';
}

static void expect(struct reader *r, char c)
{
    if (next(r) != c) {
        fail_json(r);
    }
    r->at++;
}

/* The code of \uXXXX, of which the digits are next. */
static int32_t read_code(struct reader *r)
{
    char digits[5] = "";
    char *end;
    if (r->end - r->at < 4) {
        fail_json(r);
    }
    memcpy(digits, r->at, 4);
    long code = strtol(digits, &end, 16);
    if (end != digits + 4) {
        fail_json(r);
    }
    r->at += 4;
    return (int32_t)code;
}

static void read_escape(struct reader *r, struct mpj_text *out, bool content)
{
    static const char letters[] = "n\nt\tr\rb\bf\f\"\"\\\\//";
    char c = r->at < r->end ? *r->at++ : '\0';
    for (const char *p = letters; *p != '\0'; p += 2) {
        if (*p == c) {
            mpj_put(out, p + 1, 1, content);
            return;
        }
    }
    int32_t code = c == 'u' ? read_code(r) : 0;
    if (code >= 0xd800 && code < 0xdc00 && r->end - r->at >= 6) {
        r->at += 2;
        code = 0x10000 + ((code - 0xd800) << 10) + (read_code(r) - 0xdc00);
    }
    if (code <= 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
        fail_json(r);
    }
    mpj_put_char(out, code, content);
}

static struct mpj_value read_string(struct reader *r, bool content)
{
    struct mpj_text text = {.work = r->work};
    expect(r, '"');
    for (;;) {
        const char *start = r->at;
        while (r->at < r->end && *r->at != '"' && *r->at != '\\') {
            r->at++;
        }
        mpj_put(&text, start, (size_t)(r->at - start), content);
        if (r->at == r->end) {
            fail_json(r);
        }
        if (*r->at++ == '"') {
            return mpj_text_value(&text);
        }
        read_escape(r, &text, content);
    }
}

static struct mpj_value read_number(struct reader *r)
{
    char number[64];
    size_t n = 0;
    while (r->at < r->end && *r->at != '\0' && strchr("+-.0123456789eE", *r->at) != NULL) {
        number[n++] = *r->at++;
        if (n == sizeof number) {
            fail_json(r);
        }
    }
    number[n] = '\0';
    errno = 0;
    if (strpbrk(number, ".eE") != NULL) {
        return mpj_float(strtod(number, NULL));
    }
    int64_t whole = strtoll(number, NULL, 10);
    if (errno == ERANGE) {
        mpj_fail(r->work, MP_ERR_UNSUPPORTED, "%s: integer %s has more than 64 bits",
                 r->variable->name, number);
    }
    return mpj_int(whole);
}

static struct mpj_value read_array(struct reader *r, bool content)
{
    struct mpj_value list = mpj_new_list(r->work);
    expect(r, '[');
    if (next(r) == ']') {
        r->at++;
        return list;
    }
    for (;;) {
        mpj_push(r->work, list, read_value(r, content));
        if (next(r) == ']') {
            r->at++;
            return list;
        }
        expect(r, ',');
    }
}

/* A list of objects with a "text" as one string; other values stay what they are. */
static struct mpj_value join_texts(struct reader *r, struct mpj_value v)
{
    if (v.kind != MPJ_LIST) {
        return v;
    }
    struct mpj_text text = {.work = r->work};
    for (size_t i = 0; i < v.list->count; i++) {
        struct mpj_value part = v.list->items[i];
        const struct mpj_value *found =
            part.kind == MPJ_DICT ? mpj_find_name(r->work, part, "text") : NULL;
        if (found == NULL || found->kind != MPJ_STRING) {
            return v;
        }
        mpj_put(&text, "\n", i > 0, r->variable->content);
        mpj_put_string(&text, found->string);
    }
    return mpj_text_value(&text);
}

static struct mpj_value read_object(struct reader *r, bool content)
{
    bool item = r->depth == ITEM_DEPTH;
    const char *plain = item ? r->variable->plain_key : NULL;
    const char *joined = item ? r->variable->joined_key : NULL;
    struct mpj_value dict = mpj_new_dict(r->work);
    expect(r, '{');
    if (next(r) == '}') {
        r->at++;
        return dict;
    }
    for (;;) {
        next(r);
        struct mpj_value key = read_string(r, content);
        expect(r, ':');
        bool is_plain = plain != NULL && next(r) == '"' && mpj_is(key, plain);
        struct mpj_value value = read_value(r, content && !is_plain);
        bool is_joined = joined != NULL && mpj_is(key, joined);
        mpj_set(r->work, dict, key, is_joined ? join_texts(r, value) : value);
        if (next(r) == '}') {
            r->at++;
            return dict;
        }
        expect(r, ',');
    }
}

/* true, false or null. */
static struct mpj_value read_word(struct reader *r)
{
    static const struct {
        const char *text;
        struct mpj_value value;
    } words[] = {
        {"true", {.kind = MPJ_BOOL, .truth = true}},
        {"false", {.kind = MPJ_BOOL}},
        {"null", {.kind = MPJ_NONE}},
    };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t n = strlen(words[i].text);
        if ((size_t)(r->end - r->at) >= n && memcmp(r->at, words[i].text, n) == 0) {
            r->at += n;
            return words[i].value;
        }
    }
    fail_json(r);
}

static struct mpj_value read_value(struct reader *r, bool content)
{
    struct mpj_value v;
    mpj_enter(r->work);
    r->depth++;
    char c = next(r);
    if (c == '"') {
        v = read_string(r, content);
    } else if (c == '[') {
        v = read_array(r, content);
    } else if (c == '{') {
        v = read_object(r, content);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        v = read_number(r);
    } else {
        v = read_word(r);
    }
    r->depth--;
    r->work->depth--;
    return v;
}

struct mpj_value mpj_read_json(struct mpj_work *w, const struct mp_jinja_variable *variable)
{
    struct reader r = {.work = w,
                       .at = variable->json,
                       .end = variable->json + variable->length,
                       .variable = variable};
    struct mpj_value v = read_value(&r, variable->content);
    if (next(&r) != '\0') {
        fail_json(&r);
    }
    return v;
}
