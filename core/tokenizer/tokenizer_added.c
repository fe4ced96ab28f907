/* Finding added tokens in a text. */
#include "core/base/memory.h"
#include "core/tokenizer/tokenizer_internal.h"
#include "core/tokenizer/unicode/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ---- the set ---- */

void mp_added_push(struct mp_added_set *set, struct mp_added_token token)
{
    if (set->count == set->capacity) {
        set->capacity = set->capacity == 0 ? 16 : 2 * set->capacity;
        set->items = mp_xrealloc(set->items, set->capacity, sizeof *set->items);
    }
    set->items[set->count++] = token;
    set->starts[(unsigned char)token.content.data[0]] = true;
}

static int compare(const void *left, const void *right)
{
    const struct mp_added_token *a = left;
    const struct mp_added_token *b = right;
    size_t common = a->content.length < b->content.length ? a->content.length : b->content.length;
    int order = memcmp(a->content.data, b->content.data, common);
    if (order != 0) {
        return order;
    }
    if (a->content.length != b->content.length) {
        return a->content.length < b->content.length ? -1 : 1;
    }
    return a->id < b->id ? -1 : a->id > b->id;
}

const struct mp_added_token *mp_added_finish(struct mp_added_set *set)
{
    if (set->count > 0) {
        qsort(set->items, set->count, sizeof *set->items, compare);
    }
    for (size_t i = 1; i < set->count; i++) {
        const struct mp_bytes *before = &set->items[i - 1].content;
        const struct mp_bytes *content = &set->items[i].content;
        if (before->length == content->length &&
            memcmp(before->data, content->data, content->length) == 0) {
            return &set->items[i];
        }
    }
    return NULL;
}

void mp_added_free(struct mp_added_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        mp_bytes_free(&set->items[i].content);
    }
    free(set->items);
    *set = (struct mp_added_set){0};
}

/* The first of items [low, high), all the same up to byte `at`, whose byte there is >= byte.
 * Contents that end before come first. */
static size_t lower_bound(const struct mp_added_set *set, size_t low, size_t high, size_t at,
                          int byte)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct mp_bytes *content = &set->items[middle].content;
        int found = at < content->length ? (unsigned char)content->data[at] : -1;
        if (found < byte) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Whether a token may be found in bytes that are content, or not. */
static bool may_be(const struct mp_added_token *token, const char *content)
{
    return !token->special || content == NULL || memchr(content, 1, token->content.length) == NULL;
}

/* The longest token at the start of text, or NULL; *seen: how many bytes were looked at. */
static const struct mp_added_token *longest(const struct mp_added_set *set, const char *text,
                                            const char *content, size_t length, size_t *seen)
{
    const struct mp_added_token *best = NULL;
    size_t low = 0;
    size_t high = set->count;
    size_t at = 0;
    for (; at < length && low < high; at++) {
        int byte = (unsigned char)text[at];
        low = lower_bound(set, low, high, at, byte);
        high = lower_bound(set, low, high, at, byte + 1);
        if (low < high && set->items[low].content.length == at + 1 &&
            may_be(&set->items[low], content)) {
            best = &set->items[low];
        }
    }
    *seen = at;
    return best;
}

/* ---- what is around a match ---- */

static int32_t char_at(const char *text, size_t length)
{
    int32_t c = 0;
    utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length, &c);
    return c;
}

/* Where the character that ends at `end` starts; end > 0. */
static size_t char_before(const char *text, size_t end)
{
    do {
        end--;
    } while (((unsigned char)text[end] & 0xc0) == 0x80);
    return end;
}

/* \w of the regular expressions that look around added tokens: the joiners too. */
static bool is_word(int32_t c)
{
    return mp_char_is_word((uint32_t)c) || c == 0x200c || c == 0x200d;
}

static bool inside_word(const char *text, size_t length, size_t start, size_t end)
{
    size_t before = start > 0 ? char_before(text, start) : 0;
    return (start > 0 && is_word(char_at(text + before, start - before))) ||
           (end < length && is_word(char_at(text + end, length - end)));
}

/* Start of the white space that ends at `end`, not before `low`. */
static size_t space_start(const char *text, size_t low, size_t end)
{
    while (end > low) {
        size_t before = char_before(text, end);
        if (!mp_char_is_space((uint32_t)char_at(text + before, end - before))) {
            break;
        }
        end = before;
    }
    return end;
}

/* End of the white space that starts at `start`. */
static size_t space_end(const char *text, size_t length, size_t start)
{
    while (start < length && mp_char_is_space((uint32_t)char_at(text + start, length - start))) {
        start += mp_utf8_length(text[start]);
    }
    return start;
}

/* ---- cutting ---- */

static void push_segment(struct mp_segments *s, size_t start, size_t end, int32_t id)
{
    if (s->count == s->capacity) {
        s->capacity = s->capacity == 0 ? 8 : 2 * s->capacity;
        s->items = mp_xrealloc(s->items, s->capacity, sizeof *s->items);
    }
    s->items[s->count++] = (struct mp_segment){.start = start, .end = end, .id = id};
}

/* A text while it is cut. */
struct cutter {
    const char *text; /* [length] */
    size_t length;
    struct mp_segments *out;
    size_t done;      /* end of the last segment */
    size_t space_end; /* of white space that was looked at last: it need not be again */
    struct mp_work *work;
};

/* Adds the token found at [start, end), with what it takes along, and the text before it. */
static int add_token(struct cutter *c, const struct mp_added_token *token, size_t start, size_t end)
{
    size_t seen = end - start;
    if (token->lstrip && start > c->done) {
        size_t stripped = space_start(c->text, c->done, start);
        seen += start - stripped;
        start = stripped;
    }
    if (token->rstrip) {
        if (end >= c->space_end) {
            c->space_end = space_end(c->text, c->length, end);
            seen += c->space_end - end;
        }
        end = c->space_end;
    }
    if (c->done < start) {
        push_segment(c->out, c->done, start, -1);
    }
    push_segment(c->out, start, end, token->id);
    c->done = end;
    return mp_work_count(c->work, seen);
}

int mp_added_split(const struct mp_added_set *set, const char *text, const char *content,
                   size_t length, struct mp_segments *out, struct mp_work *w)
{
    struct cutter c = {.text = text, .length = length, .out = out, .work = w};
    int rc = MP_OK;
    size_t at = 0;
    while (at < length && rc == MP_OK) {
        size_t seen = 1;
        const struct mp_added_token *token =
            set->starts[(unsigned char)text[at]]
                ? longest(set, text + at, content != NULL ? content + at : NULL, length - at, &seen)
                : NULL;
        size_t start = at;
        at += token == NULL ? 1 : token->content.length;
        rc = mp_work_count(w, seen);
        if (rc == MP_OK && token != NULL &&
            !(token->single_word && inside_word(text, length, start, at))) {
            rc = add_token(&c, token, start, at);
        }
    }
    if (c.done < length) {
        push_segment(out, c.done, length, -1);
    }
    return rc;
}
