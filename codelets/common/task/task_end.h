/* What happens when a task ends. Private to codelets/common/task. */
#ifndef MP_CODELETS_COMMON_TASK_END_H
#define MP_CODELETS_COMMON_TASK_END_H

#include "core/trace/trace.h"

#include <stdint.h>

/* What the trace knows of a task. */
struct mp_task_span {
    struct mp_span_info about;
    uint64_t begin_ns; /* of a CPU task, once it runs */
};

/* Of every task: the argument of its callback. */
struct mp_task_end {
    struct mp_task_group *group; /* NULL: none */
    struct mp_task_span *span;   /* NULL: it is not traced */
};

#endif
