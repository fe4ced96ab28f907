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
static int check_writable(const char *key, const char *path, struct mp_error *err)
{
    if (path == NULL) {
        return 0;
    }
    struct stat status;
    bool existed = lstat(path, &status) == 0; /* a link that points nowhere does too */
    FILE *file = fopen(path, "a");
    if (file == NULL) {
        return mp_fail(err, MP_ERR_USAGE, "%s: %s: cannot open for writing: %s", key, path,
                       strerror(errno));
    }
    fclose(file);
    if (!existed) {
        unlink(path);
    }
    return 0;
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

int mp_cli_check_paths(const struct mp_cli *cli, struct mp_error *err)
{
    enum { WRITTEN = 5 };
    const struct named_file all[] = {
        {"--output", cli->output},
        {"--csv", cli->csv},
        {"--html", cli->html},
        {"trace.file", cli->config.trace_path},
        {"trace.report", cli->config.report_path},
        {"--input", cli->input},
        {"--config", cli->config_path},
        {"--tokens", strcmp(cli->verb, "logits") == 0 ? cli->tokens : NULL},
        {"--json", cli->json},
        {"--essay", cli->essay},
        {"--words", cli->words},
        {"--squad", cli->squad},
        {"--hotpot", cli->hotpot},
    };
    int code = 0;
    for (size_t i = 0; i < WRITTEN && code == 0; i++) {
        if (all[i].path == NULL) {
            continue;
        }
        code = check_no_model_file(cli, &all[i], err);
        if (code == 0) {
            code = check_settings(cli, &all[i], err);
        }
        for (size_t j = i + 1; j < sizeof all / sizeof all[0] && code == 0; j++) {
            if (all[j].path != NULL && mp_file_same(all[i].path, all[j].path)) {
                code = mp_fail(err, MP_ERR_USAGE, "%s: found the file of %s, %s, expected another",
                               all[i].key, all[j].key, all[j].path);
            }
        }
    }
    /* --output is its verb's to open. */
    for (size_t i = 1; i < WRITTEN && code == 0; i++) {
        code = check_writable(all[i].key, all[i].path, err);
    }
    return code;
}
