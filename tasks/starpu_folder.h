/* The folder in which StarPU keeps what it measures, such as the speed of buses. */
#ifndef MP_TASKS_STARPU_FOLDER_H
#define MP_TASKS_STARPU_FOLDER_H

#include "core/base/error.h"

/* Before starpu_init, which ends the program if it cannot create that folder: creates it where
 * StarPU would, in $STARPU_PERF_MODEL_DIR or below $XDG_CACHE_HOME, $STARPU_HOME or $HOME; where
 * there is no writable home, as in many containers, in a folder of the user's below $TMPDIR or
 * /tmp. Sets STARPU_PERF_MODEL_DIR. MP_ERR_IO: none of them can be written. */
int mp_starpu_folder(struct mp_error *err);

#endif
