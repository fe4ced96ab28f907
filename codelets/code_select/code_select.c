#include "codelets/code_select/code_select.h"

#include "codelets/code_select/code_scratch.h"
#include "codelets/code_select/code_select_cpu.h"
#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"
#include "core/machine/shard.h"

static code_select_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = code_select_ref,
    [MP_ISA_AVX2] = MP_X86(code_select_avx2),
    [MP_ISA_AVX512] = MP_X86(code_select_avx512),
};

/* Buffers: q R, rotation R, nnz W, then for each row struct key_codes R, ids W, log-weights W,
 * scratch W. */
struct code_select_task {
    int num_kv_heads; /* of the shard */
    int first_kv_head;
    int heads_before;
    int group;       /* query heads of a KV head */
    int layer_heads; /* query heads of the layer */
    int head_dim;
    int bits;
    double tokens; /* of all rows together */
    int64_t rows;
    struct {
        int64_t room;
        int64_t samples;
        uint64_t seed;
    } list[]; /* [rows] */
};

enum { Q, ROTATION, NNZ, ROWS, PER_ROW = 4 };

static void code_select_run(void *buffers[], const struct code_select_task *t,
                            code_select_kernel *kernel)
{
    const struct key_codes *codes[t->rows];
    uint32_t *ids[t->rows];
    float *log_weights[t->rows];
    void *scratch[t->rows];
    int64_t room[t->rows];
    int64_t samples[t->rows];
    uint64_t seed[t->rows];
    for (int64_t r = 0; r < t->rows; r++) {
        int64_t first = ROWS + PER_ROW * r;
        codes[r] = MP_BUFFER(buffers, first);
        ids[r] = MP_BUFFER(buffers, first + 1);
        log_weights[r] = MP_BUFFER(buffers, first + 2);
        scratch[r] = MP_BUFFER(buffers, first + 3);
        room[r] = t->list[r].room;
        samples[r] = t->list[r].samples;
        seed[r] = t->list[r].seed;
    }
    int64_t first_head = (int64_t)t->first_kv_head * t->group;
    kernel(&(struct code_select_args){
        .q = (const float *)MP_BUFFER(buffers, Q) + first_head * t->head_dim,
        .q_stride = (int64_t)t->layer_heads * t->head_dim,
        .codes = codes,
        .rotation = {.data = MP_BUFFER(buffers, ROTATION), .head_dim = t->head_dim},
        .samples = samples,
        .seed = seed,
        .ids = ids,
        .log_weights = log_weights,
        .ids_stride = room,
        .scratch = scratch,
        .nnz = MP_BUFFER(buffers, NNZ),
        .rows = t->rows,
        .num_heads = t->num_kv_heads * t->group,
        .num_kv_heads = t->num_kv_heads,
        .first_kv_head = t->heads_before + t->first_kv_head,
        .head_dim = t->head_dim,
    });
}

MP_OP_FUNCTIONS(code_select, MP_KERNEL(variants), MP_CUDA_KERNEL(code_select_cuda))

static struct mp_work code_select_work(const void *arg)
{
    const struct code_select_task *t = arg;
    double words = codes_words(t->head_dim, t->bits);
    double heads = (double)t->num_kv_heads * t->group;
    return (struct mp_work){
        .flops = 2.0 * t->tokens * heads * t->head_dim,
        /* Every code and its factor; a logit for each token and head, written and read. */
        .bytes = t->tokens * (4.0 * (words + 1.0) * t->num_kv_heads + 8.0 * heads),
    };
}

static struct starpu_codelet code_select_codelet = MP_CODELET(code_select, 0xe7ba52, MP_WORKERS);

void code_select_insert(struct mp_submit *sub, const struct mp_shape *shape,
                        const struct mp_shard *shard, const struct mp_buffer *q,
                        const struct mp_buffer *rotation, const struct code_select_row *list,
                        int64_t rows, int bits, const struct mp_buffer *nnz)
{
    struct mp_task *t = mp_task_new(sub, &code_select_codelet, ROWS + PER_ROW * (int)rows);
    struct code_select_task *arg =
        mp_task_argument(t, sizeof *arg + (size_t)rows * sizeof arg->list[0]);
    arg->num_kv_heads = shard->num_kv_heads;
    arg->first_kv_head = shard->first_kv_head;
    arg->heads_before = shard->heads_before;
    arg->group = mp_shape_group(shape);
    arg->layer_heads = shape->num_attention_heads;
    arg->head_dim = shape->head_dim;
    arg->bits = bits;
    arg->rows = rows;
    mp_task_reads(t, q);
    mp_task_reads(t, rotation);
    mp_task_writes(t, nnz);
    for (int64_t r = 0; r < rows; r++) {
        arg->tokens += (double)list[r].tokens;
        arg->list[r].room = list[r].room;
        arg->list[r].samples = list[r].samples;
        arg->list[r].seed = list[r].seed;
        mp_task_reads(t, list[r].codes);
        mp_task_writes(t, list[r].ids);
        mp_task_writes(t, list[r].log_weights);
        mp_task_writes(t, list[r].scratch);
    }
    mp_task_submit(t);
}

size_t code_select_scratch(int num_heads, int num_kv_heads, int64_t tokens, int64_t samples)
{
    int64_t floats = code_select_floats(num_heads / num_kv_heads, tokens, samples);
    size_t cpu = (size_t)(num_kv_heads * floats) * sizeof(float);
    size_t gpu = (size_t)code_scratch_bytes(num_heads, num_kv_heads, tokens);
    return cpu > gpu ? cpu : gpu;
}
