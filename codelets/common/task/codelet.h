/* What every codelet file needs from StarPU: access to its buffers, its CPU and CUDA functions and
 * an estimate of its work. Every handle of this project uses StarPU's variable interface: a pointer
 * and a size. */
#ifndef MP_CODELETS_COMMON_CODELET_H
#define MP_CODELETS_COMMON_CODELET_H

#include "codelets/common/cuda/cuda.h"
#include "codelets/common/task/task.h"

#include <starpu.h>
#include <stdbool.h>

struct mp_calibration; /* core/trace/calibration.h */

/* Address of buffer i of a task on the node it runs on. */
#define MP_BUFFER(buffers, i) ((void *)STARPU_VARIABLE_GET_PTR((buffers)[i]))

/* A CUDA kernel's entry point, or NULL in a program without CUDA: never called there. */
#if MAGICPIG_CUDA
#define MP_CUDA_KERNEL(function) function
/* What an op's *_cuda_workspace says; 0 in a program without CUDA, which then has no such function.
 */
#define MP_CUDA_WORKSPACE(call) (call)
/* Kinds of worker that run an op that has both variants. */
#define MP_WORKERS (STARPU_CPU | STARPU_CUDA)
#else
#define MP_CUDA_KERNEL(function) NULL
#define MP_CUDA_WORKSPACE(call) (0 * sizeof(call))
#define MP_WORKERS STARPU_CPU
#endif

/* What a task does, wherever it runs. Memory counts what must be read and written, each once:
 * inputs and outputs of float32, weights, keys and values of 16 bits. */
struct mp_work {
    double flops; /* floating-point operations */
    double bytes; /* through memory */
};

/* The model behind a codelet's estimates of run time. */
struct mp_op_model {
    struct starpu_perfmodel starpu; /* the first field: StarPU knows the model as this */
    struct mp_work (*work)(const void *task_argument);
};

/* The work of a task of this codelet, given its argument with everything filled in. */
struct mp_work mp_codelet_work(const struct starpu_codelet *codelet, const void *task_argument);

/* Of every op's model: estimated run time in microseconds of a task on a worker of this
 * architecture. */
double mp_estimate_us(struct starpu_task *task, struct starpu_perfmodel_arch *arch, unsigned nimpl);

/* Sets the rates behind the estimates, before the first task; *c lives until after the last one. */
void mp_cost_use(const struct mp_calibration *c);

/* Whether an estimate was asked for since then: a policy without models never does. */
bool mp_cost_asked(void);

/* cuda_op_begin and cuda_op_end for the task that the calling GPU worker is running. Kernels run in
 * a stream of ours; StarPU watches its own, which waits for ours if the task's codelet says that it
 * is asynchronous (STARPU_CUDA_ASYNC). Otherwise the task is done for StarPU once it is enqueued.
 */
void mp_gpu_op_begin(const char *op);
void mp_gpu_op_end(void);

/* Whether the task that the calling CPU worker is to run is one of a group that was cancelled. */
bool mp_task_is_cancelled(void);

/* Defines the codelet's functions <op>_cpu and <op>_gpu from
 *   static void <op>_run(void *buffers[], const struct <op>_task *t, <kernel type> *kernel)
 * which unpacks a task's buffers and calls the kernel, the same for every worker. cuda_kernel NULL:
 * the op has no CUDA variant, and its tasks are only sent to CPU workers. */
#define MP_OP_FUNCTIONS(op, cpu_kernel, cuda_kernel)                                               \
    static void op##_cpu(void *buffers[], void *cl_arg)                                            \
    {                                                                                              \
        if (!mp_task_is_cancelled()) {                                                             \
            op##_run(buffers, cl_arg, cpu_kernel);                                                 \
        }                                                                                          \
    }                                                                                              \
    static void op##_gpu(void *buffers[], void *cl_arg)                                            \
    {                                                                                              \
        mp_gpu_op_begin(#op);                                                                      \
        op##_run(buffers, cl_arg, cuda_kernel);                                                    \
        mp_gpu_op_end();                                                                           \
    }

/* The codelet of an op: <op>_cpu and <op>_gpu, which enqueues on the thread's stream, a variable
 * number of buffers whose modes come with each task, and estimates from
 *   static struct mp_work <op>_work(const void *task_argument)
 * rgb: 0xRRGGBB in traces and StarPU's tools
 * workers: MP_WORKERS, or STARPU_CPU for an op without a CUDA variant */
#define MP_CODELET(op, rgb, workers)                                                               \
    {                                                                                              \
        .cpu_funcs = {op##_cpu}, .cuda_funcs = {op##_gpu}, .cuda_flags = {STARPU_CUDA_ASYNC},      \
        .nbuffers = STARPU_VARIABLE_NBUFFERS, .where = (workers), .name = #op, .color = (rgb),     \
        .model = &(struct mp_op_model)MP_OP_MODEL(op).starpu                                       \
    }
#define MP_OP_MODEL(op)                                                                            \
    {                                                                                              \
        {.type = STARPU_PER_ARCH, .arch_cost_function = mp_estimate_us, .symbol = #op}, op##_work  \
    }

#endif
