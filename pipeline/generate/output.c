#include "pipeline/generate/output.h"

#include "core/base/memory.h"
#include "core/json/json.h"
#include "core/json/json_print.h"
#include "core/json/strmap.h"

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

static const char *const FINISH_REASONS[] = {
    [MP_FINISH_NONE] = "none",     [MP_FINISH_EOS] = "eos",   [MP_FINISH_LENGTH] = "length",
    [MP_FINISH_FAILED] = "failed", [MP_FINISH_STOP] = "stop", [MP_FINISH_CANCELLED] = "cancelled",
};

/* A line that was there, of those with an id the next one. */
struct line {
    char *id;
    char *error; /* NULL: it is an answer */
    uint64_t prompt;
    uint64_t settings;
    bool taken;
    bool asked; /* for its id and prompt, but with other settings */
    struct line *next;
};

struct mp_output {
    FILE *file;
    char *path;
    struct line **lines; /* [num_lines] */
    size_t num_lines;
    struct mp_strmap by_id; /* id -> the first line that has it */
    bool unended;           /* the last line there has no newline */
};

static int io_error(const struct mp_output *o, const char *what, struct mp_error *err)
{
    return mp_fail(err, MP_ERR_IO, "%s: cannot %s: %s", o->path, what, strerror(errno));
}

/* ---- what was there ---- */

/* 0: there is none, or none that can be. */
static uint64_t fingerprint_of(const struct mp_json *doc, const char *key)
{
    const char *text = NULL;
    return mp_json_get_string(doc, mp_json_root(doc), key, &text, NULL) == 0
               ? strtoull(text, NULL, 16)
               : 0;
}

static void remember(struct mp_output *o, const struct mp_json *doc, const char *id,
                     const char *error)
{
    struct line *line = mp_xcalloc(1, sizeof *line);
    *line = (struct line){
        .id = mp_xstrdup(id),
        .error = error != NULL ? mp_xstrdup(error) : NULL,
        .prompt = fingerprint_of(doc, "prompt"),
        .settings = fingerprint_of(doc, "settings"),
    };
    o->lines = mp_xrealloc(o->lines, o->num_lines + 1, sizeof(struct line *));
    o->lines[o->num_lines++] = line;
}

/* Looks at a whole line: an answer, an error, an id alone, or a blank. False: --output does not
 * write such lines. */
static bool take_line(struct mp_output *o, const char *text, size_t length)
{
    struct mp_json *doc = NULL;
    struct mp_json_text json;
    mp_json_text_init(&json, o->path, text, length);
    json.allow_nul = true; /* a model may say so */
    if (!mp_json_skip_space(&json)) {
        return true;
    }
    if (mp_json_next(&json, &doc, NULL) != 0) {
        return false;
    }
    const struct cJSON *root = mp_json_root(doc);
    const char *id = NULL;
    const char *error = NULL;
    bool own = !mp_json_skip_space(&json) && mp_json_get_string(doc, root, "id", &id, NULL) == 0;
    bool failed = own && mp_json_get_string(doc, root, "error", &error, NULL) == 0;
    bool answer = own && mp_json_find(root, "token_ids") != NULL;
    if (failed || answer) {
        remember(o, doc, id, error);
    }
    own = failed || answer || (own && mp_json_count(root) == 1);
    mp_json_free(doc);
    return own;
}

/* True if a line that was cut short can be one of ours. */
static bool is_own_start(const char *line, size_t length)
{
    static const char start[] = "{\"id\":\"";
    size_t n = length < sizeof start - 1 ? length : sizeof start - 1;
    return memcmp(line, start, n) == 0;
}

static void index_lines(struct mp_output *o)
{
    for (size_t i = 0; i < o->num_lines; i++) {
        struct line *line = o->lines[i];
        if (!mp_strmap_add(&o->by_id, line->id, line)) {
            struct line *first = (struct line *)mp_strmap_get(&o->by_id, line->id);
            line->next = first->next;
            first->next = line;
        }
    }
}

/* Reads the lines; cuts the file after the last whole one. Some other file, named by mistake, is
 * left as it is. */
static int read_lines(struct mp_output *o, struct mp_error *err)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    off_t keep = 0;
    size_t number = 0;
    bool own = true;
    rewind(o->file);
    while (own && (length = getline(&line, &room, o->file)) > 0) {
        number++;
        bool whole = take_line(o, line, (size_t)length);
        o->unended = whole && line[length - 1] != '\n';
        own = whole || (line[length - 1] != '\n' && is_own_start(line, (size_t)length));
        keep += whole ? length : 0;
    }
    free(line);
    if (!own) {
        return mp_fail(err, MP_ERR_USAGE,
                       "%s:%zu: found a line that --output does not write; resume another file",
                       o->path, number);
    }
    if (ferror(o->file)) {
        return io_error(o, "read", err);
    }
    if (ftruncate(fileno(o->file), keep) != 0) {
        return io_error(o, "cut the incomplete last line of", err);
    }
    index_lines(o);
    return 0;
}

static int open_file(struct mp_output *o, bool resume, struct mp_error *err)
{
    o->file = fopen(o->path, "a+");
    if (o->file == NULL) {
        return mp_fail(err, MP_ERR_USAGE, "--output: %s: cannot open for writing: %s", o->path,
                       strerror(errno));
    }
    if (flock(fileno(o->file), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        return mp_fail(err, MP_ERR_USAGE, "--output: %s: another run writes to it", o->path);
    }
    fseek(o->file, 0, SEEK_END);
    if (ftell(o->file) <= 0) {
        return 0;
    }
    return resume
               ? read_lines(o, err)
               : mp_fail(err, MP_ERR_USAGE,
                         "%s: exists and is not empty; add --resume to continue it, or remove it",
                         o->path);
}

static int open_stdout(struct mp_output *o, bool resume, struct mp_error *err)
{
    if (resume) {
        return mp_fail(err, MP_ERR_USAGE, "--resume needs --output FILE, found -");
    }
    int copy = dup(STDOUT_FILENO);
    o->file = copy < 0 ? NULL : fdopen(copy, "w");
    return o->file != NULL ? 0 : io_error(o, "open", err);
}

int mp_output_open(const char *path, bool resume, struct mp_output **out, struct mp_error *err)
{
    struct mp_output *o = mp_xcalloc(1, sizeof *o);
    bool to_stdout = strcmp(path, "-") == 0;
    o->path = mp_xstrdup(to_stdout ? "stdout" : path);
    int code = to_stdout ? open_stdout(o, resume, err) : open_file(o, resume, err);
    if (code != 0) {
        mp_output_close(o, NULL);
        return code;
    }
    *out = o;
    return 0;
}

bool mp_output_is_stdout(const struct mp_output *o)
{
    struct stat file;
    struct stat out;
    return fstat(fileno(o->file), &file) == 0 && fstat(STDOUT_FILENO, &out) == 0 &&
           file.st_dev == out.st_dev && file.st_ino == out.st_ino && file.st_rdev == out.st_rdev;
}

bool mp_output_take(struct mp_output *o, const struct mp_answer_id *id)
{
    struct line *first = (struct line *)mp_strmap_get(&o->by_id, id->id);
    for (struct line *line = first; line != NULL; line = line->next) {
        bool same = line->error == NULL && !line->taken && line->prompt == id->prompt;
        if (same && line->settings == id->settings) {
            line->taken = true;
            return true;
        }
        line->asked = line->asked || same;
    }
    return false;
}

void mp_output_left(const struct mp_output *o, size_t *settings, size_t *others)
{
    *settings = 0;
    *others = 0;
    for (size_t i = 0; i < o->num_lines; i++) {
        const struct line *line = o->lines[i];
        bool left = line->error == NULL && !line->taken;
        *settings += left && line->asked;
        *others += left && !line->asked;
    }
}

/* ---- what comes ---- */

int mp_output_write_line(struct mp_output *o, const char *line, struct mp_error *err)
{
    bool ok = fprintf(o->file, "%s%s\n", o->unended ? "\n" : "", line) >= 0 && fflush(o->file) == 0;
    o->unended = false;
    return ok ? 0 : io_error(o, "write", err);
}

/* Writes object as one line, flushes and frees it. */
static int write_line(struct mp_output *o, cJSON *object, struct mp_error *err)
{
    char *text = mp_json_print(object, MP_JSON_LINE, o->path, err);
    cJSON_Delete(object);
    if (text == NULL) {
        return MP_ERR_MEMORY;
    }
    int code = mp_output_write_line(o, text, err);
    free(text);
    return code;
}

static void add_number_or_null(cJSON *line, const char *key, double value)
{
    if (isnan(value)) {
        cJSON_AddNullToObject(line, key);
    } else {
        cJSON_AddNumberToObject(line, key, value);
    }
}

static void add_fingerprint(cJSON *line, const char *key, uint64_t value)
{
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, value);
    cJSON_AddStringToObject(line, key, text);
}

int mp_output_write(struct mp_output *o, const struct mp_answer_id *id, const char *text,
                    size_t length, const struct mp_request *request, double score,
                    struct mp_error *err)
{
    cJSON *line = cJSON_CreateObject();
    cJSON_AddStringToObject(line, "id", id->id);
    char *quoted = text != NULL ? mp_json_quote(text, length) : mp_xstrdup("null");
    cJSON_AddRawToObject(line, "text", quoted);
    free(quoted);
    cJSON_AddItemToObject(line, "token_ids",
                          cJSON_CreateIntArray(request->ids + request->prompt_tokens,
                                               (int)request->generated_tokens));
    cJSON_AddNumberToObject(line, "prompt_tokens", (double)request->prompt_tokens);
    cJSON_AddNumberToObject(line, "generated_tokens", (double)request->generated_tokens);
    cJSON_AddStringToObject(line, "finish_reason", FINISH_REASONS[request->finish]);
    cJSON_AddNumberToObject(line, "prefill_seconds", request->prefill_seconds);
    cJSON_AddNumberToObject(line, "decode_seconds", request->decode_seconds);
    cJSON_AddNumberToObject(line, "cached_tokens", (double)request->cached_tokens);
    add_number_or_null(line, "sampled_fraction", request->sampled_mean);
    add_number_or_null(line, "attention_error", request->error_mean);
    add_number_or_null(line, "score", score);
    add_fingerprint(line, "prompt", id->prompt);
    add_fingerprint(line, "settings", id->settings);
    return write_line(o, line, err);
}

int mp_output_write_error(struct mp_output *o, const char *id, const char *message,
                          struct mp_error *err)
{
    const struct line *there = mp_strmap_get(&o->by_id, id);
    for (; there != NULL; there = there->next) {
        if (there->error != NULL && strcmp(there->error, message) == 0) {
            return 0;
        }
    }
    cJSON *line = cJSON_CreateObject();
    cJSON_AddStringToObject(line, "id", id);
    cJSON_AddStringToObject(line, "error", message);
    return write_line(o, line, err);
}

int mp_output_close(struct mp_output *o, struct mp_error *err)
{
    int code = 0;
    if (o->file != NULL && fclose(o->file) != 0) {
        code = io_error(o, "close", err);
    }
    for (size_t i = 0; i < o->num_lines; i++) {
        free(o->lines[i]->id);
        free(o->lines[i]->error);
        free(o->lines[i]);
    }
    free(o->lines);
    mp_strmap_free(&o->by_id);
    free(o->path);
    free(o);
    return code;
}
