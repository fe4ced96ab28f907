/* Tasks of one owner, counted. */
#include "codelets/common/task/group.h"

#include "codelets/common/task/codelet.h"
#include "codelets/common/task/task_end.h"
#include "core/base/memory.h"

#include <pthread.h>
#include <starpu.h>
#include <stdatomic.h>
#include <stdlib.h>

struct mp_task_group {
    pthread_mutex_t lock;
    pthread_cond_t fewer; /* pending has come down to limit */
    int pending;          /* submitted and not finished */
    int limit;            /* that somebody waits for; -1: nobody does */
    atomic_bool cancelled;
};

struct mp_task_group *mp_task_group_create(void)
{
    struct mp_task_group *g = mp_xcalloc(1, sizeof *g);
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->fewer, NULL);
    g->limit = -1;
    return g;
}

void mp_task_group_destroy(struct mp_task_group *g)
{
    if (g == NULL) {
        return;
    }
    mp_task_group_wait(g, 0);
    pthread_cond_destroy(&g->fewer);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

int mp_task_group_pending(const struct mp_task_group *g)
{
    struct mp_task_group *counted =
        (struct mp_task_group *)g; /* the lock is no part of its value */
    pthread_mutex_lock(&counted->lock);
    int pending = g->pending;
    pthread_mutex_unlock(&counted->lock);
    return pending;
}

void mp_task_group_wait(struct mp_task_group *g, int limit)
{
    /* Some policies of StarPU hold tasks back until somebody waits. */
    starpu_do_schedule();
    pthread_mutex_lock(&g->lock);
    g->limit = limit;
    while (g->pending > limit) {
        pthread_cond_wait(&g->fewer, &g->lock);
    }
    g->limit = -1;
    pthread_mutex_unlock(&g->lock);
}

void mp_task_group_cancel(struct mp_task_group *g)
{
    atomic_store(&g->cancelled, true);
}

bool mp_task_is_cancelled(void)
{
    const struct starpu_task *task = starpu_task_get_current();
    const struct mp_task_end *end = task != NULL ? task->callback_arg : NULL;
    return end != NULL && end->group != NULL && atomic_load(&end->group->cancelled);
}

void mp_task_group_enter(struct mp_task_group *g)
{
    pthread_mutex_lock(&g->lock);
    g->pending++;
    pthread_mutex_unlock(&g->lock);
}

void mp_task_group_leave(struct mp_task_group *g)
{
    pthread_mutex_lock(&g->lock);
    g->pending--;
    if (g->pending <= g->limit) {
        pthread_cond_signal(&g->fewer);
    }
    /* Unlocked last: whoever waits may free the group then. */
    pthread_mutex_unlock(&g->lock);
}
