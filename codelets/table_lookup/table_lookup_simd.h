/* table_lookup for one instruction set. The file that includes this defines second_bits64 and the
 * name of the kernel, TABLE_LOOKUP.
 *
 * A token's state is a byte: 0, then 1, 3, 7 .. 255 as its collisions go 0, 1, 2, 3 .. 8 and more.
 * Nothing overflows however many tables there are, and bit 1 says "at least 2". The states of a
 * block stay in the second-level cache. */
#include "codelets/common/scratch.h"
#include "codelets/table_lookup/table_lookup.h"

#include <omp.h>
#include <string.h>

enum {
    LINE = 64,                /* bytes of a cache line, states looked at together */
    AT_ONCE = 4,              /* ids of a line written at once; seldom are more selected */
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

/* The ids of a bucket are distinct: four states are read before the first is written, so that none
 * waits for another. */
static inline void walk_bucket(const uint16_t *restrict ids, uint32_t first, uint32_t end,
                               uint8_t *restrict state)
{
    uint32_t i = first;
    for (; i + 4 <= end; i += 4) {
        uint8_t *s[4];
        uint8_t next[4];
        for (int j = 0; j < 4; j++) {
            s[j] = state + ids[i + (uint32_t)j];
            next[j] = (uint8_t)(*s[j] * 2 + 1);
        }
        for (int j = 0; j < 4; j++) {
            *s[j] = next[j];
        }
    }
    for (; i < end; i++) {
        state[ids[i]] = (uint8_t)(state[ids[i]] * 2 + 1);
    }
}

/* Records the collisions of all tokens of block b. Each bucket is two dependent misses, its offsets
 * and its ids, so the tables pass through three stages, AHEAD tables apart. What of t the loop
 * needs is read before it: for all the compiler knows, the states overlap it. */
static void walk_tables(const struct lsh_tables *t, int h, int64_t b, const uint16_t *codes,
                        uint8_t *state)
{
    const uint32_t *offsets = lsh_offsets(t, h, b, 0);
    const int64_t next_offsets = lsh_offsets(t, h, b, 1) - offsets;
    const uint16_t *ids = lsh_ids(t, h, b, 0);
    const int64_t next_ids = t->capacity;
    const int L = t->L;
    for (int l = -2 * AHEAD; l < L; l++) {
        int second = l + AHEAD;
        int first = l + 2 * AHEAD;
        if (first < L) {
            _mm_prefetch((const char *)(offsets + first * next_offsets + codes[first]),
                         _MM_HINT_T0);
        }
        if (second >= 0 && second < L) {
            const uint32_t *bucket = offsets + second * next_offsets + codes[second];
            prefetch_bucket(ids + second * next_ids, bucket[0], bucket[1]);
        }
        if (l >= 0) {
            const uint32_t *bucket = offsets + l * next_offsets + codes[l];
            walk_bucket(ids + l * next_ids, bucket[0], bucket[1], state);
        }
    }
}

/* Writes the selected ones of `tokens` tokens as first_id + i; returns their number. Leaves the
 * states cleared. How many there are in a line nobody can predict, so AT_ONCE are written in any
 * case, those beyond the last to be overwritten. There is room for them: n <= i at the start of a
 * line, and so n + AT_ONCE <= tokens. */
static int32_t collect(uint8_t *state, int64_t tokens, uint32_t first_id, uint32_t *ids)
{
    int32_t n = 0;
    for (int64_t i = 0; i < tokens; i += LINE) {
        uint64_t selected = second_bits64(state + i);
        uint32_t id = first_id + (uint32_t)i;
        int32_t end = n + (int32_t)_mm_popcnt_u64(selected);
        memset(state + i, 0, LINE);
        if (i + AT_ONCE <= tokens) {
            for (int j = 0; j < AT_ONCE; j++) {
                ids[n + j] = id + (uint32_t)_tzcnt_u64(selected);
                selected = _blsr_u64(selected);
            }
            n = end < n + AT_ONCE ? end : n + AT_ONCE;
        }
        for (; n < end; n++) {
            ids[n] = id + (uint32_t)_tzcnt_u64(selected);
            selected = _blsr_u64(selected);
        }
    }
    return n;
}

/* Blocks of the longest request. */
static int64_t most_blocks(const struct table_lookup_args *a)
{
    int64_t most = 0;
    for (int64_t r = 0; r < a->rows; r++) {
        int64_t blocks = a->tables[r] == NULL ? 0 : lsh_num_blocks(a->tables[r]->count);
        most = blocks > most ? blocks : most;
    }
    return most;
}

/* In a view of tables the collisions of tokens beyond it were recorded too. */
static void forget_rest(const struct lsh_tables *t, int64_t tokens, uint8_t *state)
{
    if (t->count < t->capacity && tokens < LSH_BLOCK_TOKENS) {
        memset(state + tokens, 0, (size_t)(LSH_BLOCK_TOKENS - tokens));
    }
}

/* Selects from block b for head h of row r, into the ids that the block would begin with if every
 * token before it were selected; returns how many. */
static int32_t select_block(const struct table_lookup_args *a, int64_t r, int h, int64_t b,
                            uint8_t *state)
{
    const struct lsh_tables *t = a->tables[r];
    int64_t first = b * LSH_BLOCK_TOKENS;
    int64_t rest = t == NULL ? 0 : t->count - first;
    if (rest <= 0) {
        return 0;
    }
    const uint16_t *codes = a->codes + (r * a->num_heads + h) * a->L;
    walk_tables(t, h / (a->num_heads / t->num_kv_heads), b, codes, state);
    int64_t tokens = rest < LSH_BLOCK_TOKENS ? rest : LSH_BLOCK_TOKENS;
    forget_rest(t, tokens, state);
    return collect(state, tokens, (uint32_t)first, a->ids[r] + h * a->ids_stride[r] + first);
}

/* Moves what the blocks selected together; returns how many ids there are. */
static int32_t join_blocks(uint32_t *ids, const int32_t *selected, int64_t blocks)
{
    int32_t n = blocks > 0 ? selected[0] : 0;
    for (int64_t b = 1; b < blocks; b++) {
        if (selected[b] > 0) { /* a request without so many tokens may have no ids */
            memmove(ids + n, ids + b * LSH_BLOCK_TOKENS, (size_t)selected[b] * sizeof *ids);
            n += selected[b];
        }
    }
    return n;
}

/* Threads share out blocks, not heads: one request has few heads for many threads. Last blocks, the
 * shortest, come last. */
void TABLE_LOOKUP(const struct table_lookup_args *a)
{
    int64_t heads = a->rows * a->num_heads;
    int64_t blocks = most_blocks(a);
    mp_scratch_reset();
    int32_t *selected = mp_scratch((size_t)(heads * blocks), sizeof *selected);
#pragma omp parallel
    {
        if (omp_get_thread_num() > 0) {
            mp_scratch_reset(); /* each thread has scratch of its own */
        }
        uint8_t *state = mp_scratch(LSH_BLOCK_TOKENS, sizeof *state);
        memset(state, 0, LSH_BLOCK_TOKENS);
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t b = 0; b < blocks; b++) {
            for (int64_t i = 0; i < heads; i++) {
                selected[i * blocks + b] =
                    select_block(a, i / a->num_heads, (int)(i % a->num_heads), b, state);
            }
        }
#pragma omp for
        for (int64_t i = 0; i < heads; i++) {
            int64_t r = i / a->num_heads;
            int64_t h = i % a->num_heads;
            uint32_t *ids = a->ids[r] == NULL ? NULL : a->ids[r] + h * a->ids_stride[r];
            a->nnz[i] = join_blocks(ids, selected + i * blocks, blocks);
        }
    }
}
