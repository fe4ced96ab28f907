#include "pipeline/generate/output.h"

#include "core/base/memory.h"
#include "core/json/json.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static const char *const FINISH_REASONS[] = {
    [MP_FINISH_NONE] = "none",     [MP_FINISH_EOS] = "eos",   [MP_FINISH_LENGTH] = "length",
    [MP_FINISH_FAILED] = "failed", [MP_FINISH_STOP] = "stop", [MP_FINISH_CANCELLED] = "cancelled",
};

/* A finished line that was there. */
struct done {
    char *id; /* NULL: taken */
    int64_t prompt_tokens;
};

struct mp_output {
    FILE *file;
    char *path;
    struct done *done; /* [num_done] */
    size_t num_done;
};

static int io_error(const struct mp_output *o, const char *what, struct mp_error *err)
{
    return mp_fail(err, MP_ERR_IO, "%s: cannot %s: %s", o->path, what, strerror(errno));
}

/* What one line is about, if it is a finished request's. */
static void remember_line(struct mp_output *o, const char *line, size_t length)
{
    struct mp_json *doc;
    if (mp_json_parse(o->path, line, length, &doc, NULL) != 0) {
        return;
    }
    const struct cJSON *root = mp_json_root(doc);
    const char *id = NULL;
    int64_t tokens = 0;
    if (mp_json_get_string(doc, root, "id", &id, NULL) == 0 &&
        mp_json_get_int(doc, root, "prompt_tokens", 1, INT64_MAX, &tokens, NULL) == 0) {
        o->done = mp_xrealloc(o->done, o->num_done + 1, sizeof *o->done);
        o->done[o->num_done++] = (struct done){mp_xstrdup(id), tokens};
    }
    mp_json_free(doc);
}

/* True if the line, perhaps cut short, can be one of ours. */
static bool is_own_line(const char *line, size_t length)
{
    static const char start[] = "{\"id\":\"";
    size_t n = length < sizeof start - 1 ? length : sizeof start - 1;
    return memcmp(line, start, n) == 0;
}

/* Reads the complete lines; cuts the file after the last one. Some other file, named by mistake, is
 * left as it is. */
static int read_done(struct mp_output *o, struct mp_error *err)
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
        own = is_own_line(line, (size_t)length);
        if (own && line[length - 1] == '\n') {
            keep += length;
            remember_line(o, line, (size_t)length - 1);
        }
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
    return 0;
}

int mp_output_open(const char *path, bool resume, struct mp_output **out, struct mp_error *err)
{
    struct mp_output *o = mp_xcalloc(1, sizeof *o);
    o->path = mp_xstrdup(path);
    o->file = fopen(path, "a+");
    int code = 0;
    if (o->file == NULL) {
        code = mp_fail(err, MP_ERR_USAGE, "--output: %s: cannot open for writing: %s", path,
                       strerror(errno));
    } else if (flock(fileno(o->file), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        code = mp_fail(err, MP_ERR_USAGE, "--output: %s: another run writes to it", path);
    } else {
        fseek(o->file, 0, SEEK_END);
        if (ftell(o->file) > 0) {
            code = resume ? read_done(o, err)
                          : mp_fail(err, MP_ERR_USAGE,
                                    "%s: exists and is not empty; add --resume to continue it, or "
                                    "remove it",
                                    path);
        }
    }
    if (code != 0) {
        mp_output_close(o, NULL);
        return code;
    }
    *out = o;
    return 0;
}

bool mp_output_take(struct mp_output *o, const char *id, int64_t prompt_tokens)
{
    for (size_t i = 0; i < o->num_done; i++) {
        struct done *done = &o->done[i];
        if (done->id != NULL && done->prompt_tokens == prompt_tokens && strcmp(done->id, id) == 0) {
            free(done->id);
            done->id = NULL;
            return true;
        }
    }
    return false;
}

size_t mp_output_left(const struct mp_output *o)
{
    size_t left = 0;
    for (size_t i = 0; i < o->num_done; i++) {
        left += o->done[i].id != NULL;
    }
    return left;
}

/* Writes object as one line, flushes and frees it. */
static int write_line(struct mp_output *o, cJSON *object, struct mp_error *err)
{
    char *text = cJSON_PrintUnformatted(object);
    cJSON_Delete(object);
    if (text == NULL) {
        return mp_fail(err, MP_ERR_MEMORY, "%s: out of memory for a line", o->path);
    }
    bool ok = fprintf(o->file, "%s\n", text) >= 0 && fflush(o->file) == 0;
    cJSON_free(text);
    return ok ? 0 : io_error(o, "write", err);
}

static void add_number_or_null(cJSON *line, const char *key, double value)
{
    if (isnan(value)) {
        cJSON_AddNullToObject(line, key);
    } else {
        cJSON_AddNumberToObject(line, key, value);
    }
}

int mp_output_write(struct mp_output *o, const char *id, const char *text, size_t length,
                    const struct mp_request *request, double score, struct mp_error *err)
{
    cJSON *line = cJSON_CreateObject();
    cJSON_AddStringToObject(line, "id", id);
    char *quoted = mp_json_quote(text, length);
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
    add_number_or_null(line, "sampled_fraction", request->sampled_mean);
    add_number_or_null(line, "attention_error", request->error_mean);
    add_number_or_null(line, "score", score);
    return write_line(o, line, err);
}

int mp_output_write_error(struct mp_output *o, const char *id, const char *message,
                          struct mp_error *err)
{
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
    for (size_t i = 0; i < o->num_done; i++) {
        free(o->done[i].id);
    }
    free(o->done);
    free(o->path);
    free(o);
    return code;
}
