/* The small verbs: logits, tokenize, detokenize. */
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/json/json.h"
#include "core/safetensors/safetensors.h"
#include "pipeline/cli/cli.h"
#include "pipeline/cli/interrupt.h"
#include "pipeline/engine/hooks.h"
#include "pipeline/generate/prompts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_JSON_BYTES = 1 << 30 };

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

/* What makes ids of texts. */
struct encoder {
    const struct mp_cli *cli;
    struct mp_tokenizer *tokenizer;
    struct mp_chat *chat; /* NULL: texts are taken as they are */
};

static void print_ids(const struct mp_ids *ids)
{
    putchar('[');
    for (size_t i = 0; i < ids->count; i++) {
        printf("%s%d", i > 0 ? ", " : "", (int)ids->data[i]);
    }
    puts("]");
}

static int print_text_ids(const struct encoder *e, const char *text, size_t length,
                          struct mp_error *err)
{
    struct mp_ids ids = {0};
    char *content = NULL;
    if (e->cli->no_parse_special) {
        content = mp_xmalloc(length + 1);
        memset(content, 1, length + 1);
    }
    int code = mp_tokenizer_encode_content(e->tokenizer, text, content, length, !e->cli->no_special,
                                           &ids, err);
    if (code == 0) {
        print_ids(&ids);
    }
    free(content);
    mp_ids_free(&ids);
    return code;
}

/* Of a user's message. */
static int print_chat_ids(const struct encoder *e, const char *text, size_t length,
                          struct mp_error *err)
{
    struct mp_ids ids = {0};
    char *json = mp_hook_chat_of_text(text, length);
    const struct mp_conversation c = {.name = "text",
                                      .json = json,
                                      .length = strlen(json),
                                      .parse_special = e->cli->parse_special};
    int code = mp_hook_encode_chat(e->chat, e->tokenizer, &c, &ids, err);
    if (code == 0) {
        print_ids(&ids);
    }
    free(json);
    mp_ids_free(&ids);
    return code;
}

static int print_ids_of(const struct encoder *e, const char *text, size_t length,
                        struct mp_error *err)
{
    return e->chat != NULL ? print_chat_ids(e, text, length, err)
                           : print_text_ids(e, text, length, err);
}

static int tokenize_stdin(const struct encoder *e, struct mp_error *err)
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
                             : print_ids_of(e, text, used, err);
    free(text);
    return code;
}

static int tokenize_file(const struct encoder *e, const char *path, struct mp_error *err)
{
    struct mp_json *doc;
    int code = mp_json_read_file_with_nul(path, MAX_JSON_BYTES, &doc, err);
    if (code != 0) {
        return code;
    }
    code = mp_json_expect(doc, mp_json_root(doc), MP_JSON_ARRAY, err);
    for (const struct cJSON *v = code == 0 ? mp_json_first(mp_json_root(doc)) : NULL;
         v != NULL && code == 0; v = mp_json_after(v)) {
        const char *string;
        code = mp_json_as_string(doc, v, &string, err);
        if (code == 0) {
            size_t length;
            char *text = mp_json_string_bytes(string, &length);
            code = print_ids_of(e, text, length, err);
            free(text);
        }
    }
    mp_json_free(doc);
    return code;
}

/* The prompts that generate would read. */
static int tokenize_records(const struct mp_cli *cli, struct mp_error *err)
{
    struct mp_engine *engine = NULL;
    struct mp_prompts prompts = {0};
    size_t failed = 0;
    int code = mp_cli_open_engine(cli, &cli->config, &engine, err);
    if (code == 0) {
        code = mp_prompts_load(cli, engine, &prompts, err);
    }
    for (size_t i = 0; i < prompts.records.count && code == 0; i++) {
        const struct mp_record *r = &prompts.records.items[i];
        if (r->error == NULL) {
            print_ids(&prompts.ids[i]);
        } else {
            puts("null");
            mp_log(MP_LOG_ERROR, "record %s: %s", r->id, r->error);
            failed++;
        }
    }
    if (failed > 0) {
        code = mp_fail(err, MP_ERR_FORMAT, "%zu of %zu records could not be read", failed,
                       prompts.records.count);
    }
    mp_prompts_free(&prompts);
    mp_engine_close(engine);
    return code;
}

int mp_verb_tokenize(const struct mp_cli *cli, struct mp_error *err)
{
    if (cli->input != NULL && (cli->json != NULL || cli->no_special)) {
        return mp_fail(err, MP_ERR_USAGE, "--input takes neither --json nor --no-special");
    }
    if (cli->input != NULL) {
        return tokenize_records(cli, err);
    }
    if (cli->chat && cli->no_special) {
        return mp_fail(err, MP_ERR_USAGE,
                       "--no-special does not act with --chat: its tokens are "
                       "the template's");
    }
    struct encoder e = {.cli = cli};
    int code = mp_cli_open_tokenizer(cli, &e.tokenizer, cli->chat ? &e.chat : NULL, err);
    if (code == 0) {
        code = cli->json != NULL ? tokenize_file(&e, cli->json, err) : tokenize_stdin(&e, err);
    }
    mp_tokenizer_free(e.tokenizer);
    mp_hook_free_chat(e.chat);
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
    int code = mp_cli_open_tokenizer(cli, &t, NULL, err);
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
