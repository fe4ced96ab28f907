#include "core/trace.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct span {
    struct mp_span_info info;
    uint64_t begin_ns;
    uint64_t end_ns;
};

/* What one thread recorded. Only its thread adds spans, so that recording takes no lock; all other
 * fields change under `lock`. Tracks live as long as the process: a thread may end before the
 * trace is written. */
struct track {
    struct track *next;
    int id;             /* 1, 2, ... in order of creation */
    char *name;         /* NULL until named */
    uint64_t session;   /* the recording that spans, count and lost belong to */
    struct span *spans; /* [capacity]; NULL if it could not be allocated: all spans are lost */
    int64_t capacity;
    _Atomic int64_t count; /* spans complete; released after each store */
    _Atomic int64_t lost;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct track *tracks; /* newest first */
static int num_tracks;
static int64_t session_capacity; /* spans per thread */
static uint64_t session_start_ns;
static _Atomic uint64_t session; /* counts calls of mp_trace_start */
static _Atomic bool enabled;
static _Thread_local struct track *own;

/* The calling thread's track. Call with the lock held. */
static struct track *own_track(void)
{
    if (own == NULL) {
        own = mp_xcalloc(1, sizeof *own);
        own->id = ++num_tracks;
        own->next = tracks;
        tracks = own;
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
    atomic_store(&t->lost, 0);
    t->session = atomic_load(&session);
    pthread_mutex_unlock(&lock);
}

int mp_trace_start(int64_t capacity, struct mp_error *err)
{
    size_t bytes;
    if (capacity < 1 || !mp_size_mul((size_t)capacity, sizeof(struct span), &bytes)) {
        return mp_fail(err, MP_ERR_USAGE, "trace: room for %" PRId64 " spans, expected 1 or more",
                       capacity);
    }
    pthread_mutex_lock(&lock);
    session_capacity = capacity;
    session_start_ns = mp_clock_ns();
    atomic_fetch_add(&session, 1);
    atomic_store(&enabled, true);
    pthread_mutex_unlock(&lock);
    return MP_OK;
}

bool mp_trace_enabled(void)
{
    return atomic_load_explicit(&enabled, memory_order_relaxed);
}

void mp_trace_name_thread(const char *name)
{
    pthread_mutex_lock(&lock);
    struct track *t = own_track();
    free(t->name);
    t->name = mp_xstrdup(name);
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
    own->spans[count] = (struct span){*info, begin_ns, end_ns};
    atomic_store_explicit(&own->count, count + 1, memory_order_release);
}

static void write_json_string(FILE *out, const char *s)
{
    fputc('"', out);
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') {
            fputc('\\', out);
        }
        if (c < 0x20) {
            fprintf(out, "\\u%04x", c);
        } else {
            fputc(c, out);
        }
    }
    fputc('"', out);
}

/* By begin; of two that begin together the longer one encloses the other and comes first. */
static int compare_spans(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    if (x->begin_ns != y->begin_ns) {
        return x->begin_ns < y->begin_ns ? -1 : 1;
    }
    return (x->end_ns < y->end_ns) - (x->end_ns > y->end_ns);
}

/* Nanoseconds as microseconds with three decimals: the format's unit, without rounding. */
static void write_us(FILE *out, const char *key, uint64_t ns)
{
    fprintf(out, ",\"%s\":%" PRIu64 ".%03" PRIu64, key, ns / 1000, ns % 1000);
}

static void write_argument(FILE *out, const char *key, int32_t value, const char **separator)
{
    if (value >= 0) {
        fprintf(out, "%s\"%s\":%" PRId32, *separator, key, value);
        *separator = ",";
    }
}

static void write_span(FILE *out, int track, const struct span *s)
{
    /* Time 0 is the start of the recording; a span under way then is cut. */
    uint64_t begin = s->begin_ns > session_start_ns ? s->begin_ns : session_start_ns;
    uint64_t end = s->end_ns > begin ? s->end_ns : begin;
    fputs(",\n{\"ph\":\"X\",\"name\":", out);
    write_json_string(out, s->info.op);
    fprintf(out, ",\"pid\":1,\"tid\":%d", track);
    write_us(out, "ts", begin - session_start_ns);
    write_us(out, "dur", end - begin);
    fputs(",\"args\":{", out);
    const char *separator = "";
    write_argument(out, "layer", s->info.layer, &separator);
    write_argument(out, "request", s->info.request, &separator);
    write_argument(out, "chunk", s->info.chunk, &separator);
    fputs("}}", out);
}

/* Returns the number of spans the track lost. */
static int64_t write_track(FILE *out, struct track *t)
{
    int64_t count = atomic_load_explicit(&t->count, memory_order_acquire);
    int64_t lost = atomic_load(&t->lost);
    char unnamed[32];
    snprintf(unnamed, sizeof unnamed, "thread %d", t->id);

    fprintf(out, ",\n{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":1,\"tid\":%d", t->id);
    fputs(",\"args\":{\"name\":", out);
    write_json_string(out, t->name != NULL ? t->name : unnamed);
    fprintf(out, ",\"lost_spans\":%" PRId64 "}}", lost);

    if (count > 0) {
        qsort(t->spans, (size_t)count, sizeof *t->spans, compare_spans);
    }
    for (int64_t i = 0; i < count; i++) {
        write_span(out, t->id, &t->spans[i]);
    }
    return lost;
}

static int64_t write_events(FILE *out)
{
    fputs(
        "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n"
        "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":1,\"args\":{\"name\":\"magicpig-pipe\"}}",
        out);
    int64_t lost = 0;
    for (struct track *t = tracks; t != NULL; t = t->next) {
        if (t->session == atomic_load(&session)) {
            lost += write_track(out, t);
        }
    }
    fprintf(out, "\n],\"otherData\":{\"lost_spans\":%" PRId64 "}}\n", lost);
    return lost;
}

int mp_trace_write(const char *path, struct mp_error *err)
{
    atomic_store(&enabled, false);
    FILE *out = fopen(path, "w");
    if (out == NULL) {
        return mp_fail(err, MP_ERR_IO, "%s: cannot write the trace: %s", path, strerror(errno));
    }
    pthread_mutex_lock(&lock);
    int64_t lost = write_events(out);
    pthread_mutex_unlock(&lock);

    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        return mp_fail(err, MP_ERR_IO, "%s: cannot write the trace: %s", path, strerror(errno));
    }
    if (lost > 0) {
        mp_log(MP_LOG_WARNING, "%s: %" PRId64 " spans did not fit the trace and are lost", path,
               lost);
    }
    return MP_OK;
}
