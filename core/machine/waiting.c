#include "core/machine/waiting.h"

#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

/* Some 100 us: about as long as a layer's op takes. libgomp's own 300,000 are best where every
 * thread has a core to itself, by a few percent; where other programs use them too, a thread that
 * loops takes the time of the one that it waits for: with one such program a core a step of the
 * demo took 23.9 instead of 6.6 ms (docs/performance.md). */
#define SPIN_COUNT "10000"

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

void mp_waiting_limit(char **argv)
{
    if (getenv("GOMP_SPINCOUNT") != NULL || getenv("OMP_WAIT_POLICY") != NULL ||
        setenv("GOMP_SPINCOUNT", SPIN_COUNT, 1) != 0) {
        return;
    }
    char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    path[length > 0 ? length : 0] = '\0';
    /* Not if something else runs the program: the loader, valgrind. */
    const char *started = (const char *)getauxval(AT_EXECFN);
    if (started != NULL && strcmp(name_of(path), name_of(started)) == 0) {
        execv(path, argv);
    }
    /* It waits as libgomp does by itself. */
}

double mp_waiting_seconds(void)
{
    DIR *dir = opendir("/proc/self/task");
    double most = 0.0;
    for (const struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;) {
        char path[64];
        if (d->d_name[0] == '.') {
            continue;
        }
        uint64_t delay;
        snprintf(path, sizeof path, "/proc/self/task/%.16s/schedstat", d->d_name);
        FILE *f = fopen(path, "r");
        if (f != NULL) {
            double waited = fscanf(f, "%*u %" SCNu64, &delay) == 1 ? (double)delay * 1e-9 : 0.0;
            most = waited > most ? waited : most;
            fclose(f);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return most;
}
