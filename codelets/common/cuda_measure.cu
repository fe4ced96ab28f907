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

namespace
{

const int MAX_MEASURED = 16; /* more than StarPU enqueues ahead on a worker */
const int64_t ANCHOR_NS = 100 * 1000 * 1000;

struct measured_op {
    cudaEvent_t begin;
    cudaEvent_t end;
    int64_t enqueued_ns; /* of mp_clock_ns */
};

struct measurement {
    measured_op ops[MAX_MEASURED]; /* a ring */
    int oldest;
    int count; /* ops measured and not yet asked for, one in progress included */
    bool in_progress;
    cudaEvent_t anchor;
    int64_t anchor_ns;   /* when the host's clock passed the anchor; 0: not yet set */
    int64_t last_end_ns; /* of the op asked for last */
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
    cudaError_t status = cudaEventCreate(&current.anchor);
    for (int i = 0; i < MAX_MEASURED && status == cudaSuccess; i++) {
        status = cudaEventCreate(&current.ops[i].begin);
        if (status == cudaSuccess) {
            status = cudaEventCreate(&current.ops[i].end);
        }
    }
    return status;
}

void cuda_measure_destroy(void)
{
    for (measured_op &op : current.ops) {
        if (op.begin != NULL) {
            cudaEventDestroy(op.begin);
        }
        if (op.end != NULL) {
            cudaEventDestroy(op.end);
        }
    }
    if (current.anchor != NULL) {
        cudaEventDestroy(current.anchor);
    }
    current = {};
}

void cuda_op_measure(void)
{
    if (current.count == MAX_MEASURED) {
        mp_panic("%d ops were measured on the GPU and nobody asked for their times", MAX_MEASURED);
    }
    if (current.anchor_ns == 0) {
        set_anchor();
    }
    measured_op *op = &current.ops[(current.oldest + current.count) % MAX_MEASURED];
    op->enqueued_ns = (int64_t)mp_clock_ns();
    CUDA_CHECK(cudaEventRecord(op->begin, cuda_stream()));
    current.count++;
    current.in_progress = true;
}

void cuda_measure_op_end(void)
{
    if (current.in_progress) {
        int newest = (current.oldest + current.count - 1) % MAX_MEASURED;
        CUDA_CHECK(cudaEventRecord(current.ops[newest].end, cuda_stream()));
        current.in_progress = false;
    }
}

bool cuda_op_measured(uint64_t *begin_ns, uint64_t *end_ns)
{
    if (current.count == 0) {
        return false;
    }
    int64_t seen = (int64_t)mp_clock_ns();
    measured_op *op = &current.ops[current.oldest];
    int64_t begin = host_ns(op->begin);
    int64_t end = host_ns(op->end);
    int64_t shift = correction(begin, end, op->enqueued_ns, seen);
    current.anchor_ns += shift;

    /* Apart from the op before, which may have been placed by another anchor. */
    begin = max(begin + shift, max(op->enqueued_ns, current.last_end_ns));
    end = min(max(end + shift, begin), seen);
    if (end - current.anchor_ns > ANCHOR_NS) {
        move_anchor(op, end);
    }
    current.oldest = (current.oldest + 1) % MAX_MEASURED;
    current.count--;
    current.last_end_ns = end;
    *begin_ns = (uint64_t)begin;
    *end_ns = (uint64_t)end;
    return true;
}
