/* Between the recorder (trace.c) and the writer (trace_write.c). */
#ifndef MP_CORE_TRACE_RECORDING_H
#define MP_CORE_TRACE_RECORDING_H

#include <stdint.h>

struct mp_counter_sample {
    const char *name; /* static string */
    double value;
    uint64_t ns; /* of mp_clock_ns: since when */
};

/* What was recorded beside the spans, which mp_trace_each gives. */
struct mp_recording {
    uint64_t start_ns;                        /* time 0 of the trace */
    const struct mp_counter_sample *counters; /* [num_counters], in order of time; owned by the
                                                 recorder, valid until the next recording */
    int64_t num_counters;
    int64_t lost; /* spans and counters that found no room */
};

/* Ends the recording under way. */
struct mp_recording mp_trace_stop(void);

#endif
