/* Writes a recording as Chrome trace events: https://ui.perfetto.dev draws them. */
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/trace/trace.h"
#include "core/trace/trace_recording.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A value rises or falls at a point in time. */
struct change {
    uint64_t ns;
    double by; /* > 0: something begins; < 0: it ends */
};

/* A counter derived from the spans: what is under way at each time. */
struct changes {
    struct change *at; /* [count] */
    size_t count;
    size_t room;
};

/* The state of one file being written. */
struct writer {
    FILE *out;
    uint64_t start_ns;
    int rank;                            /* the process being written */
    int num_tracks;                      /* written so far */
    struct changes rate[MP_TRACK_KINDS]; /* GB/s */
    struct changes queued;               /* tasks */
};

/* Order of the tracks on the screen, and the title of a kind's memory traffic. */
static const struct {
    int order;
    const char *rate; /* NULL: not derived */
} kinds[MP_TRACK_KINDS] = {
    [MP_TRACK_GPU] = {0, "GPU GB/s"},
    [MP_TRACK_CPU] = {1, "CPU GB/s"},
    [MP_TRACK_HOST] = {2, NULL},
};

/* ---- pieces of JSON ---- */

static void write_string(FILE *out, const char *s)
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

/* Nanoseconds as microseconds with three decimals: the format's unit, without rounding. */
static void write_us(FILE *out, const char *key, uint64_t ns)
{
    fprintf(out, ",\"%s\":%" PRIu64 ".%03" PRIu64, key, ns / 1000, ns % 1000);
}

static void write_index(FILE *out, const char *key, int32_t value, const char **separator)
{
    if (value >= 0) {
        fprintf(out, "%s\"%s\":%" PRId32, *separator, key, value);
        *separator = ",";
    }
}

static void write_amount(FILE *out, const char *key, double value, const char **separator)
{
    if (value > 0.0) {
        fprintf(out, "%s\"%s\":%.6g", *separator, key, value);
        *separator = ",";
    }
}

/* A rank is a process of the file. */
static int process_id(const struct writer *w)
{
    return 1 + w->rank;
}

/* Time 0 is the start of the recording; what was under way then is cut. */
static uint64_t since_start(const struct writer *w, uint64_t ns)
{
    return ns > w->start_ns ? ns - w->start_ns : 0;
}

/* ---- spans ---- */

static void write_span(const struct writer *w, int tid, const struct mp_span *s)
{
    uint64_t begin = since_start(w, s->begin_ns);
    uint64_t end = since_start(w, s->end_ns);
    fputs(",\n{\"ph\":\"X\",\"name\":", w->out);
    write_string(w->out, s->info.op);
    fprintf(w->out, ",\"pid\":%d,\"tid\":%d", process_id(w), tid);
    write_us(w->out, "ts", begin);
    write_us(w->out, "dur", end > begin ? end - begin : 0);
    fputs(",\"args\":{", w->out);
    const char *separator = "";
    write_index(w->out, "layer", s->info.layer, &separator);
    write_index(w->out, "request", s->info.request, &separator);
    write_index(w->out, "chunk", s->info.chunk, &separator);
    write_index(w->out, "micro_batch", s->info.micro_batch, &separator);
    write_amount(w->out, "gflop", 1e-9 * (double)s->info.flops, &separator);
    write_amount(w->out, "mbytes", 1e-6 * (double)s->info.bytes, &separator);
    fputs("}}", w->out);
}

static void add_change(struct changes *c, uint64_t ns, double by)
{
    if (c->count == c->room) {
        c->room = c->room == 0 ? 1024 : 2 * c->room;
        c->at = mp_xrealloc(c->at, c->room, sizeof *c->at);
    }
    c->at[c->count++] = (struct change){ns, by};
}

static void collect_changes(struct writer *w, enum mp_track_kind kind, const struct mp_span *s)
{
    if (kinds[kind].rate != NULL && s->info.bytes > 0.0f && s->end_ns > s->begin_ns) {
        /* Bytes per nanosecond are GB/s. */
        double rate = (double)s->info.bytes / (double)(s->end_ns - s->begin_ns);
        add_change(&w->rate[kind], since_start(w, s->begin_ns), rate);
        add_change(&w->rate[kind], since_start(w, s->end_ns), -rate);
    }
    if (s->info.submit_ns > 0) {
        add_change(&w->queued, since_start(w, s->info.submit_ns), 1.0);
        add_change(&w->queued, since_start(w, s->end_ns), -1.0);
    }
}

/* ---- counters ---- */

static void write_counter(const struct writer *w, const char *name, uint64_t ns, double value)
{
    fputs(",\n{\"ph\":\"C\",\"name\":", w->out);
    write_string(w->out, name);
    fprintf(w->out, ",\"pid\":%d", process_id(w));
    write_us(w->out, "ts", ns);
    fprintf(w->out, ",\"args\":{\"value\":%.9g}}", value);
}

static int compare_changes(const void *a, const void *b)
{
    const struct change *x = a, *y = b;
    return (x->ns > y->ns) - (x->ns < y->ns);
}

/* Writes the sum after each change; forgets the changes. */
static void write_changes(const struct writer *w, const char *name, struct changes *c)
{
    if (c->count > 0) {
        qsort(c->at, c->count, sizeof *c->at, compare_changes);
    }
    double sum = 0.0;
    int64_t under_way = 0;
    for (size_t i = 0; i < c->count; i++) {
        sum += c->at[i].by;
        under_way += c->at[i].by > 0.0 ? 1 : -1;
        if (i + 1 == c->count || c->at[i + 1].ns > c->at[i].ns) {
            if (under_way == 0) {
                sum = 0.0; /* rounding must not leave traffic where nothing runs */
            }
            write_counter(w, name, c->at[i].ns, sum);
        }
    }
    free(c->at);
    *c = (struct changes){0};
}

/* Those that were recorded, of this process. */
static void write_counters(const struct writer *w, const struct mp_recording *recording)
{
    for (int64_t i = 0; i < recording->num_counters; i++) {
        const struct mp_counter_sample *s = &recording->counters[i];
        write_counter(w, s->name, since_start(w, s->ns), s->value);
    }
}

/* ---- a process ---- */

static void begin_process(const struct writer *w)
{
    fprintf(w->out,
            ",\n{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":%d,"
            "\"args\":{\"name\":\"magicpig-pipe, rank %d\"}}",
            process_id(w), w->rank);
}

/* The counters that its spans tell. */
static void end_process(struct writer *w)
{
    for (int kind = 0; kind < MP_TRACK_KINDS; kind++) {
        write_changes(w, kinds[kind].rate, &w->rate[kind]);
    }
    write_changes(w, "tasks queued", &w->queued);
}

/* A track's title, its place among the tracks and its spans. */
static void write_track(void *arg, const struct mp_track *track)
{
    enum { TRACKS_OF_A_KIND = 1000 };
    struct writer *w = arg;
    int tid = ++w->num_tracks;
    if (track->rank != w->rank) {
        end_process(w);
        w->rank = track->rank;
        begin_process(w);
    }
    fprintf(w->out, ",\n{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":%d,\"tid\":%d",
            process_id(w), tid);
    fputs(",\"args\":{\"name\":", w->out);
    write_string(w->out, track->name);
    fprintf(w->out,
            "}},\n{\"ph\":\"M\",\"name\":\"thread_sort_index\",\"pid\":%d,\"tid\":%d,"
            "\"args\":{\"sort_index\":%d}}",
            process_id(w), tid, kinds[track->kind].order * TRACKS_OF_A_KIND + tid);
    for (int64_t i = 0; i < track->count; i++) {
        write_span(w, tid, &track->spans[i]);
        collect_changes(w, track->kind, &track->spans[i]);
    }
}

/* ---- the file ---- */

/* How the clocks of the other ranks compared, in microseconds. */
static void write_clocks(FILE *out, const struct mp_recording *recording)
{
    for (int i = 0; i < recording->num_added; i++) {
        const struct mp_added_recording *a = &recording->added[i];
        fprintf(out, "%s{\"rank\":%d,\"offset_us\":%.3f,\"round_trip_us\":%.3f}",
                i == 0 ? ",\"clocks\":[" : ",", a->rank, 1e-3 * (double)a->clock.offset_ns,
                1e-3 * (double)a->clock.round_trip_ns);
    }
    fputs(recording->num_added > 0 ? "]" : "", out);
}

static void write_events(FILE *out, const struct mp_recording *recording)
{
    struct writer w = {.out = out, .start_ns = recording->start_ns};
    fputs(
        "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n"
        "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":1,\"args\":{\"name\":\"magicpig-pipe\"}}",
        out);
    write_counters(&w, recording);
    mp_trace_each(write_track, &w);
    end_process(&w);
    fprintf(out, "\n],\"otherData\":{\"lost_spans\":%" PRId64, recording->lost);
    write_clocks(out, recording);
    fputs("}}\n", out);
}

int mp_trace_write(const char *path, struct mp_error *err)
{
    struct mp_recording recording = mp_trace_stop();
    struct mp_new_file file;
    int code = mp_new_file_open(&file, path, err);
    if (code == MP_OK) {
        write_events(file.out, &recording);
        code = mp_new_file_close(&file, MP_OK, err);
    }
    if (code != MP_OK) {
        return code;
    }
    if (recording.lost > 0) {
        mp_log(MP_LOG_WARNING, "%s: %" PRId64 " spans did not fit the trace and are lost", path,
               recording.lost);
    }
    return MP_OK;
}
