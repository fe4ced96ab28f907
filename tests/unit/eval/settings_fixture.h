/* A command line of eval with its settings. */
#ifndef MP_TESTS_SETTINGS_FIXTURE_H
#define MP_TESTS_SETTINGS_FIXTURE_H

#include "eval_fixture.h"

#include "pipeline/eval/settings.h"

#define CONFIGS MP_SOURCE_DIR "/configs/"

struct parsed {
    struct mp_cli cli;
    struct mp_settings settings;
};

static inline void parse_settings(struct parsed *p, const char *const *arguments)
{
    struct mp_error err;
    parse_command(&p->cli, arguments);
    ASSERT_OK(mp_settings_parse(&p->cli, &p->settings, &err));
}

#define SETTINGS(p, ...) parse_settings((p), (const char *const[]){__VA_ARGS__, NULL})

static inline void free_parsed(struct parsed *p)
{
    mp_settings_free(&p->settings);
    mp_cli_free(&p->cli);
}

#endif
