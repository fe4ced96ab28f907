/* The table that the tune verb shows. */
#include "engine_fixture.h"

#include "pipeline/tune/tune.h"

#include <math.h>

static struct mp_tune_table *table_in_memory(int batch, char **text, size_t *length, FILE **out)
{
    setenv("LC_ALL", "C", 1);
    *out = open_memstream(text, length);
    return mp_tune_table_new(*out, &(struct mp_tune_machine){.batch = batch, .join_tokens = 8192});
}

static void test_table(void **state)
{
    (void)state;
    char *text = NULL;
    size_t length = 0;
    FILE *out;
    struct mp_tune_table *t = table_in_memory(4, &text, &length, &out);
    mp_tune_table_row(t, "start", "", &(struct mp_tune_sample){.step = 0.01, .cpu_busy = 0.9}, 0.0);
    mp_tune_table_row(t, "runtime.threads", "1", &(struct mp_tune_sample){.step = 0.015}, 0.01);
    mp_tune_table_row(t, "runtime.threads", "2", &(struct mp_tune_sample){.step = 1.0}, 0.01);
    mp_tune_table_row(t, "runtime.threads", "9",
                      &(struct mp_tune_sample){.step = INFINITY, .why = "9 threads"}, 0.01);
    mp_tune_table_pair(t, "runtime.threads", "1", &(struct mp_tune_sample){.step = 0.015},
                       &(struct mp_tune_sample){.step = 0.01}, 3, false);
    mp_tune_table_free(t);
    fclose(out);
    assert_null(strstr(text, "GPU"));
    assert_null(strstr(text, "joins"));
    assert_non_null(strstr(text, "   10.000     400.0   90 %           ################\n"));
    assert_non_null(
        strstr(text, "   15.000     266.7    0 %   +50.0 % ########################\n"));
    assert_non_null(strstr(text, "% ################################\n"));
    assert_non_null(strstr(text, " not possible: 9 threads\n"));
    assert_non_null(
        strstr(text, "    15.000 ms against 10.000 ms, medians of 3 runs each in turns: not "));
    free(text);
}

/* Where a prompt joins, its wait and the step of those that decode count alike. */
static void test_table_of_joins(void **state)
{
    (void)state;
    char *text = NULL;
    size_t length = 0;
    FILE *out;
    const struct mp_tune_sample half = {.step = 0.01, .first_token = 4.0};
    const struct mp_tune_sample quarter = {.step = 0.005, .first_token = 18.0};
    const struct mp_tune_sample failed = {.step = INFINITY, .why = "no memory"};
    struct mp_tune_table *t = table_in_memory(4, &text, &length, &out);
    mp_tune_table_row(t, "start", "", &(struct mp_tune_sample){.step = 0.002}, 0.0);
    mp_tune_table_join(t);
    mp_tune_table_row(t, "runtime.prefill_share", "0.75", &failed, INFINITY);
    mp_tune_table_row(t, "runtime.prefill_share", "0.5", &half, INFINITY);
    mp_tune_table_row(t, "runtime.prefill_share", "0.25", &quarter, 0.2);
    mp_tune_table_pair(t, "runtime.prefill_share", "0.5", &half, &quarter, 3, true);
    mp_tune_table_pair(t, "runtime.prefill_share", "0.5", &half, &failed, 3, true);
    mp_tune_table_free(t);
    fclose(out);
    assert_non_null(strstr(text, "A prompt of 8192 tokens joins 3 requests decoding."));
    assert_non_null(strstr(text, " not possible: no memory\n"));
    assert_non_null(
        strstr(text, "   10.000     300.0           4.000           ################\n"));
    assert_non_null(strstr(text, "    5.000     600.0          18.000   +50.0 % ################"));
    assert_non_null(
        strstr(text, " 10.000 ms and 4.000 s against 5.000 ms and 18.000 s, medians of 3 "));
    assert_non_null(strstr(text, " 10.000 ms and 4.000 s against not possible, medians of 3 "));
    assert_null(strstr(text, "inf"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_table_of_joins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
