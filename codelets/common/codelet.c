#include "codelets/common/codelet.h"

/* Defaults of the order of one desktop core; the runtime sets what its team can do. */
static double cpu_flops = 50e9;
static double cpu_bytes = 10e9;

void mp_cost_set_cpu_rates(double flops_per_second, double bytes_per_second)
{
    cpu_flops = flops_per_second;
    cpu_bytes = bytes_per_second;
}

double mp_cost_us(const struct starpu_perfmodel_arch *arch, double flops, double bytes)
{
    (void)arch; /* every worker is a CPU team so far */
    double compute = flops / cpu_flops;
    double memory = bytes / cpu_bytes;
    return 1e6 * (compute > memory ? compute : memory);
}
