#include "codelets/projection/projection.h"

#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"
#include "core/machine/shard.h"

static projection_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = projection_ref,
    [MP_ISA_AVX2] = projection_fast,
    [MP_ISA_AVX512] = projection_fast,
};

/* Buffers: x R, weights R, q W, the copies W, then one struct kv_cache RW a target. */
struct projection_task {
    const struct mp_shape *shape;
    struct projection_copy copies[MP_MAX_SHARDS]; /* heads alone */
    int num_copies;
    int64_t rows_per_target;
    int64_t num_targets;
    struct projection_target targets[]; /* [num_targets] but for their caches */
};

enum { X, WEIGHTS, Q, COPIES };

static void projection_run(void *buffers[], const struct projection_task *t,
                           projection_kernel *kernel)
{
    struct projection_weights weights;
    projection_weights_at(t->shape, MP_BUFFER(buffers, WEIGHTS), &weights);

    struct projection_copy copies[MP_MAX_SHARDS];
    for (int i = 0; i < t->num_copies; i++) {
        copies[i] = t->copies[i];
        copies[i].q = MP_BUFFER(buffers, COPIES + i);
    }
    struct projection_target targets[t->num_targets];
    for (int64_t i = 0; i < t->num_targets; i++) {
        targets[i] = t->targets[i];
        targets[i].cache = MP_BUFFER(buffers, COPIES + t->num_copies + i);
    }
    kernel(&(struct projection_args){
        .shape = t->shape,
        .weights = weights,
        .x = MP_BUFFER(buffers, X),
        .q = MP_BUFFER(buffers, Q),
        .copies = copies,
        .num_copies = t->num_copies,
        .targets = targets,
        .num_targets = t->num_targets,
        .rows_per_target = t->rows_per_target,
    });
}

MP_OP_FUNCTIONS(projection, MP_KERNEL(variants), MP_CUDA_KERNEL(projection_cuda))

static struct mp_work projection_work(const void *arg)
{
    const struct projection_task *t = arg;
    double rows = (double)(t->num_targets * t->rows_per_target);
    double hidden = t->shape->hidden_size;
    double q = mp_shape_q_width(t->shape);
    double qkv = mp_shape_qkv_rows(t->shape);
    return (struct mp_work){
        .flops = 2.0 * qkv * hidden * rows,
        /* Weights; x in, q out, keys and values to the cache. */
        .bytes = 2.0 * qkv * hidden + rows * (4.0 * hidden + 4.0 * q + 2.0 * (qkv - q)),
    };
}

static struct starpu_codelet projection_codelet = MP_CODELET(projection, 0x1f77b4, MP_WORKERS);

void projection_insert(struct mp_submit *sub, const struct mp_shape *shape,
                       const struct projection_buffers *b, const struct projection_row *targets,
                       int64_t num_targets, int64_t rows_per_target)
{
    struct mp_task *t =
        mp_task_new(sub, &projection_codelet, COPIES + b->num_copies + (int)num_targets);
    struct projection_task *arg =
        mp_task_argument(t, sizeof *arg + (size_t)num_targets * sizeof arg->targets[0]);
    arg->shape = shape;
    arg->num_copies = b->num_copies;
    arg->rows_per_target = rows_per_target;
    arg->num_targets = num_targets;
    mp_task_reads(t, b->x);
    mp_task_reads(t, b->weights);
    mp_task_writes(t, b->q);
    for (int i = 0; i < b->num_copies; i++) {
        arg->copies[i].first_head = b->copies[i].first_head;
        arg->copies[i].num_heads = b->copies[i].num_heads;
        mp_task_writes(t, b->copies[i].buffer);
    }
    for (int64_t i = 0; i < num_targets; i++) {
        arg->targets[i] = (struct projection_target){
            .index = targets[i].index,
            .position = targets[i].position,
            .inv_freq = targets[i].inv_freq,
            .rope_scale = targets[i].rope_scale,
        };
        mp_task_updates(t, targets[i].cache);
    }
    mp_task_submit(t);
}

size_t projection_workspace(const struct mp_shape *shape, int64_t rows)
{
    return MP_CUDA_WORKSPACE(projection_cuda_workspace(shape, rows));
}
