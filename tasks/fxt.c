#include "tasks/fxt.h"

#include "core/base/log.h"
#include "core/base/memory.h"

#include <errno.h>
#include <starpu.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The first steps are not like the others: caches are cold and StarPU allocates. */
enum { SKIPPED_STEPS = 2 };

#define RAW_FILE "prof_file" /* StarPU appends the number of the process among several: _0 */
#define PAJE_FILE "paje.trace"

static struct {
    const char *dir; /* NULL: no trace */
    int steps;       /* to record */
    int begun;       /* decode steps so far */
} trace;

#ifdef STARPU_USE_FXT

/* StarPU cuts the path of its file without a word if it is longer. */
enum { MAX_PATH = 127 };

/* An empty file of this name: what cannot be written is better known before the work, and nothing
 * of an earlier run stays. */
static int create_file(const char *name, struct mp_error *err)
{
    char *path = mp_xasprintf("%s/%s", trace.dir, name);
    FILE *file = fopen(path, "w");
    int code = 0;
    if (file == NULL) {
        code = mp_fail(err, MP_ERR_USAGE, "trace.fxt: %s: cannot open for writing: %s", path,
                       strerror(errno));
    } else {
        fclose(file);
    }
    free(path);
    return code;
}

static int create_files(struct mp_error *err)
{
    const size_t longest = MAX_PATH - strlen("/" RAW_FILE "_0");
    if (strlen(trace.dir) > longest) {
        return mp_fail(err, MP_ERR_USAGE,
                       "trace.fxt: %s: found a path of %zu bytes, but StarPU takes at most %zu",
                       trace.dir, strlen(trace.dir), longest);
    }
    if (mkdir(trace.dir, 0777) != 0 && errno != EEXIST) {
        return mp_fail(err, MP_ERR_USAGE, "trace.fxt: %s: cannot create: %s", trace.dir,
                       strerror(errno));
    }
    int code = create_file(RAW_FILE "_0", err);
    return code == 0 ? create_file(PAJE_FILE, err) : code;
}

static int set_environment(struct mp_error *err)
{
    if (setenv("STARPU_FXT_TRACE", "1", 1) != 0 || setenv("STARPU_FXT_PREFIX", trace.dir, 1) != 0 ||
        setenv("STARPU_FXT_SUFFIX", RAW_FILE, 1) != 0 ||
        /* StarPU's own conversion writes to the working directory. */
        setenv("STARPU_GENERATE_TRACE", "0", 1) != 0) {
        return mp_fail(err, MP_ERR_RUNTIME, "cannot set StarPU's environment variables");
    }
    return 0;
}

static void convert(char *raw_file)
{
    struct starpu_fxt_options options = {.dir = (char *)trace.dir};
    starpu_fxt_options_init(&options);
    starpu_fxt_options_set_dir(&options);
    options.filenames[options.ninputfiles++] = raw_file;
    starpu_fxt_generate_trace(&options);
    starpu_fxt_options_shutdown(&options);
}

static int start(struct mp_error *err)
{
    int code = create_files(err);
    return code == 0 ? set_environment(err) : code;
}

#else

static int start(struct mp_error *err)
{
    int major, minor, release;
    starpu_get_version(&major, &minor, &release);
    return mp_fail(err, MP_ERR_USAGE,
                   "trace.fxt: found %s, but this StarPU (%d.%d.%d) was built without FxT; "
                   "scripts/build-starpu.sh builds one that has it where there is a CUDA toolkit",
                   trace.dir, major, minor, release);
}

static void convert(char *raw_file)
{
    mp_panic("%s: a StarPU without FxT", raw_file);
}

#endif

int mp_fxt_configure(const char *dir, int steps, struct mp_error *err)
{
    trace.dir = dir;
    trace.steps = steps;
    trace.begun = 0;
    return dir != NULL ? start(err) : 0;
}

/* starpu_fxt_autostart_profiling(0) before starpu_init would not do: StarPU 1.3 records anyway. */
void mp_fxt_pause(void)
{
    if (trace.dir != NULL) {
        starpu_fxt_stop_profiling();
    }
}

void mp_fxt_step(void)
{
    if (trace.dir == NULL) {
        return;
    }
    if (trace.begun == SKIPPED_STEPS) {
        starpu_fxt_start_profiling();
    } else if (trace.begun == SKIPPED_STEPS + trace.steps) {
        starpu_fxt_stop_profiling();
    }
    trace.begun++;
}

/* StarPU tells nobody when it could not write a file. */
static bool is_written(const char *path)
{
    struct stat st;
    bool written = stat(path, &st) == 0 && st.st_size > 0;
    if (!written) {
        mp_log(MP_LOG_ERROR, "trace.fxt: %s: StarPU has not written it; is the disk full?", path);
    }
    return written;
}

void mp_fxt_convert(void)
{
    if (trace.dir == NULL) {
        return;
    }
    if (trace.begun <= SKIPPED_STEPS) {
        mp_log(MP_LOG_WARNING,
               "trace.fxt: %s: nothing recorded: found %d decode steps, expected more than %d",
               trace.dir, trace.begun, SKIPPED_STEPS);
    }
    char *raw_file = mp_xasprintf("%s/" RAW_FILE "_0", trace.dir);
    char *paje_file = mp_xasprintf("%s/" PAJE_FILE, trace.dir);
    if (is_written(raw_file)) {
        convert(raw_file);
        is_written(paje_file);
    }
    free(paje_file);
    free(raw_file);
}
