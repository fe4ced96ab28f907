/* The recorder of a run. For a trace file or a report it records everything; for the figures of a
 * summary and the calibration now and then a step. */
#ifndef MP_PIPELINE_RECORDING_H
#define MP_PIPELINE_RECORDING_H

#include "core/calibration.h"
#include "core/profile.h"

#include <stdbool.h>
#include <stdint.h>

/* Starts the recorder. keep: spans stay until the end of the run. */
int mp_recording_start(bool keep, struct mp_error *err);

/* Whether the next step, number `step` of the run, is recorded. */
void mp_recording_choose(int64_t step);

/* Records all that follows, or nothing. */
void mp_recording_on(bool on);

/* Whether what runs now is recorded. */
bool mp_recording_is_on(void);

/* Adds the interval [begin_ns, end_ns) of mp_clock_ns, a step or a prompt that has run, to a
 * profile (NULL: to none), and drops its spans unless they are kept. */
void mp_recording_take(struct mp_profile *p, uint64_t begin_ns, uint64_t end_ns);

/* What is recorded from now on counts for this calibration (NULL: for none), until the next call.
 * Only while no task is in flight. */
void mp_recording_calibrate(struct mp_calibration *c);

#endif
