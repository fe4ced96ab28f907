/* The command line: verbs, their options, and the configuration they run with. */
#ifndef MP_PIPELINE_CLI_H
#define MP_PIPELINE_CLI_H

#include "core/config.h"
#include "core/error.h"

#include <stdbool.h>
#include <stdint.h>

/* What a command line said. Strings point into argv. */
struct mp_cli {
    const char *verb;        /* "generate" if none was given */
    struct mp_config config; /* defaults, --config, then flags */
    const char *config_path; /* NULL: none given */
    const char *input;       /* records; NULL */
    const char *prompt;      /* one prompt given on the command line; NULL */
    const char *output;
    const char *tokens; /* file of token ids */
    const char *json;   /* file of texts or ids */
    int64_t context;    /* tokens to plan for; 0: not given */
    bool resume;
    bool no_special;
    bool quiet;
    bool help;
    bool version;
};

/* Parses argv and loads the configuration. Every flag acts for its verb or is MP_ERR_USAGE. */
int mp_cli_parse(int argc, char **argv, struct mp_cli *out, struct mp_error *err);
void mp_cli_free(struct mp_cli *cli);

/* Prints the help of a verb to stdout; NULL: the overview. */
void mp_cli_help(const char *verb);

/* The directory of the model the configuration names; malloc'ed. */
int mp_cli_model_dir(const struct mp_cli *cli, char **out, struct mp_error *err);

/* The whole program: parse, run the verb, report errors. Returns the exit status: 0, 1 for a
 * failed run or record, 2 for a wrong command line or configuration, 130 after a signal. */
int mp_cli_main(int argc, char **argv);

/* ---- verbs: generate.c, verbs.c ---- */

/* *failed counts records that could not be run. */
int mp_verb_generate(const struct mp_cli *cli, int *failed, struct mp_error *err);
int mp_verb_logits(const struct mp_cli *cli, struct mp_error *err);
int mp_verb_tokenize(const struct mp_cli *cli, struct mp_error *err);
int mp_verb_detokenize(const struct mp_cli *cli, struct mp_error *err);
int mp_verb_plan(const struct mp_cli *cli, struct mp_error *err);

#endif
