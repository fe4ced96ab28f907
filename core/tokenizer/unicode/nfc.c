/* Unicode normalization form C as the Rust crate behind Hugging Face's NFC does it: by the tables
 * of Unicode 9. Characters that came later stay as they are, and what is on their two sides
 * neither changes places nor composes across them. Properties of a character never change once it
 * is assigned, so utf8proc gives the right ones for all others, whichever its version. */
#include "core/tokenizer/unicode/nfc.h"

#include "core/base/memory.h"
#include "core/tokenizer/unicode/unicode.h"

#include <stdlib.h>
#include <utf8proc.h>

/* Code points. */
struct points {
    int32_t *items; /* [count] */
    size_t count;
    size_t capacity;
};

/* The longest canonical decomposition has four characters. */
enum { MAX_DECOMPOSED = 8 };

static bool is_known(int32_t c)
{
    return mp_char_in(&mp_unicode_assigned_9, (uint32_t)c);
}

/* 0 for characters that start anew; marks with a lower class come first. */
static unsigned combining_class(int32_t c)
{
    return is_known(c) ? (unsigned)utf8proc_get_property(c)->combining_class : 0;
}

/* ---- decomposing ---- */

static void push_decomposed(struct points *p, int32_t c)
{
    if (p->capacity - p->count < MAX_DECOMPOSED) {
        p->capacity = 2 * p->capacity + MAX_DECOMPOSED;
        p->items = mp_xrealloc(p->items, p->capacity, sizeof *p->items);
    }
    int32_t *end = p->items + p->count;
    utf8proc_ssize_t n = 0;
    if (is_known(c)) {
        int boundary = 0;
        n = utf8proc_decompose_char(c, end, MAX_DECOMPOSED, UTF8PROC_DECOMPOSE, &boundary);
    }
    if (n > 0) {
        p->count += (size_t)n;
    } else {
        *end = c;
        p->count++;
    }
}

/* ---- ordering ---- */

static int compare_keys(const void *left, const void *right, void *comparisons)
{
    const uint64_t *a = left;
    const uint64_t *b = right;
    ++*(size_t *)comparisons;
    return *a < *b ? -1 : *a > *b;
}

/* Sorts marks[0..count) by class; those of one class keep their order. */
static int sort_marks(int32_t *marks, size_t count, struct mp_work *w)
{
    uint64_t *keys = mp_xmalloc(count * sizeof *keys); /* class, place, place's character */
    for (size_t i = 0; i < count; i++) {
        keys[i] =
            (uint64_t)combining_class(marks[i]) << 56 | (uint64_t)i << 24 | (uint32_t)marks[i];
    }
    size_t comparisons = 0;
    qsort_r(keys, count, sizeof *keys, compare_keys, &comparisons);
    for (size_t i = 0; i < count; i++) {
        marks[i] = (int32_t)(keys[i] & 0xffffff);
    }
    free(keys);
    return mp_work_count(w, comparisons);
}

static int order_marks(struct points *p, struct mp_work *w)
{
    int rc = MP_OK;
    for (size_t i = 0; i < p->count && rc == MP_OK; i++) {
        size_t start = i; /* of a run of marks */
        bool sorted = true;
        unsigned before = 0;
        for (unsigned class; i < p->count && (class = combining_class(p->items[i])) > 0; i++) {
            sorted = sorted && class >= before;
            before = class;
        }
        if (!sorted) {
            rc = sort_marks(p->items + start, i - start, w);
        }
    }
    return rc;
}

/* ---- composing ---- */

/* Composes between the characters that Unicode 9 does not know, which close up. */
static void compose(struct points *p)
{
    size_t out = 0;
    for (size_t i = 0; i < p->count;) {
        size_t start = i;
        while (i < p->count && is_known(p->items[i])) {
            i++;
        }
        size_t n = i - start;
        if (n > 1) {
            n = (size_t)utf8proc_normalize_utf32(p->items + start, (utf8proc_ssize_t)n,
                                                 UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        }
        for (size_t k = 0; k < n; k++) {
            p->items[out++] = p->items[start + k];
        }
        if (i < p->count) {
            p->items[out++] = p->items[i++];
        }
    }
    p->count = out;
}

static void append_points(const struct points *p, struct mp_bytes *out)
{
    for (size_t i = 0; i < p->count; i++) {
        utf8proc_uint8_t utf8[4];
        utf8proc_ssize_t n = utf8proc_encode_char(p->items[i], utf8);
        mp_bytes_append(out, (const char *)utf8, (size_t)n);
    }
}

/* ---- the whole ---- */

/* The end of the ASCII characters from `at` on. */
static size_t ascii_end(const char *text, size_t length, size_t at)
{
    while (at < length && (unsigned char)text[at] < 0x80) {
        at++;
    }
    return at;
}

/* text: at most one ASCII character, then others. */
static int append_part(const char *text, size_t length, struct points *p, struct mp_bytes *out,
                       struct mp_work *w)
{
    p->count = 0;
    for (size_t at = 0; at < length;) {
        int32_t c;
        at += (size_t)utf8proc_iterate((const utf8proc_uint8_t *)text + at,
                                       (utf8proc_ssize_t)(length - at), &c);
        push_decomposed(p, c);
    }
    int rc = order_marks(p, w);
    if (rc == MP_OK) {
        compose(p);
        append_points(p, out);
        rc = mp_work_count(w, length);
    }
    return rc;
}

int mp_nfc_append(const char *text, size_t length, struct mp_bytes *out, struct mp_work *w)
{
    struct points points = {0};
    int rc = MP_OK;
    for (size_t at = 0; at < length && rc == MP_OK;) {
        /* ASCII is in form C, and nothing before it changes because of it; but its last character
         * can compose with what follows. */
        size_t start = ascii_end(text, length, at);
        start -= start > at && start < length;
        mp_bytes_append(out, text + at, start - at);
        at = start + (start < length);
        while (at < length && (unsigned char)text[at] >= 0x80) {
            at++;
        }
        rc = append_part(text + start, at - start, &points, out, w);
    }
    free(points.items);
    return rc;
}
