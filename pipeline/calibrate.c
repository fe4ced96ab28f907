/* The calibration of a run: read when the engine starts, measured while it runs, written when it
 * closes. */
#include "codelets/common/codelet.h"
#include "core/log.h"
#include "core/memory.h"
#include "pipeline/internal.h"
#include "pipeline/recording.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int describe_setup(const struct mp_engine *e, struct mp_setup *out, struct mp_error *err)
{
    struct mp_gpu gpu = {0};
    int code = e->graph.gpu ? mp_runtime_find_gpu(&gpu, err) : 0;
    *out = (struct mp_setup){
        .cpu_workers = mp_runtime_cpu_workers(e->runtime),
        .threads = mp_runtime_threads(e->runtime),
    };
    snprintf(out->kernels, sizeof out->kernels, "%s", mp_engine_kernels(e));
    snprintf(out->gpu, sizeof out->gpu, "%s", gpu.name);
    return code;
}

/* The part of a path before its last slash. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL   ? mp_xstrdup(".")
           : slash == path ? mp_xstrdup("/")
                           : mp_xstrndup(path, (size_t)(slash - path));
}

/* The machine's own file: what is wrong with it hinders nobody. */
static void read_default(struct mp_engine *e)
{
    struct mp_error err;
    e->calibration_path = mp_calibration_default_path();
    if (e->calibration_path == NULL) {
        mp_log(MP_LOG_WARNING, "runtime.calibration: auto keeps nothing, since neither "
                               "XDG_CACHE_HOME nor HOME is an absolute path");
    } else if (mp_calibration_read(&e->calibration, e->calibration_path, &err) != 0) {
        mp_log(MP_LOG_WARNING,
               "runtime.calibration: %s; tasks are estimated from nominal rates, and what is "
               "measured will replace the file",
               err.message);
    }
}

/* A path of the user's: a folder that cannot be written is better known before the run. */
static int read_given(struct mp_engine *e, struct mp_error *err)
{
    const char *path = e->config->calibration;
    char *folder = folder_of(path);
    int code = 0;
    if (access(folder, W_OK) != 0) {
        code =
            mp_fail(err, MP_ERR_USAGE, "%s: cannot write to its folder: %s", path, strerror(errno));
    } else {
        code = mp_calibration_read(&e->calibration, path, err);
    }
    free(folder);
    if (code != 0) {
        return mp_fail_prefix(err, "runtime.calibration");
    }
    e->calibration_path = mp_xstrdup(path);
    return 0;
}

int mp_engine_calibrate(struct mp_engine *e, struct mp_error *err)
{
    const char *where = e->config->calibration;
    struct mp_setup setup;
    int code = describe_setup(e, &setup, err);
    mp_calibration_init(&e->calibration, &setup);
    mp_cost_use(&e->calibration);
    if (code == 0 && strcmp(where, "auto") == 0) {
        read_default(e);
    } else if (code == 0 && strcmp(where, "off") != 0) {
        code = read_given(e, err);
    }
    if (e->calibration_path != NULL) {
        mp_recording_calibrate(&e->calibration);
    }
    if (e->calibration.num_ops > 0) {
        mp_log(MP_LOG_INFO, "task times estimated from the rates of %zu ops in %s",
               e->calibration.num_ops, e->calibration_path);
    }
    return code;
}

/* Creates the folder of the default path, and those it is in. */
static void make_folders(const char *path)
{
    char *folder = folder_of(path);
    for (char *slash = strchr(folder + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(folder, 0700);
        *slash = '/';
    }
    mkdir(folder, 0700);
    free(folder);
}

void mp_engine_keep_calibration(struct mp_engine *e)
{
    struct mp_error err;
    mp_recording_calibrate(NULL);
    mp_cost_use(NULL);
    if (e->calibration_path != NULL && mp_calibration_update(&e->calibration)) {
        if (strcmp(e->config->calibration, "auto") == 0) {
            make_folders(e->calibration_path);
        }
        if (mp_calibration_write(&e->calibration, e->calibration_path, &err) != 0) {
            mp_log(MP_LOG_WARNING, "runtime.calibration: %s", err.message);
        }
    }
    mp_calibration_free(&e->calibration);
    free(e->calibration_path);
}
