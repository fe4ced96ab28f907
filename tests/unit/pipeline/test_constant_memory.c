/* Memory does not grow with the steps: neither the program nor StarPU keeps anything of a task that
 * has run, nor of a request that has finished. */
#include "engine_fixture.h"

#define MODEL GOLDEN "llama3-rope"
enum { PROMPT = 24, NEW_TOKENS = 21, STEPS_A_REQUEST = NEW_TOKENS - 1 };
enum { WARM_UP = 2000, STEPS = 10000 };

/* A record of 16 bytes, 32 as malloc gives them, of a tenth of the reads of a weight is found. */
enum { MOST_GROWTH_KIB = 512 };

static const char *const SETTINGS[] = {
    "device-budget", "20",   "window-size", "16", "lsh-k",   "3",   "lsh-l", "8",
    "eos",           "none", "threads",     "1",  "devices", "cpu", NULL};

/* Memory of the process that is no file's, in KiB. */
static long anonymous_kib(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    long kib = -1;
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL && kib < 0) {
        sscanf(line, "RssAnon: %ld", &kib);
    }
    fclose(f);
    assert_true(kib > 0);
    return kib;
}

static void test_ten_thousand_steps(void **state)
{
    (void)state;
    if (MP_SANITIZED) {
        skip(); /* what was freed is kept for a while */
    }
    struct mp_error err;
    struct mp_config config;
    mp_config_init(&config);
    set_flags(&config, SETTINGS);
    struct mp_engine *engine = open_engine(&config, MODEL, PROMPT);
    struct mp_session *session;
    ASSERT_OK(mp_session_open(engine, &session, &err));
    struct mp_ids prompt = {0};
    for (int32_t i = 0; i < PROMPT; i++) {
        mp_ids_push(&prompt, 3 + 7 * i);
    }
    long before = 0;
    for (int steps = 0; steps < STEPS; steps += STEPS_A_REQUEST) {
        if (steps == WARM_UP) {
            before = anonymous_kib();
        }
        mp_session_remove(session, generate(session, &prompt, NEW_TOKENS));
    }
    long growth = anonymous_kib() - before;
    print_message("grown by %ld KiB in %d steps\n", growth, STEPS - WARM_UP);
    assert_in_range(growth + MOST_GROWTH_KIB, 0, 2 * MOST_GROWTH_KIB);
    mp_ids_free(&prompt);
    mp_session_close(session);
    mp_engine_close(engine);
    mp_config_free(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ten_thousand_steps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
