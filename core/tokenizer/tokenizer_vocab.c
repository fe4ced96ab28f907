/* The tables of a BPE model: tokens by id and by text, merges by pair. */
#include "core/base/hash.h"
#include "core/base/memory.h"
#include "core/tokenizer/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

/* A power of two with at least half of it free for count entries. */
static size_t table_size(size_t count)
{
    size_t size = 16;
    while (size < 2 * count) {
        size *= 2;
    }
    return size;
}

/* ---- tokens ---- */

static size_t hash_text(const char *text, size_t length)
{
    uint64_t h = mp_hash_bytes(MP_HASH_START, text, length);
    return (size_t)(h ^ (h >> 32));
}

/* The slot of text, or the free one where it belongs. */
static int32_t *token_slot(const struct mp_vocab *v, const char *text, size_t length)
{
    size_t i = hash_text(text, length) & (v->slot_count - 1);
    while (v->slots[i] >= 0) {
        const struct mp_token *token = &v->tokens[v->slots[i]];
        if (token->length == length && memcmp(token->text, text, length) == 0) {
            break;
        }
        i = (i + 1) & (v->slot_count - 1);
    }
    return &v->slots[i];
}

bool mp_vocab_set(struct mp_vocab *v, int32_t id, char *text, size_t length)
{
    if (id >= v->capacity) {
        int32_t capacity = v->capacity == 0 ? 1024 : v->capacity;
        while (capacity <= id) {
            capacity *= 2;
        }
        v->tokens = mp_xrealloc(v->tokens, (size_t)capacity, sizeof *v->tokens);
        memset(v->tokens + v->capacity, 0, (size_t)(capacity - v->capacity) * sizeof *v->tokens);
        v->capacity = capacity;
    }
    if (v->tokens[id].text != NULL) {
        return false;
    }
    v->tokens[id] = (struct mp_token){.text = text, .length = length};
    v->size = id >= v->size ? id + 1 : v->size;
    return true;
}

void mp_vocab_index(struct mp_vocab *v)
{
    v->slot_count = table_size((size_t)v->size);
    v->slots = mp_xmalloc(v->slot_count * sizeof *v->slots);
    for (size_t i = 0; i < v->slot_count; i++) {
        v->slots[i] = -1;
    }
    for (int32_t id = 0; id < v->size; id++) {
        if (v->tokens[id].text != NULL) {
            *token_slot(v, v->tokens[id].text, v->tokens[id].length) = id;
        }
    }
}

int32_t mp_vocab_find(const struct mp_vocab *v, const char *text, size_t length)
{
    return *token_slot(v, text, length);
}

const struct mp_token *mp_vocab_token(const struct mp_vocab *v, int64_t id)
{
    bool known = id >= 0 && id < v->size && v->tokens[id].text != NULL;
    return known ? &v->tokens[id] : NULL;
}

void mp_vocab_free(struct mp_vocab *v)
{
    for (int32_t id = 0; id < v->size; id++) {
        free(v->tokens[id].text);
    }
    free(v->tokens);
    free(v->slots);
    *v = (struct mp_vocab){0};
}

/* ---- merges ---- */

/* The slot of the pair, or the free one where it belongs. */
static struct mp_merge *merge_slot(const struct mp_merges *m, int32_t left, int32_t right)
{
    uint64_t key = ((uint64_t)(uint32_t)left << 32) | (uint32_t)right;
    size_t i = (size_t)((key * 0x9e3779b97f4a7c15U) >> 32) & (m->slot_count - 1);
    while (m->slots[i].left >= 0 && (m->slots[i].left != left || m->slots[i].right != right)) {
        i = (i + 1) & (m->slot_count - 1);
    }
    return &m->slots[i];
}

void mp_merges_init(struct mp_merges *m, size_t count)
{
    m->slot_count = table_size(count);
    m->slots = mp_xmalloc(m->slot_count * sizeof *m->slots);
    for (size_t i = 0; i < m->slot_count; i++) {
        m->slots[i].left = -1;
    }
}

void mp_merges_set(struct mp_merges *m, struct mp_merge merge)
{
    *merge_slot(m, merge.left, merge.right) = merge;
}

const struct mp_merge *mp_merges_find(const struct mp_merges *m, int32_t left, int32_t right)
{
    const struct mp_merge *merge = merge_slot(m, left, right);
    return merge->left >= 0 ? merge : NULL;
}

void mp_merges_free(struct mp_merges *m)
{
    free(m->slots);
    *m = (struct mp_merges){0};
}
