/* Command lines of eval, engines for them, and files, in tests. Errors fail the test with their
 * message. */
#ifndef MP_TESTS_EVAL_FIXTURE_H
#define MP_TESTS_EVAL_FIXTURE_H

#include "core/base/memory.h"
#include "pipeline/cli/cli.h"
#include "pipeline/engine/hooks.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define DEMO_MODEL MP_SOURCE_DIR "/models/demo"

#define ASSERT_OK(call)                                                                            \
    do {                                                                                           \
        if ((call) != 0) {                                                                         \
            fail_msg("%s", err.message);                                                           \
        }                                                                                          \
    } while (0)

/* The call fails with this code, and a message that says so. */
#define ASSERT_FAILS(call, wanted_code, part)                                                      \
    do {                                                                                           \
        err = (struct mp_error){0};                                                                \
        assert_int_equal((call), (wanted_code));                                                   \
        assert_int_equal(err.code, (wanted_code));                                                 \
        assert_contains(err.message, (part));                                                      \
    } while (0)

static inline void assert_contains(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        fail_msg("expected \"%s\", found \"%s\"", part, text);
    }
}

/* ---- command lines ---- */

enum { MOST_ARGUMENTS = 40 };

/* "eval --model DEMO --devices cpu" and these arguments, as many as there are before NULL. Frees
 * nothing of them: mp_cli_free. */
static inline void parse_command(struct mp_cli *cli, const char *const *arguments)
{
    char *argv[MOST_ARGUMENTS] = {"magicpig-pipe", "eval",      "--model",
                                  DEMO_MODEL,      "--devices", "cpu"};
    int argc = 6;
    struct mp_error err;
    for (int i = 0; arguments[i] != NULL; i++) {
        assert_true(argc < MOST_ARGUMENTS);
        argv[argc++] = (char *)(uintptr_t)arguments[i];
    }
    ASSERT_OK(mp_cli_parse(argc, argv, cli, &err));
}

#define PARSE(cli, ...) parse_command((cli), (const char *const[]){__VA_ARGS__, NULL})

/* The command line's engine, not started. */
static inline struct mp_engine *open_command(const struct mp_cli *cli)
{
    struct mp_engine *engine;
    struct mp_error err;
    ASSERT_OK(mp_cli_open_engine(cli, &cli->config, &engine, &err));
    return engine;
}

/* ---- files ---- */

/* The path of a file of the test's own in the scratch folder; the caller's. */
static inline char *scratch_path(const char *name)
{
    return mp_xasprintf("%s/eval-%d-%s", MP_SCRATCH_DIR, (int)getpid(), name);
}

static inline void write_file(const char *path, const char *text, size_t length)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

/* What a file holds, NUL-terminated; the caller's. */
static inline char *read_file(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *length = (size_t)ftell(file);
    rewind(file);
    char *text = mp_xcalloc(*length + 1, 1);
    assert_int_equal(fread(text, 1, *length, file), *length);
    fclose(file);
    return text;
}

static inline void remove_file(char *path)
{
    unlink(path);
    free(path);
}

#endif
