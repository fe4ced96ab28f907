/* The steps that normalizers and pre-tokenizers are made of. */
#include "core/base/memory.h"
#include "core/tokenizer/tokenizer_internal.h"
#include "core/tokenizer/unicode/nfc.h"

#include <stdlib.h>
#include <string.h>

/* ---- lists ---- */

void mp_pieces_push(struct mp_pieces *p, size_t start, size_t end)
{
    if (p->count == p->capacity) {
        p->capacity = p->capacity == 0 ? 16 : 2 * p->capacity;
        p->items = mp_xrealloc(p->items, p->capacity, sizeof *p->items);
    }
    p->items[p->count++] = (struct mp_piece){.start = start, .end = end};
}

void mp_pieces_free(struct mp_pieces *p)
{
    mp_bytes_free(&p->text);
    free(p->items);
    *p = (struct mp_pieces){0};
}

void mp_steps_push(struct mp_steps *steps, struct mp_step step)
{
    steps->items = mp_xrealloc(steps->items, steps->count + 1, sizeof *steps->items);
    steps->items[steps->count++] = step;
}

void mp_steps_free(struct mp_steps *steps)
{
    for (size_t i = 0; i < steps->count; i++) {
        mp_pattern_free(steps->items[i].pattern);
        mp_bytes_free(&steps->items[i].content);
    }
    free(steps->items);
    *steps = (struct mp_steps){0};
}

/* ---- steps that rewrite each piece ---- */

static int append_replaced(const struct mp_step *step, const char *text, size_t length,
                           struct mp_bytes *out, struct mp_work *w)
{
    struct mp_matches m;
    mp_matches_begin(&m, step->pattern, text, length, w);
    size_t done = 0;
    bool found;
    int rc = mp_matches_next(&m, &found);
    while (rc == MP_OK && found) {
        mp_bytes_append(out, text + done, m.start - done);
        mp_bytes_append(out, step->content.data, step->content.length);
        done = m.end;
        rc = mp_work_check_growth(w, out->length);
        rc = rc == MP_OK ? mp_matches_next(&m, &found) : rc;
    }
    mp_matches_end(&m);
    mp_bytes_append(out, text + done, length - done);
    return rc;
}

static void append_prepended(const struct mp_step *step, const char *text, size_t length,
                             bool at_start, struct mp_bytes *out)
{
    const struct mp_bytes *content = &step->content;
    bool present = length >= content->length && memcmp(text, content->data, content->length) == 0;
    if (length > 0 && !(step->unless_present && present) && (at_start || !step->first_only)) {
        mp_bytes_append(out, content->data, content->length);
    }
    mp_bytes_append(out, text, length);
}

static int rewrite(const struct mp_step *step, const char *text, size_t length, bool at_start,
                   struct mp_bytes *out, struct mp_work *w)
{
    switch (step->kind) {
    case MP_STEP_NFC:
        return mp_nfc_append(text, length, out, w);
    case MP_STEP_REPLACE:
        return append_replaced(step, text, length, out, w);
    case MP_STEP_PREPEND:
        append_prepended(step, text, length, at_start, out);
        break;
    default:
        for (size_t i = 0; i < length; i++) {
            mp_byte_char_append(out, (unsigned char)text[i]);
        }
    }
    return mp_work_count(w, 1 + length);
}

static int rewrite_all(const struct mp_step *step, struct mp_pieces *p, bool at_start,
                       struct mp_work *w)
{
    struct mp_bytes out = {0};
    mp_bytes_append(&out, "", 0); /* data is not NULL, even if all pieces are empty */
    int rc = MP_OK;
    for (size_t i = 0; i < p->count && rc == MP_OK; i++) {
        struct mp_piece *piece = &p->items[i];
        size_t start = out.length;
        rc = rewrite(step, p->text.data + piece->start, piece->end - piece->start,
                     at_start && i == 0, &out, w);
        *piece = (struct mp_piece){.start = start, .end = out.length};
        rc = rc == MP_OK ? mp_work_check_growth(w, out.length) : rc;
    }
    mp_bytes_free(&p->text);
    p->text = out;
    return rc;
}

/* ---- splitting ---- */

/* Whether a part of a piece belongs to the same new piece as the part before it. */
static bool joins(enum mp_split_behavior behavior, bool before_is_match, bool is_match)
{
    switch (behavior) {
    case MP_SPLIT_MERGED_WITH_PREVIOUS:
        return is_match && !before_is_match;
    case MP_SPLIT_MERGED_WITH_NEXT:
        return before_is_match && !is_match;
    case MP_SPLIT_CONTIGUOUS:
        return is_match == before_is_match;
    default:
        return false;
    }
}

/* The parts of one piece: matches and what is between them, as they are added. */
struct splitter {
    const struct mp_step *step;
    struct mp_pieces *out;
    bool has_last; /* out's last piece may still grow */
    bool last_is_match;
};

static void add_part(struct splitter *s, size_t start, size_t end, bool found)
{
    bool is_match = found != s->step->invert;
    if (s->step->behavior == MP_SPLIT_REMOVED && is_match) {
        return;
    }
    struct mp_pieces *out = s->out;
    if (s->has_last && joins(s->step->behavior, s->last_is_match, is_match)) {
        out->items[out->count - 1].end = end;
    } else {
        mp_pieces_push(out, start, end);
    }
    s->has_last = true;
    s->last_is_match = is_match;
}

static int split(const struct mp_step *step, const char *text, struct mp_piece piece,
                 struct mp_pieces *out, struct mp_work *w)
{
    struct splitter s = {.step = step, .out = out};
    struct mp_matches m;
    mp_matches_begin(&m, step->pattern, text + piece.start, piece.end - piece.start, w);
    size_t done = piece.start;
    bool found;
    int rc;
    while ((rc = mp_matches_next(&m, &found)) == MP_OK && found) {
        size_t start = piece.start + m.start;
        if (start > done) {
            add_part(&s, done, start, false);
        }
        done = piece.start + m.end;
        add_part(&s, start, done, true);
    }
    mp_matches_end(&m);
    if (done < piece.end) {
        add_part(&s, done, piece.end, false);
    }
    return rc;
}

static void drop_empty(struct mp_pieces *p)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->count; i++) {
        if (p->items[i].start < p->items[i].end) {
            p->items[kept++] = p->items[i];
        }
    }
    p->count = kept;
}

static int split_all(const struct mp_step *step, struct mp_pieces *p, struct mp_work *w)
{
    struct mp_pieces out = {.text = p->text};
    int rc = MP_OK;
    for (size_t i = 0; i < p->count && rc == MP_OK; i++) {
        rc = split(step, p->text.data, p->items[i], &out, w);
    }
    drop_empty(&out);
    free(p->items);
    *p = out;
    return rc;
}

int mp_steps_run(const struct mp_steps *steps, struct mp_pieces *pieces, bool at_start,
                 struct mp_work *w)
{
    w->given = pieces->text.length;
    int rc = MP_OK;
    for (size_t i = 0; i < steps->count && rc == MP_OK; i++) {
        const struct mp_step *step = &steps->items[i];
        rc = step->kind == MP_STEP_SPLIT ? split_all(step, pieces, w)
                                         : rewrite_all(step, pieces, at_start, w);
        if (rc == MP_ERR_RUNTIME && w->err != NULL) {
            mp_fail_prefix(w->err, "tokenizer: step %zu of %zu of its %s", i + 1, steps->count,
                           steps->name);
        }
    }
    return rc;
}
