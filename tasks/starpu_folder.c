#include "tasks/starpu_folder.h"

#include "core/base/file.h"
#include "core/base/memory.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char VARIABLE[] = "STARPU_PERF_MODEL_DIR";

/* StarPU 1.3 cuts longer names off. */
enum { LONGEST = 200 };

static const char *value_of(const char *variable)
{
    const char *value = getenv(variable);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

static bool can_use(const char *folder)
{
    struct mp_error err;
    return strlen(folder) <= LONGEST && mp_file_make_folders(folder, &err) == 0 &&
           access(folder, W_OK | X_OK) == 0;
}

/* One below the first home that can be written, in the order in which StarPU looks; NULL: none can.
 */
static char *in_home(void)
{
    static const char *const variables[] = {"XDG_CACHE_HOME", "STARPU_HOME", "HOME"};
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        const char *home = value_of(variables[i]);
        char *folder = home != NULL ? mp_xasprintf("%s/.starpu/sampling", home) : NULL;
        if (folder != NULL && can_use(folder)) {
            return folder;
        }
        free(folder);
    }
    return NULL;
}

/* Everybody can write there: only a folder that is the user's own is of use. */
static char *in_tmp(void)
{
    const char *tmp = value_of("TMPDIR");
    char *folder =
        mp_xasprintf("%s/magicpig-pipe-%lu", tmp != NULL ? tmp : "/tmp", (unsigned long)geteuid());
    struct stat st;
    if (can_use(folder) && lstat(folder, &st) == 0 && S_ISDIR(st.st_mode) &&
        st.st_uid == geteuid()) {
        return folder;
    }
    free(folder);
    return NULL;
}

int mp_starpu_folder(struct mp_error *err)
{
    const char *given = value_of(VARIABLE);
    if (given != NULL) {
        return can_use(given)
                   ? 0
                   : mp_fail(err, MP_ERR_IO,
                             "%s: found %s, expected a folder that can be written, of at most %d "
                             "bytes",
                             VARIABLE, given, LONGEST);
    }
    char *folder = in_home();
    if (folder == NULL) {
        folder = in_tmp();
    }
    if (folder == NULL || setenv(VARIABLE, folder, 1) != 0) {
        free(folder);
        return mp_fail(err, MP_ERR_IO,
                       "StarPU needs a folder for its measurements, and neither the home folder "
                       "nor TMPDIR or /tmp can be written: set %s to one",
                       VARIABLE);
    }
    free(folder);
    return 0;
}
