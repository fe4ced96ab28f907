/* The exact prefill of a prompt: chunks, staging, submission unit by unit, logits. */
#include "core/base/memory.h"
#include "pipeline/engine/prefixes/segment.h"

#include <stdlib.h>
#include <string.h>

enum {
    TASKS_PER_UNIT = 4,
    TASKS_TO_KEEP = 3, /* a layer and shard: offload and the index */
};

struct mp_prefill_run {
    const struct mp_engine *engine;
    struct mp_prefill_options options;
    struct mp_prefix prefix;          /* that is not read; a reference to its segment */
    struct mp_prefill p[MP_MAX_GPUS]; /* [parts] */
    struct mp_prefill_parts parts;    /* of p */
    struct mp_prefill_room *room;     /* [parts] */
    struct mp_task_group *group;
    int unit;     /* the next one */
    int64_t lead; /* rows, each in one layer, that have been read of it, less those of prompts that
                     it has let in; below 0 it lets in no others */
    bool shown; /* progress is reported, in prompt tokens: each counts once all layers have read it
                 */
};

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void report(const struct mp_prefill_run *r, int64_t done)
{
    if (r->options.read_tokens != NULL && done > *r->options.read_tokens) {
        *r->options.read_tokens = done;
    }
    if (r->shown) {
        mp_engine_progress(r->engine, "reading the prompt", "tok", done, r->p[0].keep.tokens);
    }
}

/* ---- buffers ---- */

/* Where a staging area is: with the layers that use it. */
static struct mp_place area_place(const struct mp_engine *e, const struct mp_prefill_room *room,
                                  int area)
{
    const struct mp_placements *at = &e->graph.placements;
    return mp_memory_of(room->num_areas == at->num_layers ? at->layers[area].dense
                                                          : at->devices[0]);
}

/* A part of every area: a prefix's or a chunk's. */
static struct mp_staging *wrap_areas(struct mp_allocator *a, const struct mp_prefill *p)
{
    struct mp_staging *parts = mp_xcalloc((size_t)p->num_areas, sizeof *parts);
    for (int i = 0; i < p->num_areas; i++) {
        parts[i].cache = p->areas[i];
        mp_buffer_wrap(a, &parts[i].buffer, MP_HOST, &parts[i].cache, sizeof parts[i].cache);
    }
    return parts;
}

static void release_areas(const struct mp_prefill *p, struct mp_staging *parts)
{
    for (int i = 0; parts != NULL && i < p->num_areas; i++) {
        mp_buffer_release(&parts[i].buffer);
    }
    free(parts);
}

static void create_chunk(const struct mp_engine *e, struct mp_allocator *a,
                         struct mp_prefill_chunk *chunk)
{
    const struct mp_placements *p = &e->graph.placements;
    size_t rows = (size_t)chunk->rows;
    if (e->part == 0) {
        mp_buffer_create(a, &chunk->ids, MP_PINNED, rows * sizeof(int32_t), "prompt ids");
    }
    chunk->x = mp_xcalloc((size_t)p->num_devices, sizeof *chunk->x);
    for (int d = 0; d < p->num_devices; d++) {
        mp_buffer_create(a, &chunk->x[d], mp_memory_of(p->devices[d]),
                         rows * (size_t)e->shape->hidden_size * sizeof(float),
                         "prefill residual stream");
    }
}

static void create_activations(const struct mp_engine *e, struct mp_allocator *a,
                               struct mp_prefill_room *room)
{
    const struct mp_placements *at = &e->graph.placements;
    const size_t bytes = (size_t)room->rows * (size_t)mp_shape_q_width(e->shape) * sizeof(float);
    const size_t stream = (size_t)room->rows * (size_t)e->shape->hidden_size * sizeof(float);
    room->activations = mp_xcalloc((size_t)at->num_devices, sizeof *room->activations);
    for (int d = 0; d < at->num_devices; d++) {
        struct mp_place place = mp_memory_of(at->devices[d]);
        for (int i = 0; i < room->chunks_at_once; i++) {
            mp_buffer_create(a, &room->activations[d].q[i], place, bytes, "prefill queries");
            mp_buffer_create(a, &room->activations[d].o[i], place, bytes, "prefill attention");
            if (e->graph.part) {
                mp_buffer_create(a, &room->activations[d].y[i], place, stream,
                                 "prefill residual stream");
            }
        }
    }
}

void mp_prefill_room_create(const struct mp_engine *e, struct mp_allocator *a,
                            struct mp_prefill_room *room, int64_t tokens, int64_t rows)
{
    const bool several = e->graph.placements.num_devices > 1;
    *room = (struct mp_prefill_room){
        .num_areas = several ? e->shape->num_hidden_layers : 2,
        .chunks_at_once = several ? 1 : 2,
        .rows = rows,
        .users = 1,
    };
    room->areas = mp_xcalloc((size_t)room->num_areas, sizeof *room->areas);
    for (int i = 0; i < room->num_areas; i++) {
        mp_kv_cache_create(e, a, area_place(e, room, i), &room->areas[i], tokens, false);
    }
    create_activations(e, a, room);
}

void mp_prefill_room_destroy(const struct mp_engine *e, struct mp_prefill_room *room)
{
    for (int d = 0; d < e->graph.placements.num_devices; d++) {
        for (int i = 0; i < room->chunks_at_once; i++) {
            mp_buffer_release(&room->activations[d].q[i]);
            mp_buffer_release(&room->activations[d].o[i]);
            mp_buffer_release(&room->activations[d].y[i]);
        }
    }
    free(room->activations);
    for (int i = 0; i < room->num_areas; i++) {
        mp_kv_cache_destroy(area_place(e, room, i), &room->areas[i]);
    }
    free(room->areas);
}

void mp_prefill_create_buffers(const struct mp_engine *e, struct mp_allocator *a,
                               struct mp_prefill *p, const struct mp_prefill_room *room,
                               int64_t count, bool indexes)
{
    int64_t chunk_size = e->config->chunk_size;
    int64_t read = count - p->prefix;
    p->keep.tokens = count;
    p->num_areas = room->num_areas;
    p->areas = room->areas;
    p->chunks_at_once = room->chunks_at_once;
    p->activations = room->activations;
    p->prefix_staging = wrap_areas(a, p);
    p->num_chunks = (int)((read + chunk_size - 1) / chunk_size);
    p->chunks = mp_xcalloc((size_t)p->num_chunks, sizeof *p->chunks);
    for (int c = 0; c < p->num_chunks; c++) {
        p->chunks[c].first = p->prefix + c * chunk_size;
        p->chunks[c].rows = least(count - p->chunks[c].first, chunk_size);
        p->chunks[c].staging = wrap_areas(a, p);
        create_chunk(e, a, &p->chunks[c]);
    }
    if (indexes) {
        p->keep.scratch = mp_index_scratch_create(e, a, count - mp_static_tokens(&e->graph, count));
    }
}

void mp_prefill_destroy_buffers(const struct mp_engine *e, struct mp_prefill *p)
{
    const int devices = e->graph.placements.num_devices;
    /* Buffers wait for their tasks when they are released. */
    for (int c = 0; c < p->num_chunks; c++) {
        struct mp_prefill_chunk *chunk = &p->chunks[c];
        mp_buffer_release(&chunk->ids);
        for (int d = 0; d < devices; d++) {
            mp_buffer_release(&chunk->x[d]);
        }
        free(chunk->x);
        release_areas(p, chunk->staging);
    }
    free(p->chunks);
    release_areas(p, p->prefix_staging);
    mp_index_scratch_destroy(e, p->keep.scratch);
}

/* ---- life ---- */

static void leave_room(struct mp_prefill_run *r)
{
    if (--r->room->users > 0) {
        return;
    }
    for (int i = 0; i < r->parts.count; i++) {
        mp_prefill_room_destroy(mp_part(r->engine, i), &r->room[i]);
    }
    free(r->room);
}

void mp_prefill_close(struct mp_prefill_run *r)
{
    if (r == NULL) {
        return;
    }
    mp_task_group_cancel(r->group); /* what is left of a prompt that is given up */
    for (int i = 0; i < r->parts.count; i++) {
        mp_prefill_destroy_buffers(mp_part(r->engine, i), &r->p[i]);
    }
    leave_room(r);
    mp_task_group_destroy(r->group);
    mp_prefix_release(r->engine, &r->prefix);
    report(r, -1);
    free(r);
}

static void fill_ids(struct mp_prefill_run *r)
{
    for (int c = 0; c < r->p[0].num_chunks; c++) {
        const struct mp_prefill_chunk *chunk = &r->p[0].chunks[c];
        memcpy(chunk->ids.data, r->options.ids + chunk->first, chunk->ids.bytes);
    }
}

static void take_prefix(struct mp_prefill_run *r)
{
    if (r->options.prefix == NULL || r->options.prefix->segment == NULL) {
        return;
    }
    r->prefix = *r->options.prefix;
    mp_prefix_hold(&r->prefix);
    for (int i = 0; i < r->parts.count; i++) {
        const struct mp_engine *part = mp_part(r->engine, i);
        r->p[i].prefix = r->prefix.tokens;
        r->p[i].kept = mp_part_layers(part, r->prefix.segment->layers);
        r->p[i].keep.shared = r->prefix.shared ? r->prefix.tokens : 0;
    }
}

/* What was staged in another's room has been kept once its tasks have run. */
static void enter_room(struct mp_prefill_run *r, struct mp_allocator *a)
{
    struct mp_prefill_run *other = r->options.interrupted;
    int64_t read = r->options.count - r->p[0].prefix;
    if (other == NULL) {
        r->room = mp_xcalloc((size_t)r->parts.count, sizeof *r->room);
        for (int i = 0; i < r->parts.count; i++) {
            mp_prefill_room_create(mp_part(r->engine, i), a, &r->room[i], r->options.count,
                                   least(read, r->engine->config->chunk_size));
        }
        return;
    }
    mp_task_group_wait(other->group, 0);
    r->room = other->room;
    r->room->users++;
    other->lead -= read * r->engine->shape->num_hidden_layers;
}

int mp_prefill_open(const struct mp_engine *e, const struct mp_prefill_options *options,
                    struct mp_prefill_run **out, struct mp_error *err)
{
    struct mp_prefill_run *r = mp_xcalloc(1, sizeof *r);
    struct mp_allocator a = mp_request_allocator(e, err);
    r->engine = e;
    r->options = *options;
    r->group = mp_task_group_create();
    r->parts.count = mp_num_parts(e);
    for (int i = 0; i < r->parts.count; i++) {
        const struct mp_engine *part = mp_part(e, i);
        r->parts.graphs[i] = &part->graph;
        r->parts.prefills[i] = &r->p[i];
        r->p[i] = (struct mp_prefill){
            .keep = {.request = options->request,
                     .kv = options->kv != NULL ? mp_part_layers(part, options->kv) : NULL},
            .rope = options->rope,
            .last_row_only = options->sink == NULL,
        };
    }
    take_prefix(r);
    enter_room(r, &a);
    for (int i = 0; i < r->parts.count; i++) {
        mp_prefill_create_buffers(mp_part(e, i), &a, &r->p[i], &r->room[i], options->count,
                                  options->kv != NULL && !r->prefix.shared);
    }
    if (a.code == 0) {
        struct mp_submit sub = mp_submit_begin(r->group, err);
        fill_ids(r);
        mp_submit_prefill_embed(&sub, &r->parts);
        a.code = sub.code;
    }
    if (a.code != 0) {
        mp_prefill_close(r);
        return a.code;
    }
    *out = r;
    return 0;
}

/* ---- units of work ---- */

/* Of a chunk and layer each. */
static int total_units(const struct mp_prefill_run *r)
{
    return r->engine->shape->num_hidden_layers * r->p[0].num_chunks;
}

int mp_prefill_units_left(const struct mp_prefill_run *r)
{
    return total_units(r) - r->unit;
}

/* On several devices chunk by chunk, so that one is in the layers of a device while the next one is
 * in those of the device before; else layer by layer. */
static bool goes_by_chunks(const struct mp_prefill_run *r)
{
    return r->engine->graph.placements.num_devices > 1;
}

int mp_prefill_units_to_end(const struct mp_prefill_run *r)
{
    return r->p[0].num_chunks - r->unit % r->p[0].num_chunks;
}

bool mp_prefill_is_between_layers(const struct mp_prefill_run *r)
{
    return r->unit % r->p[0].num_chunks == 0;
}

bool mp_prefill_lets_in(const struct mp_prefill_run *r, int64_t count, int64_t own)
{
    return r->lead >= 0 && !goes_by_chunks(r) && r->p[0].num_chunks > 1 &&
           count <= r->p[0].keep.tokens && own <= r->room->rows;
}

/* The KV is allocated layer by layer, while the devices work on what was submitted before: its
 * memory is touched, and locked for the GPU, in the time of tasks. */
static int keep_layer(struct mp_prefill_run *r, struct mp_submit *sub, int part, int layer,
                      struct mp_error *err)
{
    const struct mp_engine *e = mp_part(r->engine, part);
    struct mp_layer_kv *kv = &r->p[part].keep.kv[layer];
    int code = r->prefix.shared
                   ? mp_kv_share_layer(e, kv, &r->prefix, layer, r->options.count, err)
                   : mp_kv_create_layer(e, kv, layer, r->options.count, r->options.growth, err);
    if (code == 0) {
        mp_submit_prefill_keep(sub, &e->graph, &r->p[part], layer);
        code = sub->code;
    }
    return code;
}

int mp_prefill_submit(struct mp_prefill_run *r, struct mp_error *err)
{
    struct mp_submit sub = mp_submit_begin(r->group, err);
    const int layers = r->engine->shape->num_hidden_layers;
    const int chunks = r->p[0].num_chunks;
    int layer = goes_by_chunks(r) ? r->unit % layers : r->unit / chunks;
    int chunk = goes_by_chunks(r) ? r->unit / layers : r->unit % chunks;
    mp_submit_prefill_chunk(&sub, &r->parts, layer, chunk);
    int code = sub.code;
    r->lead += r->p[0].chunks[chunk].rows;
    r->unit++;
    bool keeps = chunk == chunks - 1 && r->options.kv != NULL;
    for (int i = 0; i < r->parts.count && keeps && code == 0; i++) {
        code = keep_layer(r, &sub, i, layer, err);
    }
    return code;
}

/* Reports what has run when at most `pending` tasks of this prompt have not. */
static void show_progress(struct mp_prefill_run *r, int pending)
{
    double units = r->unit - (double)pending / (TASKS_PER_UNIT * r->parts.count);
    double read =
        units > 0 ? units / total_units(r) * (double)(r->p[0].keep.tokens - r->p[0].prefix) : 0.0;
    report(r, r->p[0].prefix + (int64_t)read);
}

/* MP_ERR_INTERRUPTED once the engine is to stop, if the prompt is read by itself: its tasks that
 * have not begun then never do. */
static int check_stop(struct mp_prefill_run *r, struct mp_error *err)
{
    if (!r->shown || !mp_engine_stopped(r->engine)) {
        return 0;
    }
    mp_task_group_cancel(r->group);
    return mp_fail(err, MP_ERR_INTERRUPTED, "interrupted while reading the prompt");
}

/* Waits until at most `limit` tasks are left, reporting progress. */
static int wait_until(struct mp_prefill_run *r, int limit, struct mp_error *err)
{
    int pending;
    int code = 0;
    while (code == 0 && (pending = mp_task_group_pending(r->group)) > limit) {
        mp_task_group_wait(r->group, pending - 1);
        show_progress(r, pending - 1);
        code = check_stop(r, err);
    }
    return code;
}

/* Tasks that may be under way. So that StarPU's queues stay short, those of two layers; or of as
 * many chunks as keep every device busy, and one that is ready for the first. Without a GPU no
 * memory is locked between two layers: two units do, and another prompt is let in the sooner. */
static int most_ahead(const struct mp_prefill_run *r)
{
    const struct mp_placements *p = &r->engine->graph.placements;
    if (goes_by_chunks(r)) {
        return (p->num_devices + 1) * p->num_layers * (TASKS_PER_UNIT + TASKS_TO_KEEP);
    }
    int units = mp_dense(r->engine).kind == MP_GPU ? r->p[0].num_chunks : 1;
    return 2 * r->parts.count * (TASKS_PER_UNIT * units + TASKS_TO_KEEP);
}

int mp_prefill_submit_next(struct mp_prefill_run *r, struct mp_error *err)
{
    if (!r->shown) {
        r->shown = true;
        report(r, r->p[0].prefix);
    }
    int code = check_stop(r, err);
    if (code == 0) {
        code = mp_prefill_submit(r, err);
    }
    return code == 0 ? wait_until(r, most_ahead(r), err) : code;
}

void mp_prefill_wait(struct mp_prefill_run *r)
{
    mp_task_group_wait(r->group, 0);
    show_progress(r, 0);
}

int mp_prefill_catch_up(struct mp_prefill_run *r, struct mp_error *err)
{
    return wait_until(r, 0, err);
}

/* ---- logits ---- */

/* Some rows of a chunk, at most MP_LOGITS_ROWS, to the sink. */
static int sink_rows(struct mp_prefill_run *r, int chunk, struct mp_rows rows,
                     struct mp_buffer *logits, struct mp_error *err)
{
    struct mp_submit sub = mp_submit_begin(r->group, err);
    mp_submit_prefill_logits(&sub, r->parts.graphs[0], &r->p[0], chunk, rows, logits);
    int code = sub.code == 0 ? mp_buffer_acquire(logits, false, err) : sub.code;
    if (code == 0) {
        code = r->options.sink(r->options.sink_arg, logits->data, rows.count, err);
        mp_buffer_return(logits);
    }
    return code;
}

static int sink_logits(struct mp_prefill_run *r, struct mp_error *err)
{
    struct mp_buffer logits = {0};
    struct mp_allocator a = mp_request_allocator(r->engine, err);
    size_t row_bytes = (size_t)r->engine->shape->vocab_size * sizeof(float);
    mp_buffer_create(&a, &logits, MP_PINNED, MP_LOGITS_ROWS * row_bytes, "logits");
    int code = a.code;
    for (int c = 0; c < r->p[0].num_chunks && code == 0; c++) {
        int64_t rows = r->p[0].chunks[c].rows;
        for (int64_t row = 0; row < rows && code == 0; row += MP_LOGITS_ROWS) {
            struct mp_rows some = {row, least(rows - row, MP_LOGITS_ROWS)};
            code = mp_engine_stopped(r->engine)
                       ? mp_fail(err, MP_ERR_INTERRUPTED, "interrupted while computing logits")
                       : sink_rows(r, c, some, &logits, err);
        }
    }
    mp_buffer_release(&logits);
    return code;
}

int mp_prefill_finish(struct mp_prefill_run *r, struct mp_error *err)
{
    int code = wait_until(r, 0, err);
    if (code == 0 && r->options.sink != NULL) {
        code = sink_logits(r, err);
    }
    if (code == 0 && r->options.last_logits != NULL) {
        int last = r->p[0].num_chunks - 1;
        struct mp_rows row = {r->p[0].chunks[last].rows - 1, 1};
        struct mp_submit sub = mp_submit_begin(r->group, err);
        mp_submit_prefill_logits(&sub, r->parts.graphs[0], &r->p[0], last, row,
                                 r->options.last_logits);
        code = sub.code;
    }
    return code;
}
