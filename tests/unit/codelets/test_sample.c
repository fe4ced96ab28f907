/* sample: each row uses its own logits, its own way of drawing and its own generator. */
#include "codelets/sample/sample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROWS = 3, VOCAB = 5 };

static const float all_logits[ROWS * VOCAB] = {
    0.1f, 0.2f, 0.9f, 0.3f, 0.0f, /* row 0 */
    3.0f, 1.0f, 3.0f, 2.0f, 0.0f, /* row 1: a tie */
    0.0f, 0.5f, 1.0f, 1.5f, 2.0f, /* row 2 */
};

/* The ids that the rows get. */
static void sample(const struct sample_row *row, int32_t *ids)
{
    float logits[ROWS * VOCAB];
    memcpy(logits, all_logits, sizeof logits);
    sample_ref(&(struct sample_args){logits, row, ids, ROWS, VOCAB});
}

static void test_greedy_rows(void **state)
{
    (void)state;
    const struct mp_sampling greedy = {.temperature = 0.0f, .top_p = 1.0f};
    struct mp_rng generators[ROWS] = {{0}};
    const struct sample_row row[ROWS] = {{.sampling = &greedy, .rng = &generators[0]},
                                         {.sampling = &greedy, .rng = &generators[1]},
                                         {.sampling = &greedy, .rng = &generators[2]}};
    int32_t ids[ROWS];
    sample(row, ids);
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
        row[r] = (struct sample_row){.sampling = &s[r], .rng = &batch[r]};
    }
    for (int step = 0; step < 50; step++) {
        int32_t ids[ROWS];
        sample(row, ids);
        for (int r = ROWS - 1; r >= 0; r--) {
            assert_int_equal(ids[r], mp_sample(&s[r], &alone[r], all_logits + r * VOCAB, VOCAB));
        }
    }
}

/* Barred ids are not chosen, neither the largest nor by a draw: at the end or between others. */
static void test_barred_ids(void **state)
{
    (void)state;
    static const int32_t holes[] = {2, 4};
    const struct mp_sampling s[ROWS] = {{.top_p = 1.0f},
                                        {.temperature = 50.0f, .top_p = 1.0f},
                                        {.temperature = 50.0f, .top_p = 0.9f}};
    struct mp_rng rng[ROWS];
    struct sample_row row[ROWS];
    for (int r = 0; r < ROWS; r++) {
        mp_rng_init(&rng[r], 1, (uint64_t)r);
        row[r] = (struct sample_row){&s[r], &rng[r], holes, 2};
    }
    int drawn[ROWS][VOCAB] = {{0}};
    for (int step = 0; step < 100; step++) {
        int32_t ids[ROWS];
        sample(row, ids);
        for (int r = 0; r < ROWS; r++) {
            drawn[r][ids[r]]++;
        }
    }
    assert_int_equal(drawn[0][3], 100);
    for (int r = 1; r < ROWS; r++) {
        assert_int_equal(drawn[r][2] + drawn[r][4], 0);
        assert_true(drawn[r][0] > 0 && drawn[r][1] > 0 && drawn[r][3] > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_rows),
        cmocka_unit_test(test_rows_draw_independently),
        cmocka_unit_test(test_barred_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
