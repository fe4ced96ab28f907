/* When ops ran on the GPU, on the host's clock. */
#include "codelets/embed/embed.h"
#include "codelets/memory_read/memory_read.h"
#include "core/base/clock.h"
#include "tests/unit/cuda/cuda_test.h"

#include <unistd.h>

enum { ROWS = 4096, HIDDEN = 4096, AHEAD = 4, PAUSE_US = 20000 };

/* The memory of the op that is measured: it copies the one row of a table to every row of x. */
struct copy {
    int32_t *ids;
    uint16_t *table;
    float *x;
};

static struct copy new_copy(void)
{
    int32_t *ids = mp_xcalloc(ROWS, sizeof *ids);
    uint16_t *table = mp_xcalloc(HIDDEN, sizeof *table);
    struct copy c = {
        .ids = device_copy(ids, ROWS * sizeof *ids),
        .table = device_copy(table, HIDDEN * sizeof *table),
        .x = device_copy(NULL, (size_t)ROWS * HIDDEN * sizeof *c.x),
    };
    free(ids);
    free(table);
    return c;
}

static void free_copy(struct copy *c)
{
    ASSERT_CUDA(cudaFree(c->ids));
    ASSERT_CUDA(cudaFree(c->table));
    ASSERT_CUDA(cudaFree(c->x));
}

/* what: to measure it under; NULL: not measured. */
static void enqueue(const struct copy *c, void *what)
{
    cuda_op_begin("embed");
    if (what != NULL) {
        cuda_op_measure(what);
    }
    embed_cuda(&(struct embed_args){c->ids, c->table, c->x, ROWS, HIDDEN});
    cuda_op_end();
}

/* Many rounds, so that stamps are used again and the clocks' offset is corrected: every interval is
 * apart from the one before and within what the host saw. */
static void test_intervals(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    struct copy c = new_copy();
    char names[AHEAD];
    uint64_t last_end = 0;
    uint64_t total = 0;
    uint64_t start = mp_clock_ns();
    do {
        uint64_t before = mp_clock_ns();
        for (int i = 0; i < AHEAD; i++) {
            enqueue(&c, &names[i]);
            enqueue(&c, NULL); /* leaves no trace */
        }
        cuda_synchronize();
        for (int i = 0; i < AHEAD; i++) {
            uint64_t begin = 0;
            uint64_t end = 0;
            assert_ptr_equal(cuda_op_measured(&begin, &end), &names[i]);
            assert_true(begin >= before && begin >= last_end);
            assert_true(end >= begin && end <= mp_clock_ns());
            total += end - begin;
            last_end = end;
        }
        uint64_t unused;
        assert_null(cuda_op_measured(&unused, &unused));
    } while (mp_clock_ns() - start < 300 * 1000 * 1000);
    assert_true(total > 0);
    free_copy(&c);
}

/* An op lasts until the next one begins, or until the stream is handed over. */
static void test_ends(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    struct copy c = new_copy();
    cudaStream_t watcher;
    ASSERT_CUDA(cudaStreamCreate(&watcher));
    char names[2];
    uint64_t begin[2], end[2];

    enqueue(&c, &names[0]);
    cuda_synchronize();
    usleep(PAUSE_US);
    assert_null(cuda_op_measured(&begin[0], &end[0])); /* nothing says yet that it is over */
    enqueue(&c, &names[1]);
    cuda_op_signal(watcher);
    ASSERT_CUDA(cudaStreamSynchronize(watcher));
    assert_ptr_equal(cuda_op_measured(&begin[0], &end[0]), &names[0]);
    assert_ptr_equal(cuda_op_measured(&begin[1], &end[1]), &names[1]);
    assert_true(end[0] - begin[0] >= 1000 * PAUSE_US);
    assert_true(begin[1] >= end[0]);
    ASSERT_CUDA(cudaStreamDestroy(watcher));
    free_copy(&c);
}

/* What is no kernel that notes the time itself: a memset, kernels and a copy. */
static void test_other_work(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    const size_t bytes = (size_t)64 << 20;
    void *data = device_copy(NULL, bytes);
    uint64_t *sum = device_copy(NULL, sizeof *sum);
    ASSERT_CUDA(cudaMemset(data, 0, bytes));
    char name;
    uint64_t begin, end;
    for (int i = 0; i < 3; i++) {
        uint64_t before = mp_clock_ns();
        cuda_op_begin("memory_read");
        cuda_op_measure(&name);
        memory_read_cuda(&(struct memory_read_args){data, (int64_t)bytes, sum});
        cuda_op_end();
        cuda_op_signal(NULL);
        cuda_synchronize();
        assert_ptr_equal(cuda_op_measured(&begin, &end), &name);
        assert_true(begin >= before && end > begin && end <= mp_clock_ns());
    }
    ASSERT_CUDA(cudaFree(data));
    ASSERT_CUDA(cudaFree(sum));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_intervals),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_other_work),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, cuda_test_teardown);
}
