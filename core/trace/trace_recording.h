/* Between the recorder (trace.c), the writer (trace_write.c), and recordings as bytes
 * (trace_pack.c). */
#ifndef MP_CORE_TRACE_RECORDING_H
#define MP_CORE_TRACE_RECORDING_H

#include "core/trace/trace.h"

struct mp_counter_sample {
    const char *name; /* static string */
    double value;
    uint64_t ns; /* of mp_clock_ns: since when */
};

/* Another rank's recording, whose tracks are among those of this process. */
struct mp_added_recording {
    int rank;
    struct mp_clock_offset clock;
};

/* What was recorded beside the spans, which mp_trace_each gives. */
struct mp_recording {
    uint64_t start_ns;                        /* time 0 of the trace */
    const struct mp_counter_sample *counters; /* [num_counters], in order of time; owned by the
                                                 recorder, valid until the next recording */
    int64_t num_counters;
    const struct mp_added_recording *added; /* [num_added], by their ranks; likewise */
    int num_added;
    int64_t lost; /* spans and counters that found no room */
};

/* Ends the recording under way. */
struct mp_recording mp_trace_stop(void);

/* Adds a track of another rank to the recording, by its rank; takes over name and spans [count], in
 * order of begin. */
void mp_trace_adopt(int rank, char *name, enum mp_track_kind kind, struct mp_span *spans,
                    int64_t count);

/* That was all of a rank's, but for what it has lost. */
void mp_trace_note(int rank, const struct mp_clock_offset *clock, int64_t lost);

#endif
