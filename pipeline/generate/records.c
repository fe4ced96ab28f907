#include "pipeline/generate/records.h"

#include "core/base/file.h"
#include "core/base/memory.h"
#include "core/json/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAX_INPUT_BYTES ((size_t)4 << 30)
#define MAX_NEW_TOKENS (INT64_C(1) << 30)

struct reader {
    struct mp_json_text text;
    bool in_array;     /* one array around all records, with commas between them */
    size_t num_values; /* well-formed values read */
    struct mp_records *out;
};

/* ---- one record ---- */

/* "id", else "index", else the record's position, as text. */
static int read_id(const struct mp_json *doc, size_t position, char **id, struct mp_error *err)
{
    static const char *const keys[] = {"id", "index"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const struct cJSON *value = mp_json_find(mp_json_root(doc), keys[i]);
        if (value == NULL || mp_json_kind(value) == MP_JSON_NULL) {
            continue;
        }
        const char *text;
        int64_t number;
        if (mp_json_as_string(doc, value, &text, NULL) == MP_OK) {
            *id = mp_xstrdup(text);
            return MP_OK;
        }
        if (mp_json_as_int(doc, value, INT64_MIN, INT64_MAX, &number, NULL) == MP_OK) {
            *id = mp_xasprintf("%" PRId64, number);
            return MP_OK;
        }
        return mp_json_fail(doc, value, err, "expected a string or an integer");
    }
    *id = mp_xasprintf("%zu", position);
    return MP_OK;
}

static int read_ids(const struct mp_json *doc, const struct cJSON *array, struct mp_record *r,
                    struct mp_error *err)
{
    const struct cJSON *prefix = mp_json_find(mp_json_root(doc), "answer_prefix");
    if (prefix != NULL && mp_json_kind(prefix) != MP_JSON_NULL) {
        return mp_json_fail(doc, prefix, err, "found beside token ids, expected \"input\" as text");
    }
    int rc = mp_json_expect(doc, array, MP_JSON_ARRAY, err);
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

/* Of any length, which formats are not. */
static char *join(const char *first, const char *second)
{
    size_t length = strlen(first);
    char *joined = mp_xmalloc(length + strlen(second) + 1);
    memcpy(joined, first, length);
    strcpy(joined + length, second);
    return joined;
}

/* The prompt: "input_ids" if there are any, else "input", ids itself or a text, which
 * "answer_prefix" ends if there is one. */
static int read_input(const struct mp_json *doc, struct mp_record *r, struct mp_error *err)
{
    const struct cJSON *root = mp_json_root(doc);
    const struct cJSON *ids = mp_json_find(root, "input_ids");
    if (ids != NULL && mp_json_kind(ids) != MP_JSON_NULL) {
        return read_ids(doc, ids, r, err);
    }
    const struct cJSON *input = mp_json_find(root, "input");
    if (input == NULL) {
        return mp_json_fail(doc, root, err, "neither \"input\" nor \"input_ids\" is given");
    }
    if (mp_json_kind(input) == MP_JSON_ARRAY) {
        return read_ids(doc, input, r, err);
    }
    const char *text;
    const char *prefix = "";
    int rc = mp_json_as_string(doc, input, &text, err);
    if (rc == MP_OK) {
        rc = mp_json_opt_string(doc, root, "answer_prefix", &prefix, err);
    }
    if (rc == MP_OK) {
        r->text = join(text, prefix);
        r->text_length = strlen(r->text);
    }
    return rc;
}

/* "outputs": the expected answers, an array of strings or one string. */
static int read_outputs(const struct mp_json *doc, struct mp_record *r, struct mp_error *err)
{
    const struct cJSON *outputs = mp_json_find(mp_json_root(doc), "outputs");
    if (outputs == NULL || mp_json_kind(outputs) == MP_JSON_NULL) {
        return MP_OK;
    }
    bool single = mp_json_kind(outputs) == MP_JSON_STRING;
    int rc = single ? MP_OK : mp_json_expect(doc, outputs, MP_JSON_ARRAY, err);
    if (rc != MP_OK) {
        return rc;
    }
    size_t count = single ? 1 : mp_json_count(outputs);
    const struct cJSON *value = single ? outputs : mp_json_first(outputs);
    r->outputs = mp_xcalloc(count, sizeof *r->outputs);
    for (; r->num_outputs < count; value = mp_json_after(value)) {
        const char *text;
        rc = mp_json_as_string(doc, value, &text, err);
        if (rc != MP_OK) {
            return rc;
        }
        r->outputs[r->num_outputs++] = mp_xstrdup(text);
    }
    return MP_OK;
}

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

/* Fills everything but r->id and r->line. */
static int read_record(const struct mp_json *doc, struct mp_record *r, struct mp_error *err)
{
    int rc = read_input(doc, r, err);
    if (rc == MP_OK) {
        rc = read_outputs(doc, r, err);
    }
    if (rc == MP_OK) {
        rc = read_benchmark(doc, r, err);
    }
    if (rc == MP_OK) {
        rc = mp_json_opt_int(doc, mp_json_root(doc), "max_new_tokens", 1, MAX_NEW_TOKENS,
                             &r->max_new_tokens, err);
    }
    return rc;
}

/* ---- the list ---- */

static void free_content(struct mp_record *r)
{
    for (size_t i = 0; i < r->num_outputs; i++) {
        free(r->outputs[i]);
    }
    free(r->outputs);
    free(r->text);
    free(r->ids);
    free(r->task);
    free(r->question);
    free(r->error);
}

void mp_records_free(struct mp_records *r)
{
    for (size_t i = 0; i < r->count; i++) {
        free_content(&r->items[i]);
        free(r->items[i].id);
    }
    free(r->items);
    *r = (struct mp_records){0};
}

static struct mp_record *append(struct mp_records *out, size_t line)
{
    /* Grown by doubling: the capacity is the power of two at or above count. */
    if ((out->count & (out->count - 1)) == 0) {
        size_t capacity = out->count == 0 ? 1 : 2 * out->count;
        out->items = mp_xrealloc(out->items, capacity, sizeof *out->items);
    }
    struct mp_record *r = &out->items[out->count++];
    *r = (struct mp_record){.line = line, .max_new_tokens = -1, .context = -1};
    return r;
}

/* Turns a record into a broken one; it keeps its id, or gets its position as one. */
static void set_error(struct mp_record *r, size_t position, const struct mp_error *err)
{
    free_content(r);
    *r = (struct mp_record){.id = r->id != NULL ? r->id : mp_xasprintf("%zu", position),
                            .line = r->line,
                            .max_new_tokens = -1,
                            .context = -1,
                            .error = mp_xstrdup(err->message)};
}

static void add_record(struct reader *reader, size_t line, const struct mp_json *doc)
{
    size_t position = reader->out->count;
    struct mp_record *r = append(reader->out, line);
    struct mp_error err;
    int rc = mp_json_expect(doc, mp_json_root(doc), MP_JSON_OBJECT, &err);
    if (rc == MP_OK) {
        rc = read_id(doc, position, &r->id, &err);
    }
    if (rc == MP_OK) {
        rc = read_record(doc, r, &err);
    }
    if (rc != MP_OK) {
        set_error(r, position, &err);
    }
}

static void add_broken(struct reader *reader, size_t line, const struct mp_error *err)
{
    size_t position = reader->out->count;
    set_error(append(reader->out, line), position, err);
}

/* ---- the text ---- */

/* Steps over blanks. True if that ends the line. */
static bool skip_to_line_end(struct mp_json_text *t)
{
    while (t->at < t->length &&
           (t->data[t->at] == ' ' || t->data[t->at] == '\t' || t->data[t->at] == '\r')) {
        t->at++;
    }
    return t->at == t->length || t->data[t->at] == '\n';
}

/* Steps over what must stand behind a record: the end of its line or, in an array, a comma or the
 * closing bracket. *last tells that no more records can follow. */
static int step_over_separator(struct reader *reader, bool *last, struct mp_error *err)
{
    struct mp_json_text *t = &reader->text;
    if (!reader->in_array) {
        if (!skip_to_line_end(t)) {
            return mp_json_text_fail(t, err, "trailing bytes after the record");
        }
        *last = !mp_json_skip_space(t);
        return MP_OK;
    }
    bool more = mp_json_skip_space(t);
    char c = more ? t->data[t->at] : '\0';
    if (c != ',' && c != ']') {
        return mp_json_text_fail(t, err, "expected ',' or ']' after the record");
    }
    t->at++;
    *last = c == ']';
    more = mp_json_skip_space(t);
    if (*last && more) {
        return mp_json_text_fail(t, err, "trailing bytes after the array of records");
    }
    if (!*last && !more) {
        return mp_json_text_fail(t, err, "the array of records is not closed");
    }
    return MP_OK;
}

/* Moves t from a broken record to the next line that starts a record: with '{', indented no deeper
 * than the broken one, so that objects inside it are not mistaken for records. False if there is
 * none. */
static bool resynchronize(struct mp_json_text *t)
{
    size_t indent = t->at - t->line_start;
    for (;;) {
        const char *end = memchr(t->data + t->at, '\n', t->length - t->at);
        if (end == NULL) {
            return false;
        }
        t->line++;
        t->line_start = (size_t)(end - t->data) + 1;
        t->at = t->line_start;
        while (t->at < t->length && (t->data[t->at] == ' ' || t->data[t->at] == '\t')) {
            t->at++;
        }
        if (t->at < t->length && t->data[t->at] == '{' && t->at - t->line_start <= indent) {
            return true;
        }
    }
}

/* Reads the record at the reader's position, good or broken, and moves to the next one. False if
 * there is none. The first syntax error is kept in first. */
static bool read_next(struct reader *reader, struct mp_error *first)
{
    struct mp_json_text start = reader->text;
    struct mp_json *doc = NULL;
    struct mp_error err;
    bool last = false;
    int rc = mp_json_next(&reader->text, &doc, &err);
    if (rc == MP_OK) {
        rc = step_over_separator(reader, &last, &err);
    }
    if (rc == MP_OK) {
        add_record(reader, start.line, doc);
        reader->num_values++;
    } else {
        add_broken(reader, start.line, &err);
        if (first->code == MP_OK) {
            *first = err;
        }
        reader->text = start;
        last = !resynchronize(&reader->text);
    }
    mp_json_free(doc);
    return !last;
}

static int read_records(struct reader *reader, struct mp_error *err)
{
    struct mp_json_text *t = &reader->text;
    if (!mp_json_skip_space(t)) {
        return mp_fail(err, MP_ERR_FORMAT, "%s: no records: the file is empty", t->name);
    }
    reader->in_array = t->data[t->at] == '[';
    if (reader->in_array) {
        t->at++;
        mp_json_skip_space(t);
        if (t->at < t->length && t->data[t->at] == ']') {
            return mp_fail(err, MP_ERR_FORMAT, "%s: no records: the array is empty", t->name);
        }
    }
    struct mp_error first = {.code = MP_OK};
    while (read_next(reader, &first)) {
    }
    if (reader->num_values == 0) {
        /* Not one value: this is no file of records. */
        return mp_fail(err, first.code, "%s", first.message);
    }
    return MP_OK;
}

int mp_records_load(const char *path, struct mp_records *out, struct mp_error *err)
{
    char *data;
    size_t length;
    int rc = mp_file_read(path, MAX_INPUT_BYTES, &data, &length, err);
    if (rc != MP_OK) {
        return rc;
    }
    *out = (struct mp_records){0};
    struct reader reader = {.out = out};
    mp_json_text_init(&reader.text, mp_file_name(path), data, length);
    rc = read_records(&reader, err);
    free(data);
    if (rc != MP_OK) {
        mp_records_free(out);
    }
    return rc;
}
