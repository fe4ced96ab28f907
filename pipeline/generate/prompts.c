#include "pipeline/generate/prompts.h"

#include "core/base/memory.h"
#include "core/base/utf8.h"
#include "pipeline/engine/hooks.h"

#include <stdlib.h>
#include <string.h>

/* Marks a record as one that cannot run: "FILE:LINE: why". */
static void set_error(struct mp_record *r, struct mp_ids *ids, const struct mp_cli *cli,
                      const char *why)
{
    r->error = cli->input != NULL ? mp_xasprintf("%s:%zu: %s", cli->input, r->line, why)
                                  : mp_xasprintf("--prompt: %s", why);
    mp_utf8_repair(r->error); /* the file's name can be anything */
    ids->count = 0;
}

/* What is wrong with a record becomes its error. MP_ERR_INTERRUPTED. */
static int encode_record(struct mp_engine *e, struct mp_record *r, const struct mp_cli *cli,
                         struct mp_ids *out, struct mp_error *err)
{
    if (r->error != NULL) {
        return 0;
    }
    for (size_t i = 0; i < r->num_ids; i++) {
        mp_ids_push(out, r->ids[i]);
    }
    if (r->text == NULL) {
        return 0;
    }
    int64_t count = 0;
    int code = mp_engine_encode(e, r->text, r->text_length, &out->data, &count, err);
    if (code == MP_ERR_INTERRUPTED) {
        return code;
    }
    if (code != 0) {
        mp_fail_prefix(err, "input");
        set_error(r, out, cli, err->message);
    } else {
        out->count = out->capacity = (size_t)count;
    }
    return 0;
}

int64_t mp_prompts_max_new_tokens(const struct mp_record *r, const struct mp_cli *cli)
{
    return r->max_new_tokens > 0 ? r->max_new_tokens : cli->config.gen_len;
}

void mp_prompts_check(struct mp_prompts *p, const struct mp_cli *cli, const struct mp_engine *e)
{
    for (size_t i = 0; i < p->records.count; i++) {
        struct mp_record *r = &p->records.items[i];
        struct mp_error err;
        if (r->error == NULL &&
            mp_engine_check_prompt(e, p->ids[i].data, (int64_t)p->ids[i].count,
                                   mp_prompts_max_new_tokens(r, cli), &err) != 0) {
            set_error(r, &p->ids[i], cli, err.message);
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

static void records_of_prompt(const char *prompt, struct mp_records *out)
{
    out->items = mp_xcalloc(1, sizeof *out->items);
    out->count = 1;
    out->items[0] = (struct mp_record){
        .id = mp_xstrdup("0"),
        .text = mp_xstrdup(prompt),
        .text_length = strlen(prompt),
        .max_new_tokens = -1,
        .context = -1,
        .line = 1,
    };
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
        code = mp_records_load(cli->input, &out->records, err);
    }
    if (code == 0) {
        code = mp_engine_open_tokenizer(e, err);
    }
    if (code == 0) {
        out->ids = mp_xcalloc(out->records.count, sizeof *out->ids);
    }
    for (size_t i = 0; i < out->records.count && code == 0; i++) {
        code = encode_record(e, &out->records.items[i], cli, &out->ids[i], err);
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
