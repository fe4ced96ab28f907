#include "pipeline/cli/cli.h"

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/ranks/ranks.h"
#include "pipeline/cli/help.h"
#include "pipeline/engine/hooks.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    enum mp_verb bit;
    const char *help;
    int (*run)(const struct mp_cli *cli, struct mp_error *err);
} VERBS[] = {
    {"generate", MP_VERB_GENERATE, mp_help_generate, mp_verb_generate},
    {"logits", MP_VERB_LOGITS, mp_help_logits, mp_verb_logits},
    {"tokenize", MP_VERB_TOKENIZE, mp_help_tokenize, mp_verb_tokenize},
    {"detokenize", MP_VERB_DETOKENIZE, mp_help_detokenize, mp_verb_detokenize},
    {"plan", MP_VERB_PLAN, mp_help_plan, mp_verb_plan},
    {"bench decode", MP_VERB_BENCH_DECODE, mp_help_bench_decode, mp_verb_bench_decode},
    {"bench prefill", MP_VERB_BENCH_PREFILL, mp_help_bench_prefill, mp_verb_bench_prefill},
    {"bench ops", MP_VERB_BENCH_OPS, mp_help_bench_ops, mp_verb_bench_ops},
    {"tune", MP_VERB_TUNE, mp_help_tune, mp_verb_tune},
    {"serve", MP_VERB_SERVE, mp_help_serve, mp_verb_serve},
    {"make-data", MP_VERB_MAKE_DATA, mp_help_make_data, mp_verb_make_data},
    {"eval", MP_VERB_EVAL, mp_help_eval, mp_verb_eval},
    {"eval attention", MP_VERB_EVAL_ATTENTION, mp_help_eval_attention, mp_verb_eval_attention},
};
enum { NUM_VERBS = sizeof VERBS / sizeof VERBS[0] };

enum {
    EVALS = MP_VERB_EVAL | MP_VERB_EVAL_ATTENTION,
    SAMPLES = MP_VERB_MAKE_DATA | EVALS,                        /* make samples of benchmarks */
    TEXTS = MP_VERB_GENERATE | MP_VERB_PLAN | MP_VERB_TOKENIZE, /* make tokens of users' texts */
};

/* Options that are not configuration keys. */
static const struct option {
    const char *name;
    enum { SWITCH, STRING, PAIR, SETTING, COUNT, WHOLE, SHARE } kind;
    size_t offset;  /* of its field in struct mp_cli; a PAIR has two values, in two fields; a
                       SETTING can be given several times */
    unsigned verbs; /* enum mp_verb: which take it */
} OPTIONS[] = {
    {"config", STRING, offsetof(struct mp_cli, config_path),
     MP_VERB_GENERATE | MP_VERB_LOGITS | MP_VERB_PLAN | MP_VERB_BENCH | MP_VERB_TUNE |
         MP_VERB_SERVE | EVALS},
    {"input", STRING, offsetof(struct mp_cli, input),
     MP_VERB_GENERATE | MP_VERB_PLAN | MP_VERB_TOKENIZE | EVALS},
    {"prompt", STRING, offsetof(struct mp_cli, prompt), MP_VERB_GENERATE},
    {"output", STRING, offsetof(struct mp_cli, output),
     MP_VERB_GENERATE | MP_VERB_LOGITS | MP_VERB_TUNE | MP_VERB_MAKE_DATA | MP_VERB_EVAL},
    {"resume", SWITCH, offsetof(struct mp_cli, resume), MP_VERB_GENERATE | MP_VERB_TUNE},
    {"quiet", SWITCH, offsetof(struct mp_cli, quiet), MP_VERB_GENERATE | EVALS},
    {"tokens", STRING, offsetof(struct mp_cli, tokens), MP_VERB_LOGITS | EVALS},
    {"json", STRING, offsetof(struct mp_cli, json), MP_VERB_TOKENIZE | MP_VERB_DETOKENIZE},
    {"no-special", SWITCH, offsetof(struct mp_cli, no_special), MP_VERB_TOKENIZE},
    {"chat", SWITCH, offsetof(struct mp_cli, chat), TEXTS},
    {"parse-special", SWITCH, offsetof(struct mp_cli, parse_special), TEXTS},
    {"no-parse-special", SWITCH, offsetof(struct mp_cli, no_parse_special), TEXTS},
    {"context", COUNT, offsetof(struct mp_cli, context),
     MP_VERB_PLAN | MP_VERB_BENCH | MP_VERB_TUNE | MP_VERB_SERVE},
    {"ranks", COUNT, offsetof(struct mp_cli, plan_ranks), MP_VERB_PLAN},
    {"network", STRING, offsetof(struct mp_cli, network), MP_VERB_PLAN},
    {"rates", STRING, offsetof(struct mp_cli, rates), MP_VERB_PLAN},
    {"shape", STRING, offsetof(struct mp_cli, shape), MP_VERB_PLAN | MP_VERB_BENCH | MP_VERB_TUNE},
    {"layers", COUNT, offsetof(struct mp_cli, layers), MP_VERB_PLAN | MP_VERB_BENCH | MP_VERB_TUNE},
    {"steps", COUNT, offsetof(struct mp_cli, steps),
     MP_VERB_BENCH | MP_VERB_TUNE | MP_VERB_EVAL_ATTENTION},
    {"warmup", WHOLE, offsetof(struct mp_cli, warmup), MP_VERB_BENCH},
    {"sampled", SHARE, offsetof(struct mp_cli, sampled),
     MP_VERB_BENCH_DECODE | MP_VERB_BENCH_OPS | MP_VERB_TUNE},
    {"kv", STRING, offsetof(struct mp_cli, kv), MP_VERB_BENCH_DECODE},
    {"question", COUNT, offsetof(struct mp_cli, question), MP_VERB_BENCH_PREFILL},
    {"compare", SWITCH, offsetof(struct mp_cli, compare), MP_VERB_BENCH_DECODE},
    {"json", SWITCH, offsetof(struct mp_cli, json_output), MP_VERB_BENCH | MP_VERB_PLAN},
    {"task", STRING, offsetof(struct mp_cli, task), SAMPLES},
    {"tokens", COUNT, offsetof(struct mp_cli, length), MP_VERB_MAKE_DATA},
    {"samples", COUNT, offsetof(struct mp_cli, samples), SAMPLES},
    {"data-seed", WHOLE, offsetof(struct mp_cli, data_seed), EVALS},
    {"seed", WHOLE, offsetof(struct mp_cli, data_seed), MP_VERB_MAKE_DATA},
    {"template", STRING, offsetof(struct mp_cli, chat_template), SAMPLES | MP_VERB_SERVE},
    {"essay", STRING, offsetof(struct mp_cli, essay), SAMPLES},
    {"words", STRING, offsetof(struct mp_cli, words), SAMPLES},
    {"squad", STRING, offsetof(struct mp_cli, squad), SAMPLES},
    {"hotpot", STRING, offsetof(struct mp_cli, hotpot), SAMPLES},
    {"setting", SETTING, 0, EVALS},
    {"sparse-from", STRING, offsetof(struct mp_cli, sparse_from), EVALS},
    {"csv", STRING, offsetof(struct mp_cli, csv), EVALS},
    {"html", STRING, offsetof(struct mp_cli, html), EVALS},
    {"compare", PAIR, offsetof(struct mp_cli, compared), MP_VERB_EVAL},
    {"host", STRING, offsetof(struct mp_cli, host), MP_VERB_SERVE},
    {"port", WHOLE, offsetof(struct mp_cli, port), MP_VERB_SERVE},
    {"api-key-file", STRING, offsetof(struct mp_cli, api_key_file), MP_VERB_SERVE},
    {"served-name", STRING, offsetof(struct mp_cli, served_name), MP_VERB_SERVE},
    {"max-queue", WHOLE, offsetof(struct mp_cli, queue), MP_VERB_SERVE},
    {"max-body", COUNT, offsetof(struct mp_cli, max_body), MP_VERB_SERVE},
    {"request-seconds", COUNT, offsetof(struct mp_cli, request_seconds), MP_VERB_SERVE},
    {"drain-seconds", WHOLE, offsetof(struct mp_cli, drain_seconds), MP_VERB_SERVE},
};
enum { NUM_OPTIONS = sizeof OPTIONS / sizeof OPTIONS[0] };

/* Index into VERBS, or -1. */
static int find_verb(const char *name)
{
    for (int i = 0; i < NUM_VERBS; i++) {
        if (strcmp(VERBS[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static const struct option *find_option(int verb, const char *name)
{
    for (int i = 0; i < NUM_OPTIONS; i++) {
        if (strcmp(OPTIONS[i].name, name) == 0 && (OPTIONS[i].verbs & VERBS[verb].bit) != 0) {
            return &OPTIONS[i];
        }
    }
    return NULL;
}

static bool verb_takes(int verb, const char *name)
{
    return find_option(verb, name) != NULL || mp_config_has_flag(name, VERBS[verb].bit);
}

/* The option of the verb that a misspelt one is nearest to, or NULL. */
static const char *nearest_option(int verb, const char *name)
{
    size_t distance = mp_farthest_meant(name);
    const char *best = mp_config_nearest_flag(name);
    if (best != NULL && verb_takes(verb, best)) {
        distance = mp_edit_distance(name, best);
    } else {
        best = NULL;
    }
    for (int i = 0; i < NUM_OPTIONS; i++) {
        size_t d = mp_edit_distance(name, OPTIONS[i].name);
        if (d < distance && verb_takes(verb, OPTIONS[i].name)) {
            distance = d;
            best = OPTIONS[i].name;
        }
    }
    return best;
}

static bool is_help(const char *text)
{
    return strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0;
}

/* One "--name value", "--name=value" or switch of the command line. */
struct argument {
    char name[64];
    const char *value; /* NULL: a switch */
};

static int read_argument(int argc, char **argv, int *at, int verb, struct argument *out,
                         struct mp_error *err)
{
    const char *text = argv[*at];
    if (strncmp(text, "--", 2) != 0 || text[2] == '\0') {
        return mp_fail(err, MP_ERR_USAGE, "found \"%s\", expected an option that starts with --",
                       text);
    }
    const char *name = text + 2;
    size_t length = strcspn(name, "=");
    if (length >= sizeof out->name) {
        return mp_fail(err, MP_ERR_USAGE, "unknown option --%s", name);
    }
    memcpy(out->name, name, length);
    out->name[length] = '\0';
    out->value = name[length] == '=' ? name + length + 1 : NULL;

    if (!verb_takes(verb, out->name)) {
        const char *nearest = nearest_option(verb, out->name);
        return mp_fail(err, MP_ERR_USAGE, "%s has no option --%s%s%s%s; see --help",
                       VERBS[verb].name, out->name, nearest != NULL ? " (nearest: --" : "",
                       nearest != NULL ? nearest : "", nearest != NULL ? ")" : "");
    }
    const struct option *option = find_option(verb, out->name);
    bool is_switch = option != NULL && option->kind == SWITCH;
    if (is_switch && out->value != NULL) {
        return mp_fail(err, MP_ERR_USAGE, "--%s takes no value, found \"%s\"", out->name,
                       out->value);
    }
    if (!is_switch && out->value == NULL) {
        if (*at + 1 >= argc) {
            return mp_fail(err, MP_ERR_USAGE, "--%s needs a value", out->name);
        }
        out->value = argv[++*at];
    }
    return 0;
}

static int parse_share(const char *name, const char *text, double *out, struct mp_error *err)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value > 0.0 && value <= 1.0)) {
        return mp_fail(err, MP_ERR_USAGE, "--%s: found \"%s\", expected a number above 0, up to 1",
                       name, text);
    }
    *out = value;
    return 0;
}

static int parse_count(const char *name, const char *text, int64_t least, int64_t *out,
                       struct mp_error *err)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < least || value > INT32_MAX) {
        return mp_fail(err, MP_ERR_USAGE, "--%s: found \"%s\", expected a whole number from %lld",
                       name, text, (long long)least);
    }
    *out = value;
    return 0;
}

static int store_option(struct mp_cli *cli, const struct option *option, const char *value,
                        struct mp_error *err)
{
    void *field = (char *)cli + option->offset;
    switch (option->kind) {
    case SWITCH:
        *(bool *)field = true;
        return 0;
    case SETTING:
        cli->settings =
            mp_xrealloc(cli->settings, (size_t)cli->num_settings + 1, sizeof *cli->settings);
        cli->settings[cli->num_settings++] = value;
        return 0;
    case STRING:
    case PAIR:
        *(const char **)field = value;
        return 0;
    case COUNT:
        return parse_count(option->name, value, 1, field, err);
    case WHOLE:
        return parse_count(option->name, value, 0, field, err);
    case SHARE:
        return parse_share(option->name, value, field, err);
    }
    return 0;
}

/* second: NULL if the command line ends before it. */
static int store_pair(struct mp_cli *cli, const struct option *option, const char *first,
                      const char *second, struct mp_error *err)
{
    if (second == NULL || strncmp(second, "--", 2) == 0) {
        return mp_fail(err, MP_ERR_USAGE, "--%s needs two values", option->name);
    }
    const char **field = (const char **)(void *)((char *)cli + option->offset);
    field[0] = first;
    field[1] = second;
    return 0;
}

/* A method takes no flags of other methods. Such keys in a file are those of the method that the
 * file was written for. */
static int check_attention(const struct mp_cli *cli, const struct argument *flags, int num_flags,
                           struct mp_error *err)
{
    int code = mp_attention_check(&cli->config, err);
    for (int i = 0; i < num_flags && code == 0; i++) {
        if (!mp_attention_takes(&cli->config, mp_config_flag_path(flags[i].name))) {
            char *attention = mp_attention_describe(&cli->config);
            code = mp_fail(err, MP_ERR_USAGE, "--%s does not act for attention %s", flags[i].name,
                           attention);
            free(attention);
        }
    }
    return code;
}

/* A flag that says more of another one needs that one; two that say the opposite do not go. */
static int check_needed(const struct mp_cli *cli, const struct argument *flags, int num_flags,
                        struct mp_error *err)
{
    for (int i = 0; i < num_flags; i++) {
        if (strcmp(flags[i].name, "fxt-steps") == 0 && cli->config.fxt_dir == NULL) {
            return mp_fail(err, MP_ERR_USAGE, "--fxt-steps needs --fxt FOLDER");
        }
    }
    if (cli->parse_special && cli->no_parse_special) {
        return mp_fail(err, MP_ERR_USAGE, "give --parse-special or --no-parse-special, not both");
    }
    return 0;
}

static int parse_arguments(int argc, char **argv, int first, int verb, struct mp_cli *cli,
                           struct mp_error *err)
{
    /* Flags override the file, so they are applied after it, wherever --config stands. */
    struct argument *flags = mp_xcalloc((size_t)argc, sizeof *flags);
    int num_flags = 0;
    int code = 0;
    for (int i = first; i < argc && code == 0; i++) {
        if (is_help(argv[i])) {
            cli->help = true;
            break;
        }
        struct argument a;
        code = read_argument(argc, argv, &i, verb, &a, err);
        if (code == 0) {
            const struct option *option = find_option(verb, a.name);
            if (option != NULL && option->kind == PAIR) {
                code = store_pair(cli, option, a.value, i + 1 < argc ? argv[++i] : NULL, err);
            } else if (option != NULL) {
                code = store_option(cli, option, a.value, err);
            } else {
                flags[num_flags++] = a;
                cli->gen_len_given = cli->gen_len_given || strcmp(a.name, "gen-len") == 0;
            }
        }
    }
    if (code == 0 && !cli->help && cli->config_path != NULL) {
        code = mp_config_load(&cli->config, cli->config_path, err);
    }
    for (int i = 0; i < num_flags && code == 0 && !cli->help; i++) {
        code = mp_config_set_flag(&cli->config, flags[i].name, flags[i].value, err);
    }
    if (!mp_config_has_flag("prefix-cache", VERBS[verb].bit)) {
        /* No memory is planned for it, nor files written. */
        cli->config.prefix_cache = 0;
        free(cli->config.kv_dir);
        cli->config.kv_dir = NULL;
    }
    if (code == 0 && !cli->help) {
        code = mp_config_check(&cli->config, err);
    }
    if (code == 0 && !cli->help) {
        code = check_attention(cli, flags, num_flags, err);
    }
    if (code == 0 && !cli->help) {
        code = check_needed(cli, flags, num_flags, err);
    }
    cli->num_flags = num_flags;
    free(flags);
    return code;
}

/* The verb that argv starts with, of one word or of two ("bench decode"); -1: none. Returns the
 * index of the first argument after it. */
static int read_verb(int argc, char **argv, int *verb)
{
    bool two = strcmp(argv[1], "bench") == 0 ||
               (strcmp(argv[1], "eval") == 0 && argc > 2 && strcmp(argv[2], "attention") == 0);
    if (!two) {
        *verb = find_verb(argv[1]);
        return 2;
    }
    char name[32];
    snprintf(name, sizeof name, "%s %s", argv[1], argc > 2 ? argv[2] : "");
    *verb = find_verb(name);
    return 3;
}

/* The command line as one string, as it could be typed. */
static char *join(int argc, char **argv)
{
    char *command = mp_xstrdup(argc > 0 ? argv[0] : "");
    for (int i = 1; i < argc; i++) {
        const char *quote =
            argv[i][0] == '\0' || strpbrk(argv[i], " \t\n*?$&;|<>()\"") != NULL ? "'" : "";
        char *longer = mp_xasprintf("%s %s%s%s", command, quote, argv[i], quote);
        free(command);
        command = longer;
    }
    return command;
}

int mp_cli_parse(int argc, char **argv, struct mp_cli *out, struct mp_error *err)
{
    *out = (struct mp_cli){.verb = "generate",
                           .warmup = -1,
                           .data_seed = -1,
                           .port = -1,
                           .queue = -1,
                           .drain_seconds = -1};
    mp_config_init(&out->config);
    out->command = join(argc, argv);
    int first = 1;
    int verb = find_verb("generate");
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        out->version = true;
        return 0;
    }
    if (argc <= 1 || is_help(argv[1])) {
        out->help = true;
        out->verb = NULL;
        return 0;
    }
    if (argv[1][0] != '-') {
        if (strcmp(argv[1], "bench") == 0 && argc > 2 && is_help(argv[2])) {
            out->help = true;
            out->verb = NULL;
            return 0;
        }
        first = read_verb(argc, argv, &verb);
        if (verb < 0) {
            return mp_fail(err, MP_ERR_USAGE, "found \"%s%s%s\", expected %s", argv[1],
                           argc > 2 ? " " : "", argc > 2 ? argv[2] : "",
                           strcmp(argv[1], "bench") == 0
                               ? "bench decode, bench prefill or bench ops"
                               : "generate, serve, eval, logits, tokenize, detokenize, plan, "
                                 "bench, tune or make-data");
        }
        out->verb = VERBS[verb].name;
    }
    return parse_arguments(argc, argv, first, verb, out, err);
}

void mp_cli_help(const char *verb)
{
    if (verb == NULL) {
        fputs(mp_help_overview, stdout);
        return;
    }
    int i = find_verb(verb);
    fputs(VERBS[i].help, stdout);
    fputs("\nConfiguration flags:\n", stdout);
    mp_config_print_flags(stdout, VERBS[i].bit);
    const char *name, *summary;
    for (int m = 0;
         mp_config_has_flag("attention", VERBS[i].bit) && mp_attention_method(m, &name, &summary);
         m++) {
        printf("%s  %-12s %s\n", m == 0 ? "\nAttention methods:\n" : "", name, summary);
    }
    if (find_option(i, "shape") != NULL) {
        printf("\nShapes: %s\n", mp_hook_shapes());
    }
    if (find_option(i, "template") != NULL) {
        printf("\nTemplates: %s\n", mp_hook_chat_names());
    }
}

void mp_cli_free(struct mp_cli *cli)
{
    mp_config_free(&cli->config);
    free(cli->settings);
    free(cli->command);
}

int mp_cli_use_ranks(struct mp_cli *cli, struct mp_ranks *ranks, struct mp_error *err)
{
    static const unsigned all = MP_VERB_GENERATE | MP_VERB_BENCH_DECODE;
    struct mp_config *c = &cli->config;
    cli->ranks = ranks;
    if (cli->version || cli->help) {
        return 0;
    }
    if ((VERBS[find_verb(cli->verb)].bit & all) == 0) {
        return mp_fail(err, MP_ERR_USAGE,
                       "%s: found %d ranks, expected one process: several run generate and bench "
                       "decode",
                       cli->verb, mp_ranks_count(ranks));
    }
    if (c->prefix_cache > 0 || c->kv_dir != NULL) {
        return mp_fail(err, MP_ERR_USAGE, "%s: found with %d ranks, expected one process",
                       c->kv_dir != NULL ? "runtime.kv_dir" : "runtime.prefix_cache",
                       mp_ranks_count(ranks));
    }
    c->prefix_cache = 0;
    if (c->binding == MP_BIND_CORES && mp_ranks_share_cores()) {
        mp_log(MP_LOG_WARNING,
               "ranks on one machine share its cores, and their threads are not bound: mpirun "
               "--map-by slot:PE=N --bind-to core gives each of them N");
        c->binding = MP_BIND_NONE;
    }
    if (mp_ranks_index(ranks) > 0) {
        cli->output = NULL;
        cli->resume = false;
        cli->quiet = true;
        free(c->trace_path);
        free(c->report_path);
        free(c->fxt_dir);
        c->trace_path = c->report_path = c->fxt_dir = NULL;
    }
    return 0;
}

int mp_cli_call_verb(const struct mp_cli *cli, struct mp_error *err)
{
    return VERBS[find_verb(cli->verb)].run(cli, err);
}
