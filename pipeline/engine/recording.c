#include "pipeline/engine/recording.h"

#include "codelets/common/task/codelet.h"
#include "core/ranks/ranks.h"
#include "core/trace/trace.h"

#include <stdlib.h>

/* Spans per thread. A decode step has some hundreds, a long prompt some thousands. */
enum { KEPT = 1 << 20, PASSING = 1 << 16 };

static bool kept;
static struct mp_calibration *calibration; /* NULL: none */

/* Of the steps of a run without trace or report: the first after a request has settled, then a few
 * in a hundred. */
enum { FIRST_STEP = 2, STEP_INTERVAL = 32 };

int mp_recording_start(bool keep, struct mp_ranks *ranks, struct mp_error *err)
{
    int code = mp_ranks_tell(ranks, &keep, sizeof keep, err);
    kept = keep;
    mp_recording_on(keep);
    return code == 0 ? mp_trace_start(keep ? KEPT : PASSING, err) : code;
}

void mp_recording_gather(struct mp_ranks *ranks)
{
    if (!kept || ranks == NULL) {
        return;
    }
    bool first = mp_ranks_index(ranks) == 0;
    struct mp_piece all[mp_ranks_count(ranks)];
    struct mp_piece own = {0};
    if (!first) {
        own.data = mp_trace_pack(&own.bytes);
    }
    mp_ranks_collect(ranks, &own, all);
    for (int r = 1; first && r < mp_ranks_count(ranks); r++) {
        const struct mp_clock_offset clock = mp_ranks_clock(ranks, r);
        mp_trace_add(r, &clock, all[r].data);
        free(all[r].data);
    }
}

void mp_recording_on(bool on)
{
    mp_trace_pause(!on);
}

bool mp_recording_is_on(void)
{
    return mp_trace_enabled();
}

void mp_recording_choose(int64_t step)
{
    mp_recording_on(kept || step % STEP_INTERVAL == FIRST_STEP);
}

void mp_recording_calibrate(struct mp_calibration *c)
{
    calibration = c;
}

void mp_recording_take(struct mp_profile *p, uint64_t begin_ns, uint64_t end_ns)
{
    if (p != NULL) {
        mp_profile_add(p, begin_ns, end_ns);
    }
    if (calibration != NULL && mp_cost_asked()) {
        mp_calibration_measure(calibration, begin_ns);
    }
    if (!kept) {
        mp_trace_clear();
    }
}
