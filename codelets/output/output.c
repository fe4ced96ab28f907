#include "codelets/output/output.h"

#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"

static output_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = output_ref,
    [MP_ISA_AVX2] = output_fast,
    [MP_ISA_AVX512] = output_fast,
};

/* Buffers: weights R, x RW, if it is wanted the merged o W and lse W, then for each part o R and,
 * unless it has none, lse R. */
struct output_task {
    const struct mp_shape *shape;
    struct mp_rows rows;
    bool merged; /* is wanted */
    int num_parts;
    struct {
        int first_head;
        int num_heads;
        bool lse; /* it has one */
    } parts[];    /* [num_parts] */
};

static void output_run(void *buffers[], const struct output_task *t, output_kernel *kernel)
{
    const struct mp_shape *shape = t->shape;
    struct output_weights weights;
    output_weights_at(shape, MP_BUFFER(buffers, 0), &weights);

    struct attention_part parts[t->num_parts];
    struct output_merged merged = {0};
    int next = 2;
    if (t->merged) {
        int64_t first = t->rows.first * shape->num_attention_heads;
        merged.o = (float *)MP_BUFFER(buffers, next++) + first * shape->head_dim;
        merged.lse = (float *)MP_BUFFER(buffers, next++) + first;
    }
    for (int i = 0; i < t->num_parts; i++) {
        int heads = t->parts[i].num_heads;
        int64_t first = t->rows.first * heads;
        parts[i] = (struct attention_part){
            .o = (const float *)MP_BUFFER(buffers, next++) + first * shape->head_dim,
            .first_head = t->parts[i].first_head,
            .num_heads = heads,
        };
        if (t->parts[i].lse) {
            parts[i].lse = (const float *)MP_BUFFER(buffers, next++) + first;
        }
    }
    kernel(&(struct output_args){
        .shape = shape,
        .weights = weights,
        .parts = parts,
        .num_parts = t->num_parts,
        .x = (float *)MP_BUFFER(buffers, 1) + t->rows.first * shape->hidden_size,
        .merged = merged,
        .rows = t->rows.count,
    });
}

MP_OP_FUNCTIONS(output, MP_KERNEL(variants), MP_CUDA_KERNEL(output_cuda))

static struct mp_work output_work(const void *arg)
{
    const struct output_task *t = arg;
    double rows = (double)t->rows.count;
    double hidden = t->shape->hidden_size;
    double q = mp_shape_q_width(t->shape);
    /* x is read and written; each part of the attention is an o, and to merge them an lse. */
    double attention = 0.0;
    for (int i = 0; i < t->num_parts; i++) {
        attention += t->parts[i].num_heads * (t->shape->head_dim + (t->parts[i].lse ? 1.0 : 0.0));
    }
    return (struct mp_work){
        .flops = 2.0 * q * hidden * rows,
        .bytes = 2.0 * q * hidden + rows * (8.0 * hidden + 4.0 * attention),
    };
}

static struct starpu_codelet output_codelet = MP_CODELET(output, 0xaec7e8, MP_WORKERS);

void output_insert(struct mp_submit *sub, const struct mp_shape *shape,
                   const struct mp_buffer *weights, const struct output_part *parts, int num_parts,
                   const struct mp_buffer *x, const struct output_merged_buffers *merged,
                   struct mp_rows rows)
{
    struct mp_task *t = mp_task_new(sub, &output_codelet, 4 + 2 * num_parts);
    struct output_task *arg =
        mp_task_argument(t, sizeof *arg + (size_t)num_parts * sizeof arg->parts[0]);
    arg->shape = shape;
    arg->rows = rows;
    arg->num_parts = num_parts;
    arg->merged = merged != NULL;
    mp_task_reads(t, weights);
    mp_task_updates(t, x);
    if (merged != NULL) {
        mp_task_writes(t, merged->o);
        mp_task_writes(t, merged->lse);
    }
    for (int i = 0; i < num_parts; i++) {
        arg->parts[i].first_head = parts[i].first_head;
        arg->parts[i].num_heads = parts[i].num_heads;
        arg->parts[i].lse = parts[i].lse != NULL;
        mp_task_reads(t, parts[i].o);
        if (parts[i].lse != NULL) {
            mp_task_reads(t, parts[i].lse);
        }
    }
    mp_task_submit(t);
}

size_t output_workspace(const struct mp_shape *shape, int64_t rows)
{
    return MP_CUDA_WORKSPACE(output_cuda_workspace(shape, rows));
}
