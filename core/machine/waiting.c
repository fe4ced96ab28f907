#include "core/machine/waiting.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Some 100 us: about as long as a layer's op takes. libgomp's own 300,000 are best where every
 * thread has a core to itself, by a few percent; where other programs use them too, a thread that
 * loops takes the time of the one that it waits for: with one such program a core a step of the
 * demo took 23.9 instead of 6.6 ms (docs/performance.md). */
#define SPIN_COUNT "10000"

void mp_waiting_limit(char **argv)
{
    if (getenv("GOMP_SPINCOUNT") != NULL || getenv("OMP_WAIT_POLICY") != NULL ||
        setenv("GOMP_SPINCOUNT", SPIN_COUNT, 1) != 0) {
        return;
    }
    execv("/proc/self/exe", argv);
    /* Not here: it waits as libgomp does by itself. */
}

double mp_waiting_seconds(void)
{
    DIR *dir = opendir("/proc/self/task");
    double sum = 0.0;
    for (const struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;) {
        char path[64];
        uint64_t delay;
        snprintf(path, sizeof path, "/proc/self/task/%.16s/schedstat", d->d_name);
        FILE *f = fopen(path, "r");
        if (f != NULL) {
            sum += fscanf(f, "%*u %" SCNu64, &delay) == 1 ? (double)delay * 1e-9 : 0.0;
            fclose(f);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return sum;
}
