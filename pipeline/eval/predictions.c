#include "pipeline/eval/predictions.h"

#include "core/base/memory.h"
#include "core/json/json.h"
#include "core/json/json_print.h"
#include "core/json/strmap.h"
#include "pipeline/generate/records/score.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct mp_predictions {
    const struct mp_items *items;
    const struct mp_settings *settings;
    struct mp_prediction *all; /* [settings][items] */
    FILE *file;                /* NULL: nothing is written */
    char *path;
};

/* ---- lines ---- */

static double number_or_nan(const struct mp_json *doc, const char *key)
{
    double value;
    return mp_json_get_number(doc, mp_json_root(doc), key, -HUGE_VAL, HUGE_VAL, &value, NULL) == 0
               ? value
               : NAN;
}

static char *copy_string(const struct mp_json *doc, const char *key, int *code,
                         struct mp_error *err)
{
    const char *text = NULL;
    if (*code == 0) {
        *code = mp_json_get_string(doc, mp_json_root(doc), key, &text, err);
    }
    return text != NULL ? mp_xstrdup(text) : NULL;
}

static int parse_line(const struct mp_json *doc, struct mp_line *out, struct mp_error *err)
{
    const struct cJSON *root = mp_json_root(doc);
    const struct cJSON *setting = NULL;
    int64_t steps = 0;
    double score = NAN;
    int code = mp_json_get_object(doc, root, "setting", &setting, err);
    if (code == 0) {
        out->setting = mp_json_key_text(setting);
    }
    if (code == 0) {
        const struct cJSON *outputs;
        code = mp_json_get_array(doc, root, "outputs", &outputs, err);
        out->outputs = code == 0 ? mp_json_key_text(outputs) : NULL;
    }
    out->id = copy_string(doc, "id", &code, err);
    out->task = copy_string(doc, "task", &code, err);
    out->text = copy_string(doc, "pred", &code, err);
    char *fingerprint = copy_string(doc, "prompt", &code, err);
    if (code == 0) {
        out->fingerprint = strtoull(fingerprint, NULL, 16);
        code = mp_json_get_int(doc, root, "exact_tokens", 1, INT64_MAX, &out->exact, err);
    }
    if (code == 0) {
        code =
            mp_json_get_int(doc, root, "max_new_tokens", 1, INT64_MAX, &out->max_new_tokens, err);
    }
    if (code == 0) {
        code = mp_json_get_int(doc, root, "steps", 0, INT64_MAX, &steps, err);
    }
    if (code == 0) {
        code = mp_json_get_number(doc, root, "score", 0.0, 1.0, &score, err);
    }
    out->prediction = (struct mp_prediction){
        .done = true,
        .score = score,
        .sampled = number_or_nan(doc, "sampled"),
        .rows = number_or_nan(doc, "rows"),
        .bytes = number_or_nan(doc, "bytes"),
        .steps = steps,
        .seconds = number_or_nan(doc, "decode_seconds"),
    };
    free(fingerprint);
    return code;
}

static void free_line(struct mp_line *line)
{
    free(line->id);
    free(line->task);
    free(line->setting);
    free(line->text);
    free(line->outputs);
}

void mp_lines_free(struct mp_line *lines, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free_line(&lines[i]);
    }
    free(lines);
}

/* A whole line, without its newline. */
static int read_line(const char *path, size_t number, const char *text, size_t length,
                     struct mp_line *out, struct mp_error *err)
{
    struct mp_json *doc;
    struct mp_error why;
    struct mp_json_text json;
    *out = (struct mp_line){0};
    mp_json_text_init(&json, path, text, length);
    json.allow_nul = true; /* a model may say so */
    int code = mp_json_next(&json, &doc, &why);
    if (code == 0) {
        code = parse_line(doc, out, &why);
        mp_json_free(doc);
    }
    if (code != 0) {
        free_line(out);
        return mp_fail(err, MP_ERR_FORMAT, "%s:%zu: found a line that eval does not write: %s",
                       path, number, why.message);
    }
    return 0;
}

/* A last line without its newline: cut short if it starts as ours do, else of some other file. */
static int check_torn_line(const char *path, size_t number, const char *text, size_t length,
                           struct mp_error *err)
{
    static const char start[] = "{\"id\":\"";
    size_t n = length < sizeof start - 1 ? length : sizeof start - 1;
    return memcmp(text, start, n) == 0
               ? 0
               : mp_fail(err, MP_ERR_FORMAT, "%s:%zu: found a line that eval does not write", path,
                         number);
}

int mp_lines_read(const char *path, struct mp_line **lines, size_t *count, int64_t *end,
                  struct mp_error *err)
{
    char *text = NULL;
    size_t room = 0;
    ssize_t length;
    int64_t at = 0;
    int code = 0;
    *lines = NULL;
    *count = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return mp_fail(err, MP_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    }
    while (code == 0 && (length = getline(&text, &room, file)) > 0 && text[length - 1] == '\n') {
        *lines = mp_xrealloc(*lines, *count + 1, sizeof **lines);
        code = read_line(path, *count + 1, text, (size_t)length - 1, &(*lines)[*count], err);
        *count += code == 0;
        at += length;
    }
    if (code == 0 && ferror(file)) {
        code = mp_fail(err, MP_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
    }
    if (code == 0 && length > 0) {
        code = check_torn_line(path, *count + 1, text, (size_t)length, err);
    }
    free(text);
    fclose(file);
    if (code != 0) {
        mp_lines_free(*lines, *count);
        *lines = NULL;
        *count = 0;
    }
    if (end != NULL) {
        *end = at;
    }
    return code;
}

/* ---- what was there ---- */

static bool matches(const struct mp_line *line, const struct mp_item *item)
{
    return !line->taken && line->fingerprint == item->fingerprint && line->exact == item->exact &&
           line->max_new_tokens == item->max_new_tokens && strcmp(line->id, item->id) == 0 &&
           strcmp(line->task, item->task) == 0;
}

static struct mp_prediction *at(const struct mp_predictions *p, size_t setting, size_t item)
{
    return &p->all[setting * p->items->count + item];
}

static struct cJSON *outputs_of(const struct mp_item *item)
{
    return cJSON_CreateStringArray((const char *const *)item->outputs, (int)item->num_outputs);
}

/* By the answers that are expected now, if they have been corrected. MP_JSON_NUL is how a NUL was
 * read. */
static double score_again(const struct mp_line *line, const struct mp_item *item)
{
    cJSON *outputs = outputs_of(item);
    char *wanted = mp_json_key_text(outputs);
    cJSON_Delete(outputs);
    bool same = strcmp(wanted, line->outputs) == 0;
    free(wanted);
    if (same) {
        return line->prediction.score;
    }
    char *text = mp_xstrdup(line->text);
    for (char *nul = strstr(text, MP_JSON_NUL); nul != NULL; nul = strstr(nul, MP_JSON_NUL)) {
        memcpy(nul, "\n\n", 2); /* a newline as every control character */
    }
    double score = mp_answer_score(text, strlen(text), item->outputs, item->num_outputs, item->any);
    free(text);
    return score;
}

/* Items by their ids; those that share one are a list, in their order. */
struct lookup {
    struct mp_strmap first;
    const struct mp_item **next; /* [items]; NULL: it is the last one */
};

static struct lookup look_up(const struct mp_items *items)
{
    struct lookup l = {.next = mp_xcalloc(items->count + 1, sizeof *l.next)};
    size_t *last = mp_xcalloc(items->count + 1, sizeof *last); /* of the list of a first one */
    for (size_t i = 0; i < items->count; i++) {
        const struct mp_item *item = &items->items[i];
        last[i] = i;
        if (!mp_strmap_add(&l.first, item->id, item)) {
            const struct mp_item *first = mp_strmap_get(&l.first, item->id);
            l.next[last[first - items->items]] = item;
            last[first - items->items] = i;
        }
    }
    free(last);
    return l;
}

/* Each line counts for one item. */
static void take_line(struct mp_predictions *p, const struct lookup *l, struct mp_line *line)
{
    const struct mp_item *items = p->items->items;
    for (size_t s = 0; s < p->settings->count; s++) {
        if (strcmp(p->settings->items[s].key, line->setting) != 0) {
            continue;
        }
        const struct mp_item *item = mp_strmap_get(&l->first, line->id);
        for (; item != NULL && !line->taken; item = l->next[item - items]) {
            struct mp_prediction *to = at(p, s, (size_t)(item - items));
            if (!to->done && item->error == NULL && matches(line, item)) {
                *to = line->prediction;
                to->score = score_again(line, item);
                line->taken = true;
            }
        }
    }
}

static int read_file(struct mp_predictions *p, size_t *left, struct mp_error *err)
{
    struct mp_line *lines;
    size_t count;
    int64_t end;
    int code = mp_lines_read(p->path, &lines, &count, &end, err);
    if (code != 0) {
        err->code = code == MP_ERR_FORMAT ? MP_ERR_USAGE : err->code;
        return mp_fail_prefix(err, "--output");
    }
    struct lookup l = look_up(p->items);
    for (size_t i = 0; i < count; i++) {
        take_line(p, &l, &lines[i]);
        *left += !lines[i].taken;
    }
    mp_strmap_free(&l.first);
    free(l.next);
    mp_lines_free(lines, count);
    if (ftruncate(fileno(p->file), end) != 0) {
        code = mp_fail(err, MP_ERR_IO, "%s: cannot cut the incomplete last line off: %s", p->path,
                       strerror(errno));
    }
    return code;
}

/* A pipe or a device has nothing to be taken over, and reading it might not end. */
static bool is_regular(FILE *file)
{
    struct stat status;
    return fstat(fileno(file), &status) == 0 && S_ISREG(status.st_mode);
}

int mp_predictions_open(const char *path, const struct mp_items *items,
                        const struct mp_settings *settings, struct mp_predictions **out,
                        size_t *left, struct mp_error *err)
{
    struct mp_predictions *p = mp_xcalloc(1, sizeof *p);
    p->items = items;
    p->settings = settings;
    p->all = mp_xcalloc(settings->count * items->count + 1, sizeof *p->all);
    *left = 0;
    int code = 0;
    if (path != NULL) {
        p->path = mp_xstrdup(path);
        p->file = fopen(path, "a");
        if (p->file == NULL) {
            code = mp_fail(err, MP_ERR_USAGE, "--output: %s: cannot open for writing: %s", path,
                           strerror(errno));
        } else if (flock(fileno(p->file), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
            code = mp_fail(err, MP_ERR_USAGE, "--output: %s: another run writes to it", path);
        } else if (is_regular(p->file)) {
            code = read_file(p, left, err);
        }
    }
    if (code != 0) {
        mp_predictions_close(p, NULL);
        return code;
    }
    *out = p;
    return 0;
}

const struct mp_prediction *mp_predictions_get(const struct mp_predictions *p, size_t setting,
                                               size_t item)
{
    return at(p, setting, item);
}

/* ---- what comes ---- */

#define FIGURE "%.6g"
#define SECONDS "%.6f"

static void add_number(cJSON *line, const char *key, const char *format, double value)
{
    char text[32];
    snprintf(text, sizeof text, format, value);
    cJSON_AddRawToObject(line, key, isnan(value) ? "null" : text);
}

static double as_written(const char *format, double value)
{
    char text[32];
    snprintf(text, sizeof text, format, value);
    return strtod(text, NULL);
}

/* What the line of an answer says of it: results must not depend on who has it from there. */
static struct mp_prediction written(const struct mp_prediction *p)
{
    return (struct mp_prediction){
        .done = true,
        .score = as_written(FIGURE, p->score),
        .sampled = as_written(FIGURE, p->sampled),
        .rows = as_written(FIGURE, p->rows),
        .bytes = as_written(FIGURE, p->bytes),
        .steps = p->steps,
        .seconds = as_written(SECONDS, p->seconds),
    };
}

static void add_text(cJSON *line, const char *key, const char *text, size_t length)
{
    char *quoted = mp_json_quote(text, length);
    cJSON_AddRawToObject(line, key, quoted);
    free(quoted);
}

/* An item, a setting and an answer as one line. */
static cJSON *make_line(const struct mp_item *item, const struct mp_setting *setting,
                        const struct mp_answer *answer, const struct mp_prediction *prediction)
{
    char fingerprint[17];
    snprintf(fingerprint, sizeof fingerprint, "%016" PRIx64, item->fingerprint);
    cJSON *line = cJSON_CreateObject();
    cJSON_AddStringToObject(line, "id", item->id);
    cJSON_AddStringToObject(line, "task", item->task);
    cJSON_AddNumberToObject(line, "context", (double)item->context);
    cJSON_AddRawToObject(line, "setting", setting->key);
    cJSON_AddStringToObject(line, "prompt", fingerprint);
    cJSON_AddNumberToObject(line, "prompt_tokens", (double)item->ids.count);
    cJSON_AddNumberToObject(line, "exact_tokens", (double)item->exact);
    cJSON_AddNumberToObject(line, "max_new_tokens", (double)item->max_new_tokens);
    add_text(line, "pred", answer->text, answer->length);
    cJSON_AddItemToObject(
        line, "outputs",
        cJSON_CreateStringArray((const char *const *)item->outputs, (int)item->num_outputs));
    add_number(line, "score", FIGURE, prediction->score);
    cJSON_AddStringToObject(line, "finish_reason", answer->finish);
    cJSON_AddNumberToObject(line, "generated_tokens", (double)answer->tokens);
    cJSON_AddNumberToObject(line, "batch", answer->batch);
    add_number(line, "sampled", FIGURE, prediction->sampled);
    add_number(line, "rows", FIGURE, prediction->rows);
    add_number(line, "bytes", FIGURE, prediction->bytes);
    cJSON_AddNumberToObject(line, "steps", (double)prediction->steps);
    add_number(line, "decode_seconds", SECONDS, prediction->seconds);
    return line;
}

int mp_predictions_add(struct mp_predictions *p, size_t setting, size_t item,
                       const struct mp_answer *answer, const struct mp_prediction *prediction,
                       struct mp_error *err)
{
    *at(p, setting, item) = written(prediction);
    if (p->file == NULL) {
        return 0;
    }
    cJSON *line =
        make_line(&p->items->items[item], &p->settings->items[setting], answer, prediction);
    char *text = mp_json_print(line, MP_JSON_LINE, p->path, err);
    cJSON_Delete(line);
    if (text == NULL) {
        return MP_ERR_MEMORY;
    }
    bool ok = fprintf(p->file, "%s\n", text) >= 0 && fflush(p->file) == 0;
    free(text);
    return ok ? 0 : mp_fail(err, MP_ERR_IO, "%s: cannot write: %s", p->path, strerror(errno));
}

int mp_predictions_close(struct mp_predictions *p, struct mp_error *err)
{
    int code = 0;
    if (p == NULL) {
        return 0;
    }
    if (p->file != NULL && fclose(p->file) != 0) {
        code = mp_fail(err, MP_ERR_IO, "%s: cannot close: %s", p->path, strerror(errno));
    }
    free(p->path);
    free(p->all);
    free(p);
    return code;
}
