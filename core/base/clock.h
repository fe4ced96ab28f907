/* Monotonic time. */
#ifndef MP_CORE_CLOCK_H
#define MP_CORE_CLOCK_H

#include <stdint.h>

/* Nanoseconds on a monotonic clock; only differences mean something. */
uint64_t mp_clock_ns(void);
/* The same in seconds. */
double mp_clock_seconds(void);

#endif
