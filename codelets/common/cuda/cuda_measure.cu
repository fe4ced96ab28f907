/* When ops ran on the GPU, without keeping them apart: a kernel that was launched overlapped notes
 * the GPU's clock itself, and what one op's end would say the next one's beginning does. Only where
 * the next work is no such kernel, or somebody waits for the stream, a kernel of its own notes it.
 *
 * The clocks of GPU and host are tied by an offset that every op corrects: no op begins before the
 * host enqueued it or ends after the host saw it finished. */
#include "codelets/common/cuda/launch_cuda.cuh"

extern "C" {
#include "core/base/clock.h"
}

#include <deque>
#include <vector>

namespace
{

/* A time on the GPU's clock, in ns, in host memory: 0 until it is noted. */
typedef unsigned long long stamp;

const int BLOCK_STAMPS = 1024;

struct measured_op {
    void *what; /* the caller's */
    stamp *begin;
    stamp *end;          /* maybe the next op's begin */
    int64_t enqueued_ns; /* of mp_clock_ns */
};

struct measurement {
    std::deque<measured_op> ops; /* measured and not yet told, oldest first */
    bool in_progress;            /* the newest op has not ended */
    std::vector<stamp *> blocks; /* page-locked, BLOCK_STAMPS each */
    std::vector<stamp *> spare;  /* stamps that nothing writes or reads */
    stamp *next;                 /* for the next kernel to note; NULL: none */
    int64_t offset_ns;           /* of the host's clock to the GPU's; 0: not yet known */
    int64_t last_end_ns;         /* of the op told last */
};

thread_local measurement current;

__global__ void note_kernel(begin_stamp stamp)
{
    allow_next_kernel();
    wait_for_kernels(stamp);
}

cudaError_t add_stamps(void)
{
    stamp *block = NULL;
    cudaError_t status =
        cudaHostAlloc(reinterpret_cast<void **>(&block), BLOCK_STAMPS * sizeof *block, 0);
    if (status == cudaSuccess) {
        current.blocks.push_back(block);
        for (int i = 0; i < BLOCK_STAMPS; i++) {
            current.spare.push_back(block + i);
        }
    }
    return status;
}

stamp *new_stamp(void)
{
    if (current.spare.empty()) {
        CUDA_CHECK(add_stamps());
    }
    stamp *s = current.spare.back();
    current.spare.pop_back();
    *s = 0;
    return s;
}

stamp read_stamp(const stamp *s)
{
    return *static_cast<const volatile stamp *>(s);
}

/* The error is how long the host takes to wake up: the first op that seems to end in the future
 * corrects it. */
void set_offset(void)
{
    current.next = new_stamp();
    stamp *now = current.next;
    CUDA_CHECK(cudaStreamSynchronize(cuda_stream()));
    current.offset_ns = (int64_t)mp_clock_ns() - (int64_t)read_stamp(now);
    current.spare.push_back(now);
}

/* How far the offset is off, as an op shows that seems to have run in [begin, end). */
int64_t correction(int64_t begin, int64_t end, int64_t enqueued, int64_t seen)
{
    if (end > seen) {
        return seen - end;
    }
    return begin < enqueued ? enqueued - begin : 0;
}

} // namespace

cudaError_t cuda_measure_create(void)
{
    return add_stamps();
}

void cuda_measure_destroy(void)
{
    for (stamp *block : current.blocks) {
        cudaFreeHost(block);
    }
    current = {};
}

unsigned long long *cuda_measure_take_stamp(void)
{
    stamp *s = current.next;
    current.next = NULL;
    return s;
}

void cuda_measure_note(void)
{
    if (current.next != NULL) {
        launch_overlapped(note_kernel, 1, 32, 0);
    }
}

void cuda_op_measure(void *what)
{
    if (current.offset_ns == 0) {
        set_offset();
    }
    if (current.next == NULL) {
        current.next = new_stamp();
    }
    current.ops.push_back({what, current.next, NULL, (int64_t)mp_clock_ns()});
    current.in_progress = true;
}

void cuda_measure_op_end(void)
{
    if (current.in_progress) {
        cuda_measure_note(); /* an op that enqueued nothing */
        current.next = new_stamp();
        current.ops.back().end = current.next;
        current.in_progress = false;
    }
}

void *cuda_op_measured(uint64_t *begin_ns, uint64_t *end_ns)
{
    if (current.ops.empty() || current.ops.front().end == NULL ||
        read_stamp(current.ops.front().end) == 0) {
        return NULL;
    }
    int64_t seen = (int64_t)mp_clock_ns();
    measured_op op = current.ops.front();
    current.ops.pop_front();
    int64_t begin = (int64_t)read_stamp(op.begin) + current.offset_ns;
    int64_t end = (int64_t)read_stamp(op.end) + current.offset_ns;
    int64_t shift = correction(begin, end, op.enqueued_ns, seen);
    current.offset_ns += shift;

    /* Apart from the op before, which may have been placed by another offset. */
    begin = max(begin + shift, max(op.enqueued_ns, current.last_end_ns));
    end = min(max(end + shift, begin), seen);
    current.spare.push_back(op.begin);
    if (current.ops.empty() || current.ops.front().begin != op.end) {
        current.spare.push_back(op.end);
    }
    current.last_end_ns = end;
    *begin_ns = (uint64_t)begin;
    *end_ns = (uint64_t)end;
    return op.what;
}
