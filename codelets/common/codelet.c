#include "codelets/common/codelet.h"

/* What a worker can do: floating-point operations and bytes a second. */
struct rates {
    double flops;
    double bytes;
};

/* Defaults of the order of one desktop core; the runtime sets what its team can do. */
static struct rates cpu = {.flops = 50e9, .bytes = 10e9};

/* Of the order of a data-centre card: model-based policies need ratios, not absolutes. */
static const struct rates gpu = {.flops = 400e12, .bytes = 2.5e12};

void mp_cost_set_cpu_rates(double flops_per_second, double bytes_per_second)
{
    cpu = (struct rates){.flops = flops_per_second, .bytes = bytes_per_second};
}

struct mp_work mp_codelet_work(const struct starpu_codelet *codelet, const void *task_argument)
{
    return ((const struct mp_op_model *)codelet->model)->work(task_argument);
}

/* The slower of two bounds: arithmetic and memory. */
double mp_estimate_us(struct starpu_task *task, struct starpu_perfmodel_arch *arch, unsigned nimpl)
{
    (void)nimpl;
    const struct rates *rates = arch->devices[0].type == STARPU_CUDA_WORKER ? &gpu : &cpu;
    struct mp_work work = mp_codelet_work(task->cl, task->cl_arg);
    double compute = work.flops / rates->flops;
    double memory = work.bytes / rates->bytes;
    return 1e6 * (compute > memory ? compute : memory);
}

void mp_gpu_op_begin(const char *op)
{
    cuda_op_begin(op);
    /* Only a task that is traced has a callback, whose argument is to be told when the op ran. */
    const struct starpu_task *task = starpu_task_get_current();
    if (task->callback_func != NULL) {
        cuda_op_measure(task->callback_arg);
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
