#include "codelets/common/task/codelet.h"

#include "codelets/common/task/task_end.h"
#include "core/trace/calibration.h"

#include <stdatomic.h>

static const struct mp_calibration *calibration;
static atomic_bool asked;

void mp_cost_use(const struct mp_calibration *c)
{
    calibration = c;
    atomic_store(&asked, false);
}

bool mp_cost_asked(void)
{
    return atomic_load(&asked);
}

struct mp_work mp_codelet_work(const struct starpu_codelet *codelet, const void *task_argument)
{
    return ((const struct mp_op_model *)codelet->model)->work(task_argument);
}

double mp_estimate_us(struct starpu_task *task, struct starpu_perfmodel_arch *arch, unsigned nimpl)
{
    (void)nimpl;
    atomic_store_explicit(&asked, true, memory_order_relaxed);
    bool gpu = arch->devices[0].type == STARPU_CUDA_WORKER;
    struct mp_work work = mp_codelet_work(task->cl, task->cl_arg);
    return 1e6 * mp_calibration_estimate(calibration, task->cl->name,
                                         gpu ? MP_TRACK_GPU : MP_TRACK_CPU, work.flops, work.bytes);
}

void mp_gpu_op_begin(const char *op)
{
    cuda_op_begin(op);
    const struct mp_task_end *end = starpu_task_get_current()->callback_arg;
    if (end->span != NULL) {
        cuda_op_measure(end->span);
    }
}

void mp_gpu_op_end(void)
{
    cuda_op_end();
#if MAGICPIG_CUDA
    if ((starpu_task_get_current()->cl->cuda_flags[0] & STARPU_CUDA_ASYNC) != 0) {
        cuda_op_signal(starpu_cuda_get_local_stream());
    }
#endif
}
