/* How fast a prompt is read while other requests decode: as many units of it are put into each step
 * as keep the time that they add below a share of all time. */
#ifndef MP_PIPELINE_PACE_H
#define MP_PIPELINE_PACE_H

/* All zero but the share at first. */
struct mp_pace {
    double share;        /* most of the time that reading may take, in (0, 1) */
    double step_seconds; /* of a step without reading, lately; 0: not known */
    double unit_seconds; /* that a unit adds to a step, lately; 0: not known */
    double elapsed;      /* seconds since the reading of this prompt began */
    double added;        /* of them, what reading added to the steps */
};

/* A new prompt: its time is counted anew, and its units are of another size; what is known of steps
 * stays. */
void mp_pace_begin(struct mp_pace *p);

/* Units for the next step, of those left. 0 at first, to learn how long a step takes without. */
int mp_pace_units(const struct mp_pace *p, int left);

/* A step with so many units has taken so long. */
void mp_pace_took(struct mp_pace *p, int units, double seconds);

#endif
