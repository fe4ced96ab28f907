/* Texts whose bytes know whether they are content. */
#include "core/base/utf8.h"
#include "core/jinja/internal.h"

#include <string.h>
#include <utf8proc.h>

/* Copying this many bytes is as much work as a step. */
enum { BYTES_A_STEP = 64 };

/* ---- growing ---- */

static void reserve(struct mpj_text *t, size_t more)
{
    size_t needed = t->length + more;
    if (t->max_length > 0 && needed > t->max_length) {
        mpj_fail(t->work, MP_ERR_RUNTIME, "the template makes more than %zu bytes of text",
                 t->max_length);
    }
    if (needed <= t->capacity) {
        return;
    }
    size_t capacity = needed > 2 * t->capacity ? needed : 2 * t->capacity;
    char *data = mpj_alloc(t->work, capacity, 1);
    if (t->length > 0) {
        memcpy(data, t->data, t->length);
    }
    t->data = data;
    if (t->marks != NULL) {
        char *marks = mpj_alloc(t->work, capacity, 1);
        memcpy(marks, t->marks, t->length);
        t->marks = marks;
    }
    t->capacity = capacity;
}

static void need_marks(struct mpj_text *t)
{
    if (t->marks == NULL) {
        t->marks = mpj_alloc(t->work, t->capacity, 1);
    }
}

void mpj_put(struct mpj_text *t, const char *data, size_t length, bool content)
{
    if (length == 0) {
        return;
    }
    mpj_step(t->work, length / BYTES_A_STEP);
    reserve(t, length);
    memcpy(t->data + t->length, data, length);
    if (content) {
        need_marks(t);
        memset(t->marks + t->length, 1, length);
        t->marked += length;
    }
    t->length += length;
}

void mpj_put_char(struct mpj_text *t, int32_t c, bool content)
{
    char utf8[4];
    utf8proc_ssize_t n = utf8proc_encode_char(c, (utf8proc_uint8_t *)utf8);
    mpj_put(t, utf8, (size_t)n, content);
}

void mpj_put_string(struct mpj_text *t, const struct mpj_string *s)
{
    if (s->marks == NULL || s->length == 0) {
        mpj_put(t, s->data, s->length, s->content);
        return;
    }
    mpj_put(t, s->data, s->length, false);
    need_marks(t);
    char *marks = t->marks + t->length - s->length;
    for (size_t i = 0; i < s->length; i++) {
        marks[i] = s->marks[i];
        t->marked += s->marks[i] != 0;
    }
}

struct mpj_value mpj_text_value(const struct mpj_text *t)
{
    struct mpj_string *s = mpj_alloc(t->work, 1, sizeof *s);
    bool all = t->marked == t->length && t->length > 0;
    *s = (struct mpj_string){.data = t->data != NULL ? t->data : "",
                             .marks = t->marked == 0 || all ? NULL : t->marks,
                             .length = t->length,
                             .content = all};
    return (struct mpj_value){.kind = MPJ_STRING, .string = s};
}

/* ---- parts ---- */

struct mpj_value mpj_part(struct mpj_work *w, const struct mpj_string *s, size_t start, size_t end)
{
    struct mpj_string *part = mpj_alloc(w, 1, sizeof *part);
    *part = (struct mpj_string){.data = s->data + start,
                                .marks = s->marks != NULL ? s->marks + start : NULL,
                                .length = end - start,
                                .content = s->content};
    return (struct mpj_value){.kind = MPJ_STRING, .string = part};
}

bool mpj_content_at(const struct mpj_string *s, size_t at)
{
    return s->marks != NULL ? s->marks[at] != 0 : s->content;
}

const struct mpj_string *mpj_str(struct mpj_work *w, struct mpj_value v)
{
    if (v.kind == MPJ_STRING) {
        return v.string;
    }
    struct mpj_text t = {.work = w};
    mpj_put_value(&t, v);
    return mpj_text_value(&t).string;
}

const char *mpj_chars(struct mpj_work *w, const struct mpj_string *s)
{
    mpj_step(w, s->length / BYTES_A_STEP);
    return mpj_copy(w, s->data, s->length);
}

/* ---- looking ---- */

size_t mpj_search(struct mpj_work *w, const struct mpj_string *s, const struct mpj_string *text,
                  size_t from)
{
    if (from > s->length || text->length > s->length - from) {
        return SIZE_MAX;
    }
    const char *found = memmem(s->data + from, s->length - from, text->data, text->length);
    size_t at = found != NULL ? (size_t)(found - s->data) : SIZE_MAX;
    mpj_step(w, 1 + ((found != NULL ? at : s->length) - from) / BYTES_A_STEP);
    return at;
}

size_t mpj_characters(struct mpj_work *w, const struct mpj_string *s)
{
    mpj_step(w, s->length / BYTES_A_STEP);
    size_t count = 0;
    for (size_t i = 0; i < s->length; i++) {
        count += ((unsigned char)s->data[i] & 0xc0) != 0x80;
    }
    return count;
}

int32_t mpj_char_at(const char *data, size_t length)
{
    int32_t c = 0;
    utf8proc_iterate((const utf8proc_uint8_t *)data, (utf8proc_ssize_t)length, &c);
    return c;
}

bool mpj_is_space(int32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}
