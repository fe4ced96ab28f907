#include "pipeline/generate/records/records.h"

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/json/json.h"
#include "core/json/strmap.h"
#include "pipeline/generate/records/record.h"

#include <stdlib.h>
#include <string.h>

#define MAX_INPUT_BYTES ((size_t)4 << 30)

struct reader {
    struct mp_json_text text;
    bool in_array;     /* one array around all records, with commas between them */
    size_t num_values; /* well-formed values read */
    struct mp_records *out;
};

/* ---- the list ---- */

void mp_records_free(struct mp_records *r)
{
    for (size_t i = 0; i < r->count; i++) {
        mp_record_free(&r->items[i]);
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
    *r = mp_record_empty(line);
    return r;
}

/* Turns a record into a broken one; it keeps its id, or gets its position as one. */
static void set_error(struct mp_record *r, size_t position, const struct mp_error *err)
{
    struct mp_record broken = mp_record_empty(r->line);
    broken.own_id = r->own_id;
    broken.batch = r->batch;
    broken.id = r->id != NULL ? r->id : mp_xasprintf("%zu", position);
    broken.error = mp_xstrdup(err->message);
    mp_record_free(r);
    *r = broken;
}

static int read_object(const struct mp_json *doc, const struct mp_json_text *start, size_t end,
                       size_t position, struct mp_record *r, struct mp_error *err)
{
    const char *json = start->data + start->at;
    if (mp_json_find(mp_json_root(doc), "custom_id") == NULL) {
        return mp_record_read(doc, json, end - start->at, position, r, err);
    }
    char *name = mp_xasprintf("%s:%zu", start->name, start->line);
    int rc = mp_batch_read(doc, json, end - start->at, name, r, err);
    free(name);
    return rc;
}

/* The record doc, which starts where start is and ends at `end`. */
static void add_record(struct reader *reader, const struct mp_json_text *start, size_t end,
                       const struct mp_json *doc)
{
    size_t position = reader->out->count;
    struct mp_record *r = append(reader->out, start->line);
    struct mp_error err;
    int rc = mp_json_expect(doc, mp_json_root(doc), MP_JSON_OBJECT, &err);
    if (rc == MP_OK) {
        rc = read_object(doc, start, end, position, r, &err);
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
    size_t end = reader->text.at;
    if (rc == MP_OK) {
        rc = step_over_separator(reader, &last, &err);
    }
    if (rc == MP_OK) {
        add_record(reader, &start, end, doc);
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

/* A file of batch lines has no others. */
static void settle_batch(struct mp_records *out, const char *name)
{
    for (size_t i = 0; i < out->count; i++) {
        out->batch = out->batch || out->items[i].batch != MP_BATCH_NONE;
    }
    for (size_t i = 0; i < out->count && out->batch; i++) {
        struct mp_record *r = &out->items[i];
        struct mp_error err;
        if (r->batch == MP_BATCH_NONE && r->error == NULL) {
            mp_fail(&err, MP_ERR_FORMAT, "%s:%zu: found no \"custom_id\", which other lines have",
                    name, r->line);
            set_error(r, i, &err);
        }
    }
}

int mp_records_read(const char *path, char **data, size_t *length, struct mp_error *err)
{
    return mp_file_read(path, MAX_INPUT_BYTES, data, length, err);
}

int mp_records_parse(const char *path, const char *data, size_t length, struct mp_records *out,
                     struct mp_error *err)
{
    *out = (struct mp_records){0};
    struct reader reader = {.out = out};
    mp_json_text_init(&reader.text, mp_file_name(path), data, length);
    int rc = read_records(&reader, err);
    settle_batch(out, reader.text.name);
    if (rc != MP_OK) {
        mp_records_free(out);
    }
    return rc;
}

int mp_records_load(const char *path, struct mp_records *out, struct mp_error *err)
{
    char *data;
    size_t length;
    int rc = mp_records_read(path, &data, &length, err);
    if (rc == MP_OK) {
        rc = mp_records_parse(path, data, length, out, err);
        free(data);
    }
    return rc;
}

/* ---- ids ---- */

/* The ids that are taken. */
struct claims {
    struct mp_strmap owners; /* id -> the number, in numbers, of the record whose id it was */
    size_t *numbers;         /* [records] how many have got an id from that of the record; 0: itself
                                has none yet */
};

/* True if nobody has the record's id. */
static bool claim(struct claims *c, struct mp_record *r, size_t i)
{
    bool free_id = c->numbers[i] == 0 && mp_strmap_add(&c->owners, r->id, &c->numbers[i]);
    c->numbers[i] += free_id;
    return free_id;
}

/* Puts "#2", "#3", ... behind an id that another record has. */
static void claim_another(struct claims *c, struct mp_record *r, size_t i)
{
    size_t *number = &c->numbers[(const size_t *)mp_strmap_get(&c->owners, r->id) - c->numbers];
    char *id = mp_xasprintf("%s#%zu", r->id, ++*number);
    while (!mp_strmap_add(&c->owners, id, &c->numbers[i])) {
        free(id);
        id = mp_xasprintf("%s#%zu", r->id, ++*number);
    }
    free(r->id);
    r->id = id;
    c->numbers[i] = 1;
}

void mp_records_make_ids_unique(struct mp_records *r, const char *path)
{
    struct claims c = {.numbers = mp_xcalloc(r->count, sizeof *c.numbers)};
    size_t changed = 0;
    const struct mp_record *first = NULL;
    for (size_t i = 0; i < r->count; i++) {
        if (r->items[i].own_id) {
            claim(&c, &r->items[i], i);
        }
    }
    for (size_t i = 0; i < r->count; i++) {
        if (r->items[i].own_id && c.numbers[i] == 0) {
            claim_another(&c, &r->items[i], i);
            first = changed++ == 0 ? &r->items[i] : first;
        }
    }
    for (size_t i = 0; i < r->count; i++) {
        if (!r->items[i].own_id && !claim(&c, &r->items[i], i)) {
            claim_another(&c, &r->items[i], i);
        }
    }
    if (changed > 0) {
        mp_log(MP_LOG_WARNING,
               "%s: %zu record%s the id of one before: the first, in line %zu, is \"%s\" here",
               mp_file_name(path), changed, changed == 1 ? " has" : "s have", first->line,
               first->id);
    }
    mp_strmap_free(&c.owners);
    free(c.numbers);
}
