/* StarPU's own trace of decode steps: recorded by FxT, converted to Paje, which ViTE draws. Needs a
 * StarPU that was built with FxT. Like StarPU, there is one of it in a process. */
#ifndef MP_TASKS_FXT_H
#define MP_TASKS_FXT_H

#include "core/base/error.h"

/* Before starpu_init: creates the folder `dir` and sets StarPU up to write there, steps > 0 decode
 * steps. dir NULL: no trace. MP_ERR_USAGE: this StarPU has no FxT, or it cannot write to dir. */
int mp_fxt_configure(const char *dir, int steps, struct mp_error *err);

/* After starpu_init, which has recorded the workers: recording waits for the first of the steps. */
void mp_fxt_pause(void);

/* A decode step begins: recording starts or stops if it is time to. */
void mp_fxt_step(void);

/* After starpu_shutdown, which has written what FxT recorded: converts it to dir/paje.trace. What
 * goes wrong is logged: the run itself is over. */
void mp_fxt_convert(void);

#endif
