#include "core/machine/threads.h"

#include "core/base/memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Keeps a thread until all that were to start have. */
static void *wait_for_end(void *gate)
{
    pthread_mutex_lock(gate);
    pthread_mutex_unlock(gate);
    return NULL;
}

static int reserve(size_t bytes, struct mp_error *err)
{
    void *p = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        return mp_fail(err, MP_ERR_MEMORY,
                       "out of memory: StarPU and its threads need %zu MiB more of address space: "
                       "%s (a limit of ulimit -v?)",
                       bytes >> 20, strerror(errno));
    }
    munmap(p, bytes);
    return MP_OK;
}

int mp_threads_check(int count, size_t bytes, struct mp_error *err)
{
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    pthread_t *threads = mp_xcalloc((size_t)count, sizeof *threads);
    int started = 0;
    int error = 0;
    pthread_mutex_lock(&gate);
    while (started < count && error == 0) {
        error = pthread_create(&threads[started], NULL, wait_for_end, &gate);
        started += error == 0;
    }
    int code = error == 0 ? MP_OK
                          : mp_fail(err, MP_ERR_RUNTIME,
                                    "the system gives this process %d of the %d threads that it "
                                    "needs: %s (a limit of ulimit -u, ulimit -v or the "
                                    "container's pids.max?)",
                                    started, count, strerror(error));
    if (code == MP_OK && bytes > 0) {
        code = reserve(bytes, err);
    }
    pthread_mutex_unlock(&gate);
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    free(threads);
    return code;
}
