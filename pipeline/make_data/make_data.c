/* The verb make-data: samples of tasks as JSON lines. */
#include "core/base/file.h"
#include "core/base/memory.h"
#include "core/json/json.h"
#include "pipeline/cli/cli.h"
#include "pipeline/cli/interrupt.h"
#include "pipeline/cli/progress.h"
#include "pipeline/make_data/workshop.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TOKENS = 100000000 }; /* a text of them has less than 2 GiB */

struct make_data {
    const struct mp_cli *cli;
    struct mp_workshop workshop;
    struct mp_tokenizer *tokenizer;
    FILE *out;
    struct mp_progress *progress;
    int64_t done; /* samples written */
};

/* ---- the file ---- */

static void write_string(FILE *out, const char *key, const char *text)
{
    char *quoted = mp_json_quote(text, strlen(text));
    fprintf(out, ", \"%s\": %s", key, quoted);
    free(quoted);
}

/* A sample as a line of JSON, of so many tokens as were asked for, malloc'ed. */
static char *format_line(const struct mp_task *t, int64_t index, const struct mp_sample *s,
                         int64_t context, size_t *length)
{
    char *line;
    FILE *out = mp_xstream_open(&line, length);
    fprintf(out, "{\"index\": %" PRId64 ", \"id\": \"%s-%" PRId64 "\"", index, t->name, index);
    write_string(out, "task", t->name);
    write_string(out, "input", s->text);
    write_string(out, "answer_prefix", s->answer_prefix);
    fputs(", \"outputs\": [", out);
    for (size_t i = 0; i < s->outputs.count; i++) {
        char *quoted = mp_json_quote(s->outputs.items[i], strlen(s->outputs.items[i]));
        fprintf(out, "%s%s", i > 0 ? ", " : "", quoted);
        free(quoted);
    }
    fprintf(out,
            "], \"max_new_tokens\": %" PRId64 ", \"length\": %" PRId64
            ", \"target_tokens\": %" PRId64 "}\n",
            t->new_tokens, s->tokens, context);
    mp_xstream_close(out);
    return line;
}

/* Flushed, so that it is known at once, and with its reason, that a line cannot be written. */
static int write_line(struct make_data *d, const struct mp_task *t, int64_t index,
                      const struct mp_sample *s, struct mp_error *err)
{
    size_t length;
    char *line = format_line(t, index, s, d->cli->length, &length);
    int code = 0;
    if (fwrite(line, 1, length, d->out) != length || fflush(d->out) != 0) {
        code = mp_fail(err, MP_ERR_IO, "%s: cannot write: %s", d->cli->output, strerror(errno));
    }
    free(line);
    return code;
}

static int write_task(struct make_data *d, int task, struct mp_error *err)
{
    struct mp_series series = {.task = task};
    int code = 0;
    for (int64_t i = 0; i < d->workshop.samples && code == 0; i++) {
        if (mp_interrupted()) {
            return mp_fail(err, MP_ERR_INTERRUPTED, "interrupted");
        }
        struct mp_sample sample;
        code = mp_make_sample(&d->workshop.maker, &series, &sample, err);
        if (code == 0) {
            code = write_line(d, &mp_tasks[task], i, &sample, err);
            mp_sample_free(&sample);
        }
        mp_progress_set(d->progress, ++d->done);
    }
    return code;
}

/* A file with a part of the samples would be taken for one with all. */
static int write_file(struct make_data *d, struct mp_error *err)
{
    struct mp_new_file file;
    mp_interrupt_defer();
    int code = mp_new_file_open(&file, d->cli->output, err);
    if (code != 0) {
        return code;
    }
    d->out = file.out;
    int64_t tasks = 0;
    for (int i = 0; i < MP_NUM_TASKS; i++) {
        tasks += d->workshop.chosen[i];
    }
    d->progress = mp_progress_start("samples", "sample", tasks * d->workshop.samples);
    for (int i = 0; i < MP_NUM_TASKS && code == 0; i++) {
        code = d->workshop.chosen[i] ? write_task(d, i, err) : 0;
    }
    mp_progress_end(d->progress);
    return mp_new_file_close(&file, code, err);
}

int mp_verb_make_data(const struct mp_cli *cli, struct mp_error *err)
{
    struct make_data d = {.cli = cli};
    if (cli->task == NULL || cli->length == 0 || cli->output == NULL) {
        return mp_fail(err, MP_ERR_USAGE,
                       "make-data needs --task NAMES, --tokens N and --output FILE");
    }
    if (cli->length > MOST_TOKENS) {
        return mp_fail(err, MP_ERR_USAGE, "--tokens: expected at most %d, found %" PRId64,
                       (int)MOST_TOKENS, cli->length);
    }
    int code = mp_workshop_open(cli, &d.workshop, err);
    if (code == 0) {
        code = mp_cli_open_tokenizer(cli, &d.tokenizer, NULL, err);
    }
    if (code == 0) {
        d.workshop.maker.tokenizer = d.tokenizer;
        d.workshop.maker.tokens = cli->length;
        code = write_file(&d, err);
    }
    mp_workshop_close(&d.workshop);
    mp_tokenizer_free(d.tokenizer);
    return code;
}
