/* The measurements done so far, in a file beside the configuration. */
#include "pipeline/tune/tune.h"

#include "core/base/memory.h"
#include "core/json/json.h"
#include "core/json/json_print.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct mp_tune_state {
    FILE *file;
    char *path;
    char **lines; /* [count] complete lines after the first, as the file held them */
    size_t count;
    size_t next; /* the line to take next */
};

static int io_error(const struct mp_tune_state *s, const char *what, struct mp_error *err)
{
    return mp_fail(err, MP_ERR_IO, "%s: cannot %s: %s", s->path, what, strerror(errno));
}

static int write_line(struct mp_tune_state *s, const cJSON *line, struct mp_error *err)
{
    char *text = mp_json_print(line, MP_JSON_LINE, s->path, err);
    if (text == NULL) {
        return MP_ERR_MEMORY;
    }
    bool ok = fprintf(s->file, "%s\n", text) >= 0 && fflush(s->file) == 0;
    free(text);
    return ok ? 0 : io_error(s, "write", err);
}

/* ---- opening ---- */

/* What the first line says against what is to be tuned now, which is read from text as well:
 * numbers then compare alike. */
static int check_subject(const struct mp_tune_state *s, const char *line, const cJSON *subject,
                         struct mp_error *err)
{
    struct mp_json *doc;
    int code = mp_json_parse(s->path, line, strlen(line), &doc, err);
    if (code != 0) {
        return code;
    }
    char *text = mp_json_key_text(subject);
    cJSON *wanted = cJSON_Parse(text);
    const cJSON *expected;
    cJSON_ArrayForEach(expected, wanted)
    {
        const cJSON *found = mp_json_find(mp_json_root(doc), expected->string);
        if (code == 0 && !cJSON_Compare(found, expected, true)) {
            char *was = found != NULL ? mp_json_key_text(found) : NULL;
            char *is = mp_json_key_text(expected);
            code = mp_fail(err, MP_ERR_USAGE,
                           "%s: measured with %s: found %s, expected %s; remove the file to start "
                           "anew",
                           s->path, expected->string, was != NULL ? was : "nothing", is);
            free(was);
            free(is);
        }
    }
    cJSON_Delete(wanted);
    free(text);
    mp_json_free(doc);
    return code;
}

/* Reads the complete lines, and cuts the file after the last one. */
static int read_lines(struct mp_tune_state *s, const cJSON *subject, struct mp_error *err)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    off_t keep = 0;
    int code = 0;
    rewind(s->file);
    while (code == 0 && (length = getline(&line, &room, s->file)) > 0 && line[length - 1] == '\n') {
        line[length - 1] = '\0';
        if (keep == 0) {
            code = check_subject(s, line, subject, err);
        } else {
            s->lines = mp_xrealloc(s->lines, s->count + 1, sizeof *s->lines);
            s->lines[s->count++] = mp_xstrdup(line);
        }
        keep += length;
    }
    free(line);
    if (code == 0 && ferror(s->file)) {
        code = io_error(s, "read", err);
    } else if (code == 0 && keep == 0) {
        code = mp_fail(err, MP_ERR_USAGE, "%s: found no line that tune has written", s->path);
    } else if (code == 0 && ftruncate(fileno(s->file), keep) != 0) {
        code = io_error(s, "cut the incomplete last line of", err);
    }
    return code;
}

int mp_tune_state_open(const char *path, const struct cJSON *subject, bool resume,
                       struct mp_tune_state **out, struct mp_error *err)
{
    struct mp_tune_state *s = mp_xcalloc(1, sizeof *s);
    s->path = mp_xstrdup(path);
    s->file = fopen(path, "a+");
    int code = 0;
    if (s->file == NULL) {
        code = io_error(s, "open for writing", err);
    } else {
        fseek(s->file, 0, SEEK_END);
        if (ftell(s->file) == 0) {
            code = write_line(s, subject, err);
        } else if (resume) {
            code = read_lines(s, subject, err);
        } else {
            code = mp_fail(err, MP_ERR_USAGE,
                           "%s: exists and is not empty; add --resume to continue it, or remove it",
                           path);
        }
    }
    if (code != 0) {
        mp_tune_state_close(s);
        return code;
    }
    *out = s;
    return 0;
}

void mp_tune_state_close(struct mp_tune_state *s)
{
    if (s == NULL) {
        return;
    }
    if (s->file != NULL) {
        fclose(s->file); /* every line has been flushed */
    }
    for (size_t i = 0; i < s->count; i++) {
        free(s->lines[i]);
    }
    free(s->lines);
    free(s->path);
    free(s);
}

/* ---- measurements ---- */

/* What a measurement depends on. */
static cJSON *settings_json(const struct mp_tune_axes *axes, const struct mp_tune_point *point)
{
    cJSON *settings = cJSON_CreateObject();
    for (size_t a = 0; a < axes->count; a++) {
        const struct mp_tune_axis *axis = &axes->items[a];
        cJSON_AddStringToObject(settings, axis->path, axis->values[point->at[a]]);
    }
    return settings;
}

/* The numbers of a sample by their names. */
static const struct {
    const char *key;
    size_t offset;
} NUMBERS[] = {
    {"step_seconds", offsetof(struct mp_tune_sample, step)},
    {"first_token_seconds", offsetof(struct mp_tune_sample, first_token)},
    {"cpu_busy", offsetof(struct mp_tune_sample, cpu_busy)},
    {"gpu_busy", offsetof(struct mp_tune_sample, gpu_busy)},
    {"both_busy", offsetof(struct mp_tune_sample, both)},
    {"wall_seconds", offsetof(struct mp_tune_sample, wall)},
};
enum { NUM_NUMBERS = sizeof NUMBERS / sizeof NUMBERS[0] };

/* A sample that could not be measured has a reason and no numbers. */
static int read_sample(const struct mp_json *doc, struct mp_tune_sample *out, struct mp_error *err)
{
    const cJSON *root = mp_json_root(doc);
    const char *why = NULL;
    *out = (struct mp_tune_sample){.step = INFINITY};
    int code = mp_json_opt_string(doc, root, "failed", &why, err);
    if (why != NULL) {
        snprintf(out->why, sizeof out->why, "%s", why);
        return code;
    }
    for (size_t i = 0; i < NUM_NUMBERS && code == 0; i++) {
        double *number = (double *)(void *)((char *)out + NUMBERS[i].offset);
        code = mp_json_get_number(doc, root, NUMBERS[i].key, 0.0, 1e9, number, err);
    }
    return code;
}

/* Line number `next` of the measurements. */
static int read_line(const struct mp_tune_state *s, const cJSON *settings,
                     struct mp_tune_sample *out, struct mp_error *err)
{
    struct mp_json *doc;
    const char *line = s->lines[s->next];
    char *name = mp_xasprintf("%s:%zu", s->path, s->next + 2);
    int code = mp_json_parse(name, line, strlen(line), &doc, err);
    if (code == 0) {
        const cJSON *found = mp_json_find(mp_json_root(doc), "settings");
        if (cJSON_Compare(found, settings, true)) {
            code = read_sample(doc, out, err);
        } else {
            char *expected = mp_json_key_text(settings);
            code = mp_fail(err, MP_ERR_USAGE,
                           "%s: found other settings than the search comes to, %s; remove the file "
                           "to start anew",
                           name, expected);
            free(expected);
        }
        mp_json_free(doc);
    }
    free(name);
    return code;
}

/* Appends one, and flushes. */
static int add_line(struct mp_tune_state *s, const cJSON *settings,
                    const struct mp_tune_sample *sample, struct mp_error *err)
{
    cJSON *line = cJSON_CreateObject();
    cJSON_AddItemToObject(line, "settings", cJSON_Duplicate(settings, true));
    if (isinf(sample->step)) {
        cJSON_AddStringToObject(line, "failed", sample->why);
    }
    for (size_t i = 0; i < NUM_NUMBERS && isfinite(sample->step); i++) {
        const char *at = (const char *)sample + NUMBERS[i].offset;
        char exact[32]; /* a search that resumes sees the same numbers to the last bit */
        snprintf(exact, sizeof exact, "%.17g", *(const double *)(const void *)at);
        cJSON_AddRawToObject(line, NUMBERS[i].key, exact);
    }
    int code = write_line(s, line, err);
    cJSON_Delete(line);
    return code;
}

int mp_tune_state_measure(struct mp_tune_state *s, const struct mp_tune_axes *axes,
                          const struct mp_tune_request *request, mp_tune_measure *measure,
                          void *arg, struct mp_tune_sample *out, struct mp_error *err)
{
    cJSON *settings = settings_json(axes, &request->point);
    int code;
    if (s->next < s->count) {
        code = read_line(s, settings, out, err);
        s->next++;
    } else {
        code = measure(arg, request, out, err);
        code = code == 0 ? add_line(s, settings, out, err) : code;
    }
    cJSON_Delete(settings);
    return code;
}
