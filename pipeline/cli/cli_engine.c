/* The engine, or the tokenizer alone, that a command line asks for. */
#include "core/base/file.h"
#include "pipeline/cli/cli.h"
#include "pipeline/cli/console.h"
#include "pipeline/engine/hooks.h"

#include <stdlib.h>
#include <sys/stat.h>

int mp_cli_model_dir(const struct mp_cli *cli, char **out, struct mp_error *err)
{
    if (cli->config.model_path == NULL) {
        return mp_fail(err, MP_ERR_USAGE,
                       "no model: give --model DIR, or model_path in a --config file");
    }
    char *folder = NULL;
    if (cli->config_path != NULL) {
        folder = mp_file_folder(cli->config_path);
    }
    int code = mp_config_resolve_model(cli->config.model_path, folder, out, err);
    free(folder);
    return code == 0 ? 0 : MP_ERR_USAGE;
}

static int open_texts(const char *dir, struct mp_tokenizer **out, struct mp_chat **chat,
                      struct mp_error *err)
{
    int code = mp_engine_load_tokenizer(dir, mp_console_stop, NULL, out, err);
    return code == 0 && chat != NULL ? mp_hook_load_chat(dir, chat, err) : code;
}

int mp_cli_open_tokenizer(const struct mp_cli *cli, struct mp_tokenizer **out,
                          struct mp_chat **chat, struct mp_error *err)
{
    const char *given = cli->config.model_path;
    if (given == NULL) {
        return mp_fail(err, MP_ERR_USAGE, "%s needs --model DIR", cli->verb);
    }
    /* A directory that holds nothing but tokenizer.json will do. */
    struct stat status;
    if (stat(given, &status) == 0 && S_ISDIR(status.st_mode)) {
        return open_texts(given, out, chat, err);
    }
    char *dir = NULL;
    int code = mp_cli_model_dir(cli, &dir, err);
    if (code == 0) {
        code = open_texts(dir, out, chat, err);
    }
    free(dir);
    return code;
}

int mp_cli_open_engine_with(const struct mp_cli *cli, const struct mp_config *config,
                            const struct mp_engine_options *callbacks, struct mp_engine **out,
                            struct mp_error *err)
{
    struct mp_engine_options options = *callbacks;
    options.size = sizeof options;
    options.config = config;
    int code;
    if (cli->shape != NULL) {
        code = mp_engine_open_shape(&options, cli->shape, (int)cli->layers, out, err);
    } else {
        char *dir;
        code = mp_cli_model_dir(cli, &dir, err);
        if (code == 0) {
            options.model = dir;
            code = mp_engine_open(&options, out, err);
            free(dir);
        }
    }
    return code == 0 ? mp_engine_join_ranks(*out, cli->ranks, err) : code;
}

int mp_cli_open_engine(const struct mp_cli *cli, const struct mp_config *config,
                       struct mp_engine **out, struct mp_error *err)
{
    const struct mp_engine_options callbacks = {
        .log = mp_console_log,
        .progress = mp_console_progress,
        .stop = mp_console_stop,
    };
    return mp_cli_open_engine_with(cli, config, &callbacks, out, err);
}
