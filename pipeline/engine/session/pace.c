#include "pipeline/engine/session/pace.h"

#include <math.h>

/* Units of a step at most: none of them may hold up a step that turns out to be short of time. */
enum { MOST_UNITS = 8 };

/* Weight of the newest measurement. */
static const double NEWEST = 0.25;

static double smooth(double old, double now)
{
    return old == 0.0 ? now : old + NEWEST * (now - old);
}

void mp_pace_begin(struct mp_pace *p)
{
    p->unit_seconds = 0.0;
    p->elapsed = 0.0;
    p->added = 0.0;
}

int mp_pace_units(const struct mp_pace *p, int left)
{
    if (p->step_seconds == 0.0) {
        return 0;
    }
    if (p->unit_seconds == 0.0) {
        return left > 0;
    }
    /* n units keep to the share if added + n unit <= share (elapsed + step + n unit). */
    double room = p->share * (p->elapsed + p->step_seconds) - p->added;
    double units = floor(room / (p->unit_seconds * (1.0 - p->share)));
    units = fmin(units, fmin(left, MOST_UNITS));
    return units > 0.0 ? (int)units : 0;
}

void mp_pace_took(struct mp_pace *p, int units, double seconds)
{
    p->elapsed += seconds;
    if (units == 0) {
        p->step_seconds = smooth(p->step_seconds, seconds);
        return;
    }
    double added = fmax(seconds - p->step_seconds, 0.0);
    p->added += added;
    /* Units that run wholly beside the step add nothing; a thousandth of it bounds their number. */
    p->unit_seconds = smooth(p->unit_seconds, fmax(added / units, 1e-3 * p->step_seconds));
}
