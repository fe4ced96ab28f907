/* How tasks enter and leave their group. Private to codelets/common/task. */
#ifndef MP_CODELETS_COMMON_GROUP_H
#define MP_CODELETS_COMMON_GROUP_H

#include "codelets/common/task/task.h"

/* Before the task is submitted. */
void mp_task_group_enter(struct mp_task_group *g);

/* On a worker, when the task has ended; or if its submission failed. The group may be gone then. */
void mp_task_group_leave(struct mp_task_group *g);

#endif
