/* UTF-8: messages are cut between characters, wherever they are cut. */
#include "core/base/utf8.h"

#include "core/base/error.h"
#include "core/base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void check_repaired(const char *text, const char *expected)
{
    char copy[64];
    snprintf(copy, sizeof copy, "%s", text);
    mp_utf8_repair(copy);
    assert_string_equal(copy, expected);
}

static void test_repair(void **state)
{
    (void)state;
    check_repaired("", "");
    check_repaired("plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x8b",
                   "plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x8b");
    check_repaired("cut \xc3", "cut ");
    check_repaired("cut \xe2\x82", "cut ");
    check_repaired("cut \xf0\x9f\x90", "cut ");
    check_repaired("\"\xe2\x82\": cut inside", "\"\": cut inside");
    check_repaired("\xf0\x9f\xc3\xa9", "\xc3\xa9");
    check_repaired("\x80 \xff \xc0\x80", "? ? ??");
    check_repaired("\xed\xa0\x80", "??"); /* a surrogate */
}

static bool is_valid(const char *text)
{
    size_t length = strlen(text);
    for (size_t at = 0; at < length;) {
        int n = mp_utf8_next(text + at, length - at);
        if (n <= 0) {
            return false;
        }
        at += (size_t)n;
    }
    return true;
}

/* Precisions and the room of a message cut anywhere in these characters of 2, 3 and 4 bytes. */
static void test_messages(void **state)
{
    (void)state;
    char text[3000] = "";
    while (strlen(text) + 10 < sizeof text) {
        strcat(text, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\x8b");
    }
    struct mp_error err;
    for (int cut = 0; cut < 20; cut++) {
        mp_fail(&err, MP_ERR_FORMAT, "found \"%.*s\"", cut, text);
        assert_true(is_valid(err.message));
        assert_int_equal(err.message[strlen(err.message) - 1], '"');
        mp_fail(&err, MP_ERR_FORMAT, "%.*s%s", cut, "....................", text);
        assert_true(is_valid(err.message));
        assert_in_range(strlen(err.message), sizeof err.message - 4, sizeof err.message - 1);
        mp_fail_prefix(&err, "%.*s", cut, "....................");
        assert_true(is_valid(err.message));
    }
}

static void keep(void *user, enum mp_log_level level, const char *message)
{
    (void)level;
    *(bool *)user = is_valid(message);
}

static void test_log(void **state)
{
    (void)state;
    bool valid = false;
    struct mp_log_target target = {.sink = keep, .user = &valid};
    mp_log_add_target(&target);
    mp_log(MP_LOG_ERROR, "found \"%.3s\"", "\xc3\xa9\xc3\xa9");
    mp_log_remove_target(&target);
    assert_true(valid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_repair),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
