/* How the fast CPU variants deal their work out. A unit is a KV head of a row that has more tokens
 * than samples; its tokens are cut in chunks. Units are taken in waves, as many at a time as keep
 * their logits in the caches of the team, and the chunks of a wave are dealt out evenly: a thread
 * has the same chunks in every phase, so that it finds in its cache what it left there. */
#ifndef MP_CODELETS_CODE_SELECT_PLAN_H
#define MP_CODELETS_CODE_SELECT_PLAN_H

#include "codelets/code_select/code_select_cpu.h"

struct code_unit {
    const struct key_codes *codes;
    int64_t row;
    int kv_head;
    int64_t samples;
    int64_t chunks;
    int64_t stride; /* tokens of a logits row: whole blocks */
    float *logits;  /* [group][stride]; then weights (int32), then x in place of the first row */
    uint64_t *sums; /* [chunks] of pi */
    float *large;   /* [num_large] x of the tokens with x >= 1 */
    int64_t num_large;
    int first_part;
    int num_parts;
};

/* Chunks of one unit that one thread has. */
struct code_part {
    int unit;
    int64_t first;
    int64_t end;
    uint64_t total;     /* of x */
    uint64_t inclusion; /* of pi */
    float scale;        /* c' */
    float *max;         /* [group] of the logits */
    uint64_t *z;        /* [group] of the weights */
};

struct code_wave {
    int first_unit, end_unit;
    int *first_part; /* [threads + 1] parts of each thread */
};

struct code_plan {
    struct code_unit *units;
    struct code_part *parts;
    struct code_wave *waves;
    int num_waves;
    int group;
};

/* For a team of so many threads; in scratch of the calling thread. */
struct code_plan code_plan_make(const struct code_select_args *a, int threads);

#endif
