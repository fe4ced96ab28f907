#include "pipeline/eval/items.h"

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "pipeline/engine/hooks.h"
#include "pipeline/generate/answer_key.h"
#include "pipeline/generate/records/records.h"
#include "pipeline/generate/records/score.h"
#include "pipeline/make_data/workshop.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- the question ---- */

int64_t mp_items_find_question(const char *text, const char *question)
{
    static const char *const phrases[] = {"Question:", "What is the special magic",
                                          "What are all the special magic", NULL};
    const char *const given[] = {question, NULL};
    const char *last = NULL;
    bool own = question != NULL && question[0] != '\0';
    for (const char *const *p = own ? given : phrases; *p != NULL; p++) {
        for (const char *at = strstr(text, *p); at != NULL; at = strstr(at + 1, *p)) {
            last = last == NULL || at > last ? at : last;
        }
    }
    return last == NULL ? -1 : last - text;
}

int mp_items_sparse_question(const struct mp_cli *cli, bool *out, struct mp_error *err)
{
    const char *from = cli->sparse_from != NULL ? cli->sparse_from : "answer";
    *out = strcmp(from, "question") == 0;
    if (!*out && strcmp(from, "answer") != 0) {
        return mp_fail(err, MP_ERR_USAGE,
                       "--sparse-from: found \"%s\", expected answer or question", from);
    }
    return 0;
}

/* Tokens at the beginning of `all` that the text before the question has too, at least one. */
static int64_t count_exact(struct mp_engine *e, const char *text, int64_t question,
                           const struct mp_ids *all)
{
    struct mp_error err;
    int32_t *ids = NULL;
    int64_t count = 0;
    int64_t same = 0;
    if (mp_engine_encode(e, text, (size_t)question, &ids, &count, &err) == 0) {
        while (same < count && same < (int64_t)all->count && ids[same] == all->data[same]) {
            same++;
        }
    }
    mp_free(ids);
    return same > 0 ? same : 1;
}

/* ---- one item ---- */

static void free_content(struct mp_item *item)
{
    for (size_t i = 0; i < item->num_outputs; i++) {
        free(item->outputs[i]);
    }
    free(item->outputs);
    item->outputs = NULL;
    item->num_outputs = 0;
    mp_ids_free(&item->ids);
}

char *mp_item_locate(const struct mp_item *item, const char *why)
{
    return item->file == NULL
               ? mp_xstrdup(why)
               : mp_xasprintf("%s:%zu: %s", mp_file_name(item->file), item->line, why);
}

static void set_error(struct mp_item *item, const char *why)
{
    free_content(item);
    item->error = mp_item_locate(item, why);
}

static const struct mp_task *find_task(const char *name)
{
    for (int i = 0; i < MP_NUM_TASKS; i++) {
        if (strcmp(mp_tasks[i].name, name) == 0) {
            return &mp_tasks[i];
        }
    }
    return NULL;
}

/* The power of two at or above a length. */
static int64_t context_class(int64_t tokens)
{
    int64_t context = 1;
    while (context < tokens) {
        context *= 2;
    }
    return context;
}

/* Token ids of a text, and which of them are read exactly. question: with which that starts. */
static void encode(struct mp_engine *e, const char *text, const char *question,
                   bool sparse_question, struct mp_item *item)
{
    struct mp_error err;
    int64_t count = 0;
    int64_t at = sparse_question ? mp_items_find_question(text, question) : 0;
    if (at < 0) {
        set_error(item, question != NULL && question[0] != '\0'
                            ? "no question found to be sparse from: the text does not have "
                              "\"question\""
                            : "no question found to be sparse from: the text has none of the "
                              "phrases of RULER's tasks; give \"question\", with which it starts");
        return;
    }
    if (mp_engine_encode(e, text, strlen(text), &item->ids.data, &count, &err) != 0) {
        set_error(item, err.message);
        return;
    }
    item->ids.count = item->ids.capacity = (size_t)count;
    item->exact = sparse_question ? count_exact(e, text, at, &item->ids) : count;
}

static struct mp_item *append(struct mp_items *items)
{
    items->items = mp_xrealloc(items->items, items->count + 1, sizeof *items->items);
    struct mp_item *item = &items->items[items->count++];
    *item = (struct mp_item){0};
    return item;
}

/* What follows from the rest. */
static void complete(struct mp_item *item)
{
    if (item->error == NULL) {
        item->fingerprint = mp_prompt_fingerprint(item->ids.data, item->ids.count);
        if (item->context <= 0) {
            item->context = context_class((int64_t)item->ids.count);
        }
    }
}

/* ---- records of a file ---- */

static void copy_outputs(struct mp_item *item, char *const *outputs, size_t count)
{
    item->outputs = mp_xcalloc(count + 1, sizeof *item->outputs);
    for (size_t i = 0; i < count; i++) {
        item->outputs[item->num_outputs++] = mp_xstrdup(outputs[i]);
    }
}

/* Why a record cannot be asked, whatever the model; NULL. All prompts are answered in one way. */
static const char *trouble(const struct mp_record *r, bool sparse_question)
{
    for (size_t i = 0; i < r->num_outputs; i++) {
        if (r->outputs[i][0] == '\0') {
            return "outputs: found an empty text, which every answer contains";
        }
    }
    return r->chat != NULL        ? "messages do not act for eval, which reads \"input\" and "
                                    "\"input_ids\""
           : r->num_stop > 0      ? "stop does not act for eval"
           : mp_record_samples(r) ? "temperature, top_p, top_k and seed of a record do "
                                    "not act for eval: give them as options"
           : r->num_outputs == 0  ? "outputs: found none, expected the right answers"
           : sparse_question && r->ids != NULL ? "--sparse-from question needs \"input\" as text"
                                               : NULL;
}

static void take_record(const struct mp_cli *cli, struct mp_engine *e, const struct mp_record *r,
                        bool sparse_question, struct mp_items *out)
{
    struct mp_item *item = append(out);
    item->id = mp_xstrdup(r->id);
    item->task = mp_xstrdup(r->task != NULL ? r->task : cli->task != NULL ? cli->task : "prompts");
    const struct mp_task *task = find_task(item->task);
    item->context = r->context;
    item->max_new_tokens = r->max_new_tokens > 0 ? r->max_new_tokens
                           : task != NULL        ? task->new_tokens
                                                 : cli->config.gen_len;
    item->any = r->any || mp_answer_any(item->task);
    const char *why = r->error == NULL ? trouble(r, sparse_question) : NULL;
    if (r->error != NULL) {
        set_error(item, r->error);
    }
    item->file = cli->input;
    item->line = r->line;
    if (why != NULL) {
        set_error(item, why);
    } else if (r->error == NULL) {
        copy_outputs(item, r->outputs, r->num_outputs);
        if (r->ids != NULL) {
            for (size_t i = 0; i < r->num_ids; i++) {
                mp_ids_push(&item->ids, r->ids[i]);
            }
            item->exact = (int64_t)r->num_ids;
        } else {
            encode(e, r->text, r->question, sparse_question, item);
        }
    }
    complete(item);
}

static int load_records(const struct mp_cli *cli, struct mp_engine *e, bool sparse_question,
                        struct mp_items *out, struct mp_error *err)
{
    struct mp_records records;
    int code = mp_records_load(cli->input, &records, err);
    if (code != 0) {
        return code;
    }
    mp_records_make_ids_unique(&records, cli->input);
    code = mp_engine_open_tokenizer(e, err);
    for (size_t i = 0; i < records.count && code == 0; i++) {
        take_record(cli, e, &records.items[i], sparse_question, out);
    }
    mp_records_free(&records);
    return code;
}

/* ---- samples of tasks ---- */

static void take_sample(struct mp_engine *e, const struct mp_sample *s, int task, int64_t index,
                        int64_t context, bool sparse_question, struct mp_items *out)
{
    struct mp_item *item = append(out);
    item->id = mp_xasprintf("%s-%" PRId64, mp_tasks[task].name, index);
    item->task = mp_xstrdup(mp_tasks[task].name);
    item->context = context;
    item->max_new_tokens = mp_tasks[task].new_tokens;
    item->any = mp_answer_any(item->task);
    copy_outputs(item, s->outputs.items, s->outputs.count);
    char *text = mp_xasprintf("%s%s", s->text, s->answer_prefix);
    encode(e, text, NULL, sparse_question, item);
    free(text);
    complete(item);
}

static int make_samples(const struct mp_workshop *w, struct mp_engine *e, bool sparse_question,
                        struct mp_items *out, struct mp_error *err)
{
    int code = 0;
    for (int t = 0; t < MP_NUM_TASKS && code == 0; t++) {
        struct mp_series series = {.task = t};
        for (int64_t i = 0; w->chosen[t] && i < w->samples && code == 0; i++) {
            struct mp_sample sample;
            code = mp_make_sample(&w->maker, &series, &sample, err);
            if (code == 0) {
                take_sample(e, &sample, t, i, w->maker.tokens, sparse_question, out);
                mp_sample_free(&sample);
            }
        }
    }
    return code;
}

/* Numbers with commas, none of them twice, into an empty list: *out [*count], the caller's, also
 * after an error. */
static int parse_lengths(const char *text, int64_t **out, size_t *count, struct mp_error *err)
{
    for (const char *at = text;; at++) {
        char *end;
        errno = 0;
        int64_t length = strtoll(at, &end, 10);
        if (errno != 0 || end == at || length < 1 || length > INT32_MAX ||
            (*end != ',' && *end != '\0')) {
            return mp_fail(err, MP_ERR_USAGE,
                           "--tokens: found \"%s\", expected whole numbers from 1 with commas",
                           text);
        }
        for (size_t i = 0; i < *count; i++) {
            if ((*out)[i] == length) {
                return mp_fail(err, MP_ERR_USAGE, "--tokens: found %" PRId64 " twice", length);
            }
        }
        *out = mp_xrealloc(*out, *count + 1, sizeof **out);
        (*out)[(*count)++] = length;
        at = end;
        if (*at == '\0') {
            return 0;
        }
    }
}

static int load_tasks(const struct mp_cli *cli, struct mp_engine *e, bool sparse_question,
                      struct mp_items *out, struct mp_error *err)
{
    struct mp_workshop w;
    struct mp_tokenizer *tokenizer = NULL;
    int64_t *lengths = NULL;
    size_t count = 0;
    int code = mp_workshop_open(cli, &w, err);
    if (code == 0) {
        code = parse_lengths(cli->tokens, &lengths, &count, err);
    }
    if (code == 0) {
        code = mp_cli_open_tokenizer(cli, &tokenizer, NULL, err);
    }
    if (code == 0) {
        code = mp_engine_open_tokenizer(e, err);
    }
    w.maker.tokenizer = tokenizer;
    for (size_t i = 0; i < count && code == 0; i++) {
        code = mp_engine_check_length(e, lengths[i], err);
        if (code != 0) {
            mp_fail_prefix(err, "--tokens %" PRId64, lengths[i]);
        }
    }
    for (size_t i = 0; i < count && code == 0; i++) {
        w.maker.tokens = lengths[i];
        code = make_samples(&w, e, sparse_question, out, err);
    }
    free(lengths);
    mp_workshop_close(&w);
    mp_tokenizer_free(tokenizer);
    return code;
}

/* ---- all of them ---- */

int mp_items_check_options(const struct mp_cli *cli, struct mp_error *err)
{
    const struct {
        const char *name;
        bool given;
    } of_tasks[] = {
        {"--tokens", cli->tokens != NULL},    {"--samples", cli->samples > 0},
        {"--data-seed", cli->data_seed >= 0}, {"--template", cli->chat_template != NULL},
        {"--essay", cli->essay != NULL},      {"--words", cli->words != NULL},
        {"--squad", cli->squad != NULL},      {"--hotpot", cli->hotpot != NULL},
    };
    if (cli->input == NULL && (cli->task == NULL || cli->tokens == NULL)) {
        return mp_fail(err, MP_ERR_USAGE, "%s needs --input FILE, or --task NAMES and --tokens N",
                       cli->verb);
    }
    if (cli->input == NULL && cli->gen_len_given) {
        return mp_fail(err, MP_ERR_USAGE,
                       "--gen-len: the tasks of --task say how much is generated");
    }
    for (size_t i = 0; cli->input != NULL && i < sizeof of_tasks / sizeof of_tasks[0]; i++) {
        if (of_tasks[i].given) {
            return mp_fail(err, MP_ERR_USAGE, "%s makes prompts, but --input names some",
                           of_tasks[i].name);
        }
    }
    return 0;
}

int mp_items_load(const struct mp_cli *cli, struct mp_engine *e, struct mp_items *out,
                  struct mp_error *err)
{
    bool sparse_question;
    *out = (struct mp_items){0};
    int code = mp_items_sparse_question(cli, &sparse_question, err);
    if (code != 0) {
        return code;
    }
    code = cli->input != NULL ? load_records(cli, e, sparse_question, out, err)
                              : load_tasks(cli, e, sparse_question, out, err);
    if (code != 0) {
        mp_items_free(out);
    }
    return code;
}

void mp_items_check(struct mp_items *items, const struct mp_engine *e)
{
    for (size_t i = 0; i < items->count; i++) {
        struct mp_item *item = &items->items[i];
        struct mp_error err;
        if (item->error == NULL &&
            mp_engine_check_prompt(e, item->ids.data, (int64_t)item->ids.count,
                                   item->max_new_tokens, &err) != 0) {
            set_error(item, err.message);
        }
    }
}

static size_t count_failed(const struct mp_items *items)
{
    size_t failed = 0;
    for (size_t i = 0; i < items->count; i++) {
        failed += items->items[i].error != NULL;
    }
    return failed;
}

int mp_items_report_errors(const struct mp_items *items, struct mp_error *err)
{
    for (size_t i = 0; i < items->count; i++) {
        if (items->items[i].error != NULL) {
            mp_log(MP_LOG_ERROR, "prompt %s: %s", items->items[i].id, items->items[i].error);
        }
    }
    return count_failed(items) < items->count
               ? 0
               : mp_fail(err, MP_ERR_FORMAT, "none of the %zu prompts can be run", items->count);
}

int mp_items_check_failed(const struct mp_items *items, struct mp_error *err)
{
    size_t failed = count_failed(items);
    return failed == 0 ? 0
                       : mp_fail(err, MP_ERR_FORMAT, "%zu of %zu prompts could not be run", failed,
                                 items->count);
}

void mp_items_free(struct mp_items *items)
{
    for (size_t i = 0; i < items->count; i++) {
        struct mp_item *item = &items->items[i];
        free_content(item);
        free(item->id);
        free(item->task);
        free(item->error);
    }
    free(items->items);
    *items = (struct mp_items){0};
}
