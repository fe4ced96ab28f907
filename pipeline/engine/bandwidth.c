/* How fast this machine's memories are read, to hold times against. */
#include "codelets/memory_read/memory_read.h"
#include "codelets/random/random.h"
#include "core/base/clock.h"
#include "pipeline/engine/internal.h"
#include "pipeline/engine/recording.h"

/* Larger than any cache; small enough to pass through a plan's slack. */
static const size_t BLOCK_BYTES[MP_TRACK_KINDS] = {
    [MP_TRACK_CPU] = (size_t)1 << 30,
    [MP_TRACK_GPU] = (size_t)1 << 30,
};

enum { READS = 10 };

/* Reads the block once; *rate rises to the bytes/s of this time if they are more. */
static void time_read(struct mp_submit *sub, const struct mp_buffer *block,
                      const struct mp_buffer *sum, enum mp_track_kind kind, double *rate)
{
    struct mp_profile p = {0};
    uint64_t begin = mp_clock_ns();
    memory_read_insert(sub, block, sum);
    mp_task_group_wait(sub->group, 0);
    mp_profile_add(&p, begin, mp_clock_ns());
    double busy = mp_profile_typical(&p).busy[kind];
    if (busy > 0.0) {
        double now = (double)block->bytes / busy;
        *rate = now > *rate ? now : *rate;
    }
    mp_profile_free(&p);
}

static void time_reads(struct mp_submit *sub, const struct mp_buffer *block,
                       const struct mp_buffer *sum, enum mp_track_kind kind, double *rate)
{
    /* Pages nobody has written are all the same page. */
    struct random_part ones = {
        .dtype = MP_F32,
        .count = (int64_t)(block->bytes / sizeof(float)),
        .numbers = {.spread = 1.0f},
    };
    random_insert(sub, block, &ones);
    bool recording = mp_recording_is_on();
    mp_recording_on(true);
    for (int i = 0; i < READS && sub->code == 0; i++) {
        time_read(sub, block, sum, kind, rate);
    }
    mp_recording_on(recording);
}

static int measure(struct mp_device device, enum mp_track_kind kind, double *rate,
                   struct mp_error *err)
{
    struct mp_buffer block = {0};
    struct mp_buffer sum = {0};
    struct mp_allocator a = {.err = err};
    mp_buffer_create(&a, &block, mp_memory_of(device), BLOCK_BYTES[kind], "bandwidth measurement");
    mp_buffer_create(&a, &sum, MP_PINNED, sizeof(uint64_t), "its sum");
    if (a.code == 0) {
        struct mp_task_group *group = mp_task_group_create();
        struct mp_submit sub = mp_submit_begin(group, err);
        time_reads(&sub, &block, &sum, kind, rate);
        mp_task_group_destroy(group);
        a.code = sub.code;
    }
    mp_buffer_release(&block);
    mp_buffer_release(&sum);
    return a.code;
}

int mp_engine_bandwidth(const struct mp_engine *e, double bandwidth[MP_TRACK_KINDS],
                        struct mp_error *err)
{
    for (int i = 0; i < MP_TRACK_KINDS; i++) {
        bandwidth[i] = 0.0;
    }
    int code = measure((struct mp_device){MP_CPU, -1}, MP_TRACK_CPU, &bandwidth[MP_TRACK_CPU], err);
    if (code == 0 && mp_dense(e).kind == MP_GPU) {
        code = measure(mp_dense(e), MP_TRACK_GPU, &bandwidth[MP_TRACK_GPU], err);
    }
    return code;
}
