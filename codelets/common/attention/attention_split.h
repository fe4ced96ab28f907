/* Sharing out decode attention: lists of tokens of any length are cut into pieces of about equal
 * size, attended by any thread, and merged. */
#ifndef MP_CODELETS_COMMON_ATTENTION_SPLIT_H
#define MP_CODELETS_COMMON_ATTENTION_SPLIT_H

#include <stdint.h>

/* One list of tokens is attended by one query head (its sampled tokens) or by all query heads of
 * a KV head (its cache). */
struct attention_piece {
    int64_t list;  /* index of the list */
    int64_t first; /* first token, counted in the list */
    int64_t count; /* tokens, >= 1 */
};

enum {
    ATTENTION_PIECE = 256,        /* tokens; smaller pieces do not pay for their start */
    ATTENTION_SHARED_PIECE = 128, /* of tokens that several query heads attend to, and of whose few
                                     lists many threads want a part */
};

struct attention_split {
    struct attention_piece *pieces; /* [num_pieces], list by list */
    int64_t *first_piece;           /* [num_lists + 1] list i has pieces [i], .., [i + 1] - 1 */
    int64_t num_pieces;
    int64_t num_lists;
};

/* Floats of a partial, what one query head has seen of some tokens: the sum of exp(z - max) v, then
 * max, then the sum of exp(z - max). Rounded up so that no two partials share a cache line. */
static inline int64_t attention_partial_size(int head_dim)
{
    return (head_dim + 2 + 15) / 16 * 16;
}

/* Cuts lists of lengths[i] >= 0 tokens, each by its own length alone, into pieces of about `least`
 * tokens or more. The result is scratch of this thread. */
struct attention_split attention_split(const int64_t *lengths, int64_t num_lists, int64_t least);

/* Where the results of the lists go. */
struct attention_output {
    float *o;   /* [num_lists][heads][head_dim] */
    float *lse; /* [num_lists][heads], natural log */
};

/* Merges partials [num_pieces][heads][attention_partial_size]. A list without tokens gives o = 0
 * and lse = -INFINITY. */
void attention_merge(const struct attention_split *split, const float *partials, int heads,
                     int head_dim, const struct attention_output *out);

#endif
