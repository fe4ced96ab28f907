#include "codelets/key_select/key_select.h"

#include "codelets/common/task/codelet.h"
#include "codelets/key_select/key_draw.h"
#include "core/machine/cpu.h"
#include "core/machine/shard.h"

static key_select_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = key_select_ref,
    [MP_ISA_AVX2] = MP_X86(key_select_avx2),
    [MP_ISA_AVX512] = MP_X86(key_select_avx512),
};

/* Buffers: q R, nnz W, then for each row struct offloaded_kv R, ids W, scratch W and, if tokens are
 * drawn, log-weights W. */
struct key_select_task {
    enum key_select_mode mode;
    int num_kv_heads; /* of the shard */
    int num_heads;    /* query heads of the shard */
    int first_head;
    int head_dim;
    double tokens; /* of all rows together */
    int64_t rows;
    struct {
        int64_t room;
        int64_t budget;
        uint64_t seed;
    } list[]; /* [rows] */
};

enum { Q, NNZ, ROWS };

static int buffers_per_row(enum key_select_mode mode)
{
    return mode == KEY_SELECT_DRAWN ? 4 : 3;
}

static void key_select_run(void *buffers[], const struct key_select_task *t,
                           key_select_kernel *kernel)
{
    const struct offloaded_kv *kv[t->rows];
    uint32_t *ids[t->rows];
    float *log_weights[t->rows];
    void *scratch[t->rows];
    int64_t room[t->rows];
    int64_t budget[t->rows];
    uint64_t seed[t->rows];
    bool drawn = t->mode == KEY_SELECT_DRAWN;
    for (int64_t r = 0; r < t->rows; r++) {
        int64_t first = ROWS + buffers_per_row(t->mode) * r;
        kv[r] = MP_BUFFER(buffers, first);
        ids[r] = MP_BUFFER(buffers, first + 1);
        scratch[r] = MP_BUFFER(buffers, first + 2);
        log_weights[r] = drawn ? MP_BUFFER(buffers, first + 3) : NULL;
        room[r] = t->list[r].room;
        budget[r] = t->list[r].budget;
        seed[r] = t->list[r].seed;
        if (drawn && kv[r]->count > KEY_DRAW_MOST_TOKENS) {
            mp_panic("key_select: %lld tokens to draw from, expected at most %lld",
                     (long long)kv[r]->count, (long long)KEY_DRAW_MOST_TOKENS);
        }
    }
    kernel(&(struct key_select_args){
        .mode = t->mode,
        .q = MP_BUFFER(buffers, Q),
        .kv = kv,
        .budget = budget,
        .seed = seed,
        .ids = ids,
        .log_weights = log_weights,
        .ids_stride = room,
        .scratch = scratch,
        .nnz = MP_BUFFER(buffers, NNZ),
        .rows = t->rows,
        .num_heads = t->num_heads,
        .first_head = t->first_head,
        .head_dim = t->head_dim,
        .scale = 1.0f / sqrtf((float)t->head_dim),
    });
}

MP_OP_FUNCTIONS(key_select, MP_KERNEL(variants), MP_CUDA_KERNEL(key_select_cuda))

static struct mp_work key_select_work(const void *arg)
{
    const struct key_select_task *t = arg;
    return (struct mp_work){
        .flops = 2.0 * t->tokens * t->num_heads * t->head_dim,
        /* Every key; a score for each token and head, written and read. */
        .bytes = t->tokens * (2.0 * t->num_kv_heads * t->head_dim + 8.0 * t->num_heads),
    };
}

static struct starpu_codelet key_select_codelet = MP_CODELET(key_select, 0x7f7f7f, MP_WORKERS);

void key_select_insert(struct mp_submit *sub, const struct mp_shape *shape,
                       const struct mp_shard *shard, enum key_select_mode mode,
                       const struct mp_buffer *q, const struct key_select_row *list, int64_t rows,
                       const struct mp_buffer *nnz)
{
    int group = mp_shape_group(shape);
    struct mp_task *t =
        mp_task_new(sub, &key_select_codelet, ROWS + buffers_per_row(mode) * (int)rows);
    struct key_select_task *arg =
        mp_task_argument(t, sizeof *arg + (size_t)rows * sizeof arg->list[0]);
    arg->mode = mode;
    arg->num_kv_heads = shard->num_kv_heads;
    arg->num_heads = shard->num_kv_heads * group;
    arg->first_head = (shard->heads_before + shard->first_kv_head) * group;
    arg->head_dim = shape->head_dim;
    arg->rows = rows;
    mp_task_reads(t, q);
    mp_task_writes(t, nnz);
    for (int64_t r = 0; r < rows; r++) {
        arg->tokens += (double)list[r].tokens;
        arg->list[r].room = list[r].room;
        arg->list[r].budget = list[r].budget;
        arg->list[r].seed = list[r].seed;
        mp_task_reads(t, list[r].kv);
        mp_task_writes(t, list[r].ids);
        mp_task_writes(t, list[r].scratch);
        if (mode == KEY_SELECT_DRAWN) {
            mp_task_writes(t, list[r].log_weights);
        }
    }
    mp_task_submit(t);
}

size_t key_select_scratch(enum key_select_mode mode, int num_heads, int64_t tokens)
{
    size_t heads = (size_t)num_heads;
    size_t scores = heads * (size_t)score_stride(tokens) * sizeof(float);
    return mode == KEY_SELECT_LARGEST
               ? scores
               : 2 * scores + heads * (size_t)(key_blocks(tokens) + 1) * sizeof(uint64_t);
}
