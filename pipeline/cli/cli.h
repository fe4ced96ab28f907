/* The command line: verbs, their options, and the configuration they run with. */
#ifndef MP_PIPELINE_CLI_H
#define MP_PIPELINE_CLI_H

#include "core/base/error.h"
#include "core/config/config.h"

#include <stdbool.h>
#include <stdint.h>

struct mp_ranks; /* core/ranks/ranks.h */

/* What a command line said. Strings point into argv. */
struct mp_cli {
    struct mp_ranks *ranks;  /* that this process is one of; NULL: there is one */
    char *command;           /* the command line, for reports */
    const char *verb;        /* "generate" if none was given */
    struct mp_config config; /* defaults, --config, then flags */
    const char *config_path; /* NULL: none given */
    const char *input;       /* records; NULL */
    const char *prompt;      /* one prompt given on the command line; NULL */
    const char *output;
    const char *tokens;  /* file of token ids */
    const char *json;    /* file of texts or ids */
    int64_t context;     /* prompt tokens to plan for, or to measure; 0: not given */
    int64_t plan_ranks;  /* to plan for; 0: not given */
    const char *network; /* between them: "25Gbit,10us"; NULL: not given */
    const char *rates;   /* file of what bench decode has measured; NULL: not given */
    /* Of benchmarks. */
    const char *shape; /* a well-known model's, with random weights; NULL: config.model_path */
    int64_t layers;    /* of the shape; 0: all it has */
    int64_t steps;     /* timed; 0: not given */
    int64_t warmup;    /* steps before them; -1: not given */
    int64_t question;  /* last tokens of a prompt, of which the others were read before; 0: none */
    double sampled;    /* share of the offloaded tokens to sample; 0: not given */
    const char *kv;    /* where it comes from: "synthetic" or "prompt"; NULL: synthetic */
    bool compare;      /* a row for each placement */
    /* Of samples, for make-data and eval. Files: NULL if not given. */
    const char *task;          /* names with commas, or "all"; NULL: not given */
    const char *chat_template; /* by name; NULL: none */
    const char *essay, *words, *squad, *hotpot;
    int64_t length;    /* tokens of a sample; 0: not given */
    int64_t samples;   /* of each task; 0: not given */
    int64_t data_seed; /* -1: not given */
    /* Of eval. */
    const char **settings; /* [num_settings] as given */
    int num_settings;
    const char *sparse_from; /* "answer" or "question"; NULL: answer */
    const char *csv, *html;  /* files to write; NULL: not given */
    const char *compared[2]; /* files of answers; NULL: not given */
    /* Of serve. Numbers: -1 if not given. */
    const char *host, *api_key_file, *served_name; /* NULL: not given */
    int64_t port, queue, drain_seconds;
    int64_t request_seconds, max_body; /* 0: not given */
    int num_flags;                     /* of the configuration, given */
    bool gen_len_given;
    bool json_output;
    bool resume;
    bool no_special;
    bool chat;             /* texts are a user's messages */
    bool parse_special;    /* special tokens are found in what users wrote, */
    bool no_parse_special; /* or not; neither: as the kind of prompt has it */
    bool quiet;
    bool help;
    bool version;
};

/* Parses argv and loads the configuration. Every flag acts for its verb or is MP_ERR_USAGE. */
int mp_cli_parse(int argc, char **argv, struct mp_cli *out, struct mp_error *err);
void mp_cli_free(struct mp_cli *cli);

/* Makes this process one of several ranks: what a run writes and shows is rank 0's. MP_ERR_USAGE:
 * the command line asks for what several ranks do not do. */
int mp_cli_use_ranks(struct mp_cli *cli, struct mp_ranks *ranks, struct mp_error *err);

/* Does what the verb of the command line is for. */
int mp_cli_call_verb(const struct mp_cli *cli, struct mp_error *err);

/* Prints the help of a verb to stdout; NULL: the overview. */
void mp_cli_help(const char *verb);

/* The directory of the model the configuration names; malloc'ed. */
int mp_cli_model_dir(const struct mp_cli *cli, char **out, struct mp_error *err);

/* The tokenizer of that model, or of a directory that holds nothing else, and, if chat is not NULL,
 * its chat template. The caller's, also after an error: mp_tokenizer_free, mp_hook_free_chat. */
struct mp_chat;
struct mp_tokenizer;
int mp_cli_open_tokenizer(const struct mp_cli *cli, struct mp_tokenizer **out,
                          struct mp_chat **chat, struct mp_error *err);

/* An engine for the command line's shape or model, with this configuration, which is the command
 * line's or a copy of it that was changed. It shows messages and progress, and signals stop it. */
struct mp_engine;
int mp_cli_open_engine(const struct mp_cli *cli, const struct mp_config *config,
                       struct mp_engine **out, struct mp_error *err);

/* The same with the callbacks of these options, whose other fields are not used. */
struct mp_engine_options;
int mp_cli_open_engine_with(const struct mp_cli *cli, const struct mp_config *config,
                            const struct mp_engine_options *callbacks, struct mp_engine **out,
                            struct mp_error *err);

/* What a run writes must be none of the files it reads, nor what else it writes, nor the model's;
 * what it writes in the end can be written, and what it reads can be read. MP_ERR_USAGE. */
int mp_cli_check_paths(const struct mp_cli *cli, struct mp_error *err);

/* The whole program: parse, run the verb, report errors. Returns the exit status: 0, 1 for a
 * failed run or record, 2 for a wrong command line or configuration, 130 after a signal. */
int mp_cli_main(int argc, char **argv);

/* ---- verbs: generate.c, verbs.c ---- */

/* Fails in the end if any record could not be run. */
int mp_verb_generate(const struct mp_cli *cli, struct mp_error *err);
int mp_verb_logits(const struct mp_cli *cli, struct mp_error *err);
int mp_verb_tokenize(const struct mp_cli *cli, struct mp_error *err);
int mp_verb_detokenize(const struct mp_cli *cli, struct mp_error *err);

/* plan_verb.c: fails in the end if there is no room for what is planned. */
int mp_verb_plan(const struct mp_cli *cli, struct mp_error *err);

/* bench_verbs.c */
int mp_verb_bench_decode(const struct mp_cli *cli, struct mp_error *err);
int mp_verb_bench_prefill(const struct mp_cli *cli, struct mp_error *err);
int mp_verb_bench_ops(const struct mp_cli *cli, struct mp_error *err);

/* serve_verb.c: until a signal. */
int mp_verb_serve(const struct mp_cli *cli, struct mp_error *err);

/* tune_verb.c */
int mp_verb_tune(const struct mp_cli *cli, struct mp_error *err);

/* make_data.c */
int mp_verb_make_data(const struct mp_cli *cli, struct mp_error *err);

/* eval_verb.c, attention_verb.c. Both fail in the end if any prompt could not be run. */
int mp_verb_eval(const struct mp_cli *cli, struct mp_error *err);
int mp_verb_eval_attention(const struct mp_cli *cli, struct mp_error *err);

#endif
