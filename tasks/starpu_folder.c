#include "tasks/starpu_folder.h"

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/memory.h"
#include "tasks/starpu_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char VARIABLE[] = "STARPU_PERF_MODEL_DIR";

/* StarPU 1.3 cuts longer names off. */
enum { LONGEST = 200 };

/* More than StarPU writes there for a machine. */
enum { ROOM = 128 * 1024 };

/* More than StarPU measures for, with many GPUs. */
static const double LONGEST_WAIT_S = 120;

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

/* Chooses a folder, which StarPU then finds in its environment. */
static int choose(struct mp_error *err)
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

/* Waits for who has the lock. File systems without locks are used without. */
static int lock_file(int file, const char *path, struct mp_error *err)
{
    double begin = mp_clock_seconds();
    while (flock(file, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return 0;
        }
        if (mp_clock_seconds() - begin > LONGEST_WAIT_S) {
            return mp_fail(err, MP_ERR_IO,
                           "%s: another run has held it for more than %.0f s, expected it to start "
                           "StarPU meanwhile",
                           path, LONGEST_WAIT_S);
        }
        usleep(5000);
    }
    return 0;
}

/* StarPU does not look whether what it writes has arrived, and then ends the program over it. */
static int check_room(int file, const char *path, struct mp_error *err)
{
    int error = posix_fallocate(file, 0, ROOM);
    if (ftruncate(file, 0) != 0 || error == 0) {
        return 0;
    }
    return mp_fail(err, MP_ERR_IO,
                   "%s: no room for %d KiB, which StarPU needs for its measurements: %s; %s may "
                   "name another folder",
                   path, ROOM / 1024, strerror(error), VARIABLE);
}

int mp_starpu_folder_open(int *lock, struct mp_error *err)
{
    *lock = -1;
    int code = choose(err);
    if (code != 0) {
        return code;
    }
    const char *folder = value_of(VARIABLE);
    char *path = mp_xasprintf("%s/magicpig-pipe.lock", folder);
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    bool missing = false;
    code = file >= 0 ? lock_file(file, path, err)
                     : mp_fail(err, MP_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    if (code == 0) {
        code = mp_starpu_files_check(folder, &missing, err);
    }
    if (code == 0 && missing) {
        code = check_room(file, path, err);
    }
    free(path);
    if (code != 0) {
        mp_starpu_folder_close(file);
        return code;
    }
    *lock = file;
    return 0;
}

void mp_starpu_folder_close(int lock)
{
    if (lock >= 0) {
        close(lock);
    }
}
