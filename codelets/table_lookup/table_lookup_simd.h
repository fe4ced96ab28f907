/* table_lookup for one instruction set. The file that includes this defines second_bits64 and the
 * name of the kernel, TABLE_LOOKUP.
 *
 * A token's state is a byte: 0, then 1, 3, 7 .. 255 as its collisions go 0, 1, 2, 3 .. 8 and more.
 * Nothing overflows however many tables there are, and bit 1 says "at least 2". The states of a
 * block stay in the second-level cache. */
#include "codelets/common/scratch.h"
#include "codelets/table_lookup/table_lookup.h"

#include <string.h>

enum {
    LINE = 64,                /* bytes of a cache line, states looked at together */
    AHEAD = 8,                /* tables whose ids are on their way while one is walked */
    MAX_PREFETCHED_LINES = 8, /* of a bucket; the hardware follows a longer run by itself */
};

/* Always inlined: GCC takes a function that only prefetches for one without effect, and drops the
 * calls. */
static inline __attribute__((always_inline)) void prefetch_bucket(const uint16_t *ids,
                                                                  uint32_t first, uint32_t end)
{
    const char *p = (const char *)(ids + first);
    const char *last = (const char *)(ids + end);
    for (int i = 0; i < MAX_PREFETCHED_LINES && p < last; i++, p += LINE) {
        _mm_prefetch(p, _MM_HINT_T0);
    }
}

static inline void walk_bucket(const uint16_t *restrict ids, uint32_t first, uint32_t end,
                               uint8_t *restrict state)
{
    for (uint32_t i = first; i < end; i++) {
        state[ids[i]] = (uint8_t)(state[ids[i]] * 2 + 1);
    }
}

/* Records the collisions of all tokens of block b. Each bucket is two dependent misses, its offsets
 * and its ids, so the tables pass through three stages, AHEAD tables apart. */
static void walk_tables(const struct lsh_tables *t, int h, int64_t b, const uint16_t *codes,
                        uint8_t *state)
{
    for (int l = -2 * AHEAD; l < t->L; l++) {
        int second = l + AHEAD;
        int first = l + 2 * AHEAD;
        if (first < t->L) {
            _mm_prefetch((const char *)(lsh_offsets(t, h, b, first) + codes[first]), _MM_HINT_T0);
        }
        if (second >= 0 && second < t->L) {
            const uint32_t *bucket = lsh_offsets(t, h, b, second) + codes[second];
            prefetch_bucket(lsh_ids(t, h, b, second), bucket[0], bucket[1]);
        }
        if (l >= 0) {
            const uint32_t *bucket = lsh_offsets(t, h, b, l) + codes[l];
            walk_bucket(lsh_ids(t, h, b, l), bucket[0], bucket[1], state);
        }
    }
}

/* Writes the selected ones of `tokens` tokens as first_id + i; returns their number. Leaves the
 * states cleared. */
static int32_t collect(uint8_t *state, int64_t tokens, uint32_t first_id, uint32_t *ids)
{
    int32_t n = 0;
    for (int64_t i = 0; i < tokens; i += LINE) {
        uint64_t selected = second_bits64(state + i);
        memset(state + i, 0, LINE);
        while (selected != 0) {
            ids[n++] = first_id + (uint32_t)i + (uint32_t)__builtin_ctzll(selected);
            selected &= selected - 1;
        }
    }
    return n;
}

static int32_t select_tokens(const struct lsh_tables *t, int h, const uint16_t *codes,
                             uint8_t *state, uint32_t *ids)
{
    int32_t nnz = 0;
    for (int64_t b = 0; b < lsh_num_blocks(t->count); b++) {
        int64_t first = b * LSH_BLOCK_TOKENS;
        int64_t rest = t->count - first;
        walk_tables(t, h, b, codes, state);
        nnz += collect(state, rest < LSH_BLOCK_TOKENS ? rest : LSH_BLOCK_TOKENS, (uint32_t)first,
                       ids + nnz);
    }
    return nnz;
}

void TABLE_LOOKUP(const struct table_lookup_args *a)
{
#pragma omp parallel
    {
        mp_scratch_reset();
        uint8_t *state = mp_scratch(LSH_BLOCK_TOKENS, sizeof *state);
        memset(state, 0, LSH_BLOCK_TOKENS);
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t r = 0; r < a->rows; r++) {
            for (int h = 0; h < a->num_heads; h++) {
                const struct lsh_tables *t = a->tables[r];
                int32_t *nnz = a->nnz + r * a->num_heads + h;
                *nnz = 0;
                if (t != NULL && t->count > 0) {
                    *nnz = select_tokens(t, h / (a->num_heads / t->num_kv_heads),
                                         a->codes + (r * a->num_heads + h) * a->L, state,
                                         a->ids[r] + h * a->ids_stride[r]);
                }
            }
        }
    }
}
