/* Parts of an attention output: each is the attention of some query heads over some of their
 * tokens. Merged by log-sum-exp they are the attention over all of these tokens. */
#ifndef MP_CODELETS_COMMON_ATTENTION_PART_H
#define MP_CODELETS_COMMON_ATTENTION_PART_H

#include "core/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ATTENTION_MAX_PARTS = 64 };

struct attention_part {
    const float *o;   /* [rows][num_heads][head_dim] */
    const float *lse; /* [rows][num_heads] natural log, -INFINITY where empty; may be NULL where no
                         other part covers the heads */
    int first_head;   /* query heads it covers */
    int num_heads;
};

static inline bool attention_part_covers(const struct attention_part *p, int head)
{
    return head >= p->first_head && head < p->first_head + p->num_heads;
}

/* Where a part that covers the head has its output for it, counted in (row, head) pairs. */
static inline int64_t attention_part_at(const struct attention_part *p, int64_t row, int head)
{
    return row * p->num_heads + (head - p->first_head);
}

/* out [head_dim]: the merge of a row's parts that cover the head,
 *   o = sum_i exp(lse_i - max) o_i / sum_i exp(lse_i - max),
 * in the order of the parts. An empty one (lse = -INFINITY) is not looked at; of none it is 0.
 * Returns ln sum_i exp(lse_i), -INFINITY of none. The reference of what every variant of `output`
 * begins with. */
float attention_part_merge(const struct attention_part *parts, int num_parts, int64_t row, int head,
                     int head_dim, float *out);

/* The part from row `first` on. */
static inline struct attention_part attention_part_rows(const struct attention_part *p,
                                                        int64_t first, int head_dim)
{
    struct attention_part rows = *p;
    rows.o += first * p->num_heads * head_dim;
    rows.lse = p->lse == NULL ? NULL : p->lse + first * p->num_heads;
    return rows;
}

/* One part is everything: nothing is to be merged. */
static inline bool attention_part_is_all(const struct attention_part *parts, int num_parts,
                                         int num_heads)
{
    return num_parts == 1 && parts[0].first_head == 0 && parts[0].num_heads == num_heads;
}

/* Panics unless the parts can be merged for `num_heads` query heads. Returns the most parts that
 * cover the same head. */
static inline int attention_parts_check(const struct attention_part *parts, int num_parts,
                                        int num_heads)
{
    if (num_parts < 1 || num_parts > ATTENTION_MAX_PARTS) {
        mp_panic("%d parts of an attention output: expected 1 to %d", num_parts,
                 (int)ATTENTION_MAX_PARTS);
    }
    int most = 0;
    for (int i = 0; i < num_parts; i++) {
        const struct attention_part *p = &parts[i];
        if (p->first_head < 0 || p->num_heads < 0 || p->first_head + p->num_heads > num_heads) {
            mp_panic("attention part %d: %d heads from %d on, of %d", i, p->num_heads,
                     p->first_head, num_heads);
        }
    }
    for (int h = 0; h < num_heads; h++) {
        int covering = 0;
        bool without_lse = false;
        for (int i = 0; i < num_parts; i++) {
            if (attention_part_covers(&parts[i], h)) {
                covering++;
                without_lse = without_lse || parts[i].lse == NULL;
            }
        }
        if (without_lse && covering > 1) {
            mp_panic("head %d has %d attention parts, and one has no lse", h, covering);
        }
        most = covering > most ? covering : most;
    }
    return most;
}

#endif
