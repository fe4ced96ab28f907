/* The recorder of a run. For a trace file or a report it records everything; for the figures of a
 * summary and the calibration now and then a step. */
#ifndef MP_PIPELINE_RECORDING_H
#define MP_PIPELINE_RECORDING_H

#include "core/trace/calibration.h"
#include "core/trace/profile.h"

#include <stdbool.h>
#include <stdint.h>

/* Starts the recorder. keep: it records at once, and spans stay until the end of the run; otherwise
 * nothing before it is told to. */
int mp_recording_start(bool keep, struct mp_error *err);

/* Whether the next step, number `step` of the run, is recorded. */
void mp_recording_choose(int64_t step);

/* Records all that follows, or nothing. */
void mp_recording_on(bool on);

/* Whether what runs now is recorded. */
bool mp_recording_is_on(void);

/* Adds the interval [begin_ns, end_ns) of mp_clock_ns, a step or a prompt that has just run, to a
 * profile (NULL: to none) and to the calibration if the policy asks for estimates, and drops the
 * spans so far unless they are kept. Only while no task is in flight. */
void mp_recording_take(struct mp_profile *p, uint64_t begin_ns, uint64_t end_ns);

/* The intervals that are taken from now on count for this calibration; NULL: for none. */
void mp_recording_calibrate(struct mp_calibration *c);

#endif
