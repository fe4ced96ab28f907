/* The recorder of a run: always on, for the figures of its summary; what it has recorded is kept
 * only for a trace file or a report. */
#ifndef MP_PIPELINE_RECORDING_H
#define MP_PIPELINE_RECORDING_H

#include "core/error.h"
#include "core/profile.h"

#include <stdbool.h>

/* Starts the recorder. keep: spans stay until the end of the run. */
int mp_recording_start(bool keep, struct mp_error *err);

/* Adds the interval [begin_ns, end_ns) of mp_clock_ns, a step or a prompt that has run, to a
 * profile (NULL: to none), and drops its spans unless they are kept. */
void mp_recording_take(struct mp_profile *p, uint64_t begin_ns, uint64_t end_ns);

#endif
