/* A low-cost recorder of spans, written as Chrome trace events (ui.perfetto.dev opens them).
 * Recording is two clock reads and one store into a buffer owned by the recording thread. */
#ifndef MP_CORE_TRACE_H
#define MP_CORE_TRACE_H

#include "core/error.h"

#include <stdbool.h>
#include <stdint.h>

/* What a span was about; -1 where it does not apply. */
struct mp_span_info {
    const char *op; /* static string: the op's name */
    int32_t layer;
    int32_t request; /* request index; -1 when the span serves several */
    int32_t chunk;   /* prefill chunk, or micro-batch in decode */
};

/* Starts recording; spans recorded before are dropped. capacity: spans kept per thread; later
 * ones are counted and reported as lost. */
int mp_trace_start(int64_t capacity, struct mp_error *err);
bool mp_trace_enabled(void);

/* Names the calling thread's track, e.g. "cpu worker 0". The name is copied. */
void mp_trace_name_thread(const char *name);

/* Records [begin_ns, end_ns) of mp_clock_ns on the calling thread. No-op when not enabled. */
void mp_trace_span(const struct mp_span_info *info, uint64_t begin_ns, uint64_t end_ns);

/* Writes every span, in order of begin per track, and stops recording. */
int mp_trace_write(const char *path, struct mp_error *err);

#endif
