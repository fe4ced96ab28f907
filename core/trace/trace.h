/* A low-cost recorder of spans, written as Chrome trace events (ui.perfetto.dev opens them).
 * Recording is two clock reads and one store into a buffer owned by the recording thread. */
#ifndef MP_CORE_TRACE_H
#define MP_CORE_TRACE_H

#include "core/base/clock.h"
#include "core/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a thread's spans are time of. */
enum mp_track_kind {
    MP_TRACK_HOST, /* the program itself: submission, waiting; counted as nobody's work */
    MP_TRACK_CPU,  /* a CPU worker's team */
    MP_TRACK_GPU,  /* a GPU's stream */
    MP_TRACK_KINDS,
};

/* What a span was about; -1 where it does not apply. */
struct mp_span_info {
    const char *op; /* static string: the op's name */
    int32_t layer;
    int32_t request;     /* request index; -1 when the span serves several */
    int32_t chunk;       /* prefill chunk */
    int32_t micro_batch; /* in decode */
    float flops;         /* floating-point operations of the work, estimated before it ran; or 0 */
    float bytes;         /* memory it moves, likewise */
    uint64_t submit_ns;  /* when it was handed to the scheduler; 0: unknown */
};

struct mp_span {
    struct mp_span_info info;
    uint64_t begin_ns; /* of mp_clock_ns */
    uint64_t end_ns;
};

/* Starts recording; spans recorded before are dropped. capacity: spans kept per thread; later
 * ones are counted and reported as lost. */
int mp_trace_start(int64_t capacity, struct mp_error *err);
bool mp_trace_enabled(void);

/* Records nothing until it is called again with false. Only while nobody records. */
void mp_trace_pause(bool on);

/* Drops the spans and counters so far and goes on recording: time 0 of the trace is now. Only while
 * nobody records. */
void mp_trace_clear(void);

/* Names the calling thread's track, e.g. "cpu worker 0". The name is copied. */
void mp_trace_name_thread(const char *name, enum mp_track_kind kind);

/* Records [begin_ns, end_ns) of mp_clock_ns on the calling thread. No-op when not enabled. */
void mp_trace_span(const struct mp_span_info *info, uint64_t begin_ns, uint64_t end_ns);

/* Records the value of a counter from now on; name is a static string. It takes a lock: for what
 * changes a few times a step at most. No-op when not enabled. */
void mp_trace_counter(const char *name, double value);

/* One thread's spans, in order of begin. */
struct mp_track {
    int rank;         /* whose thread it is: 0, of this process; else of another, which was added */
    const char *name; /* "thread 3" if it was never named */
    enum mp_track_kind kind;
    const struct mp_span *spans; /* [count] */
    int64_t count;
};

/* Calls visit for every thread that recorded spans since the start or the last clear, in order of
 * the threads' first appearance. visit must not call this header. Only while nobody records. */
void mp_trace_each(void (*visit)(void *arg, const struct mp_track *track), void *arg);

/* Index of the first span that ends after ns of mp_clock_ns; count: none does. For tracks of
 * workers: they run one task at a time, so spans are in order of end too. A long run has very many
 * before those of its last step. */
int64_t mp_track_first_span(const struct mp_track *track, uint64_t ns);

/* The spans so far as bytes, for another process of the same program; malloc'ed. Stops recording.
 */
char *mp_trace_pack(size_t *bytes);

/* Adds what a rank from 1 on has packed, at the times of this process's clock. Its counters are not
 * among it. Ranks are added in order. Only while nobody records. */
void mp_trace_add(int rank, const struct mp_clock_offset *clock, const char *data);

/* Writes every span, in order of begin per track, and stops recording. Beside the spans there are
 * counters: those recorded, the bytes/s of each kind of device, and the tasks submitted but not yet
 * done. Every rank that was added is a process of its own in the file, on one clock. */
int mp_trace_write(const char *path, struct mp_error *err);

#endif
