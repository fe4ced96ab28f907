/* The recorder of a run. For a trace file or a report it records everything; for the figures of a
 * summary and the calibration now and then a step. */
#ifndef MP_PIPELINE_RECORDING_H
#define MP_PIPELINE_RECORDING_H

#include "core/trace/calibration.h"
#include "core/trace/profile.h"

#include <stdbool.h>
#include <stdint.h>

struct mp_ranks; /* core/ranks/ranks.h */

/* Starts the recorder, on all ranks as rank 0 says. keep: it records at once, and spans stay until
 * the end of the run; otherwise nothing before it is told to. MP_ERR_INTERRUPTED: rank 0 has ended
 * the run. */
int mp_recording_start(bool keep, struct mp_ranks *ranks, struct mp_error *err);

/* At the end of a run, on all ranks: what the others have recorded is added to rank 0's, if spans
 * are kept. Only while no task is in flight. */
void mp_recording_gather(struct mp_ranks *ranks);

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
