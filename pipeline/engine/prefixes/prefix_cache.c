/* The prompts that an engine has read and still knows. */
#include "core/base/log.h"
#include "core/base/memory.h"
#include "pipeline/engine/prefixes/kv_folder.h"

#include <stdlib.h>
#include <string.h>

/* A shorter prefix is read faster than it is restored. */
enum { LEAST_TOKENS = 256 };

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

/* The one that was used longest ago of those that can go; NULL: there is none. *bytes gets what all
 * take that no request uses: with what is being written or restored, which cannot go now. */
static struct mp_segment *oldest_idle(const struct mp_engine *e, int64_t *bytes)
{
    struct mp_segment *oldest = NULL;
    *bytes = 0;
    for (struct mp_segment *s = e->prefixes->first; s != NULL; s = s->next) {
        if (s->refs > 1 + s->writing + s->restoring) {
            continue;
        }
        *bytes = mp_bytes_add(*bytes, s->bytes);
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

/* What no request uses keeps to the budget, less what is to come. What is being written to a file
 * is waited for where nothing else can go: returns whether it was, so that there are other files
 * now. */
static bool keep_to_budget(const struct mp_engine *e, int64_t coming)
{
    bool waited = false;
    for (;;) {
        int64_t bytes;
        struct mp_segment *oldest = oldest_idle(e, &bytes);
        if (bytes == 0 || mp_bytes_add(bytes, coming) <= e->prefixes->budget) {
            return waited;
        }
        if (oldest != NULL) {
            withdraw(e, oldest);
        } else if (is_writing(e)) {
            mp_kv_folder_collect(e->prefixes->folder, true);
            waited = true;
        } else {
            return waited;
        }
    }
}

/* Those whose whole prompt the new one begins with are of no more use, once their request is gone.
 */
static void withdraw_covered(const struct mp_engine *e, const struct mp_segment *by)
{
    struct mp_segment *next;
    for (struct mp_segment *s = e->prefixes->first; s != NULL; s = next) {
        next = s->next;
        if (s != by && s->owner == NULL &&
            mp_common_tokens(s->ids, s->tokens, by->ids, by->tokens) == s->tokens) {
            withdraw(e, s);
        }
    }
}

void mp_kv_count(const struct mp_engine *e, int64_t tokens, int64_t growth, int64_t *counted)
{
    struct mp_allocator counter = {.counted = counted};
    memset(counted, 0, MP_MEMORIES * sizeof *counted);
    for (int l = 0; l < e->shape->num_hidden_layers; l++) {
        struct mp_layer_kv kv = {0};
        mp_kv_create_static(e, &counter, &kv, l, tokens, growth);
        mp_kv_create_offloaded(e, &counter, &kv, l, tokens, growth);
        mp_kv_create_index(e, &counter, &kv, l);
        mp_kv_destroy_layer(e, &kv, l);
    }
}

/* Puts a segment that has no ids yet, of a prompt of so many tokens, into the list. */
static void enlist(const struct mp_engine *e, struct mp_segment *segment, const int32_t *ids,
                   int64_t tokens, int64_t bytes)
{
    segment->bytes = bytes;
    segment->tokens = tokens - unshared_tokens(e);
    segment->ids = mp_xcalloc((size_t)segment->tokens, sizeof *ids);
    memcpy(segment->ids, ids, (size_t)segment->tokens * sizeof *ids);
    segment->used = ++e->prefixes->uses;
    segment->next = e->prefixes->first;
    e->prefixes->first = segment;
    withdraw_covered(e, segment);
}

static int64_t bytes_of(const struct mp_engine *e, int64_t tokens, int64_t growth)
{
    int64_t counted[MP_MEMORIES];
    int64_t bytes = 0;
    mp_kv_count(e, tokens, growth, counted);
    for (int i = 0; i < MP_MEMORIES; i++) {
        bytes = mp_bytes_add(bytes, counted[i]);
    }
    return bytes;
}

void mp_prefix_offer(const struct mp_engine *e, const struct mp_session *s,
                     struct mp_segment *segment, const int32_t *ids, int64_t tokens, int64_t growth)
{
    int64_t known = tokens - unshared_tokens(e);
    if (segment->lender != NULL || known < LEAST_TOKENS || known <= e->graph.sink ||
        !mp_prefix_is_on(e) || mp_model_rope_varies(e->model)) {
        return;
    }
    segment->owner = s;
    mp_segment_ref(segment);
    enlist(e, segment, ids, tokens, bytes_of(e, tokens, growth));
}

void mp_prefix_hold(const struct mp_prefix *p)
{
    mp_segment_ref(p->segment);
    p->segment->restoring += !p->shared;
}

void mp_prefix_release(const struct mp_engine *e, const struct mp_prefix *p)
{
    if (p->segment != NULL) {
        p->segment->restoring -= !p->shared;
        mp_segment_unref(e, p->segment);
        keep_to_budget(e, 0);
    }
}

void mp_prefix_retire(const struct mp_engine *e, struct mp_segment *segment)
{
    if (segment == NULL) {
        return;
    }
    segment->owner = NULL;
    if (segment->ids != NULL && e->prefixes->folder != NULL) {
        mp_kv_folder_save(e->prefixes->folder, segment);
    }
    mp_segment_unref(e, segment);
    keep_to_budget(e, 0);
}

void mp_prefix_clear(const struct mp_engine *e)
{
    mp_kv_folder_close(e->prefixes->folder);
    e->prefixes->folder = NULL;
    while (e->prefixes->first != NULL) {
        withdraw(e, e->prefixes->first);
    }
}

/* ---- finding ---- */

/* In place if what follows the prefix fits a static cache of the planned size, and none of it will
 * leave that for the lender's memory. */
static bool shares(const struct mp_engine *e, int64_t rest, int64_t new_tokens)
{
    bool grows = e->attention.method->extend != NULL && mp_engine_kept_layers(e) > 0;
    return rest <= e->graph.window + e->config->generation_budget &&
           (!grows || new_tokens <= e->config->generation_budget);
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

/* Puts the segment of a file into the list; a warning, if the file or the memory is not what it
 * should be. */
static void load(const struct mp_engine *e, const struct kv_file *file, int64_t bytes)
{
    struct mp_error err;
    struct mp_segment *s = mp_segment_create(e);
    int64_t tokens = file->tokens + unshared_tokens(e);
    int code = 0;
    for (int l = 0; l < e->shape->num_hidden_layers && code == 0; l++) {
        code = mp_kv_create_layer(e, &s->layers[l], l, tokens, 0, &err);
    }
    if (code == 0) {
        code = mp_kv_folder_load(e->prefixes->folder, file, s->layers, &err);
    }
    if (code == 0) {
        enlist(e, s, file->ids, tokens, bytes);
    } else {
        mp_log(MP_LOG_WARNING, "%s; the prompt is read anew", err.message);
        mp_segment_unref(e, s);
    }
}

/* The file that has most of the prompt, if that is more than the `known` tokens, and if there can
 * be room for it: in place of the KV of the prompt's own request, or within the budget. *bytes gets
 * what it takes in memory, *coming of them those within the budget. */
static const struct kv_file *find_file(const struct mp_engine *e, const int32_t *ids, int64_t count,
                                       int64_t new_tokens, int64_t known, int64_t *bytes,
                                       int64_t *coming)
{
    const struct kv_file *file = mp_kv_folder_find(e->prefixes->folder, ids, count);
    int64_t tokens = file == NULL ? 0 : usable_tokens(e, file->ids, file->tokens, ids, count);
    if (tokens <= known) {
        return NULL;
    }
    bool in_place = shares(e, count - tokens, new_tokens);
    int64_t own = in_place ? bytes_of(e, e->prefixes->planned, 0) : 0;
    *bytes = bytes_of(e, file->tokens + unshared_tokens(e), 0);
    *coming = *bytes > own ? *bytes - own : 0;
    return *coming <= e->prefixes->budget ? file : NULL;
}

static void load_from_disk(const struct mp_engine *e, const int32_t *ids, int64_t count,
                           int64_t new_tokens, int64_t known)
{
    const struct kv_file *file;
    int64_t bytes;
    int64_t coming;
    do {
        file = find_file(e, ids, count, new_tokens, known, &bytes, &coming);
    } while (file != NULL && keep_to_budget(e, coming));
    if (file != NULL) {
        load(e, file, bytes);
    }
}

struct mp_prefix mp_prefix_find(const struct mp_engine *e, const struct mp_session *s,
                                const int32_t *ids, int64_t count, int64_t new_tokens)
{
    struct mp_prefix best = find_in_memory(e, s, ids, count);
    if (e->prefixes->folder != NULL) {
        mp_kv_folder_collect(e->prefixes->folder, false);
        load_from_disk(e, ids, count, new_tokens, best.tokens);
        best = find_in_memory(e, s, ids, count); /* anew: what was found may have made room */
    }
    best.shared = best.segment != NULL && shares(e, count - best.tokens, new_tokens);
    /* Two of them are in memory until the prompt has been read: the plan counts that. */
    if (best.segment != NULL && !best.shared && best.segment->bytes > e->prefixes->budget) {
        best = (struct mp_prefix){0};
    }
    if (best.segment != NULL) {
        best.segment->used = ++e->prefixes->uses;
    }
    return best;
}
