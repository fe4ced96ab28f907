#include "pipeline/generate/prompts.h"

#include "core/base/file.h"
#include "core/base/memory.h"
#include "core/base/utf8.h"
#include "core/json/json_print.h"
#include "core/ranks/ranks.h"
#include "pipeline/engine/hooks.h"
#include "pipeline/generate/answer_key.h"
#include "pipeline/generate/records/record.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Where a record stands: "FILE:LINE". The caller's. */
static char *place_of(const struct mp_record *r, const struct mp_cli *cli)
{
    return cli->input != NULL ? mp_xasprintf("%s:%zu", mp_file_name(cli->input), r->line)
                              : mp_xstrdup("--prompt");
}

/* Takes over the message. */
static void set_error(struct mp_prompts *p, size_t record, char *message)
{
    struct mp_record *r = &p->records.items[record];
    r->error = message;
    mp_utf8_repair(r->error); /* the file's name can be anything */
    p->ids[record].count = 0;
}

void mp_prompts_fail(struct mp_prompts *p, size_t record, const struct mp_cli *cli, const char *why)
{
    char *place = place_of(&p->records.items[record], cli);
    set_error(p, record, mp_xasprintf("%s: %s", place, why));
    free(place);
}

/* The ids of a conversation, or of a text as a user's only message. Messages say where it stands.
 */
static int encode_chat(const struct mp_record *r, const struct mp_cli *cli, struct mp_engine *e,
                       struct mp_ids *out, struct mp_error *err)
{
    char *record = place_of(r, cli);
    char *place = mp_xasprintf("%s%s", record, r->batch != MP_BATCH_NONE ? ": body" : "");
    char *json =
        r->chat != NULL ? NULL : mp_hook_chat_of_text(r->text, r->text_length - r->prefix_length);
    const struct mp_conversation c = {
        .name = place,
        .json = json != NULL ? json : r->chat,
        .length = strlen(json != NULL ? json : r->chat),
        .answer = json != NULL ? r->text + r->text_length - r->prefix_length : NULL,
        .parse_special = cli->parse_special,
    };
    int64_t count = 0;
    int code = mp_engine_encode_chat(e, &c, &out->data, &count, err);
    out->count = out->capacity = (size_t)count;
    free(json);
    free(place);
    free(record);
    return code;
}

/* The ids of a text as it is. */
static int encode_text(const struct mp_record *r, const struct mp_cli *cli, struct mp_engine *e,
                       struct mp_ids *out, struct mp_error *err)
{
    int64_t count = 0;
    int code = cli->no_parse_special
                   ? mp_engine_encode_plain(e, r->text, r->text_length, &out->data, &count, err)
                   : mp_engine_encode(e, r->text, r->text_length, &out->data, &count, err);
    out->count = out->capacity = (size_t)count;
    if (code != 0) {
        char *place = place_of(r, cli);
        mp_fail_prefix(err, "%s: input", place);
        free(place);
    }
    return code;
}

/* What is wrong with a record becomes its error. MP_ERR_INTERRUPTED. */
static int encode_record(struct mp_prompts *p, size_t record, const struct mp_cli *cli,
                         struct mp_engine *e, struct mp_error *err)
{
    const struct mp_record *r = &p->records.items[record];
    struct mp_ids *out = &p->ids[record];
    for (size_t i = 0; i < r->num_ids; i++) {
        mp_ids_push(out, r->ids[i]);
    }
    if (r->text == NULL && r->chat == NULL) {
        return 0;
    }
    bool chat = r->chat != NULL || (cli->chat && r->batch == MP_BATCH_NONE);
    int code = chat ? encode_chat(r, cli, e, out, err) : encode_text(r, cli, e, out, err);
    if (code != 0 && code != MP_ERR_INTERRUPTED) {
        set_error(p, record, mp_xstrdup(err->message));
        code = 0;
    }
    return code;
}

int64_t mp_prompts_max_new_tokens(const struct mp_record *r, const struct mp_cli *cli)
{
    return r->max_new_tokens > 0 ? r->max_new_tokens : cli->config.gen_len;
}

struct mp_sampling mp_prompts_sampling(const struct mp_record *r, const struct mp_cli *cli)
{
    struct mp_sampling sampling = cli->config.sampling;
    sampling.temperature = isnan(r->temperature) ? sampling.temperature : (float)r->temperature;
    sampling.top_p = isnan(r->top_p) ? sampling.top_p : (float)r->top_p;
    sampling.top_k = r->top_k < 0 ? sampling.top_k : (int)r->top_k;
    sampling.seed = r->seed < 0 ? sampling.seed : (uint64_t)r->seed;
    return sampling;
}

void mp_prompts_check(struct mp_prompts *p, const struct mp_cli *cli, const struct mp_engine *e)
{
    for (size_t i = 0; i < p->records.count; i++) {
        struct mp_record *r = &p->records.items[i];
        struct mp_error err;
        if (r->error == NULL &&
            mp_engine_check_prompt(e, p->ids[i].data, (int64_t)p->ids[i].count,
                                   mp_prompts_max_new_tokens(r, cli), &err) != 0) {
            mp_prompts_fail(p, i, cli, err.message);
        }
    }
}

int64_t mp_prompts_longest(const struct mp_prompts *p)
{
    size_t longest = 0;
    for (size_t i = 0; i < p->records.count; i++) {
        longest = p->ids[i].count > longest ? p->ids[i].count : longest;
    }
    return (int64_t)longest;
}

int64_t mp_prompts_most_new_tokens(const struct mp_prompts *p, const struct mp_cli *cli)
{
    int64_t most = 0;
    for (size_t i = 0; i < p->records.count; i++) {
        int64_t tokens = mp_prompts_max_new_tokens(&p->records.items[i], cli);
        most = p->ids[i].count > 0 && tokens > most ? tokens : most;
    }
    return most;
}

/* ---- settings ---- */

/* What a record has of its own is a part of its settings; key is that of the configuration. */
static uint64_t settings_of(const struct mp_record *r, const struct mp_cli *cli, const char *key)
{
    cJSON *all = cJSON_CreateObject();
    cJSON_AddStringToObject(all, "key", key);
    cJSON_AddNumberToObject(all, "max_new_tokens", (double)mp_prompts_max_new_tokens(r, cli));
    cJSON_AddItemToObject(all, "stop",
                          cJSON_CreateStringArray((const char *const *)r->stop, (int)r->num_stop));
    char *text = mp_json_key_text(all);
    uint64_t fingerprint = mp_text_fingerprint(text);
    free(text);
    cJSON_Delete(all);
    return fingerprint;
}

uint64_t *mp_prompts_settings(const struct mp_prompts *p, const struct mp_cli *cli,
                              const struct mp_engine *e)
{
    uint64_t *settings = mp_xcalloc(p->records.count, sizeof *settings);
    char *model = mp_answer_model(e);
    char *usual = mp_answer_key(&cli->config, model, NULL);
    for (size_t i = 0; i < p->records.count; i++) {
        const struct mp_record *r = &p->records.items[i];
        struct mp_config own = cli->config; /* it shares what it points to */
        own.sampling = mp_prompts_sampling(r, cli);
        char *key = mp_record_samples(r) ? mp_answer_key(&own, model, NULL) : NULL;
        settings[i] = settings_of(r, cli, key != NULL ? key : usual);
        free(key);
    }
    free(usual);
    free(model);
    return settings;
}

/* ---- reading ---- */

static void records_of_prompt(const char *prompt, struct mp_records *out)
{
    out->items = mp_xcalloc(1, sizeof *out->items);
    out->count = 1;
    out->items[0] = mp_record_empty(1);
    out->items[0].id = mp_xstrdup("0");
    out->items[0].text = mp_xstrdup(prompt);
    out->items[0].text_length = strlen(prompt);
}

/* Opens what the records need: records of token ids alone need no tokenizer, unless their text is
 * to end with a stop string, and conversations a chat template. */
static int open_texts(const struct mp_records *records, const struct mp_cli *cli,
                      struct mp_engine *e, struct mp_error *err)
{
    bool texts = false;
    bool chats = false;
    for (size_t i = 0; i < records->count; i++) {
        const struct mp_record *r = &records->items[i];
        texts = texts || r->text != NULL || r->chat != NULL || r->num_stop > 0;
        chats =
            chats || r->chat != NULL || (r->text != NULL && cli->chat && r->batch == MP_BATCH_NONE);
    }
    int code = texts ? mp_engine_open_tokenizer(e, err) : 0;
    return code == 0 && chats ? mp_engine_open_chat(e, err) : code;
}

/* Of --input, which rank 0 reads for all ranks. */
static int load_records(const struct mp_cli *cli, struct mp_records *out, struct mp_error *err)
{
    char *data = NULL;
    size_t length = 0;
    int code = 0;
    if (mp_ranks_index(cli->ranks) == 0) {
        code = mp_records_read(cli->input, &data, &length, err);
    }
    if (code == 0) {
        code = mp_ranks_tell_all(cli->ranks, &data, &length, err);
    }
    if (code == 0) {
        code = mp_records_parse(cli->input, data, length, out, err);
        free(data);
    }
    return code;
}

int mp_prompts_load(const struct mp_cli *cli, struct mp_engine *e, struct mp_prompts *out,
                    struct mp_error *err)
{
    *out = (struct mp_prompts){0};
    if ((cli->input == NULL) == (cli->prompt == NULL)) {
        return mp_fail(err, MP_ERR_USAGE, "give --input FILE%s",
                       cli->input == NULL ? " or --prompt TEXT" : " or --prompt TEXT, not both");
    }
    int code = 0;
    if (cli->prompt != NULL) {
        records_of_prompt(cli->prompt, &out->records);
    } else {
        code = load_records(cli, &out->records, err);
        if (code == 0) {
            mp_records_make_ids_unique(&out->records, cli->input);
        }
    }
    if (code == 0) {
        code = open_texts(&out->records, cli, e, err);
    }
    if (code == 0) {
        out->ids = mp_xcalloc(out->records.count, sizeof *out->ids);
    }
    for (size_t i = 0; i < out->records.count && code == 0; i++) {
        code = encode_record(out, i, cli, e, err);
    }
    if (code != 0) {
        mp_prompts_free(out);
    }
    return code;
}

void mp_prompts_free(struct mp_prompts *p)
{
    for (size_t i = 0; p->ids != NULL && i < p->records.count; i++) {
        mp_ids_free(&p->ids[i]);
    }
    free(p->ids);
    mp_records_free(&p->records);
    *p = (struct mp_prompts){0};
}
