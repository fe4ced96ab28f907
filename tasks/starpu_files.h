/* What StarPU has measured of this machine's buses: the files of its folder, which it reads at its
 * start and ends the program over where one is empty, as after a full disk or a kill. */
#ifndef MP_TASKS_STARPU_FILES_H
#define MP_TASKS_STARPU_FILES_H

#include "core/base/error.h"

#include <stdbool.h>

/* Removes them all, unless each is whole: StarPU then measures anew. *missing: whether it will.
 * Only for who holds the folder's lock. MP_ERR_IO: one cannot be removed. */
int mp_starpu_files_check(const char *folder, bool *missing, struct mp_error *err);

#endif
