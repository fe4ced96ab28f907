/* Devices: what runs tasks and what has memory of its own. */
#ifndef MP_CORE_DEVICE_H
#define MP_CORE_DEVICE_H

#include <stdbool.h>

enum mp_device_kind {
    MP_CPU, /* a CPU worker with its team of threads */
    MP_GPU,
};

enum { MP_MAX_GPUS = 8 }; /* that one process uses */

struct mp_device {
    enum mp_device_kind kind;
    int index; /* CPU worker or GPU, from 0; -1: any of the kind */
};

static inline bool mp_same_device(struct mp_device a, struct mp_device b)
{
    return a.kind == b.kind && a.index == b.index;
}

#endif
