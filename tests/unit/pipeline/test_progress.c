/* What a person sees on stderr: log lines, and progress bars on a terminal only. */
#include "core/base/clock.h"
#include "core/base/log.h"
#include "pipeline/cli/console.h"
#include "pipeline/cli/progress.h"

#include <fcntl.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char seen[4096]; /* what went to stderr between redirect and restore */

/* Runs `what` with stderr on the writing end `to` and collects what comes out of `from`. */
static void capture(void (*what)(void), int from, int to)
{
    fflush(stderr);
    int saved = dup(STDERR_FILENO);
    dup2(to, STDERR_FILENO);
    what();
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);

    assert_int_equal(fcntl(from, F_SETFL, O_NONBLOCK), 0);
    size_t used = 0;
    for (ssize_t got; (got = read(from, seen + used, sizeof seen - 1 - used)) > 0;) {
        used += (size_t)got;
    }
    seen[used] = '\0';
    close(from);
    close(to);
}

static void capture_pipe(void (*what)(void))
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    capture(what, ends[0], ends[1]);
}

static void capture_terminal(void (*what)(void))
{
    int master, slave;
    if (openpty(&master, &slave, NULL, NULL, NULL) != 0) {
        skip(); /* no pseudo-terminals here */
    }
    capture(what, master, slave);
}

static void log_all_levels(void)
{
    struct mp_log_target console = {.sink = mp_console_log};
    mp_log_add_target(&console);
    mp_log(MP_LOG_ERROR, "%s is %d", "one", 1);
    mp_log(MP_LOG_WARNING, "two");
    mp_log(MP_LOG_INFO, "three");
    mp_log_remove_target(&console);
}

static void test_log_lines(void **state)
{
    (void)state;
    capture_pipe(log_all_levels);
    assert_string_equal(seen, "magicpig-pipe: error: one is 1\n"
                              "magicpig-pipe: warning: two\n"
                              "magicpig-pipe: three\n");
    mp_log_set_level(MP_LOG_ERROR);
    capture_pipe(log_all_levels);
    assert_string_equal(seen, "magicpig-pipe: error: one is 1\n");
    mp_log_set_level(MP_LOG_INFO);
}

static void log_nowhere(void)
{
    mp_log(MP_LOG_ERROR, "nobody asked");
}

static void hear(void *user, enum mp_log_level level, const char *message)
{
    (void)level;
    (void)message;
    ++*(int *)user;
}

/* The newest of those that are left gets the messages, in whatever order others go. */
static void test_log_targets_come_and_go(void **state)
{
    (void)state;
    int first = 0, second = 0;
    struct mp_log_target a = {.sink = hear, .user = &first};
    struct mp_log_target b = {.sink = hear, .user = &second};
    mp_log_add_target(&a);
    mp_log_add_target(&b);
    mp_log(MP_LOG_ERROR, "to the second");
    mp_log_remove_target(&a);
    mp_log(MP_LOG_ERROR, "to the second again");
    mp_log_remove_target(&b);
    mp_log(MP_LOG_ERROR, "to nobody");
    assert_int_equal(first, 0);
    assert_int_equal(second, 2);
}

static void test_no_log_without_a_target(void **state)
{
    (void)state;
    capture_pipe(log_nowhere);
    assert_string_equal(seen, "");
}

static void test_log_colours_on_a_terminal(void **state)
{
    (void)state;
    capture_terminal(log_all_levels);
    assert_non_null(strstr(seen, "magicpig-pipe: \033[1;31merror: \033[0mone is 1"));
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static void run_bar(void)
{
    struct mp_progress *p = mp_progress_start("prefill", "tok", 100000);
    pause_ms(120);
    mp_progress_set(p, 25000);
    pause_ms(120);
    mp_progress_set(p, 200000); /* more than announced */
    mp_progress_end(p);
}

static void test_no_bar_without_a_terminal(void **state)
{
    (void)state;
    capture_pipe(run_bar);
    assert_string_equal(seen, "");
}

static void test_bar_on_a_terminal(void **state)
{
    (void)state;
    capture_terminal(run_bar);
    assert_non_null(strstr(seen, "\r\033[Kprefill [######                  ] 25% "));
    assert_non_null(strstr(seen, "[########################] 100% "));
    assert_non_null(strstr(seen, "K tok/s, 0 s left"));
    assert_string_equal(seen + strlen(seen) - 4, "\r\033[K"); /* nothing stays */
}

static double hasty_seconds; /* how long run_hasty_bar took */

static void run_hasty_bar(void)
{
    double begin = mp_clock_seconds();
    struct mp_progress *p = mp_progress_start("hasty", "tok", 100000);
    for (int i = 0; i < 100000; i++) {
        mp_progress_set(p, i);
    }
    mp_progress_end(p);
    hasty_seconds = mp_clock_seconds() - begin;
}

static void test_at_most_ten_redraws_a_second(void **state)
{
    (void)state;
    capture_terminal(run_hasty_bar);
    int redraws = 0;
    for (const char *at = seen; (at = strstr(at, "hasty")) != NULL; at++) {
        redraws++;
    }
    assert_true(redraws <= hasty_seconds * 10.0);
}

static void run_empty_bar(void)
{
    struct mp_progress *p = mp_progress_start("nothing", "tok", 0);
    pause_ms(120);
    mp_progress_set(p, 0);
    mp_progress_end(p);
}

static void test_total_of_zero(void **state)
{
    (void)state;
    capture_terminal(run_empty_bar);
    assert_non_null(strstr(seen, "100% 0 tok/s, 0 s left"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log_lines),
        cmocka_unit_test(test_no_log_without_a_target),
        cmocka_unit_test(test_log_targets_come_and_go),
        cmocka_unit_test(test_log_colours_on_a_terminal),
        cmocka_unit_test(test_no_bar_without_a_terminal),
        cmocka_unit_test(test_bar_on_a_terminal),
        cmocka_unit_test(test_at_most_ten_redraws_a_second),
        cmocka_unit_test(test_total_of_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
