#include "codelets/common/attention/attention_split.h"

#include "codelets/common/scratch.h"

#include <math.h>
#include <string.h>

enum { MOST_PIECES = 64 }; /* of a list: enough for many threads, few enough to merge quickly */

/* Depends on the list alone, not on the team or on the other lists, so that a request's results do
 * not depend on what is attended beside it. */
static int64_t num_pieces(int64_t length, int64_t least)
{
    int64_t pieces = (length + least - 1) / least;
    return pieces < MOST_PIECES ? pieces : MOST_PIECES;
}

struct attention_split attention_split(const int64_t *lengths, int64_t num_lists, int64_t least)
{
    int64_t total = 0;
    for (int64_t i = 0; i < num_lists; i++) {
        total += num_pieces(lengths[i], least);
    }
    struct attention_split split = {.num_lists = num_lists};
    split.first_piece = mp_scratch((size_t)num_lists + 1, sizeof *split.first_piece);
    split.pieces = mp_scratch((size_t)total, sizeof *split.pieces);
    for (int64_t i = 0; i < num_lists; i++) {
        split.first_piece[i] = split.num_pieces;
        int64_t parts = num_pieces(lengths[i], least);
        for (int64_t p = 0; p < parts; p++) {
            int64_t first = lengths[i] * p / parts;
            split.pieces[split.num_pieces++] = (struct attention_piece){
                .list = i, .first = first, .count = lengths[i] * (p + 1) / parts - first};
        }
    }
    split.first_piece[num_lists] = split.num_pieces;
    return split;
}

/* Merges the n partials of one query head, `stride` floats apart. */
static void merge_head(const float *partials, int64_t n, int64_t stride, int head_dim, float *o,
                       float *lse)
{
    float max = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        max = fmaxf(max, partials[i * stride + head_dim]);
    }
    memset(o, 0, (size_t)head_dim * sizeof *o);
    float sum = 0.0f;
    for (int64_t i = 0; i < n; i++) {
        const float *partial = partials + i * stride;
        float weight = expf(partial[head_dim] - max);
        sum += weight * partial[head_dim + 1];
        for (int c = 0; c < head_dim; c++) {
            o[c] += weight * partial[c];
        }
    }
    for (int c = 0; c < head_dim && n > 0; c++) {
        o[c] /= sum;
    }
    *lse = n > 0 ? max + logf(sum) : -INFINITY;
}

void attention_merge(const struct attention_split *split, const float *partials, int heads,
                     int head_dim, const struct attention_output *out)
{
    int64_t size = attention_partial_size(head_dim);
#pragma omp parallel for collapse(2)
    for (int64_t i = 0; i < split->num_lists; i++) {
        for (int g = 0; g < heads; g++) {
            int64_t first = split->first_piece[i];
            int64_t head = i * heads + g;
            merge_head(partials + (first * heads + g) * size, split->first_piece[i + 1] - first,
                       heads * size, head_dim, out->o + head * head_dim, &out->lse[head]);
        }
    }
}
