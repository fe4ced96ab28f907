/* sample: each row uses its own logits, its own way of drawing and its own generator. */
#include "codelets/sample/sample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ROWS = 3, VOCAB = 5 };

static const float logits[ROWS * VOCAB] = {
    0.1f, 0.2f, 0.9f, 0.3f, 0.0f, /* row 0 */
    3.0f, 1.0f, 3.0f, 2.0f, 0.0f, /* row 1: a tie */
    0.0f, 0.5f, 1.0f, 1.5f, 2.0f, /* row 2 */
};

static void test_greedy_rows(void **state)
{
    (void)state;
    const struct mp_sampling greedy = {.temperature = 0.0f, .top_p = 1.0f};
    struct mp_rng generators[ROWS] = {{0}};
    const struct sample_row row[ROWS] = {
        {&greedy, &generators[0]}, {&greedy, &generators[1]}, {&greedy, &generators[2]}};
    int32_t ids[ROWS];
    sample_ref(&(struct sample_args){logits, row, ids, ROWS, VOCAB});
    assert_int_equal(ids[0], 2);
    assert_int_equal(ids[1], 0);
    assert_int_equal(ids[2], 4);
}

/* A request's tokens do not depend on who else is in the batch. */
static void test_rows_draw_independently(void **state)
{
    (void)state;
    const struct mp_sampling s[ROWS] = {{.temperature = 1.0f, .top_p = 1.0f, .seed = 1},
                                        {.temperature = 9.0f, .top_p = 1.0f, .seed = 1},
                                        {.temperature = 1.0f, .top_p = 1.0f, .top_k = 2}};
    struct mp_rng batch[ROWS], alone[ROWS];
    struct sample_row row[ROWS];
    for (int r = 0; r < ROWS; r++) {
        mp_rng_init(&batch[r], s[r].seed, (uint64_t)r);
        mp_rng_init(&alone[r], s[r].seed, (uint64_t)r);
        row[r] = (struct sample_row){&s[r], &batch[r]};
    }
    for (int step = 0; step < 50; step++) {
        int32_t ids[ROWS];
        sample_ref(&(struct sample_args){logits, row, ids, ROWS, VOCAB});
        for (int r = ROWS - 1; r >= 0; r--) {
            assert_int_equal(ids[r], mp_sample(&s[r], &alone[r], logits + r * VOCAB, VOCAB));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_rows),
        cmocka_unit_test(test_rows_draw_independently),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
