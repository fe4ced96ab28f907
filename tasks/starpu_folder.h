/* The folder in which StarPU keeps what it measures, such as the speed of buses. */
#ifndef MP_TASKS_STARPU_FOLDER_H
#define MP_TASKS_STARPU_FOLDER_H

#include "core/base/error.h"

/* Around starpu_init, which ends the program if it cannot create that folder, if a file in it is
 * empty or cut off, or if it finds no room there. Creates the folder where StarPU would, in
 * $STARPU_PERF_MODEL_DIR or below $XDG_CACHE_HOME, $STARPU_HOME or $HOME; where there is no
 * writable home, as in many containers, in a folder of the user's below $TMPDIR or /tmp. Sets
 * STARPU_PERF_MODEL_DIR, and drops files that are not whole. Until the folder is closed other
 * processes wait for it, so that none reads what another one is writing. *lock is for the latter.
 * MP_ERR_IO: no such folder can be written or has room, or another process does not let go of it.
 */
int mp_starpu_folder_open(int *lock, struct mp_error *err);

/* -1 is fine. */
void mp_starpu_folder_close(int lock);

#endif
