/* A run of the program: from its arguments to its exit status. */
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/json/json_print.h"
#include "core/ranks/ranks.h"
#include "core/trace/trace.h"
#include "pipeline/cli/cli.h"
#include "pipeline/cli/console.h"
#include "pipeline/cli/interrupt.h"
#include "pipeline/engine/recording.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Runs the verb, and writes what was recorded if the configuration names a file for it. */
static int run_verb(const struct mp_cli *cli, struct mp_error *err)
{
    const char *trace = cli->config.trace_path;
    const char *report = cli->config.report_path;
    int code = mp_cli_check_paths(cli, err);
    if (code == 0) {
        code = mp_recording_start(trace != NULL || report != NULL, cli->ranks, err);
    }
    if (code == 0) {
        code = mp_cli_call_verb(cli, err);
        if (trace != NULL && (code == 0 || code == MP_ERR_INTERRUPTED)) {
            int trace_code = mp_trace_write(trace, code == 0 ? err : NULL);
            code = code == 0 ? trace_code : code;
        }
    }
    return code;
}

static int exit_status(int code)
{
    switch (code) {
    case MP_OK:
        return 0;
    case MP_ERR_USAGE:
        return 2;
    case MP_ERR_INTERRUPTED:
        return MP_EXIT_INTERRUPTED;
    default:
        return 1;
    }
}

/* Also after an error: all ranks end together. */
static int join_ranks(int code, struct mp_cli *cli, struct mp_ranks **out, struct mp_error *err)
{
    struct mp_error own;
    int own_code = mp_ranks_open(out, &own);
    if (own_code == 0 && mp_ranks_index(*out) > 0) {
        mp_console_follow(mp_ranks_index(*out));
        mp_interrupt_ignore();
    }
    if (own_code == 0 && code == 0) {
        own_code = mp_cli_use_ranks(cli, *out, &own);
    }
    if (code == 0 && own_code != 0) {
        *err = own;
    }
    return code == 0 ? own_code : code;
}

int mp_cli_main(int argc, char **argv)
{
    struct mp_error err;
    struct mp_cli cli;
    mp_interrupt_install();
    mp_json_watch_memory();
    mp_on_give_up(mp_console_give_up);
    static struct mp_log_target console = {.sink = mp_console_log};
    mp_log_add_target(&console);
    /* Whatever is wrong with a command line or its configuration file is the user's to correct. */
    int code = mp_cli_parse(argc, argv, &cli, &err) == 0 ? 0 : MP_ERR_USAGE;
    struct mp_ranks *ranks = NULL;
    if (mp_ranks_launched()) {
        code = join_ranks(code, &cli, &ranks, &err);
    }
    if (code == 0 && cli.version) {
        printf("magicpig-pipe %s\n", MAGICPIG_VERSION);
    } else if (code == 0 && cli.help) {
        mp_cli_help(cli.verb);
    } else if (code == 0) {
        code = run_verb(&cli, &err);
    }
    if (code == 0 && (fflush(stdout) != 0 || ferror(stdout))) {
        code = mp_fail(&err, MP_ERR_IO, "stdout: cannot write: %s", strerror(errno));
    }
    code = mp_ranks_close(ranks, code, &err);
    if (code != 0) {
        mp_log(MP_LOG_ERROR, "%s", err.message);
    }
    mp_cli_free(&cli);
    return exit_status(code);
}
