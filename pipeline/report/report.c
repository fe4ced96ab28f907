#include "pipeline/report/report.h"

#include "core/base/memory.h"
#include "core/json/json.h"
#include "pipeline/report/embed.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A browser draws this many without effort, and a page of them has about 1 MB. */
enum { MAX_SPANS = 20000 };

/* report_page.html with its parts, NUL-terminated. */
extern const char mp_report_page[];

static const char *const kind_names[MP_TRACK_KINDS] = {
    [MP_TRACK_HOST] = "host",
    [MP_TRACK_CPU] = "cpu",
    [MP_TRACK_GPU] = "gpu",
};

/* ---- values ---- */

static void put_string(FILE *out, const char *text)
{
    char *quoted = mp_json_quote(text, strlen(text));
    mp_embed_put_json(out, quoted);
    free(quoted);
}

/* JSON has no NaN and no infinity. */
static void put_number(FILE *out, double value)
{
    if (isfinite(value)) {
        fprintf(out, "%.9g", value);
    } else {
        fputs("null", out);
    }
}

static void put_numbers(FILE *out, const char *key, const double *values, size_t count)
{
    fprintf(out, ",\n\"%s\":[", key);
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            fputc(',', out);
        }
        put_number(out, values[i]);
    }
    fputc(']', out);
}

static void put_text_member(FILE *out, const char *key, const char *text)
{
    fprintf(out, ",\n\"%s\":", key);
    put_string(out, text);
}

static void put_int_member(FILE *out, const char *key, int64_t value)
{
    fprintf(out, ",\n\"%s\":%" PRId64, key, value);
}

/* One number for each kind of track, by the kind's name. */
static void put_kinds_member(FILE *out, const char *key, const double *values)
{
    fprintf(out, ",\n\"%s\":{", key);
    for (int k = 0; k < MP_TRACK_KINDS; k++) {
        fprintf(out, "%s\"%s\":", k > 0 ? "," : "", kind_names[k]);
        put_number(out, values[k]);
    }
    fputc('}', out);
}

/* ---- what was measured ---- */

static void put_profile(FILE *out, const struct mp_profile *p)
{
    fputs(",\n\"seconds\":", out);
    put_number(out, p->seconds);
    struct mp_overlap typical = mp_profile_typical(p);
    fputs(",\n\"typical\":{\"seconds\":", out);
    put_number(out, typical.seconds);
    fputs(",\"both\":", out);
    put_number(out, typical.both);
    fputs(",\"idle\":", out);
    put_number(out, typical.idle);
    put_kinds_member(out, "busy", typical.busy);
    fputc('}', out);

    fputs(",\n\"ops\":[", out);
    for (size_t i = 0; i < p->num_ops; i++) {
        const struct mp_profile_op *op = &p->ops[i];
        fprintf(out, "%s\n{\"name\":", i > 0 ? "," : "");
        put_string(out, op->name);
        fprintf(out, ",\"kind\":\"%s\",\"calls\":%" PRId64 ",\"seconds\":", kind_names[op->kind],
                op->calls);
        put_number(out, op->seconds);
        fputs(",\"flops\":", out);
        put_number(out, op->flops);
        fputs(",\"bytes\":", out);
        put_number(out, op->bytes);
        fputc('}', out);
    }
    fputc(']', out);
}

/* ---- the timeline ---- */

struct timeline {
    FILE *out;
    uint64_t *begins; /* [num_spans] of all tracks, ascending once they are sorted */
    size_t num_spans;
    uint64_t origin_ns; /* spans that began before it are left out; time 0 of the page */
    const char **ops;   /* [num_ops] names that the written spans refer to by index */
    size_t num_ops;
    bool first_track;
};

static void collect_begins(void *arg, const struct mp_track *track)
{
    struct timeline *t = arg;
    size_t count = (size_t)track->count;
    t->begins = mp_xrealloc(t->begins, t->num_spans + count, sizeof *t->begins);
    for (size_t i = 0; i < count; i++) {
        t->begins[t->num_spans + i] = track->spans[i].begin_ns;
    }
    t->num_spans += count;
}

static int compare_ns(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Where the timeline begins: with the first span, or so late that no more than MAX_SPANS are left,
 * then with the first step from there on. */
static uint64_t find_origin(const struct timeline *t, const struct mp_report *r)
{
    if (t->num_spans == 0) {
        return 0;
    }
    if (t->num_spans <= MAX_SPANS) {
        return t->begins[0];
    }
    uint64_t origin = t->begins[t->num_spans - MAX_SPANS];
    for (size_t i = 0; i < r->num_steps; i++) {
        if (r->step_begin_ns[i] >= origin && r->step_begin_ns[i] <= t->begins[t->num_spans - 1]) {
            return r->step_begin_ns[i];
        }
    }
    return origin;
}

static size_t op_index(struct timeline *t, const char *name)
{
    for (size_t i = 0; i < t->num_ops; i++) {
        if (strcmp(t->ops[i], name) == 0) {
            return i;
        }
    }
    t->ops = mp_xrealloc(t->ops, t->num_ops + 1, sizeof *t->ops);
    t->ops[t->num_ops] = name;
    return t->num_ops++;
}

/* [op, begin, duration, layer, micro-batch, request, chunk, bytes, flops], times in nanoseconds. */
static void put_span(struct timeline *t, const struct mp_span *s)
{
    fprintf(t->out, "[%zu,%" PRIu64 ",%" PRIu64 ",%" PRId32 ",%" PRId32 ",%" PRId32 ",%" PRId32,
            op_index(t, s->info.op), s->begin_ns - t->origin_ns, s->end_ns - s->begin_ns,
            s->info.layer, s->info.micro_batch, s->info.request, s->info.chunk);
    fputc(',', t->out);
    put_number(t->out, s->info.bytes);
    fputc(',', t->out);
    put_number(t->out, s->info.flops);
    fputc(']', t->out);
}

static void put_track(void *arg, const struct mp_track *track)
{
    struct timeline *t = arg;
    fprintf(t->out, "%s\n{\"rank\":%d,\"kind\":\"%s\",\"name\":", t->first_track ? "" : ",",
            track->rank, kind_names[track->kind]);
    t->first_track = false;
    put_string(t->out, track->name);
    fputs(",\"spans\":[", t->out);
    bool first = true;
    for (int64_t i = 0; i < track->count; i++) {
        if (track->spans[i].begin_ns >= t->origin_ns) {
            fputs(first ? "\n" : ",\n", t->out);
            put_span(t, &track->spans[i]);
            first = false;
        }
    }
    fputs("]}", t->out);
}

/* [number, begin, end] of the steps that end on the timeline, times in nanoseconds. */
static void put_steps(const struct timeline *t, const struct mp_report *r)
{
    fputs(",\n\"timeline_steps\":[", t->out);
    bool first = true;
    for (size_t i = 0; i < r->num_steps; i++) {
        /* Submission comes before the first span, so the first step may begin before time 0. */
        int64_t begin = (int64_t)(r->step_begin_ns[i] - t->origin_ns);
        int64_t end = begin + llround(1e9 * r->step_seconds[i]);
        if (end > 0) {
            fprintf(t->out, "%s[%zu,%" PRId64 ",%" PRId64 "]", first ? "" : ",", i, begin, end);
            first = false;
        }
    }
    fputc(']', t->out);
}

static void put_timeline(FILE *out, const struct mp_report *r)
{
    struct timeline t = {.out = out, .first_track = true};
    mp_trace_each(collect_begins, &t);
    if (t.num_spans > 0) {
        qsort(t.begins, t.num_spans, sizeof *t.begins, compare_ns);
    }
    t.origin_ns = find_origin(&t, r);

    fprintf(out, ",\n\"recorded_spans\":%zu,\n\"tracks\":[", t.num_spans);
    mp_trace_each(put_track, &t);
    fputs("],\n\"span_ops\":[", out);
    for (size_t i = 0; i < t.num_ops; i++) {
        if (i > 0) {
            fputc(',', out);
        }
        put_string(out, t.ops[i]);
    }
    fputc(']', out);
    put_steps(&t, r);
    free(t.begins);
    free(t.ops);
}

/* ---- the page ---- */

static void put_data(FILE *out, const void *arg)
{
    const struct mp_report *r = arg;
    fputs("{\"version\":\"" MAGICPIG_VERSION "\"", out);
    put_text_member(out, "model", r->model);
    put_text_member(out, "runtime", r->runtime);
    put_text_member(out, "kernels", r->kernels);
    put_text_member(out, "command", r->command);
    put_int_member(out, "context", r->context);
    put_int_member(out, "batch", r->batch);
    put_int_member(out, "micro_batches", r->micro_batches);
    put_text_member(out, "attention", r->attention);
    fputs(",\n\"attention_settings\":", out);
    mp_embed_put_value(out, r->attention_settings);
    put_kinds_member(out, "bandwidth", r->bandwidth);
    put_profile(out, r->profile);
    put_numbers(out, "step_seconds", r->step_seconds, r->num_steps);
    put_numbers(out, "sampled", r->sampled, (size_t)r->num_layers);
    put_numbers(out, "attention_error", r->error, (size_t)r->num_layers);
    put_timeline(out, r);
    fputc('}', out);
}

int mp_report_write(const char *path, const struct mp_report *r, struct mp_error *err)
{
    return mp_embed_write(path, mp_report_page, put_data, r, err);
}
