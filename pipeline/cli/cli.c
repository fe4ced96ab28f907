#include "pipeline/cli/cli.h"

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/trace/trace.h"
#include "models/presets.h"
#include "pipeline/cli/help.h"
#include "pipeline/cli/interrupt.h"
#include "pipeline/engine/recording.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum verb {
    GENERATE = 1 << 0,
    LOGITS = 1 << 1,
    TOKENIZE = 1 << 2,
    DETOKENIZE = 1 << 3,
    PLAN = 1 << 4,
    BENCH_DECODE = 1 << 5,
    BENCH_PREFILL = 1 << 6,
    BENCH_OPS = 1 << 7,
    TUNE = 1 << 8,
    BENCH = BENCH_DECODE | BENCH_PREFILL | BENCH_OPS,
};

static bool is_one_of(const char *name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* Configuration flags that act for `logits`, which has full attention and generates nothing. */
static bool acts_for_logits(const char *flag)
{
    static const char *const flags[] = {"model",   "chunk-size",  "mem-efficient", "sched",
                                        "threads", "cpu-workers", "isa",           "memory-limit",
                                        "trace",   "devices",     "gpu-memory",    "calibration"};
    return is_one_of(flag, flags, sizeof flags / sizeof flags[0]);
}

/* What changes the memory a run takes. */
static bool acts_for_plan(const char *flag)
{
    static const char *const flags[] = {
        "model",         "chunk-size",     "cache-layers",    "lsh-k",
        "lsh-l",         "device-budget",  "window-size",     "generation-budget",
        "gen-len",       "lsh-projection", "lsh-layer-group", "batch",
        "isa",           "memory-limit",   "devices",         "gpu-memory",
        "gpu-kv-layers", "mem-efficient"};
    return is_one_of(flag, flags, sizeof flags / sizeof flags[0]);
}

/* A benchmark generates a given number of tokens, whichever they are. */
static bool acts_for_bench_decode(const char *flag)
{
    static const char *const flags[] = {"gen-len", "eos",  "temperature",      "top-p",
                                        "top-k",   "seed", "generation-budget"};
    return !is_one_of(flag, flags, sizeof flags / sizeof flags[0]);
}

/* StarPU's own trace is one of decode steps, in one run. */
static bool acts_for_bench(const char *flag)
{
    return acts_for_bench_decode(flag) && strcmp(flag, "report") != 0 && strcmp(flag, "fxt") != 0 &&
           strcmp(flag, "fxt-steps") != 0;
}

/* Tuning runs many times: no one trace is of it, and no run may leave rates for the next. */
static bool acts_for_tune(const char *flag)
{
    return acts_for_bench(flag) && strcmp(flag, "trace") != 0 && strcmp(flag, "calibration") != 0;
}

static bool is_model(const char *flag)
{
    return strcmp(flag, "model") == 0;
}

static const struct {
    const char *name;
    enum verb bit;
    const char *help;
    bool (*takes)(const char *flag); /* configuration flags that act for it; NULL: all */
    int (*run)(const struct mp_cli *cli, struct mp_error *err);
} VERBS[] = {
    {"generate", GENERATE, mp_help_generate, NULL, mp_verb_generate},
    {"logits", LOGITS, mp_help_logits, acts_for_logits, mp_verb_logits},
    {"tokenize", TOKENIZE, mp_help_tokenize, is_model, mp_verb_tokenize},
    {"detokenize", DETOKENIZE, mp_help_detokenize, is_model, mp_verb_detokenize},
    {"plan", PLAN, mp_help_plan, acts_for_plan, mp_verb_plan},
    {"bench decode", BENCH_DECODE, mp_help_bench_decode, acts_for_bench_decode,
     mp_verb_bench_decode},
    {"bench prefill", BENCH_PREFILL, mp_help_bench_prefill, acts_for_bench, mp_verb_bench_prefill},
    {"bench ops", BENCH_OPS, mp_help_bench_ops, acts_for_bench, mp_verb_bench_ops},
    {"tune", TUNE, mp_help_tune, acts_for_tune, mp_verb_tune},
};
enum { NUM_VERBS = sizeof VERBS / sizeof VERBS[0] };

/* Options that are not configuration keys. */
static const struct option {
    const char *name;
    enum { SWITCH, STRING, COUNT, WHOLE, SHARE } kind;
    size_t offset; /* of its field in struct mp_cli */
    int verbs;     /* which take it */
} OPTIONS[] = {
    {"config", STRING, offsetof(struct mp_cli, config_path),
     GENERATE | LOGITS | PLAN | BENCH | TUNE},
    {"input", STRING, offsetof(struct mp_cli, input), GENERATE | PLAN},
    {"prompt", STRING, offsetof(struct mp_cli, prompt), GENERATE},
    {"output", STRING, offsetof(struct mp_cli, output), GENERATE | LOGITS | TUNE},
    {"resume", SWITCH, offsetof(struct mp_cli, resume), GENERATE | TUNE},
    {"quiet", SWITCH, offsetof(struct mp_cli, quiet), GENERATE},
    {"tokens", STRING, offsetof(struct mp_cli, tokens), LOGITS},
    {"json", STRING, offsetof(struct mp_cli, json), TOKENIZE | DETOKENIZE},
    {"no-special", SWITCH, offsetof(struct mp_cli, no_special), TOKENIZE},
    {"context", COUNT, offsetof(struct mp_cli, context), PLAN | BENCH | TUNE},
    {"shape", STRING, offsetof(struct mp_cli, shape), PLAN | BENCH | TUNE},
    {"layers", COUNT, offsetof(struct mp_cli, layers), PLAN | BENCH | TUNE},
    {"steps", COUNT, offsetof(struct mp_cli, steps), BENCH | TUNE},
    {"warmup", WHOLE, offsetof(struct mp_cli, warmup), BENCH},
    {"sampled", SHARE, offsetof(struct mp_cli, sampled), BENCH_DECODE | BENCH_OPS | TUNE},
    {"kv", STRING, offsetof(struct mp_cli, kv), BENCH_DECODE},
    {"compare", SWITCH, offsetof(struct mp_cli, compare), BENCH_DECODE},
    {"json", SWITCH, offsetof(struct mp_cli, json_output), BENCH},
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
        if (strcmp(OPTIONS[i].name, name) == 0 && (OPTIONS[i].verbs & (int)VERBS[verb].bit) != 0) {
            return &OPTIONS[i];
        }
    }
    return NULL;
}

static bool verb_takes(int verb, const char *name)
{
    return find_option(verb, name) != NULL ||
           (mp_config_has_flag(name) && (VERBS[verb].takes == NULL || VERBS[verb].takes(name)));
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
    case STRING:
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
            if (option != NULL) {
                code = store_option(cli, option, a.value, err);
            } else {
                flags[num_flags++] = a;
            }
        }
    }
    if (code == 0 && !cli->help && cli->config_path != NULL) {
        code = mp_config_load(&cli->config, cli->config_path, err);
    }
    for (int i = 0; i < num_flags && code == 0 && !cli->help; i++) {
        code = mp_config_set_flag(&cli->config, flags[i].name, flags[i].value, err);
    }
    if (code == 0 && !cli->help) {
        code = mp_config_check(&cli->config, err);
    }
    free(flags);
    return code;
}

/* The verb that argv starts with, of one word or of two ("bench decode"); -1: none. Returns the
 * index of the first argument after it. */
static int read_verb(int argc, char **argv, int *verb)
{
    if (strcmp(argv[1], "bench") != 0) {
        *verb = find_verb(argv[1]);
        return 2;
    }
    char name[32];
    snprintf(name, sizeof name, "bench %s", argc > 2 ? argv[2] : "");
    *verb = find_verb(name);
    return 3;
}

/* The command line as one string. */
static char *join(int argc, char **argv)
{
    char *command = mp_xstrdup(argc > 0 ? argv[0] : "");
    for (int i = 1; i < argc; i++) {
        char *longer = mp_xasprintf("%s %s", command, argv[i]);
        free(command);
        command = longer;
    }
    return command;
}

int mp_cli_parse(int argc, char **argv, struct mp_cli *out, struct mp_error *err)
{
    *out = (struct mp_cli){.verb = "generate", .warmup = -1};
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
                               : "generate, logits, tokenize, detokenize, plan, bench or tune");
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
    mp_config_print_flags(stdout, VERBS[i].takes);
    if (find_option(i, "shape") != NULL) {
        printf("\nShapes: %s\n", mp_preset_names());
    }
}

void mp_cli_free(struct mp_cli *cli)
{
    mp_config_free(&cli->config);
    free(cli->command);
}

int mp_cli_model_dir(const struct mp_cli *cli, char **out, struct mp_error *err)
{
    if (cli->config.model_path == NULL) {
        return mp_fail(err, MP_ERR_USAGE,
                       "no model: give --model DIR, or model_path in a --config file");
    }
    char *folder = NULL;
    if (cli->config_path != NULL) {
        folder = mp_file_folder(cli->config_path);
    }
    int code = mp_config_resolve_model(cli->config.model_path, folder, out, err);
    free(folder);
    return code == 0 ? 0 : MP_ERR_USAGE;
}

/* Runs the verb, and writes what was recorded if the configuration names a file for it. */
static int run_verb(const struct mp_cli *cli, struct mp_error *err)
{
    const char *trace = cli->config.trace_path;
    const char *report = cli->config.report_path;
    int code = mp_cli_check_paths(cli, err);
    if (code == 0) {
        code = mp_recording_start(trace != NULL || report != NULL, err);
    }
    if (code == 0) {
        code = VERBS[find_verb(cli->verb)].run(cli, err);
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

int mp_cli_main(int argc, char **argv)
{
    struct mp_error err;
    struct mp_cli cli;
    mp_interrupt_install();
    /* Whatever is wrong with a command line or its configuration file is the user's to correct. */
    int code = mp_cli_parse(argc, argv, &cli, &err) == 0 ? 0 : MP_ERR_USAGE;
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
    if (code != 0) {
        mp_log(MP_LOG_ERROR, "%s", err.message);
    }
    mp_cli_free(&cli);
    return exit_status(code);
}
