/* When ops ran on the GPU: a pair of events around each measured op, and where the events lie on
 * the host's clock.
 *
 * The two clocks are tied by an anchor, an event whose host time is known. It follows the ops,
 * since the time between two events is a float of milliseconds, and every op corrects it: no op
 * begins before the host enqueued it or ends after the host saw it finished. */
#include "codelets/common/cuda_internal.h"

extern "C" {
#include "core/clock.h"
}

#include <deque>
#include <vector>

namespace
{

const int64_t ANCHOR_NS = 100 * 1000 * 1000;

struct measured_op {
    void *what; /* the caller's */
    cudaEvent_t begin;
    cudaEvent_t end;
    int64_t enqueued_ns; /* of mp_clock_ns */
};

struct measurement {
    std::deque<measured_op> ops;    /* measured and not yet told, oldest first */
    std::vector<measured_op> spare; /* pairs of events to use again */
    bool in_progress;               /* the newest op has not ended */
    cudaEvent_t anchor;
    int64_t anchor_ns;   /* when the host's clock passed the anchor; 0: not yet set */
    int64_t last_end_ns; /* of the op told last */
};

thread_local measurement current;

/* The error of setting the anchor is how long the host takes to wake up: the first op that seems to
 * end in the future corrects it. */
void set_anchor(void)
{
    CUDA_CHECK(cudaEventRecord(current.anchor, cuda_stream()));
    CUDA_CHECK(cudaEventSynchronize(current.anchor));
    current.anchor_ns = (int64_t)mp_clock_ns();
}

int64_t host_ns(cudaEvent_t event)
{
    float ms = 0.0f;
    CUDA_CHECK(cudaEventElapsedTime(&ms, current.anchor, event));
    return current.anchor_ns + (int64_t)(1e6 * (double)ms);
}

/* How far the anchor is off, as an op shows that seems to have run in [begin, end). */
int64_t correction(int64_t begin, int64_t end, int64_t enqueued, int64_t seen)
{
    if (end > seen) {
        return seen - end;
    }
    return begin < enqueued ? enqueued - begin : 0;
}

/* Makes the op's end the anchor. */
void move_anchor(measured_op *op, int64_t end)
{
    cudaEvent_t old = current.anchor;
    current.anchor = op->end;
    current.anchor_ns = end;
    op->end = old;
}

} // namespace

cudaError_t cuda_measure_create(void)
{
    return cudaEventCreate(&current.anchor);
}

void cuda_measure_destroy(void)
{
    current.spare.insert(current.spare.end(), current.ops.begin(), current.ops.end());
    for (measured_op &op : current.spare) {
        cudaEventDestroy(op.begin);
        cudaEventDestroy(op.end);
    }
    if (current.anchor != NULL) {
        cudaEventDestroy(current.anchor);
    }
    current = {};
}

void cuda_op_measure(void *what)
{
    measured_op op = {};
    if (current.anchor_ns == 0) {
        set_anchor();
    }
    if (current.spare.empty()) {
        CUDA_CHECK(cudaEventCreate(&op.begin));
        CUDA_CHECK(cudaEventCreate(&op.end));
    } else {
        op = current.spare.back();
        current.spare.pop_back();
    }
    op.what = what;
    op.enqueued_ns = (int64_t)mp_clock_ns();
    CUDA_CHECK(cudaEventRecord(op.begin, cuda_stream()));
    current.ops.push_back(op);
    current.in_progress = true;
}

void cuda_measure_op_end(void)
{
    if (current.in_progress) {
        CUDA_CHECK(cudaEventRecord(current.ops.back().end, cuda_stream()));
        current.in_progress = false;
    }
}

void *cuda_op_measured(uint64_t *begin_ns, uint64_t *end_ns)
{
    if (current.ops.empty()) {
        return NULL;
    }
    measured_op op = current.ops.front();
    cudaError_t status = cudaEventQuery(op.end);
    if (status == cudaErrorNotReady) {
        return NULL;
    }
    CUDA_CHECK(status);
    int64_t seen = (int64_t)mp_clock_ns();
    int64_t begin = host_ns(op.begin);
    int64_t end = host_ns(op.end);
    int64_t shift = correction(begin, end, op.enqueued_ns, seen);
    current.anchor_ns += shift;

    /* Apart from the op before, which may have been placed by another anchor. */
    begin = max(begin + shift, max(op.enqueued_ns, current.last_end_ns));
    end = min(max(end + shift, begin), seen);
    if (end - current.anchor_ns > ANCHOR_NS) {
        move_anchor(&op, end);
    }
    current.ops.pop_front();
    current.spare.push_back(op);
    current.last_end_ns = end;
    *begin_ns = (uint64_t)begin;
    *end_ns = (uint64_t)end;
    return op.what;
}
