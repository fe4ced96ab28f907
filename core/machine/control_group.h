/* What the control groups of this process, such as a container's, grant it: versions 1 and 2, and
 * the least of all levels that can be seen, for a limit holds for everything below it.
 *
 * root stands before the paths of the kernel's files: "" for this machine; tests have others. */
#ifndef MP_CORE_CONTROL_GROUP_H
#define MP_CORE_CONTROL_GROUP_H

#include <stdint.h>

/* CPUs' worth of time, rounded up; 0: no quota. */
int mp_control_group_cpus(const char *root);

/* What is left of the limits on memory, in bytes; INT64_MAX: there is none. Cached files count as
 * used there, but make room when memory is asked for. */
int64_t mp_control_group_memory(const char *root);

/* The number after `key` (at the start of a line; "" for a file that is one number) in a file of
 * the kernel's; -1 if there is none. */
int64_t mp_kernel_number(const char *path, const char *key);

#endif
