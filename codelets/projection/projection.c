#include "codelets/projection/projection.h"

#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"

static projection_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = projection_ref,
    [MP_ISA_AVX2] = projection_fast,
    [MP_ISA_AVX512] = projection_fast,
};

static void projection_run(void *buffers[], const struct projection_task *t,
                           projection_kernel *kernel)
{
    struct projection_weights weights;
    projection_weights_at(t->shape, MP_BUFFER(buffers, 1), &weights);

    struct projection_target targets[t->num_targets];
    for (int64_t i = 0; i < t->num_targets; i++) {
        const struct projection_task_target *from = &t->targets[i];
        targets[i] = (struct projection_target){
            .cache = MP_BUFFER(buffers, 3 + t->copy_q + i),
            .index = from->index,
            .position = from->position,
            .inv_freq = from->inv_freq,
            .rope_scale = from->rope_scale,
        };
    }
    kernel(&(struct projection_args){
        .shape = t->shape,
        .weights = weights,
        .x = MP_BUFFER(buffers, 0),
        .q = MP_BUFFER(buffers, 2),
        .q_host = t->copy_q ? MP_BUFFER(buffers, 3) : NULL,
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

struct starpu_codelet projection_codelet = MP_CODELET(projection, 0x1f77b4, MP_WORKERS);
