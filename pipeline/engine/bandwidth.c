/* How fast this machine's memories are read, to hold times against. */
#include "codelets/random/random.h"
#include "core/base/clock.h"
#include "pipeline/engine/internal.h"
#include "pipeline/engine/recording.h"
#include "tasks/draw.h"

/* Larger than any cache; small enough to pass through a plan's slack. */
static const size_t BLOCK_BYTES[MP_TRACK_KINDS] = {
    [MP_TRACK_CPU] = (size_t)1 << 30,
    [MP_TRACK_GPU] = (size_t)1 << 30,
};

enum { READS = 10 };

/* Reads the block once; *rate rises to the bytes/s of this time if they are more. */
static int time_read(const struct mp_buffer *block, const struct mp_buffer *sum,
                     enum mp_track_kind kind, double *rate, struct mp_error *err)
{
    struct mp_profile p = {0};
    uint64_t begin = mp_clock_ns();
    int code = mp_submit_memory_read(block, sum, err);
    int wait_code = mp_runtime_wait(code == 0 ? err : NULL);
    mp_profile_add(&p, begin, mp_clock_ns());
    double busy = mp_profile_typical(&p).busy[kind];
    if (busy > 0.0) {
        double now = (double)block->bytes / busy;
        *rate = now > *rate ? now : *rate;
    }
    mp_profile_free(&p);
    return code != 0 ? code : wait_code;
}

static int measure(enum mp_place place, enum mp_track_kind kind, double *rate, struct mp_error *err)
{
    struct mp_buffer block = {0};
    struct mp_buffer sum = {0};
    int code = mp_buffer_alloc(&block, place, BLOCK_BYTES[kind], "bandwidth measurement", err);
    if (code == 0) {
        code = mp_buffer_alloc(&sum, MP_PLACE_PINNED, sizeof(uint64_t), "its sum", err);
    }
    if (code == 0) {
        /* Pages nobody has written are all the same page. */
        code = mp_submit_random(&block,
                                &(struct random_task){
                                    .dtype = MP_F32,
                                    .count = (int64_t)(BLOCK_BYTES[kind] / sizeof(float)),
                                    .numbers = {.spread = 1.0f},
                                },
                                err);
    }
    bool recording = mp_recording_is_on();
    mp_recording_on(true);
    for (int i = 0; i < READS && code == 0; i++) {
        code = time_read(&block, &sum, kind, rate, err);
    }
    mp_recording_on(recording);
    mp_buffer_release(&block);
    mp_buffer_release(&sum);
    return code;
}

int mp_engine_bandwidth(const struct mp_engine *e, double bandwidth[MP_TRACK_KINDS],
                        struct mp_error *err)
{
    for (int i = 0; i < MP_TRACK_KINDS; i++) {
        bandwidth[i] = 0.0;
    }
    int code = measure(MP_PLACE_HOST, MP_TRACK_CPU, &bandwidth[MP_TRACK_CPU], err);
    if (code == 0 && e->graph.gpu) {
        code = measure(MP_PLACE_GPU, MP_TRACK_GPU, &bandwidth[MP_TRACK_GPU], err);
    }
    return code;
}
