/* The measurements that the tune verb keeps, on imagined machines. */
#include "tune_fixture.h"

#include <cjson/cJSON.h>
#include <unistd.h>

#define STATE MP_SCRATCH_DIR "/tune.state"

static cJSON *subject(int batch)
{
    cJSON *s = cJSON_CreateObject();
    cJSON_AddNumberToObject(s, "runtime.batch", batch);
    return s;
}

static int open_state(struct fake *f, int batch, bool resume, struct mp_error *err)
{
    cJSON *s = subject(batch);
    f->state = NULL;
    int code = mp_tune_state_open(STATE, s, resume, &f->state, err);
    cJSON_Delete(s);
    return code;
}

static void append(const char *text)
{
    FILE *file = fopen(STATE, "a");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* However often it is interrupted, every measurement is made once, and the end is the same. */
static void test_resumes_where_it_was_interrupted(void **state)
{
    (void)state;
    struct fake whole;
    struct mp_tune_result expected;
    struct mp_error err;
    fake_init_joins(&whole, 0.4);
    whole.noise = 0.02;
    ASSERT_OK(search(&whole, &expected, &err));
    assert_int_equal(expected.best.at[JOIN_AXIS], 2);

    struct fake f;
    struct mp_tune_result r;
    fake_init_joins(&f, 0.4);
    f.noise = 0.02;
    unlink(STATE);
    int interrupts = 0;
    int code = MP_ERR_INTERRUPTED;
    while (code == MP_ERR_INTERRUPTED) {
        ASSERT_OK(open_state(&f, 1, interrupts > 0, &err));
        f.interrupt_at = f.calls + 5;
        code = search(&f, &r, &err);
        mp_tune_state_close(f.state);
        append("{\"settings\":{\"runtime.fir"); /* as if writing had been cut short */
        interrupts++;
    }
    ASSERT_OK(code);
    assert_int_equal(f.calls, whole.calls);
    assert_true(interrupts > 3);
    assert_memory_equal(&r.best, &expected.best, sizeof r.best);
    assert_true(r.best_step == expected.best_step && r.start_step == expected.start_step);

    /* Complete: nothing is measured any more. */
    ASSERT_OK(open_state(&f, 1, true, &err));
    f.interrupt_at = f.calls;
    ASSERT_OK(search(&f, &r, &err));
    assert_memory_equal(&r.best, &expected.best, sizeof r.best);
    mp_tune_state_close(f.state);
}

static void refuse(int batch, bool resume, const char *message)
{
    struct fake f;
    struct mp_error err = {0};
    assert_int_not_equal(open_state(&f, batch, resume, &err), 0);
    if (strstr(err.message, message) == NULL) {
        fail_msg("found \"%s\", expected \"%s\"", err.message, message);
    }
}

static void test_refuses_foreign_states(void **state)
{
    (void)state;
    struct fake f;
    struct mp_tune_result r;
    struct mp_error err;
    unlink(STATE);
    fake_init(&f, flat);
    ASSERT_OK(open_state(&f, 1, false, &err));
    mp_tune_state_close(f.state);
    refuse(1, false, "exists and is not empty; add --resume");
    refuse(2, true, "measured with runtime.batch: found 1, expected 2");

    append("{\"settings\":{\"runtime.first\":\"b\"},\"step_seconds\":1}\n");
    ASSERT_OK(open_state(&f, 1, true, &err));
    assert_int_equal(search(&f, &r, &err), MP_ERR_USAGE);
    assert_non_null(strstr(err.message, "tune.state:2: found other settings"));
    mp_tune_state_close(f.state);

    unlink(STATE);
    append("not ours\n");
    refuse(1, true, "tune.state:1:1: ");
    unlink(STATE);
    append("no end of the line");
    refuse(1, true, "no line that tune has written");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resumes_where_it_was_interrupted),
        cmocka_unit_test(test_refuses_foreign_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
