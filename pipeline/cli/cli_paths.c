/* The files that a command line names. */
#include "core/base/file.h"
#include "core/base/memory.h"
#include "pipeline/cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file that a flag or key names. */
struct named_file {
    const char *key;
    const char *path; /* NULL: not given */
};

/* "-" is stdout, for the lines that generate writes; others would make a file of that name. */
static int check_dash(const struct mp_cli *cli, const struct named_file *file, struct mp_error *err)
{
    bool lines = strcmp(cli->verb, "generate") == 0 && file->path == cli->output;
    return strcmp(file->path, "-") == 0 && !lines
               ? mp_fail(err, MP_ERR_USAGE, "%s: found -, expected a file's path", file->key)
               : 0;
}

/* Files of the model are no place to write to. */
static int check_no_model_file(const struct mp_cli *cli, const struct named_file *file,
                               struct mp_error *err)
{
    char *dir = NULL;
    if (access(file->path, F_OK) != 0 || mp_cli_model_dir(cli, &dir, NULL) != 0) {
        return 0;
    }
    char *folder = mp_file_folder(file->path);
    int code = 0;
    if (mp_file_same(folder, dir)) {
        code = mp_fail(err, MP_ERR_USAGE, "%s: found %s, a file in the model's folder", file->key,
                       file->path);
    }
    free(folder);
    free(dir);
    return code;
}

/* A path that cannot be written is better known before the work than after it. Leaves no file that
 * was not there. */
static int check_writable(const struct named_file *written, struct mp_error *err)
{
    struct stat status;
    bool existed = lstat(written->path, &status) == 0; /* a link that points nowhere does too */
    if (existed && stat(written->path, &status) == 0 && S_ISFIFO(status.st_mode)) {
        return 0; /* its reader would take this for the end */
    }
    FILE *file = fopen(written->path, "a");
    if (file == NULL) {
        return mp_fail(err, MP_ERR_USAGE, "%s: %s: cannot open for writing: %s", written->key,
                       written->path, strerror(errno));
    }
    fclose(file);
    if (!existed) {
        unlink(written->path);
    }
    return 0;
}

/* A file that is not there is a mistake of the command line, not of the run. */
static int check_readable(const struct named_file *file, struct mp_error *err)
{
    if (strcmp(file->path, "-") == 0 || access(file->path, R_OK) == 0) {
        return 0;
    }
    return mp_fail(err, MP_ERR_USAGE, "%s: %s: cannot open: %s", file->key, file->path,
                   strerror(errno));
}

/* No file that is written is one that a setting names. */
static int check_settings(const struct mp_cli *cli, const struct named_file *written,
                          struct mp_error *err)
{
    int code = 0;
    for (int i = 0; i < cli->num_settings && code == 0; i++) {
        char *words = mp_xstrdup(cli->settings[i]);
        char *rest;
        for (char *word = strtok_r(words, " ", &rest); word != NULL && code == 0;
             word = strtok_r(NULL, " ", &rest)) {
            if (mp_file_same(written->path, word)) {
                code = mp_fail(err, MP_ERR_USAGE,
                               "%s: found the file of --setting, %s, expected another",
                               written->key, word);
            }
        }
        free(words);
    }
    return code;
}

enum { WRITTEN = 5, FILES = 16 };

/* files[i], which is written, is none of those that stand for something else. */
static int check_written(const struct mp_cli *cli, const struct named_file *files, int i,
                         struct mp_error *err)
{
    const struct named_file *file = &files[i];
    int code = check_dash(cli, file, err);
    if (code != 0 || strcmp(file->path, "-") == 0) {
        return code;
    }
    code = check_no_model_file(cli, file, err);
    if (code == 0) {
        code = check_settings(cli, file, err);
    }
    for (int j = i + 1; j < FILES && code == 0; j++) {
        if (files[j].path != NULL && mp_file_same(file->path, files[j].path)) {
            code = mp_fail(err, MP_ERR_USAGE, "%s: found the file of %s, %s, expected another",
                           file->key, files[j].key, files[j].path);
        }
    }
    return code == 0 ? check_writable(file, err) : code;
}

int mp_cli_check_paths(const struct mp_cli *cli, struct mp_error *err)
{
    const struct named_file files[FILES] = {
        {"--output", cli->output},
        {"--csv", cli->csv},
        {"--html", cli->html},
        {"trace.file", cli->config.trace_path},
        {"trace.report", cli->config.report_path},
        {"--input", cli->input},
        {"--config", cli->config_path},
        {"--tokens", strcmp(cli->verb, "logits") == 0 ? cli->tokens : NULL},
        {"--json", cli->json},
        {"--rates", cli->rates},
        {"--essay", cli->essay},
        {"--words", cli->words},
        {"--squad", cli->squad},
        {"--hotpot", cli->hotpot},
        {"--compare", cli->compared[0]},
        {"--compare", cli->compared[1]},
    };
    int code = 0;
    for (int i = 0; i < FILES && code == 0; i++) {
        if (files[i].path != NULL) {
            code = i < WRITTEN ? check_written(cli, files, i, err) : check_readable(&files[i], err);
        }
    }
    return code;
}
