/* What methods and filters do to strings. */
#include "core/base/utf8.h"
#include "core/jinja/internal.h"

#include <string.h>
#include <utf8proc.h>

/* ---- arguments ---- */

int64_t mpj_int_argument(struct mpj_work *w, struct mpj_value v, int64_t fallback)
{
    if (v.kind == MPJ_MISSING) {
        return fallback;
    }
    if (v.kind != MPJ_INT && v.kind != MPJ_BOOL) {
        mpj_need(w, v);
        mpj_fail(w, MP_ERR_FORMAT, "found %s, expected an integer", mpj_kind_name(v));
    }
    return mpj_whole(v);
}

const struct mpj_string *mpj_string_argument(struct mpj_work *w, struct mpj_value v,
                                             const char *what)
{
    if (v.kind != MPJ_STRING) {
        mpj_need(w, v);
        mpj_fail(w, MP_ERR_FORMAT, "%s: found %s, expected a string", what, mpj_kind_name(v));
    }
    return v.string;
}

/* ---- strip ---- */

/* Whether the character at `at` is one of those to strip; chars NULL: white space. */
static bool strips(struct mpj_work *w, const struct mpj_string *s, size_t at,
                   const struct mpj_string *chars)
{
    if (chars == NULL) {
        return mpj_is_space(mpj_char_at(s->data + at, s->length - at));
    }
    size_t n = mp_utf8_length(s->data[at]);
    mpj_step(w, 1 + chars->length / 16);
    for (size_t i = 0; i < chars->length; i += mp_utf8_length(chars->data[i])) {
        if (n <= chars->length - i && memcmp(chars->data + i, s->data + at, n) == 0) {
            return true;
        }
    }
    return false;
}

static size_t previous(const struct mpj_string *s, size_t end)
{
    do {
        end--;
    } while (((unsigned char)s->data[end] & 0xc0) == 0x80);
    return end;
}

struct mpj_value mpj_strip(struct mpj_work *w, const struct mpj_string *s, struct mpj_value chars,
                           bool left, bool right)
{
    bool spaces = chars.kind == MPJ_MISSING || chars.kind == MPJ_NONE;
    const struct mpj_string *set = spaces ? NULL : mpj_string_argument(w, chars, "strip");
    size_t start = 0;
    size_t end = s->length;
    while (left && start < end && strips(w, s, start, set)) {
        start += mp_utf8_length(s->data[start]);
    }
    while (right && start < end && strips(w, s, previous(s, end), set)) {
        end = previous(s, end);
    }
    mpj_step(w, (s->length - (end - start)) / 16);
    return mpj_part(w, s, start, end);
}

/* ---- replace ---- */

static void put_part(struct mpj_text *t, const struct mpj_string *s, size_t start, size_t end)
{
    mpj_put_string(t, mpj_part(t->work, s, start, end).string);
}

/* The new text before each character and at the end. */
static struct mpj_value spread(struct mpj_work *w, const struct mpj_string *s,
                               const struct mpj_string *new, int64_t count)
{
    struct mpj_text t = {.work = w};
    size_t at = 0;
    for (int64_t i = 0; count < 0 || i < count; i++) {
        mpj_put_string(&t, new);
        if (at == s->length) {
            break;
        }
        size_t n = mp_utf8_length(s->data[at]);
        put_part(&t, s, at, at + n);
        at += n;
    }
    put_part(&t, s, at, s->length);
    return mpj_text_value(&t);
}

struct mpj_value mpj_replace(struct mpj_work *w, const struct mpj_string *s,
                             const struct mpj_string *old, const struct mpj_string *new,
                             int64_t count)
{
    if (old->length == 0) {
        return spread(w, s, new, count);
    }
    struct mpj_text t = {.work = w};
    size_t at = 0;
    for (int64_t i = 0; count < 0 || i < count; i++) {
        size_t found = mpj_search(w, s, old, at);
        if (found == SIZE_MAX) {
            break;
        }
        put_part(&t, s, at, found);
        mpj_put_string(&t, new);
        at = found + old->length;
    }
    put_part(&t, s, at, s->length);
    return mpj_text_value(&t);
}

/* ---- upper, lower, title ---- */

static bool is_cased(int32_t c)
{
    utf8proc_category_t category = utf8proc_category(c);
    return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL ||
           category == UTF8PROC_CATEGORY_LT;
}

/* Character by character: what becomes several characters, such as the German sharp s in upper
 * case, stays as it is. */
struct mpj_value mpj_change_case(struct mpj_work *w, const struct mpj_string *s, enum mpj_case to)
{
    struct mpj_text t = {.work = w};
    bool starts = true; /* a word, or the text */
    for (size_t at = 0; at < s->length; at += mp_utf8_length(s->data[at])) {
        int32_t c = mpj_char_at(s->data + at, s->length - at);
        bool upper = to == MPJ_UPPER || (to != MPJ_LOWER && starts);
        int32_t changed = upper && to != MPJ_UPPER ? utf8proc_totitle(c)
                          : upper                  ? utf8proc_toupper(c)
                                                   : utf8proc_tolower(c);
        mpj_put_char(&t, changed, mpj_content_at(s, at));
        starts = to == MPJ_TITLE && !is_cased(c);
    }
    return mpj_text_value(&t);
}

/* ---- lines ---- */

/* Bytes of the end of a line at `at`, as str.splitlines of Python has them; 0: there is none. */
static size_t line_end(const struct mpj_string *s, size_t at)
{
    int32_t c = mpj_char_at(s->data + at, s->length - at);
    bool ends = (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
                c == 0x2029;
    bool pair = c == '\r' && at + 1 < s->length && s->data[at + 1] == '\n';
    return ends ? mp_utf8_length(s->data[at]) + pair : 0;
}

struct mpj_value mpj_lines(struct mpj_work *w, const struct mpj_string *s, bool keep_ends)
{
    struct mpj_value lines = mpj_new_list(w);
    size_t start = 0;
    mpj_step(w, s->length / 16);
    for (size_t at = 0; at < s->length;) {
        size_t n = line_end(s, at);
        if (n > 0) {
            mpj_push(w, lines, mpj_part(w, s, start, keep_ends ? at + n : at));
            start = at + n;
        }
        at += n > 0 ? n : mp_utf8_length(s->data[at]);
    }
    if (start < s->length) {
        mpj_push(w, lines, mpj_part(w, s, start, s->length));
    }
    return lines;
}
