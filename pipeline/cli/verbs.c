/* The small verbs: plan, logits, tokenize, detokenize. */
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/json/json.h"
#include "core/json/safetensors.h"
#include "pipeline/bench/bench.h"
#include "pipeline/cli/cli.h"
#include "pipeline/cli/interrupt.h"
#include "pipeline/engine/hooks.h"
#include "pipeline/engine/plan.h"
#include "pipeline/generate/prompts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_JSON_BYTES = 1 << 30 };

/* ---- plan ---- */

/* The longest prompt of --input that can run; fails with the first record's error if none can. */
static int longest_prompt(const struct mp_cli *cli, struct mp_engine *e, int64_t *tokens,
                          struct mp_error *err)
{
    struct mp_prompts prompts;
    int code = mp_prompts_load(cli, e, &prompts, err);
    if (code != 0) {
        return code;
    }
    mp_prompts_check(&prompts, cli, e);
    *tokens = mp_prompts_longest(&prompts);
    if (*tokens == 0) {
        code = mp_fail(err, MP_ERR_USAGE, "no record can run: %s", prompts.records.items[0].error);
    }
    for (size_t i = 0; i < prompts.records.count && code == 0; i++) {
        if (prompts.records.items[i].error != NULL) {
            mp_log(MP_LOG_WARNING, "left out: %s", prompts.records.items[i].error);
        }
    }
    mp_prompts_free(&prompts);
    return code;
}

static int check_plan(const struct mp_cli *cli, struct mp_error *err)
{
    if ((cli->context == 0) == (cli->input == NULL)) {
        return mp_fail(err, MP_ERR_USAGE, "plan needs either --context N or --input FILE");
    }
    if (cli->shape != NULL && cli->input != NULL) {
        return mp_fail(err, MP_ERR_USAGE, "--input needs --model: a shape has no tokenizer");
    }
    return mp_bench_check_model(cli, err);
}

int mp_verb_plan(const struct mp_cli *cli, struct mp_error *err)
{
    struct mp_engine *engine = NULL;
    int64_t tokens = cli->context;
    int code = check_plan(cli, err);
    if (code == 0) {
        code = mp_cli_open_engine(cli, &cli->config, &engine, err);
    }
    if (code == 0 && cli->input != NULL) {
        code = longest_prompt(cli, engine, &tokens, err);
    }
    if (code == 0) {
        code = mp_engine_check_length(engine, tokens, err);
    }
    if (code == 0) {
        struct mp_plan plan;
        mp_engine_plan(engine, tokens, cli->config.gen_len, &plan);
        printf("model: %s\n", mp_engine_model(engine));
        mp_plan_print(&plan, &cli->config, stdout);
        code = mp_plan_check(&plan, &cli->config, err);
    }
    mp_engine_close(engine);
    return code;
}

/* ---- token ids in JSON ---- */

static int read_ids(const struct mp_json *doc, const struct cJSON *array, int32_t limit,
                    struct mp_ids *out, struct mp_error *err)
{
    int code = mp_json_expect(doc, array, MP_JSON_ARRAY, err);
    if (code != 0) {
        return code;
    }
    for (const struct cJSON *v = mp_json_first(array); v != NULL; v = mp_json_after(v)) {
        int64_t id;
        code = mp_json_as_int(doc, v, 0, limit - 1, &id, err);
        if (code != 0) {
            return code;
        }
        mp_ids_push(out, (int32_t)id);
    }
    return 0;
}

/* ---- logits ---- */

static int write_rows(void *arg, const float *logits, int64_t rows, struct mp_error *err)
{
    return mp_tensor_writer_rows(arg, logits, rows, err);
}

static int run_logits(struct mp_engine *e, const struct mp_ids *ids, const char *path,
                      struct mp_error *err)
{
    struct mp_tensor_writer writer;
    int code = mp_tensor_writer_open(&writer, path, "logits", (int64_t)ids->count,
                                     mp_engine_vocab_size(e), err);
    if (code != 0) {
        return code;
    }
    code = mp_engine_logits(e, ids->data, (int64_t)ids->count, write_rows, &writer, err);
    return mp_tensor_writer_close(&writer, code, err);
}

int mp_verb_logits(const struct mp_cli *cli, struct mp_error *err)
{
    if (cli->tokens == NULL || cli->output == NULL) {
        return mp_fail(err, MP_ERR_USAGE, "logits needs --tokens FILE and --output FILE");
    }
    struct mp_config config = cli->config;
    config.attention_method = (char *)mp_attention_exact(); /* only read */
    config.num_cache_layers = 0;
    config.batch = 1;
    struct mp_json *doc = NULL;
    struct mp_engine *engine = NULL;
    struct mp_ids ids = {0};

    int code = mp_json_read_file(cli->tokens, MAX_JSON_BYTES, &doc, err);
    if (code == 0) {
        code = mp_cli_open_engine(cli, &config, &engine, err);
    }
    if (code == 0) {
        code = read_ids(doc, mp_json_root(doc), mp_engine_vocab_size(engine), &ids, err);
    }
    if (code == 0) {
        code = mp_engine_check_prompt(engine, ids.data, (int64_t)ids.count, 1, err);
        if (code != 0) {
            mp_fail_prefix(err, "%s", cli->tokens);
        }
    }
    if (code == 0) {
        mp_interrupt_defer();
        code = mp_engine_start(engine, (int64_t)ids.count, 0, err);
    }
    if (code == 0) {
        mp_engine_log_workers(engine);
        code = run_logits(engine, &ids, cli->output, err);
    }
    mp_engine_close(engine);
    mp_ids_free(&ids);
    mp_json_free(doc);
    return code;
}

/* ---- tokenize ---- */

static int print_ids(const struct mp_tokenizer *t, const char *text, size_t length, bool special,
                     struct mp_error *err)
{
    struct mp_ids ids = {0};
    int code = mp_tokenizer_encode(t, text, length, special, &ids, err);
    if (code == 0) {
        putchar('[');
        for (size_t i = 0; i < ids.count; i++) {
            printf("%s%d", i > 0 ? ", " : "", (int)ids.data[i]);
        }
        puts("]");
    }
    mp_ids_free(&ids);
    return code;
}

/* One element of the file: a string. */
static int print_ids_of(const struct mp_tokenizer *t, const struct mp_json *doc,
                        const struct cJSON *value, bool special, struct mp_error *err)
{
    const char *string;
    int code = mp_json_as_string(doc, value, &string, err);
    if (code == 0) {
        size_t length;
        char *text = mp_json_string_bytes(string, &length);
        code = print_ids(t, text, length, special, err);
        free(text);
    }
    return code;
}

static int tokenize_stdin(const struct mp_tokenizer *t, bool special, struct mp_error *err)
{
    char *text = NULL;
    size_t used = 0;
    size_t room = 0;
    size_t n;
    do {
        room += 65536;
        text = mp_xrealloc(text, room, 1);
        n = fread(text + used, 1, room - used, stdin);
        used += n;
    } while (used == room);
    int code = ferror(stdin) ? mp_fail(err, MP_ERR_IO, "stdin: cannot read: %s", strerror(errno))
                             : print_ids(t, text, used, special, err);
    free(text);
    return code;
}

static int tokenize_file(const struct mp_tokenizer *t, const char *path, bool special,
                         struct mp_error *err)
{
    struct mp_json *doc;
    int code = mp_json_read_file_with_nul(path, MAX_JSON_BYTES, &doc, err);
    if (code != 0) {
        return code;
    }
    code = mp_json_expect(doc, mp_json_root(doc), MP_JSON_ARRAY, err);
    for (const struct cJSON *v = code == 0 ? mp_json_first(mp_json_root(doc)) : NULL;
         v != NULL && code == 0; v = mp_json_after(v)) {
        code = print_ids_of(t, doc, v, special, err);
    }
    mp_json_free(doc);
    return code;
}

int mp_verb_tokenize(const struct mp_cli *cli, struct mp_error *err)
{
    struct mp_tokenizer *t;
    int code = mp_cli_open_tokenizer(cli, &t, err);
    if (code != 0) {
        return code;
    }
    code = cli->json != NULL ? tokenize_file(t, cli->json, !cli->no_special, err)
                             : tokenize_stdin(t, !cli->no_special, err);
    mp_tokenizer_free(t);
    return code;
}

/* ---- detokenize ---- */

static void print_text(const struct mp_tokenizer *t, const struct mp_ids *ids)
{
    size_t length;
    char *text = mp_tokenizer_decode(t, ids->data, ids->count, false, &length);
    char *quoted = mp_json_quote(text, length);
    puts(quoted);
    free(quoted);
    free(text);
}

int mp_verb_detokenize(const struct mp_cli *cli, struct mp_error *err)
{
    struct mp_tokenizer *t = NULL;
    struct mp_json *doc = NULL;
    if (cli->json == NULL) {
        return mp_fail(err, MP_ERR_USAGE, "detokenize needs --json FILE");
    }
    int code = mp_cli_open_tokenizer(cli, &t, err);
    if (code == 0) {
        code = mp_json_read_file(cli->json, MAX_JSON_BYTES, &doc, err);
    }
    if (code == 0) {
        code = mp_json_expect(doc, mp_json_root(doc), MP_JSON_ARRAY, err);
    }
    for (const struct cJSON *v = code == 0 ? mp_json_first(mp_json_root(doc)) : NULL;
         v != NULL && code == 0; v = mp_json_after(v)) {
        struct mp_ids ids = {0};
        code = read_ids(doc, v, INT32_MAX, &ids, err); /* the model may have more than tokens */
        if (code == 0) {
            print_text(t, &ids);
        }
        mp_ids_free(&ids);
    }
    mp_json_free(doc);
    mp_tokenizer_free(t);
    return code;
}
