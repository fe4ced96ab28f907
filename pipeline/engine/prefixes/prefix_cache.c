/* The prompts that an engine has read and still knows. */
#include "core/base/log.h"
#include "core/base/memory.h"
#include "pipeline/engine/prefixes/kv_folder.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A shorter prefix is read faster than it is restored. */
enum { LEAST_TOKENS = 256 };

/* A file that a thread loads, so that nobody waits who need not. */
struct mp_loading {
    const struct mp_engine *engine;
    struct kv_file file;             /* path NULL: it has been waited for */
    struct mp_segment *segment;      /* in the list once it is loaded; a reference */
    int64_t coming[MP_PLAN_DEVICES]; /* its bytes within the budget, until then */
    pthread_t thread;
    bool threaded; /* false: there is no thread */
    atomic_bool ended;
    int code;
    struct mp_error err;
};

static const int64_t NOTHING[MP_PLAN_DEVICES];

bool mp_prefix_is_on(const struct mp_engine *e)
{
    int sparse = mp_sparse_layers(&e->graph.placements);
    return e->config->prefix_cache != 0 && !e->lends && e->base == NULL && e->num_ranks == 1 &&
           mp_engine_kept_layers(e) == sparse;
}

/* ---- what is common ---- */

/* Tokens at the end of a prompt that others cannot share: where a method selects, those of the
 * window stay in the static cache, which moves on. */
static int64_t unshared_tokens(const struct mp_engine *e)
{
    return mp_engine_kept_layers(e) > 0 ? e->graph.window : 0;
}

/* Tokens of a prompt [count] that are known if those of `known` [tokens] are: where a method
 * selects, whole granules behind the sink. The prompt's last token is always read: its logits are
 * wanted. */
static int64_t usable_tokens(const struct mp_engine *e, const int32_t *known, int64_t tokens,
                             const int32_t *ids, int64_t count)
{
    int64_t n = mp_common_tokens(known, tokens, ids, count - 1);
    int64_t offloaded = n - e->graph.sink;
    if (mp_engine_kept_layers(e) > 0) {
        n = offloaded > 0 ? e->graph.sink + offloaded / KV_GRANULE * KV_GRANULE : 0;
    }
    return n >= LEAST_TOKENS && n > e->graph.sink ? n : 0;
}

/* ---- keeping ---- */

static void withdraw(const struct mp_engine *e, struct mp_segment *s)
{
    struct mp_segment **at = &e->prefixes->first;
    while (*at != s) {
        at = &(*at)->next;
    }
    *at = s->next;
    mp_segment_unref(e, s);
}

/* The one that was used longest ago of those that can go; NULL: there is none. bytes gets what all
 * take that no request uses: with what is being written, restored or loaded, which cannot go now.
 */
static struct mp_segment *oldest_idle(const struct mp_engine *e, int64_t bytes[MP_PLAN_DEVICES])
{
    struct mp_segment *oldest = NULL;
    const struct mp_loading *l = e->prefixes->loading;
    memcpy(bytes, l != NULL ? l->coming : NOTHING, MP_PLAN_DEVICES * sizeof *bytes);
    for (struct mp_segment *s = e->prefixes->first; s != NULL; s = s->next) {
        if (s->refs > 1 + s->writing + s->restoring) {
            continue;
        }
        for (int d = 0; d < MP_PLAN_DEVICES; d++) {
            bytes[d] = mp_bytes_add(bytes[d], s->bytes[d]);
        }
        if (s->refs == 1 && (oldest == NULL || s->used < oldest->used)) {
            oldest = s;
        }
    }
    return oldest;
}

static bool is_writing(const struct mp_engine *e)
{
    bool writing = false;
    for (const struct mp_segment *s = e->prefixes->first; s != NULL; s = s->next) {
        writing = writing || s->writing;
    }
    return writing;
}

/* Whether `bytes` and `more`, on some device, are more than the budget. */
static bool exceeds(const struct mp_engine *e, const int64_t bytes[MP_PLAN_DEVICES],
                    const int64_t more[MP_PLAN_DEVICES])
{
    bool more_than = false;
    for (int d = 0; d < MP_PLAN_DEVICES; d++) {
        more_than = more_than || mp_bytes_add(bytes[d], more[d]) > e->prefixes->budget[d];
    }
    return more_than;
}

/* Another's prompt begins with all of it. */
static bool is_covered(const struct mp_segment *s)
{
    return s != NULL && s->used == 0;
}

/* Lets one go, or, if what could is being written to files, waits for these: then *waited is set,
 * as there are other files now. False: there is nothing to let go. */
static bool let_go(const struct mp_engine *e, struct mp_segment *oldest, bool *waited)
{
    if (oldest != NULL) {
        withdraw(e, oldest);
    } else if (is_writing(e)) {
        mp_kv_folder_collect(e->prefixes->folder, true);
        *waited = true;
    } else {
        return false;
    }
    return true;
}

/* What no request uses keeps to the budget, less what is to come; what is covered goes. Returns
 * whether files were waited for. */
static bool keep_to_budget(const struct mp_engine *e, const int64_t coming[MP_PLAN_DEVICES])
{
    bool waited = false;
    int64_t idle[MP_PLAN_DEVICES];
    struct mp_segment *oldest;
    do {
        oldest = oldest_idle(e, idle);
    } while ((is_covered(oldest) || exceeds(e, idle, coming)) && let_go(e, oldest, &waited));
    return waited;
}

static bool make_room(const void *engine)
{
    bool waited;
    int64_t idle[MP_PLAN_DEVICES];
    return let_go(engine, oldest_idle(engine, idle), &waited);
}

struct mp_allocator mp_request_allocator(const struct mp_engine *e, struct mp_error *err)
{
    const struct mp_engine *owner = e->whole != NULL ? e->whole : e;
    return (struct mp_allocator){.err = err, .make_room = make_room, .owner = owner};
}

/* Those whose whole prompt the new one begins with are of no more use, but to those who still use
 * them: these go once they can. */
static void withdraw_covered(const struct mp_engine *e, const struct mp_segment *by)
{
    struct mp_segment *next;
    for (struct mp_segment *s = e->prefixes->first; s != NULL; s = next) {
        next = s->next;
        if (s == by || mp_common_tokens(s->ids, s->tokens, by->ids, by->tokens) < s->tokens) {
            continue;
        }
        if (s->refs == 1) {
            withdraw(e, s);
        } else {
            s->used = 0;
        }
    }
}

/* Puts a segment that has no ids yet, of a prompt of so many tokens, into the list. */
static void enlist(const struct mp_engine *e, struct mp_segment *segment, const int32_t *ids,
                   int64_t tokens)
{
    mp_kv_count_held(e, segment->layers, segment->bytes);
    segment->tokens = tokens - unshared_tokens(e);
    segment->ids = mp_xcalloc((size_t)segment->tokens, sizeof *ids);
    memcpy(segment->ids, ids, (size_t)segment->tokens * sizeof *ids);
    segment->used = ++e->prefixes->uses;
    segment->next = e->prefixes->first;
    e->prefixes->first = segment;
    withdraw_covered(e, segment);
}

void mp_prefix_offer(const struct mp_engine *e, const struct mp_session *s,
                     struct mp_segment *segment, const int32_t *ids, int64_t tokens)
{
    int64_t known = tokens - unshared_tokens(e);
    if (segment->lender != NULL || known < LEAST_TOKENS || known <= e->graph.sink ||
        !mp_prefix_is_on(e) || mp_model_rope_varies(e->model)) {
        return;
    }
    segment->owner = s;
    mp_segment_ref(segment);
    enlist(e, segment, ids, tokens);
}

void mp_prefix_hold(const struct mp_prefix *p)
{
    if (p->segment != NULL) {
        mp_segment_ref(p->segment);
        p->segment->restoring += !p->shared;
    }
}

void mp_prefix_release(const struct mp_engine *e, const struct mp_prefix *p)
{
    if (p->segment != NULL) {
        p->segment->restoring -= !p->shared;
        mp_segment_unref(e, p->segment);
        keep_to_budget(e, NOTHING);
    }
}

void mp_prefix_retire(const struct mp_engine *e, struct mp_segment *segment)
{
    if (segment == NULL) {
        return;
    }
    segment->owner = NULL;
    mp_kv_count_held(e, segment->layers, segment->bytes); /* its caches may have grown */
    if (segment->ids != NULL && e->prefixes->folder != NULL) {
        mp_kv_folder_save(e->prefixes->folder, segment);
    }
    mp_segment_unref(e, segment);
    keep_to_budget(e, NOTHING);
}

/* ---- finding ---- */

int64_t mp_prefix_most_rest(const struct mp_engine *e)
{
    return e->graph.window + e->config->generation_budget;
}

/* None of it may leave the static cache for the lender's memory. */
int64_t mp_prefix_most_new(const struct mp_engine *e)
{
    bool grows = e->attention.method->extend != NULL && mp_engine_kept_layers(e) > 0;
    return grows ? e->config->generation_budget : INT64_MAX;
}

static bool shares(const struct mp_engine *e, int64_t rest, int64_t new_tokens)
{
    return rest <= mp_prefix_most_rest(e) && new_tokens <= mp_prefix_most_new(e);
}

static struct mp_prefix find_in_memory(const struct mp_engine *e, const struct mp_session *s,
                                       const int32_t *ids, int64_t count)
{
    struct mp_prefix best = {0};
    for (struct mp_segment *p = e->prefixes->first; p != NULL; p = p->next) {
        int64_t tokens =
            p->owner == NULL || p->owner == s ? usable_tokens(e, p->ids, p->tokens, ids, count) : 0;
        if (tokens > best.tokens) {
            best = (struct mp_prefix){.segment = p, .tokens = tokens};
        }
    }
    return best;
}

/* ---- files ---- */

static void *load(void *loading)
{
    struct mp_loading *l = loading;
    l->code = mp_kv_folder_read(l->engine->prefixes->folder, &l->file, l->segment->layers, &l->err);
    atomic_store(&l->ended, true);
    return NULL;
}

/* Takes over the file. Without memory that stays in the folder, for the next prompt: there may be
 * some by then. */
static void begin_load(const struct mp_engine *e, struct kv_file *file,
                       const int64_t coming[MP_PLAN_DEVICES])
{
    struct mp_error err;
    struct mp_segment *s = mp_segment_create(e);
    int64_t tokens = file->tokens + unshared_tokens(e);
    int code = 0;
    for (int l = 0; l < e->shape->num_hidden_layers && code == 0; l++) {
        code = mp_kv_create_layer(e, &s->layers[l], l, tokens, 0, &err);
    }
    if (code != 0) {
        mp_log(MP_LOG_WARNING, "%s: %s; the prompt is read anew", file->path, err.message);
        mp_segment_unref(e, s);
        kv_file_free(file);
        return;
    }
    struct mp_loading *l = mp_xcalloc(1, sizeof *l);
    *l = (struct mp_loading){.engine = e, .file = *file, .segment = s};
    memcpy(l->coming, coming, sizeof l->coming);
    e->prefixes->loading = l;
    l->threaded = pthread_create(&l->thread, NULL, load, l) == 0;
    if (!l->threaded) {
        load(l);
    }
}

/* Waits for what is being loaded, and puts it into the list, where it stays until end_load. */
static void finish_load(const struct mp_engine *e)
{
    struct mp_loading *l = e->prefixes->loading;
    if (l == NULL || l->file.path == NULL) {
        return;
    }
    if (l->threaded) {
        pthread_join(l->thread, NULL);
    }
    mp_kv_folder_note(e->prefixes->folder, &l->file, l->code, &l->err);
    memset(l->coming, 0, sizeof l->coming);
    if (l->code == 0) {
        mp_segment_ref(l->segment);
        enlist(e, l->segment, l->file.ids, l->file.tokens + unshared_tokens(e));
    }
    kv_file_free(&l->file);
}

static void end_load(const struct mp_engine *e)
{
    finish_load(e);
    if (e->prefixes->loading != NULL) {
        mp_segment_unref(e, e->prefixes->loading->segment);
        free(e->prefixes->loading);
        e->prefixes->loading = NULL;
    }
}

/* The file that has most of the prompt, if that is more than the `known` tokens, and if there can
 * be room for it: in place of the KV of the prompt's own request, or within the budget. coming gets
 * the bytes within the budget. *out: kv_file_free. */
static bool find_file(const struct mp_engine *e, const int32_t *ids, int64_t count,
                      int64_t new_tokens, int64_t known, struct kv_file *out,
                      int64_t coming[MP_PLAN_DEVICES])
{
    if (!mp_kv_folder_find(e->prefixes->folder, ids, count, out)) {
        return false;
    }
    int64_t own[MP_PLAN_DEVICES] = {0};
    int64_t tokens = usable_tokens(e, out->ids, out->tokens, ids, count);
    if (shares(e, count - tokens, new_tokens)) {
        mp_kv_count(e, e->prefixes->planned, 0, own);
    }
    mp_kv_count(e, out->tokens + unshared_tokens(e), 0, coming);
    for (int d = 0; d < MP_PLAN_DEVICES; d++) {
        coming[d] = coming[d] > own[d] ? coming[d] - own[d] : 0;
    }
    bool found = tokens > known && !exceeds(e, coming, NOTHING);
    if (!found) {
        kv_file_free(out);
    }
    return found;
}

/* Whether a file is to be loaded: that has begun then. */
static bool load_from_disk(const struct mp_engine *e, const int32_t *ids, int64_t count,
                           int64_t new_tokens, int64_t known)
{
    struct kv_file file;
    int64_t coming[MP_PLAN_DEVICES];
    bool found = find_file(e, ids, count, new_tokens, known, &file, coming);
    while (found && keep_to_budget(e, coming)) {
        kv_file_free(&file);
        found = find_file(e, ids, count, new_tokens, known, &file, coming);
    }
    if (found) {
        end_load(e); /* of another file, whose prompt has not come */
        begin_load(e, &file, coming);
    }
    return found && e->prefixes->loading != NULL;
}

bool mp_prefix_prepare(const struct mp_engine *e, const struct mp_session *s, const int32_t *ids,
                       int64_t count, int64_t new_tokens)
{
    struct mp_prefix_cache *p = e->prefixes;
    if (p->folder == NULL) {
        return true;
    }
    if (p->loading != NULL && !atomic_load(&p->loading->ended)) {
        return false;
    }
    finish_load(e);
    mp_kv_folder_collect(p->folder, false);
    return !load_from_disk(e, ids, count, new_tokens, find_in_memory(e, s, ids, count).tokens);
}

/* Whether there is room for one to be restored, beside those that are. */
static bool can_restore(const struct mp_engine *e, const struct mp_segment *segment)
{
    int64_t others[MP_PLAN_DEVICES] = {0};
    for (const struct mp_segment *s = e->prefixes->first; s != NULL; s = s->next) {
        for (int d = 0; d < MP_PLAN_DEVICES && s != segment && s->restoring > 0; d++) {
            others[d] = mp_bytes_add(others[d], s->bytes[d]);
        }
    }
    return !exceeds(e, others, segment->bytes);
}

struct mp_prefix mp_prefix_find(const struct mp_engine *e, const struct mp_session *s,
                                const int32_t *ids, int64_t count, int64_t new_tokens, bool files)
{
    const bool loads = files && e->prefixes->folder != NULL;
    if (loads) {
        finish_load(e);
        mp_kv_folder_collect(e->prefixes->folder, false);
        load_from_disk(e, ids, count, new_tokens, find_in_memory(e, s, ids, count).tokens);
        finish_load(e);
    }
    struct mp_prefix best = find_in_memory(e, s, ids, count);
    if (loads) {
        end_load(e);
    }
    best.shared = best.segment != NULL && shares(e, count - best.tokens, new_tokens);
    /* Two of them are in memory until the prompt has been read: the plan counts that. */
    if (best.segment != NULL && !best.shared && !can_restore(e, best.segment)) {
        best = (struct mp_prefix){0};
    }
    if (best.segment != NULL) {
        best.segment->used = ++e->prefixes->uses;
    }
    return best;
}

void mp_prefix_clear(const struct mp_engine *e)
{
    end_load(e);
    mp_kv_folder_close(e->prefixes->folder);
    e->prefixes->folder = NULL;
    while (e->prefixes->first != NULL) {
        withdraw(e, e->prefixes->first);
    }
}
