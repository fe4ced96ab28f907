/* One record of an input: its keys, and what they say. */
#include "pipeline/generate/records/record.h"

#include "core/base/memory.h"
#include "core/config/config.h"
#include "pipeline/generate/records/score.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NEW_TOKENS (INT64_C(1) << 30)

static bool is_given(const struct cJSON *value)
{
    return value != NULL && mp_json_kind(value) != MP_JSON_NULL;
}

/* ---- the prompt ---- */

/* "id", else "index", else LongBench's "_id", else the record's position, as text. */
static int read_id(const struct mp_json *doc, size_t position, struct mp_record *r,
                   struct mp_error *err)
{
    static const char *const keys[] = {"id", "index", "_id"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const struct cJSON *value = mp_json_find(mp_json_root(doc), keys[i]);
        if (!is_given(value)) {
            continue;
        }
        const char *text;
        int64_t number;
        r->own_id = true;
        if (mp_json_as_string(doc, value, &text, NULL) == MP_OK) {
            r->id = mp_xstrdup(text);
            return MP_OK;
        }
        if (mp_json_as_int(doc, value, INT64_MIN, INT64_MAX, &number, NULL) == MP_OK) {
            r->id = mp_xasprintf("%" PRId64, number);
            return MP_OK;
        }
        r->own_id = false;
        return mp_json_fail(doc, value, err, "expected a string or an integer");
    }
    r->id = mp_xasprintf("%zu", position);
    return MP_OK;
}

/* Token ids and messages take no text beside them. */
static int check_alone(const struct mp_json *doc, const char *key, const char *what,
                       struct mp_error *err)
{
    const struct cJSON *value = mp_json_find(mp_json_root(doc), key);
    return is_given(value) ? mp_json_fail(doc, value, err, "found beside %s", what) : MP_OK;
}

static int read_ids(const struct mp_json *doc, const struct cJSON *array, struct mp_record *r,
                    struct mp_error *err)
{
    int rc = check_alone(doc, "answer_prefix", "token ids, expected \"input\" as text", err);
    if (rc == MP_OK) {
        rc = check_alone(doc, "context", "token ids, expected \"input\" as text", err);
    }
    if (rc == MP_OK) {
        rc = mp_json_expect(doc, array, MP_JSON_ARRAY, err);
    }
    if (rc != MP_OK) {
        return rc;
    }
    size_t count = mp_json_count(array);
    if (count == 0) {
        return mp_json_fail(doc, array, err, "expected at least one token id, found none");
    }
    r->ids = mp_xcalloc(count, sizeof *r->ids);
    for (const struct cJSON *v = mp_json_first(array); v != NULL; v = mp_json_after(v)) {
        int64_t id;
        rc = mp_json_as_int(doc, v, 0, INT32_MAX, &id, err);
        if (rc != MP_OK) {
            return rc;
        }
        r->ids[r->num_ids++] = (int32_t)id;
    }
    return MP_OK;
}

/* Appends to the text, of any length, which formats are not. */
static void append_text(struct mp_record *r, const char *more)
{
    size_t length = strlen(more);
    r->text = mp_xrealloc(r->text, r->text_length + length + 1, 1);
    memcpy(r->text + r->text_length, more, length + 1);
    r->text_length += length;
}

/* "input", with LongBench's "context" before it and RULER's "answer_prefix" behind it. */
static int read_text(const struct mp_json *doc, const struct cJSON *input, struct mp_record *r,
                     struct mp_error *err)
{
    const struct cJSON *root = mp_json_root(doc);
    const char *text = "";
    const char *context = "";
    const char *prefix = "";
    int rc = mp_json_as_string(doc, input, &text, err);
    if (rc == MP_OK) {
        rc = mp_json_opt_string(doc, root, "context", &context, err);
    }
    if (rc == MP_OK) {
        rc = mp_json_opt_string(doc, root, "answer_prefix", &prefix, err);
    }
    if (rc == MP_OK) {
        append_text(r, context);
        append_text(r, context[0] != '\0' && text[0] != '\0' ? "\n\n" : "");
        append_text(r, text);
        append_text(r, prefix);
        r->prefix_length = strlen(prefix);
    }
    return rc;
}

/* What a conversation takes no other prompt beside, and what counts only with one. */
static int check_chat(const struct mp_json *doc, bool chat, struct mp_error *err)
{
    static const char *const others[] = {"input", "input_ids", "context", "answer_prefix"};
    static const char *const own[] = {"tools", "chat_template_kwargs"};
    int rc = MP_OK;
    for (size_t i = 0; i < sizeof others / sizeof others[0] && rc == MP_OK && chat; i++) {
        rc = check_alone(doc, others[i], "\"messages\"", err);
    }
    for (size_t i = 0; i < sizeof own / sizeof own[0] && rc == MP_OK && !chat; i++) {
        const struct cJSON *value = mp_json_find(mp_json_root(doc), own[i]);
        rc = is_given(value) ? mp_json_fail(doc, value, err, "found without \"messages\"") : MP_OK;
    }
    return rc;
}

/* The prompt: "messages", whose template is the model's to fill, "input_ids" if there are any, else
 * "input", ids itself or a text. */
static int read_input(const struct mp_json *doc, struct mp_record *r, struct mp_error *err)
{
    const struct cJSON *root = mp_json_root(doc);
    int rc = check_chat(doc, r->chat != NULL, err);
    if (rc != MP_OK || r->chat != NULL) {
        return rc;
    }
    const struct cJSON *ids = mp_json_find(root, "input_ids");
    if (is_given(ids)) {
        return read_ids(doc, ids, r, err);
    }
    const struct cJSON *input = mp_json_find(root, "input");
    if (input == NULL) {
        return mp_json_fail(doc, root, err,
                            "none of \"input\", \"input_ids\" and \"messages\" is given");
    }
    return mp_json_kind(input) == MP_JSON_ARRAY ? read_ids(doc, input, r, err)
                                                : read_text(doc, input, r, err);
}

/* ---- lists of texts ---- */

/* An array of strings or one string: *out [*count], as far as they were read also after an error.
 */
static int read_strings(const struct mp_json *doc, const struct cJSON *value, char ***out,
                        size_t *count, struct mp_error *err)
{
    bool single = mp_json_kind(value) == MP_JSON_STRING;
    int rc = single ? MP_OK : mp_json_expect(doc, value, MP_JSON_ARRAY, err);
    if (rc != MP_OK) {
        return rc;
    }
    size_t all = single ? 1 : mp_json_count(value);
    const struct cJSON *item = single ? value : mp_json_first(value);
    *out = mp_xcalloc(all + 1, sizeof **out);
    for (; *count < all; item = mp_json_after(item)) {
        const char *text;
        rc = mp_json_as_string(doc, item, &text, err);
        if (rc != MP_OK) {
            return rc;
        }
        (*out)[(*count)++] = mp_xstrdup(text);
    }
    return MP_OK;
}

/* The expected answers: RULER's "outputs", or LongBench's "answers", of which one is enough. */
static int read_outputs(const struct mp_json *doc, struct mp_record *r, struct mp_error *err)
{
    const struct cJSON *outputs = mp_json_find(mp_json_root(doc), "outputs");
    const struct cJSON *answers = mp_json_find(mp_json_root(doc), "answers");
    if (is_given(outputs) && is_given(answers)) {
        return mp_json_fail(doc, answers, err, "found beside \"outputs\", expected one of them");
    }
    r->any = is_given(answers) || mp_answer_any(r->task);
    const struct cJSON *value = is_given(answers) ? answers : outputs;
    return is_given(value) ? read_strings(doc, value, &r->outputs, &r->num_outputs, err) : MP_OK;
}

/* "stop": texts that end the answer, none of them empty. */
static int read_stop(const struct mp_json *doc, struct mp_record *r, struct mp_error *err)
{
    const struct cJSON *value = mp_json_find(mp_json_root(doc), "stop");
    int rc = is_given(value) ? read_strings(doc, value, &r->stop, &r->num_stop, err) : MP_OK;
    for (size_t i = 0; i < r->num_stop && rc == MP_OK; i++) {
        if (r->stop[i][0] == '\0') {
            rc = mp_json_fail(doc, value, err, "found an empty text, which ends every answer");
        }
    }
    return rc;
}

/* ---- numbers ---- */

/* "max_new_tokens", or one of the names that OpenAI's API has for it. */
static int read_length(const struct mp_json *doc, struct mp_record *r, struct mp_error *err)
{
    static const char *const names[] = {"max_new_tokens", "max_tokens", "max_completion_tokens"};
    const struct cJSON *root = mp_json_root(doc);
    const char *first = NULL; /* that is given */
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        int64_t tokens = -1;
        int rc = mp_json_opt_int(doc, root, names[i], 1, MAX_NEW_TOKENS, &tokens, err);
        if (rc == MP_OK && tokens > 0 && first != NULL && tokens != r->max_new_tokens) {
            rc = mp_json_fail(doc, mp_json_find(root, names[i]), err,
                              "expected the same as %s = %" PRId64 ", found %" PRId64, first,
                              r->max_new_tokens, tokens);
        }
        if (rc != MP_OK) {
            return rc;
        }
        first = tokens > 0 ? names[i] : first;
        r->max_new_tokens = tokens > 0 ? tokens : r->max_new_tokens;
    }
    return MP_OK;
}

/* In the ranges of the configuration's section. */
static int read_sampling(const struct mp_json *doc, struct mp_record *r, struct mp_error *err)
{
    const struct cJSON *root = mp_json_root(doc);
    int rc = mp_json_opt_number(doc, root, "temperature", 0, 100, &r->temperature, err);
    if (rc == MP_OK) {
        rc = mp_json_opt_number(doc, root, "top_p", 1e-6, 1, &r->top_p, err);
    }
    if (rc == MP_OK) {
        rc = mp_json_opt_int(doc, root, "top_k", 0, INT_MAX, &r->top_k, err);
    }
    if (rc == MP_OK) {
        rc = mp_json_opt_int(doc, root, "seed", 0, MP_JSON_MAX_INT, &r->seed, err);
    }
    return rc;
}

bool mp_record_samples(const struct mp_record *r)
{
    return !isnan(r->temperature) || !isnan(r->top_p) || r->top_k >= 0 || r->seed >= 0;
}

/* ---- the record ---- */

/* What benchmarks say of their records. */
static int read_benchmark(const struct mp_json *doc, struct mp_record *r, struct mp_error *err)
{
    const struct cJSON *root = mp_json_root(doc);
    const char *task = NULL;
    const char *question = NULL;
    int rc = mp_json_opt_string(doc, root, "task", &task, err);
    if (rc == MP_OK) {
        rc = mp_json_opt_string(doc, root, "question", &question, err);
    }
    if (rc == MP_OK) {
        rc = mp_json_opt_int(doc, root, "target_tokens", 1, INT64_C(1) << 40, &r->context, err);
    }
    if (rc == MP_OK) {
        r->task = task != NULL ? mp_xstrdup(task) : NULL;
        r->question = question != NULL ? mp_xstrdup(question) : NULL;
    }
    return rc;
}

/* Keys that act, and those that files of benchmarks carry along with every record: of RULER, of the
 * original's harness and of LongBench. */
static const char *const KEYS[] = {
    "id",
    "index",
    "_id",
    "input",
    "input_ids",
    "messages",
    "tools",
    "chat_template_kwargs",
    "context",
    "answer_prefix",
    "outputs",
    "task",
    "question",
    "answers",
    "max_new_tokens",
    "max_tokens",
    "stop",
    "target_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "others",
    "truncation",
    "length",
    "pred",
    "dataset",
    "length_w_model_temp",
    "language",
    "all_classes",
    "token_position_answer",
};

int mp_record_check_keys(const struct mp_json *doc, const char *const *keys, size_t count,
                         struct mp_error *err)
{
    const struct cJSON *v = mp_json_first(mp_json_root(doc));
    for (; v != NULL; v = mp_json_after(v)) {
        const char *meant = NULL;
        size_t distance = mp_farthest_meant(mp_json_key(v));
        for (size_t i = 0; i < count && distance > 0; i++) {
            size_t d = mp_edit_distance(mp_json_key(v), keys[i]);
            meant = d < distance ? keys[i] : meant;
            distance = d < distance ? d : distance;
        }
        if (distance > 0) {
            return meant == NULL
                       ? mp_json_fail(doc, v, err, "unknown key")
                       : mp_json_fail(doc, v, err, "unknown key, did you mean \"%s\"?", meant);
        }
    }
    return MP_OK;
}

int mp_record_read_settings(const struct mp_json *doc, struct mp_record *r, struct mp_error *err)
{
    int rc = read_stop(doc, r, err);
    if (rc == MP_OK) {
        rc = read_length(doc, r, err);
    }
    return rc == MP_OK ? read_sampling(doc, r, err) : rc;
}

int mp_record_read(const struct mp_json *doc, const char *json, size_t length, size_t position,
                   struct mp_record *r, struct mp_error *err)
{
    static int (*const parts[])(const struct mp_json *, struct mp_record *, struct mp_error *) = {
        read_input, read_benchmark, read_outputs, mp_record_read_settings};
    int rc = read_id(doc, position, r, err);
    if (rc == MP_OK) {
        rc = mp_record_check_keys(doc, KEYS, sizeof KEYS / sizeof KEYS[0], err);
    }
    if (rc == MP_OK && is_given(mp_json_find(mp_json_root(doc), "messages"))) {
        r->chat = mp_xstrndup(json, length);
    }
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && rc == MP_OK; i++) {
        rc = parts[i](doc, r, err);
    }
    return rc;
}

struct mp_record mp_record_empty(size_t line)
{
    return (struct mp_record){.line = line,
                              .max_new_tokens = -1,
                              .context = -1,
                              .temperature = NAN,
                              .top_p = NAN,
                              .top_k = -1,
                              .seed = -1};
}

static void free_strings(char **strings, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(strings[i]);
    }
    free(strings);
}

void mp_record_free(struct mp_record *r)
{
    free_strings(r->outputs, r->num_outputs);
    free_strings(r->stop, r->num_stop);
    free(r->text);
    free(r->chat);
    free(r->ids);
    free(r->task);
    free(r->question);
    free(r->model);
    free(r->error);
}
