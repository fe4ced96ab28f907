/* Progress bars for long work, on stderr and only when it is a terminal that
 * messages go to (core/base/log.h). */
#ifndef MP_PIPELINE_PROGRESS_H
#define MP_PIPELINE_PROGRESS_H

#include <stdint.h>

struct mp_progress; /* opaque; NULL where stderr is no terminal: every call accepts that */

/* A bar "label [####    ] 40% 12.3K tok/s, 8 s left" that counts to total units. label and unit
 * are copied. */
struct mp_progress *mp_progress_start(const char *label, const char *unit, int64_t total);
/* Sets units done; redraws at most ten times a second. */
void mp_progress_set(struct mp_progress *p, int64_t done);
/* Clears the line and frees. */
void mp_progress_end(struct mp_progress *p);

#endif
