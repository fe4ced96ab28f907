/* Monotonic time. */
#ifndef MP_CORE_CLOCK_H
#define MP_CORE_CLOCK_H

#include <stdint.h>

/* Nanoseconds on a monotonic clock; only differences mean something. */
uint64_t mp_clock_ns(void);
/* The same in seconds. */
double mp_clock_seconds(void);

/* How the clock of another process compares with this one's. */
struct mp_clock_offset {
    int64_t offset_ns; /* what is added to its mp_clock_ns to get that of here */
    int64_t
        round_trip_ns; /* of the message that told it: the offset is off by half of it at most */
};

#endif
