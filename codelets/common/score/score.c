#include "codelets/common/score/score.h"

/* Of the orders (score_order) of the rows that are selected: all that are above `order`, and the
 * first `equal` of those that are the same. */
struct cut {
    uint32_t order;
    int64_t equal;
};

enum { DIGITS = 3, MOST_BUCKETS = 1 << 11 };

/* Finds the cut digit by digit, the most significant first. 1 <= selected <= count. */
static struct cut find_cut(const float *scores, int64_t count, int64_t selected)
{
    static const struct {
        int shift;
        uint32_t mask;
    } digits[DIGITS] = {{21, 0x7ff}, {10, 0x7ff}, {0, 0x3ff}};
    struct cut cut = {.equal =
                          selected}; /* the digits known so far; rows still to find with them */
    uint32_t known = 0;
    for (int d = 0; d < DIGITS; d++) {
        uint32_t buckets[MOST_BUCKETS] = {0};
        for (int64_t i = 0; i < count; i++) {
            uint32_t order = score_order(scores[i]);
            buckets[order >> digits[d].shift & digits[d].mask] += (order & known) == cut.order;
        }
        uint32_t digit = digits[d].mask;
        for (; buckets[digit] < cut.equal; digit--) {
            cut.equal -= buckets[digit];
        }
        cut.order |= digit << digits[d].shift;
        known |= digits[d].mask << digits[d].shift;
    }
    return cut;
}

void score_select(const float *scores, int64_t count, int64_t selected, uint32_t *rows)
{
    if (selected == 0) {
        return;
    }
    struct cut cut = find_cut(scores, count, selected);
    int64_t n = 0;
    for (int64_t i = 0; n < selected; i++) {
        uint32_t order = score_order(scores[i]);
        rows[n] = (uint32_t)i;
        n += order > cut.order || (order == cut.order && cut.equal > 0);
        cut.equal -= order == cut.order;
    }
}
