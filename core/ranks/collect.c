/* What the ranks hand in when a run has ended. */
#include "core/base/memory.h"
#include "core/ranks/thread.h"

#include <stdlib.h>

static void free_piece(void *arg)
{
    struct mp_piece *p = arg;
    free(p->data);
    free(p);
}

/* Bytes of the message that begins at `at`. */
static size_t part_at(const struct mp_piece *piece, size_t at)
{
    return piece->bytes - at < LARGEST ? piece->bytes - at : LARGEST;
}

/* Its size, then all of it, to rank 0 as soon as that takes them. */
static void hand_in(struct mp_ranks *r, const struct mp_piece *own)
{
    struct mp_piece *p = mp_xcalloc(1, sizeof *p); /* until it has been sent */
    struct mp_message *list = mp_xcalloc(2 + own->bytes / LARGEST, sizeof *list);
    int n = 0;
    *p = *own;
    list[n++] = (struct mp_message){&p->bytes, sizeof p->bytes, 0, COLLECT, true};
    for (size_t at = 0; at < p->bytes; at += LARGEST) {
        list[n++] = (struct mp_message){p->data + at, part_at(p, at), 0, COLLECT, true};
    }
    mp_ranks_add(r, list, n, free_piece, p, false);
    free(list);
}

static void take(struct mp_ranks *r, int rank, struct mp_piece *out)
{
    struct mp_message size = {&out->bytes, sizeof out->bytes, rank, COLLECT, false};
    mp_ranks_pass(r, &size, 1, NULL);
    out->data = mp_xmalloc(out->bytes);
    for (size_t at = 0; at < out->bytes; at += LARGEST) {
        struct mp_message part = {out->data + at, part_at(out, at), rank, COLLECT, false};
        mp_ranks_pass(r, &part, 1, NULL);
    }
}

void mp_ranks_collect(struct mp_ranks *r, const struct mp_piece *own, struct mp_piece *all)
{
    if (r->rank == 0) {
        mp_ranks_stop(r, true);
        for (int i = 1; i < r->count; i++) {
            take(r, i, &all[i]);
        }
        return;
    }
    mp_ranks_await_stop(r);
    if (r->collects) {
        hand_in(r, own);
    } else {
        free(own->data);
    }
}
