#include "core/trace/trace.h"

#include "core/base/clock.h"
#include "core/base/memory.h"
#include "core/trace/trace_recording.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* What one thread recorded. Only its thread adds spans, so that recording takes no lock; all other
 * fields change under `lock`. Tracks live as long as the process: a thread may end before the
 * trace is written. */
struct track {
    struct track *next;
    int id;     /* 1, 2, ... in order of creation */
    int rank;   /* 0: a thread of this process; else of another, complete */
    char *name; /* NULL until named */
    enum mp_track_kind kind;
    uint64_t session;      /* the recording that spans, count and lost belong to */
    struct mp_span *spans; /* [capacity]; NULL if it could not be allocated: all spans are lost */
    int64_t capacity;
    _Atomic int64_t count; /* spans complete; released after each store */
    int64_t sorted;        /* the first ones, known to be in order */
    _Atomic int64_t lost;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct track *tracks; /* in order of creation */
static int num_tracks;
static int64_t session_capacity; /* spans per thread, and counter samples in all */
static uint64_t session_start_ns;
static struct mp_counter_sample *counters; /* [counters_room] */
static int64_t num_counters;
static int64_t counters_room;
static int64_t lost_counters;
static struct mp_added_recording *added; /* [num_added] of other ranks, whose tracks there are */
static int num_added;
static int64_t lost_elsewhere;   /* spans and counters, by those */
static _Atomic uint64_t session; /* counts the recordings, each begun by a start or a clear */
static _Atomic bool enabled;
static _Atomic bool paused;
static _Thread_local struct track *own;

/* ---- recording ---- */

/* A new track. Call with the lock held. */
static struct track *add_track(void)
{
    struct track *t = mp_xcalloc(1, sizeof *t);
    t->id = ++num_tracks;
    struct track **end = &tracks;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    return *end = t;
}

/* The calling thread's. Call with the lock held. */
static struct track *own_track(void)
{
    if (own == NULL) {
        own = add_track();
    }
    return own;
}

/* Empties the calling thread's track for the recording under way. */
static void join_session(void)
{
    pthread_mutex_lock(&lock);
    struct track *t = own_track();
    if (t->capacity != session_capacity) {
        mp_free(t->spans);
        t->spans = mp_alloc((size_t)session_capacity, sizeof *t->spans, "trace", NULL);
        t->capacity = t->spans == NULL ? 0 : session_capacity;
    }
    atomic_store(&t->count, 0);
    t->sorted = 0;
    atomic_store(&t->lost, 0);
    t->session = atomic_load(&session);
    pthread_mutex_unlock(&lock);
}

/* From here on every track is of an older recording, until its thread joins. Call with the lock
 * held. */
static void begin_session(void)
{
    session_start_ns = mp_clock_ns();
    num_counters = 0;
    lost_counters = 0;
    num_added = 0;
    lost_elsewhere = 0;
    atomic_fetch_add(&session, 1);
}

int mp_trace_start(int64_t capacity, struct mp_error *err)
{
    size_t bytes;
    if (capacity < 1 || !mp_size_mul((size_t)capacity, sizeof(struct mp_span), &bytes)) {
        return mp_fail(err, MP_ERR_USAGE, "trace: room for %" PRId64 " spans, expected 1 or more",
                       capacity);
    }
    pthread_mutex_lock(&lock);
    session_capacity = capacity;
    begin_session();
    atomic_store(&enabled, true);
    pthread_mutex_unlock(&lock);
    return MP_OK;
}

bool mp_trace_enabled(void)
{
    return atomic_load_explicit(&enabled, memory_order_relaxed) &&
           !atomic_load_explicit(&paused, memory_order_relaxed);
}

void mp_trace_pause(bool on)
{
    atomic_store(&paused, on);
}

void mp_trace_clear(void)
{
    pthread_mutex_lock(&lock);
    begin_session();
    pthread_mutex_unlock(&lock);
}

void mp_trace_name_thread(const char *name, enum mp_track_kind kind)
{
    pthread_mutex_lock(&lock);
    struct track *t = own_track();
    free(t->name);
    t->name = mp_xstrdup(name);
    t->kind = kind;
    pthread_mutex_unlock(&lock);
}

void mp_trace_span(const struct mp_span_info *info, uint64_t begin_ns, uint64_t end_ns)
{
    if (!mp_trace_enabled()) {
        return;
    }
    if (own == NULL || own->session != atomic_load_explicit(&session, memory_order_relaxed)) {
        join_session();
    }
    int64_t count = atomic_load_explicit(&own->count, memory_order_relaxed);
    if (count == own->capacity) {
        atomic_fetch_add_explicit(&own->lost, 1, memory_order_relaxed);
        return;
    }
    own->spans[count] = (struct mp_span){*info, begin_ns, end_ns};
    atomic_store_explicit(&own->count, count + 1, memory_order_release);
}

void mp_trace_counter(const char *name, double value)
{
    if (!mp_trace_enabled()) {
        return;
    }
    pthread_mutex_lock(&lock);
    if (num_counters == session_capacity) {
        lost_counters++;
    } else {
        if (num_counters == counters_room) {
            counters_room = counters_room == 0 ? 64 : 2 * counters_room;
            counters = mp_xrealloc(counters, (size_t)counters_room, sizeof *counters);
        }
        /* The clock is read under the lock: samples are in order of time. */
        counters[num_counters++] = (struct mp_counter_sample){name, value, mp_clock_ns()};
    }
    pthread_mutex_unlock(&lock);
}

/* ---- what was recorded ---- */

/* By begin; of two that begin together the longer one encloses the other and comes first. */
static int compare_spans(const void *a, const void *b)
{
    const struct mp_span *x = a, *y = b;
    if (x->begin_ns != y->begin_ns) {
        return x->begin_ns < y->begin_ns ? -1 : 1;
    }
    return (x->end_ns < y->end_ns) - (x->end_ns > y->end_ns);
}

/* Spans come in order of their end; without nesting that is the order of begin too, and only those
 * that are new need to be looked at. */
static void sort_spans(struct track *t, int64_t count)
{
    for (int64_t i = t->sorted > 0 ? t->sorted : 1; i < count; i++) {
        if (compare_spans(&t->spans[i - 1], &t->spans[i]) > 0) {
            qsort(t->spans, (size_t)count, sizeof *t->spans, compare_spans);
            break;
        }
    }
    t->sorted = count;
}

int64_t mp_track_first_span(const struct mp_track *track, uint64_t ns)
{
    int64_t low = 0, high = track->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (track->spans[middle].end_ns > ns) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

void mp_trace_each(void (*visit)(void *arg, const struct mp_track *track), void *arg)
{
    pthread_mutex_lock(&lock);
    for (struct track *t = tracks; t != NULL; t = t->next) {
        int64_t count = atomic_load_explicit(&t->count, memory_order_acquire);
        if (t->session != atomic_load(&session) || count == 0) {
            continue;
        }
        char unnamed[32];
        snprintf(unnamed, sizeof unnamed, "thread %d", t->id);
        sort_spans(t, count);
        visit(arg, &(struct mp_track){
                       .rank = t->rank,
                       .name = t->name != NULL ? t->name : unnamed,
                       .kind = t->kind,
                       .spans = t->spans,
                       .count = count,
                   });
    }
    pthread_mutex_unlock(&lock);
}

struct mp_recording mp_trace_stop(void)
{
    atomic_store(&enabled, false);
    pthread_mutex_lock(&lock);
    int64_t lost = lost_counters + lost_elsewhere;
    for (const struct track *t = tracks; t != NULL; t = t->next) {
        lost += t->session == atomic_load(&session) ? atomic_load(&t->lost) : 0;
    }
    struct mp_recording recording = {session_start_ns, counters, num_counters, added,
                                     num_added,        lost};
    pthread_mutex_unlock(&lock);
    return recording;
}

/* ---- of other ranks ---- */

void mp_trace_adopt(int rank, char *name, enum mp_track_kind kind, struct mp_span *spans,
                    int64_t count)
{
    pthread_mutex_lock(&lock);
    struct track *t = add_track();
    t->rank = rank;
    t->name = name;
    t->kind = kind;
    t->session = atomic_load(&session);
    t->spans = spans;
    t->capacity = count;
    t->sorted = count;
    atomic_store(&t->count, count);
    pthread_mutex_unlock(&lock);
}

void mp_trace_note(int rank, const struct mp_clock_offset *clock, int64_t lost)
{
    pthread_mutex_lock(&lock);
    added = mp_xrealloc(added, (size_t)num_added + 1, sizeof *added);
    added[num_added++] = (struct mp_added_recording){rank, *clock};
    lost_elsewhere += lost;
    pthread_mutex_unlock(&lock);
}
