/* Byte pair encoding of a word: its characters are a linked list of symbols, and a heap gives the
 * pair with the lowest rank (the leftmost of equals) until none is left: O(n log n). */
#include "core/base/memory.h"
#include "core/tokenizer/tokenizer_internal.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NONE SIZE_MAX

struct symbol {
    int32_t id;  /* -1: merged into the symbol before it */
    size_t prev; /* index, or NONE */
    size_t next;
};

/* A pair of neighbours that can merge. Out of date if they have changed since. */
struct candidate {
    uint32_t rank;
    int32_t merged;
    size_t left; /* index of the left symbol */
};

/* Words occur again and again: the ids of one are where out first got them. */
enum { CACHED_WORD_BYTES = 47, CACHE_SLOTS = 4096 };
struct cached_word {
    uint8_t length; /* 0: free */
    char text[CACHED_WORD_BYTES];
    size_t first; /* out->data[first .. first + count) */
    size_t count;
};

struct mp_bpe {
    const struct mp_tokenizer *t;
    struct mp_ids *out;
    struct mp_work *work;
    size_t moves; /* of candidates in the heap, not yet counted as work */

    struct symbol *symbols; /* [symbol_count] */
    size_t symbol_count;
    size_t symbol_capacity;
    struct candidate *heap; /* [heap_count], each <= its children 2i + 1 and 2i + 2 */
    size_t heap_count;
    size_t heap_capacity;

    struct cached_word *cache; /* [CACHE_SLOTS], a word's slot by its hash */
};

struct mp_bpe *mp_bpe_new(const struct mp_tokenizer *t, struct mp_ids *out, struct mp_work *w)
{
    struct mp_bpe *b = mp_xcalloc(1, sizeof *b);
    b->t = t;
    b->out = out;
    b->work = w;
    b->cache = mp_xcalloc(CACHE_SLOTS, sizeof *b->cache);
    return b;
}

void mp_bpe_free(struct mp_bpe *b)
{
    free(b->symbols);
    free(b->heap);
    free(b->cache);
    free(b);
}

/* ---- heap ---- */

static bool comes_before(const struct candidate *a, const struct candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static void heap_push(struct mp_bpe *b, struct candidate c)
{
    if (b->heap_count == b->heap_capacity) {
        b->heap_capacity = b->heap_capacity == 0 ? 64 : 2 * b->heap_capacity;
        b->heap = mp_xrealloc(b->heap, b->heap_capacity, sizeof *b->heap);
    }
    size_t i = b->heap_count++;
    while (i > 0 && comes_before(&c, &b->heap[(i - 1) / 2])) {
        b->heap[i] = b->heap[(i - 1) / 2];
        i = (i - 1) / 2;
        b->moves++;
    }
    b->heap[i] = c;
}

static struct candidate heap_pop(struct mp_bpe *b)
{
    struct candidate top = b->heap[0];
    struct candidate last = b->heap[--b->heap_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < b->heap_count && comes_before(&b->heap[child + 1], &b->heap[child])) {
            child++;
        }
        if (child >= b->heap_count || !comes_before(&b->heap[child], &last)) {
            break;
        }
        b->heap[i] = b->heap[child];
        i = child;
        b->moves++;
    }
    b->heap[i] = last;
    return top;
}

/* ---- symbols ---- */

static void add_symbol(struct mp_bpe *b, int32_t id)
{
    if (b->symbol_count == b->symbol_capacity) {
        b->symbol_capacity = b->symbol_capacity == 0 ? 64 : 2 * b->symbol_capacity;
        b->symbols = mp_xrealloc(b->symbols, b->symbol_capacity, sizeof *b->symbols);
    }
    size_t i = b->symbol_count++;
    b->symbols[i] = (struct symbol){.id = id, .prev = i == 0 ? NONE : i - 1, .next = NONE};
    if (i > 0) {
        b->symbols[i - 1].next = i;
    }
}

/* Adds the tokens of a character's bytes; false if some byte has none. */
static bool add_bytes(struct mp_bpe *b, const char *bytes, size_t length)
{
    const int32_t *byte_ids = b->t->byte_ids;
    for (size_t i = 0; i < length; i++) {
        if (byte_ids[(unsigned char)bytes[i]] < 0) {
            return false;
        }
    }
    for (size_t i = 0; i < length; i++) {
        add_symbol(b, byte_ids[(unsigned char)bytes[i]]);
    }
    return true;
}

static void add_characters(struct mp_bpe *b, const char *word, size_t length)
{
    const struct mp_tokenizer *t = b->t;
    /* As in the reference implementation an unknown character waits for the next known one, even
     * if characters that fall back to bytes come first. */
    bool unk_waits = false;
    size_t n;
    for (size_t at = 0; at < length; at += n) {
        n = mp_utf8_length(word[at]);
        int32_t id = mp_vocab_find(&t->vocab, word + at, n);
        if (id < 0 && add_bytes(b, word + at, n)) {
            continue;
        }
        if (unk_waits && (id >= 0 || !t->fuse_unk)) {
            add_symbol(b, t->unk_id);
        }
        unk_waits = id < 0 && t->unk_id >= 0;
        if (id >= 0) {
            add_symbol(b, id);
        }
    }
    if (unk_waits) {
        add_symbol(b, t->unk_id);
    }
}

/* ---- merging ---- */

/* The merge of the symbol at left and the next one, or NULL. */
static const struct mp_merge *merge_at(const struct mp_bpe *b, size_t left)
{
    const struct symbol *s = &b->symbols[left];
    if (s->id < 0 || s->next == NONE) {
        return NULL;
    }
    return mp_merges_find(&b->t->merges, s->id, b->symbols[s->next].id);
}

static void consider(struct mp_bpe *b, size_t left)
{
    const struct mp_merge *m = merge_at(b, left);
    if (m != NULL) {
        heap_push(b, (struct candidate){.rank = m->rank, .merged = m->merged, .left = left});
    }
}

static int count_moves(struct mp_bpe *b)
{
    size_t moves = b->moves;
    b->moves = 0;
    return mp_work_count(b->work, 1 + moves);
}

static int merge_all(struct mp_bpe *b)
{
    b->heap_count = 0;
    int rc = MP_OK;
    for (size_t i = 0; i < b->symbol_count && rc == MP_OK; i++) {
        consider(b, i);
        rc = count_moves(b);
    }
    while (b->heap_count > 0 && rc == MP_OK) {
        struct candidate c = heap_pop(b);
        rc = count_moves(b);
        const struct mp_merge *m = merge_at(b, c.left);
        if (m == NULL || m->merged != c.merged) {
            continue;
        }
        struct symbol *left = &b->symbols[c.left];
        struct symbol *right = &b->symbols[left->next];
        left->id = c.merged;
        left->next = right->next;
        right->id = -1;
        if (left->next != NONE) {
            b->symbols[left->next].prev = c.left;
        }
        if (left->prev != NONE) {
            consider(b, left->prev);
        }
        consider(b, c.left);
    }
    return rc;
}

static int encode_word(struct mp_bpe *b, const char *word, size_t length)
{
    int32_t whole = b->t->ignore_merges ? mp_vocab_find(&b->t->vocab, word, length) : -1;
    if (whole >= 0) {
        mp_ids_push(b->out, whole);
        return MP_OK;
    }
    b->symbol_count = 0;
    add_characters(b, word, length);
    int rc = merge_all(b);
    for (size_t i = 0; i < b->symbol_count && rc == MP_OK; i++) {
        if (b->symbols[i].id >= 0) {
            mp_ids_push(b->out, b->symbols[i].id);
        }
    }
    return rc;
}

/* ---- cache ---- */

static struct cached_word *cache_slot(const struct mp_bpe *b, const char *word, size_t length)
{
    uint64_t h = length;
    for (size_t i = 0; i < length; i++) {
        h = (h ^ (unsigned char)word[i]) * 0x9e3779b97f4a7c15U;
    }
    return &b->cache[(h >> 40) % CACHE_SLOTS];
}

int mp_bpe_word(struct mp_bpe *b, const char *word, size_t length)
{
    int rc = mp_work_count(b->work, length);
    if (rc != MP_OK || length > CACHED_WORD_BYTES) {
        return rc != MP_OK ? rc : encode_word(b, word, length);
    }
    struct cached_word *c = cache_slot(b, word, length);
    if (c->length == length && memcmp(c->text, word, length) == 0) {
        for (size_t i = 0; i < c->count; i++) {
            mp_ids_push(b->out, b->out->data[c->first + i]);
        }
        return MP_OK;
    }
    c->first = b->out->count;
    rc = encode_word(b, word, length);
    c->count = b->out->count - c->first;
    c->length = (uint8_t)length;
    memcpy(c->text, word, length);
    return rc;
}
