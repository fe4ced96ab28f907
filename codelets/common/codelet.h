/* What every codelet file needs from StarPU: access to its buffers and its cost estimate.
 * Every handle of this project uses StarPU's variable interface: a pointer and a size. */
#ifndef MP_CODELETS_COMMON_CODELET_H
#define MP_CODELETS_COMMON_CODELET_H

#include <starpu.h>

/* Address of buffer i of a task on the node it runs on. */
#define MP_BUFFER(buffers, i) ((void *)STARPU_VARIABLE_GET_PTR((buffers)[i]))

/* Estimated run time in microseconds of work that does `flops` floating-point operations and moves
 * `bytes` through memory, on a worker of this architecture: the slower of the two bounds. */
double mp_cost_us(const struct starpu_perfmodel_arch *arch, double flops, double bytes);

/* Sets the rates behind mp_cost_us for one CPU worker. */
void mp_cost_set_cpu_rates(double flops_per_second, double bytes_per_second);

/* Fills the fields that all codelets share: the CPU implementation, a variable number of buffers
 * whose modes come with each task, and a performance model of that cost function.
 *   title: shown in traces and by StarPU's tools; rgb: 0xRRGGBB */
#define MP_CODELET(title, rgb, cpu_function, model_pointer)                                        \
    {                                                                                              \
        .cpu_funcs = {cpu_function}, .nbuffers = STARPU_VARIABLE_NBUFFERS, .where = STARPU_CPU,    \
        .name = (title), .color = (rgb), .model = (model_pointer)                                  \
    }
#define MP_COST_MODEL(title, function)                                                             \
    {                                                                                              \
        .type = STARPU_PER_ARCH, .arch_cost_function = (function), .symbol = (title)               \
    }

#endif
