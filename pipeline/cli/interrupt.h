/* SIGINT and SIGTERM. While a program reads what it is to do, the first one ends it at once. Later
 * it asks the work to stop at the next task or token, and a second one ends it. */
#ifndef MP_PIPELINE_INTERRUPT_H
#define MP_PIPELINE_INTERRUPT_H

#include <stdbool.h>

/* Installs the handlers; also ignores SIGPIPE, so that a closed pipe is a write error. */
void mp_interrupt_install(void);

/* From now on there is something to finish or to undo: whoever does it asks mp_interrupted(). */
void mp_interrupt_defer(void);

/* True once a signal has come. */
bool mp_interrupted(void);

/* Signals do not interrupt this process from now on, and none has: for one that finishes a piece of
 * work while the process that started it stops. */
void mp_interrupt_ignore(void);

enum { MP_EXIT_INTERRUPTED = 130 };

#endif
