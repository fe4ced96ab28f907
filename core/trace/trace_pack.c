/* A recording as bytes, for another process of the same program: the names of its ops, then its
 * tracks. */
#include "core/base/memory.h"
#include "core/trace/trace.h"
#include "core/trace/trace_recording.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Followed by the ops' names, each with its NUL, and the tracks. */
struct packed_recording {
    int64_t lost;
    size_t num_ops;
    size_t num_tracks;
};

/* Followed by its name with its NUL, and its spans, whose ops are indexes. */
struct packed_track {
    int64_t count;
    enum mp_track_kind kind;
};

/* ---- packing ---- */

struct packing {
    FILE *out;
    const char **ops; /* [num_ops] */
    size_t num_ops;
    size_t num_tracks;
};

static size_t op_index(struct packing *p, const char *op)
{
    size_t i = 0;
    while (i < p->num_ops && strcmp(p->ops[i], op) != 0) {
        i++;
    }
    if (i == p->num_ops) {
        p->ops = mp_xrealloc(p->ops, ++p->num_ops, sizeof *p->ops);
        p->ops[i] = op;
    }
    return i;
}

static void count_track(void *arg, const struct mp_track *track)
{
    struct packing *p = arg;
    p->num_tracks++;
    for (int64_t i = 0; i < track->count; i++) {
        op_index(p, track->spans[i].info.op);
    }
}

static void pack_track(void *arg, const struct mp_track *track)
{
    struct packing *p = arg;
    const struct packed_track head = {.count = track->count, .kind = track->kind};
    fwrite(&head, sizeof head, 1, p->out);
    fwrite(track->name, strlen(track->name) + 1, 1, p->out);
    for (int64_t i = 0; i < track->count; i++) {
        struct mp_span span = track->spans[i];
        span.info.op = (const char *)op_index(p, span.info.op);
        fwrite(&span, sizeof span, 1, p->out);
    }
}

char *mp_trace_pack(size_t *bytes)
{
    char *data;
    struct packing p = {0};
    struct mp_recording recording = mp_trace_stop();
    mp_trace_each(count_track, &p);
    const struct packed_recording head = {recording.lost, p.num_ops, p.num_tracks};
    p.out = mp_xstream_open(&data, bytes);
    fwrite(&head, sizeof head, 1, p.out);
    for (size_t i = 0; i < p.num_ops; i++) {
        fwrite(p.ops[i], strlen(p.ops[i]) + 1, 1, p.out);
    }
    mp_trace_each(pack_track, &p);
    mp_xstream_close(p.out);
    free(p.ops);
    return data;
}

/* ---- unpacking ---- */

static void take_bytes(const char **at, void *out, size_t bytes)
{
    memcpy(out, *at, bytes);
    *at += bytes;
}

/* A copy that stays as long as the tracks do. */
static char *take_text(const char **at)
{
    char *text = mp_xstrdup(*at);
    *at += strlen(text) + 1;
    return text;
}

static void take_track(const char **at, int rank, const struct mp_clock_offset *clock,
                       char *const *ops)
{
    struct packed_track head;
    take_bytes(at, &head, sizeof head);
    char *name = take_text(at);
    struct mp_span *spans = mp_xcalloc((size_t)head.count, sizeof *spans);
    take_bytes(at, spans, (size_t)head.count * sizeof *spans);
    for (int64_t i = 0; i < head.count; i++) {
        /* Both clocks count from somewhere: what is later than that here stays above 0. */
        spans[i].info.op = ops[(size_t)spans[i].info.op];
        spans[i].begin_ns += (uint64_t)clock->offset_ns;
        spans[i].end_ns += (uint64_t)clock->offset_ns;
        if (spans[i].info.submit_ns > 0) {
            spans[i].info.submit_ns += (uint64_t)clock->offset_ns;
        }
    }
    mp_trace_adopt(rank, name, head.kind, spans, head.count);
}

void mp_trace_add(int rank, const struct mp_clock_offset *clock, const char *data)
{
    struct packed_recording head;
    take_bytes(&data, &head, sizeof head);
    char **ops = mp_xcalloc(head.num_ops, sizeof *ops);
    for (size_t i = 0; i < head.num_ops; i++) {
        ops[i] = take_text(&data);
    }
    for (size_t i = 0; i < head.num_tracks; i++) {
        take_track(&data, rank, clock, ops);
    }
    free(ops);
    mp_trace_note(rank, clock, head.lost);
}
