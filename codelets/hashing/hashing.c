#include "codelets/hashing/hashing.h"

#include "codelets/common/attention/kv.h"
#include "codelets/common/task/codelet.h"
#include "core/base/error.h"
#include "core/machine/cpu.h"
#include "core/machine/shard.h"

#include <math.h>

static hashing_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = hashing_ref,
    [MP_ISA_AVX2] = MP_X86(hashing_avx2),
    [MP_ISA_AVX512] = MP_X86(hashing_avx512),
};

/* ---- queries ---- */

/* Buffers: q R, w R, then the codes W of each part. */
struct hashing_task {
    const struct mp_shape *shape;
    int K;
    int L;
    int kv_heads_per_w;
    int64_t rows;
    int num_parts;
    struct {
        int first_head;
        int num_heads;
    } parts[MP_MAX_SHARDS];
};

/* Elements of the W's of all heads before `kv_head`. */
static size_t w_before(int kv_head, int kv_heads_per_w, int head_dim, int K, int L)
{
    return (size_t)(kv_head / kv_heads_per_w) * (size_t)head_dim * (size_t)(K * L);
}

static void hashing_run(void *buffers[], const struct hashing_task *t, hashing_kernel *kernel)
{
    int d = t->shape->head_dim;
    int group = mp_shape_group(t->shape);
    for (int i = 0; i < t->num_parts; i++) {
        int first = t->parts[i].first_head;
        int heads = t->parts[i].num_heads;
        int sharing = t->kv_heads_per_w * group; /* query heads */
        kernel(&(struct hashing_args){
            .x = (const float *)MP_BUFFER(buffers, 0) + (int64_t)first * d,
            .dtype = MP_F32,
            .x_head_stride = d,
            .x_vec_stride = mp_shape_q_width(t->shape),
            .count = t->rows,
            .num_heads = heads,
            .head_dim = d,
            .K = t->K,
            .L = t->L,
            .w = (const float *)MP_BUFFER(buffers, 1) +
                 w_before(first / group, t->kv_heads_per_w, d, t->K, t->L),
            .heads_per_projection = sharing < heads ? sharing : heads,
            .codes = MP_BUFFER(buffers, 2 + i),
            .code_head_stride = t->L,
            .code_vec_stride = (int64_t)heads * t->L,
            .code_table_stride = 1,
        });
    }
}

/* ---- keys ---- */

/* Buffers: struct offloaded_kv R, w R, codes W. */
struct hashing_keys_task {
    int K;
    int L;
    int kv_heads_per_w;
    int first_kv_head;
    int num_kv_heads;
    int head_dim;
    int64_t count; /* offloaded tokens */
};

static void hashing_keys_run(void *buffers[], const struct hashing_keys_task *t,
                             hashing_kernel *kernel)
{
    const struct offloaded_kv *kv = MP_BUFFER(buffers, 0);
    if (kv->dtype == MP_I8) {
        mp_panic("hashing: keys of int8: they are hashed before they are rounded");
    }
    kernel(&(struct hashing_args){
        .x = kv->k,
        .dtype = kv->dtype,
        .x_head_stride = kv->capacity * kv_pitch(kv),
        .x_vec_stride = kv_pitch(kv),
        .count = t->count,
        .num_heads = t->num_kv_heads,
        .head_dim = kv->head_dim,
        .K = t->K,
        .L = t->L,
        .w = (const float *)MP_BUFFER(buffers, 1) +
             w_before(t->first_kv_head, t->kv_heads_per_w, t->head_dim, t->K, t->L),
        .heads_per_projection =
            t->kv_heads_per_w < t->num_kv_heads ? t->kv_heads_per_w : t->num_kv_heads,
        .codes = MP_BUFFER(buffers, 2),
        .code_head_stride = t->L * t->count,
        .code_vec_stride = 1,
        .code_table_stride = t->count,
    });
}

MP_OP_FUNCTIONS(hashing, MP_KERNEL(variants), MP_CUDA_KERNEL(hashing_cuda))

MP_OP_FUNCTIONS(hashing_keys, MP_KERNEL(variants), MP_CUDA_KERNEL(hashing_cuda))

/* Of vectors with elements of `element` bytes that are hashed by `projections` matrices W. */
static struct mp_work hash_work(double vectors, double element, double projections, int head_dim,
                                int K, int L)
{
    double w = (double)head_dim * K * L;
    return (struct mp_work){
        .flops = 2.0 * vectors * w,
        /* The matrices; a vector in, its codes out. */
        .bytes = 4.0 * projections * w + vectors * (element * head_dim + 2.0 * L),
    };
}

static struct mp_work hashing_work(const void *arg)
{
    const struct hashing_task *t = arg;
    double heads = 0.0;
    for (int i = 0; i < t->num_parts; i++) {
        heads += t->parts[i].num_heads;
    }
    double sharing = (double)t->kv_heads_per_w * mp_shape_group(t->shape);
    return hash_work((double)t->rows * heads, 4.0, fmax(heads / sharing, 1.0), t->shape->head_dim,
                     t->K, t->L);
}

static struct mp_work hashing_keys_work(const void *arg)
{
    const struct hashing_keys_task *t = arg;
    double heads = t->num_kv_heads;
    return hash_work((double)t->count * heads, 2.0, fmax(heads / t->kv_heads_per_w, 1.0),
                     t->head_dim, t->K, t->L);
}

static struct starpu_codelet hashing_codelet = MP_CODELET(hashing, 0xff7f0e, MP_WORKERS);
static struct starpu_codelet hashing_keys_codelet = MP_CODELET(hashing_keys, 0xffbb78, MP_WORKERS);

/* ---- inserts ---- */

void hashing_insert(struct mp_submit *sub, const struct mp_shape *shape,
                    const struct hashing_functions *f, const struct mp_buffer *q, int64_t rows,
                    const struct mp_head_buffer *parts, int num_parts)
{
    struct mp_task *t = mp_task_new(sub, &hashing_codelet, 2 + num_parts);
    struct hashing_task *arg = mp_task_argument(t, sizeof *arg);
    *arg = (struct hashing_task){
        .shape = shape,
        .K = f->K,
        .L = f->L,
        .kv_heads_per_w = f->kv_heads_per_w,
        .rows = rows,
        .num_parts = num_parts,
    };
    mp_task_reads(t, q);
    mp_task_reads(t, f->w);
    for (int i = 0; i < num_parts; i++) {
        arg->parts[i].first_head = parts[i].first_head;
        arg->parts[i].num_heads = parts[i].num_heads;
        mp_task_writes(t, parts[i].buffer);
    }
    mp_task_submit(t);
}

void hashing_keys_insert(struct mp_submit *sub, const struct mp_shape *shape,
                         const struct hashing_functions *f, const struct mp_shard *shard,
                         const struct mp_buffer *kv, int64_t count, const struct mp_buffer *codes)
{
    struct mp_task *t = mp_task_new(sub, &hashing_keys_codelet, 3);
    struct hashing_keys_task *arg = mp_task_argument(t, sizeof *arg);
    *arg = (struct hashing_keys_task){
        .K = f->K,
        .L = f->L,
        .kv_heads_per_w = f->kv_heads_per_w,
        .first_kv_head = shard->first_kv_head,
        .num_kv_heads = shard->num_kv_heads,
        .head_dim = shape->head_dim,
        .count = count,
    };
    mp_task_reads(t, kv);
    mp_task_reads(t, f->w);
    mp_task_writes(t, codes);
    mp_task_submit(t);
}

size_t hashing_workspace(int num_kv_heads, int kv_heads_per_w, int head_dim, int K, int L)
{
    return MP_CUDA_WORKSPACE(hashing_cuda_workspace(num_kv_heads, kv_heads_per_w, head_dim, K, L));
}
