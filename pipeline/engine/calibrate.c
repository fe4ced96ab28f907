/* The calibration of a run: read when the engine starts, measured while it runs, written when it
 * closes. */
#include "codelets/common/task/codelet.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "pipeline/engine/internal.h"
#include "pipeline/engine/recording.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int describe_setup(const struct mp_engine *e, struct mp_setup *out, struct mp_error *err)
{
    struct mp_gpu gpu = {0};
    int code = mp_dense(e).kind == MP_GPU ? mp_runtime_find_gpus(1, &gpu, err) : 0;
    *out = (struct mp_setup){
        .cpu_workers = mp_runtime_cpu_workers(e->runtime),
        .threads = mp_runtime_threads(e->runtime),
    };
    snprintf(out->kernels, sizeof out->kernels, "%s", mp_engine_kernels(e));
    snprintf(out->gpu, sizeof out->gpu, "%s", gpu.name);
    return code;
}

/* The machine's own file: what is wrong with it hinders nobody, and matters to nobody unless the
 * policy asks for estimates. */
static void read_default(struct mp_engine *e)
{
    struct mp_error err;
    e->calibration_path = mp_calibration_default_path();
    if (e->calibration_path == NULL) {
        e->calibration_trouble = mp_xstrdup("auto keeps nothing, since neither XDG_CACHE_HOME nor "
                                            "HOME is an absolute path");
    } else if (mp_calibration_read(&e->calibration, e->calibration_path, &err) != 0) {
        e->calibration_trouble = mp_xasprintf("%s; tasks were estimated from nominal rates, and "
                                              "what was measured replaces the file",
                                              err.message);
    }
}

/* A path of the user's: a folder that cannot be written is better known before the run. */
static int read_given(struct mp_engine *e, struct mp_error *err)
{
    const char *path = e->config->calibration;
    char *folder = mp_file_folder(path);
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
    return code;
}

/* Where the estimates came from, before anything is taken over into the rates. */
static void tell_source(const struct mp_engine *e)
{
    size_t known = 0;
    for (size_t i = 0; i < e->calibration.num_ops; i++) {
        const struct mp_rates *rates = &e->calibration.ops[i].rates;
        known += rates->flops > 0.0 || rates->bytes > 0.0;
    }
    if (e->calibration_trouble != NULL) {
        mp_log(MP_LOG_WARNING, "runtime.calibration: %s", e->calibration_trouble);
    } else if (known > 0) {
        mp_log(MP_LOG_INFO, "task times were estimated from the rates of %zu ops in %s", known,
               e->calibration_path);
    }
}

static void keep_rates(struct mp_engine *e)
{
    struct mp_error err;
    int code = 0;
    if (e->calibration_path == NULL || !mp_calibration_update(&e->calibration)) {
        return;
    }
    if (strcmp(e->config->calibration, "auto") == 0) {
        code = mp_calibration_make_folder(e->calibration_path, &err);
    }
    if (code == 0) {
        code = mp_calibration_write(&e->calibration, e->calibration_path, &err);
    }
    if (code != 0) {
        mp_log(MP_LOG_WARNING, "runtime.calibration: %s", err.message);
    }
}

void mp_engine_keep_calibration(struct mp_engine *e)
{
    mp_recording_calibrate(NULL);
    if (mp_cost_asked()) {
        tell_source(e);
        keep_rates(e);
    }
    mp_cost_use(NULL);
    mp_calibration_free(&e->calibration);
    free(e->calibration_path);
    free(e->calibration_trouble);
}
