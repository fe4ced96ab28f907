/* Which token of the prompt goes where. Private to the variants of offload. */
#ifndef MP_CODELETS_OFFLOAD_SLOT_H
#define MP_CODELETS_OFFLOAD_SLOT_H

#include "codelets/offload/offload.h"
#include "core/base/error.h"

#include <stdbool.h>

struct offload_slot {
    bool offloaded; /* to the offloaded set, or dropped; otherwise to the static cache */
    int64_t index;  /* token index there */
};

static inline int64_t offload_count(const struct offload_args *a)
{
    int64_t kept = a->sink + a->window;
    return a->tokens > kept ? a->tokens - kept : 0;
}

/* Tokens whose keys make the mean. */
static inline int64_t offload_mean_count(const struct offload_args *a)
{
    return a->center ? offload_count(a) : 0;
}

/* The caller has allocated for the tokens that there are, wherever they go. */
static inline void offload_check_count(const struct offload_args *a)
{
    const struct offloaded_kv *const to[] = {a->offloaded, a->keys};
    for (int i = 0; i < 2; i++) {
        if (to[i] != NULL && (to[i]->count != offload_count(a) || to[i]->count > to[i]->capacity)) {
            mp_panic("offload: %lld tokens are offloaded, but count is %lld and capacity %lld",
                     (long long)offload_count(a), (long long)to[i]->count,
                     (long long)to[i]->capacity);
        }
    }
}

static inline struct offload_slot offload_slot(const struct offload_args *a, int64_t token)
{
    int64_t count = offload_count(a);
    if (count == 0 || token < a->sink) {
        return (struct offload_slot){.offloaded = false, .index = token};
    }
    if (token < a->sink + count) {
        return (struct offload_slot){.offloaded = true, .index = token - a->sink};
    }
    return (struct offload_slot){.offloaded = false, .index = token - count};
}

#endif
